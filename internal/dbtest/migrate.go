package dbtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tasker-systems/tasker-go/db/migration"
)

// migrate brings the empty database behind url to the current schema. It runs once per test process, on the template that every
// test's database is copied from.
var migrate = func(ctx context.Context, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to migrate: %w", err)
	}
	defer pool.Close()
	if err := migration.Up(ctx, pool, nil); err != nil {
		return fmt.Errorf("migrate the template database: %w", err)
	}
	return nil
}
