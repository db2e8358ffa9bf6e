package tasker_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

func TestTasksRunInTheQueryModesThatPoolersNeed(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]pgx.QueryExecMode{"exec": pgx.QueryExecModeExec, "simple": pgx.QueryExecModeSimpleProtocol} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			poolConfig, err := pgxpool.ParseConfig(dbtest.URL(t))
			require.NoError(t, err)
			poolConfig.ConnConfig.DefaultQueryExecMode = mode
			pool, err := pgxpool.NewWithConfig(t.Context(), poolConfig)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			config := math(chain)
			config.PollOnly, config.PollInterval = true, 100*time.Millisecond
			client := start(t, pool, config)
			ctx := patience(t)
			runs, err := tasker.CreateMany(ctx, client, chain, []number{{N: 2}, {N: 6}})
			require.NoError(t, err)
			for _, run := range runs {
				_, err := run.Wait(ctx)
				require.NoError(t, err)
			}
			result, err := tasker.Result[int](ctx, runs[1], "four")
			require.NoError(t, err)
			require.Equal(t, 2821109907456, result)
			require.NoError(t, client.Cancel(ctx, later(ctx, t, client).ID, ops))
		})
	}
}
