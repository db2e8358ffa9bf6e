package jobs

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/orchestration"
)

// Wake does what must follow a commit in a process that has no Runner: a client that only creates or controls tasks.
func Wake(ctx context.Context, pool *pgxpool.Pool, schema db.RiverSchema, logger *slog.Logger, effects *orchestration.Effects) {
	n := newNotifier(pool, schema, logger)
	n.wake(effects.Queues, effects.Ended)
	n.send(ctx)
	if len(effects.CancelJobs) == 0 {
		return
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Schema: string(schema), Logger: logger})
	if err != nil {
		logger.WarnContext(ctx, "cancel running jobs", slog.Any("error", err))
		return
	}
	for _, id := range effects.CancelJobs {
		if _, err := client.JobCancel(ctx, id); err != nil && !errors.Is(err, river.ErrNotFound) {
			logger.WarnContext(ctx, "cancel running job", slog.Int64("job_id", id), slog.Any("error", err))
		}
	}
}
