package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// relistenAfter is how long a broken listening connection stays away.
const relistenAfter = time.Second

// Listen keeps one connection listening on a channel until the context ends, and gives each payload to handle. ready is
// called whenever listening (again) begins: what was missed must be looked for. The connection does nothing else, so that it
// never holds back vacuum or the notification queue.
func Listen(ctx context.Context, config *pgx.ConnConfig, channel string, logger *slog.Logger, ready func(), handle func(payload string)) {
	for ctx.Err() == nil {
		err := listenOnce(ctx, config, channel, ready, handle)
		if ctx.Err() != nil {
			return
		}
		logger.DebugContext(ctx, "listening connection lost", slog.String("channel", channel), slog.Any("error", err))
		pause := time.NewTimer(relistenAfter)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

func listenOnce(ctx context.Context, config *pgx.ConnConfig, channel string, ready func(), handle func(payload string)) error {
	config = config.Copy()
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { handle(n.Payload) }
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil { //nolint:forbidigo // LISTEN is not a query of sqlc's
		return fmt.Errorf("listen: %w", err)
	}
	ready()
	for {
		if err := conn.PgConn().WaitForNotification(ctx); err != nil {
			return fmt.Errorf("wait for notification: %w", err)
		}
	}
}
