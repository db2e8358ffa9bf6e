package jobs

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tasker-systems/tasker-go/orchestration"
)

// Wake does what must follow a commit in a process that has no Runner: a client that only creates or controls tasks.
func Wake(ctx context.Context, pool *pgxpool.Pool, engine *orchestration.Engine, logger *slog.Logger, effects *orchestration.Effects) {
	n := newNotifier(pool, engine, logger)
	n.wake(effects)
	n.send(ctx)
}
