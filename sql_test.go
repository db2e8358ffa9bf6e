package tasker_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func TestATriggerStartsATaskForEachRow(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	client := start(t, pool, math(chain))
	ctx := patience(t)
	_, err := pool.Exec(ctx, `
	    CREATE TABLE orders (id int PRIMARY KEY, task uuid);
	    CREATE FUNCTION start_task() RETURNS trigger LANGUAGE plpgsql AS $$
	    BEGIN
	        NEW.task := tasker.create_task('math', 'chain', jsonb_build_object('n', NEW.id), initiator => 'trigger', tags => ARRAY['order']);
	        RETURN NEW;
	    END $$;
	    CREATE TRIGGER start_task BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION start_task();
	    INSERT INTO orders (id) SELECT generate_series(1, 3)`)
	require.NoError(t, err)
	rows, err := pool.Query(ctx, "SELECT task FROM orders ORDER BY id")
	require.NoError(t, err)
	tasks, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(t, err)
	for i, want := range []string{"1", "65536", "43046721"} {
		task, err := client.Wait(ctx, tasks[i])
		require.NoError(t, err)
		require.Equal(t, want, string(task.Step("four").Result))
		require.Equal(t, "trigger", task.Initiator)
		require.Equal(t, []string{"order"}, task.Tags)
	}
}

func TestTheSameIdentityInSQLReturnsTheSameTask(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	client := start(t, pool, math(chain))
	ctx := patience(t)
	var first, second uuid.UUID
	create := "SELECT tasker.create_task('math', 'chain', '{\"n\": 1}', idempotency_key => 'k')"
	require.NoError(t, pool.QueryRow(ctx, create).Scan(&first))
	require.NoError(t, pool.QueryRow(ctx, create).Scan(&second))
	require.Equal(t, first, second)
	_, err := client.Wait(ctx, first)
	require.NoError(t, err)
	var line string
	require.NoError(t, pool.QueryRow(ctx, "SELECT concat_ws(' ', namespace, name, version, state, steps, problem) FROM tasker.task_status").Scan(&line))
	require.Equal(t, "math chain 1.0.0 complete 4/4", line)
}

func TestPriorityDecidesWhichJobsRiverTakesFirst(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	config := math(chain)
	client, err := tasker.NewClient(pool, config)
	require.NoError(t, err)
	ctx := patience(t)
	require.NoError(t, client.Register(ctx))
	for priority, river := range map[int]int{100: 1, 50: 1, 49: 2, 0: 2, -1: 3, -50: 3, -51: 4, -100: 4} {
		run, err := tasker.Create(ctx, client, chain, number{N: 1}, tasker.Priority(priority))
		require.NoError(t, err)
		var have int
		require.NoError(t, pool.QueryRow(ctx, "SELECT priority FROM river_job WHERE args->>'task_id' = $1", run.ID.String()).Scan(&have))
		require.Equal(t, river, have, "priority %d", priority)
	}
	require.NoError(t, client.Stop(ctx))
}

func TestAnEnvironmentChangesItsTemplates(t *testing.T) {
	t.Parallel()
	template, err := tasker.ParseTemplate("env.yaml", []byte(`
name: env
namespace_name: math
version: 1.0.0
identity_strategy: always_unique
steps:
  - name: one
    handler: {callable: env.one, initialization: {mark: base, kept: yes}}
    retry: {max_attempts: 5, backoff_base_ms: 1}
environments:
  test:
    steps:
      - {name: ALL, retry: {max_attempts: 2, backoff_base_ms: 1}}
      - {name: one, handler: {callable: ignored, initialization: {mark: test}}}
`))
	require.NoError(t, err)
	for environment, want := range map[string]string{"": "base 5", "test": "test 2"} {
		t.Run("in "+environment, func(t *testing.T) {
			t.Parallel()
			config := math(template)
			config.Environment = environment
			config.Handlers = map[string]tasker.HandlerFunc{"env.one": func(_ context.Context, step *tasker.StepContext) (any, error) {
				if !step.IsLastAttempt() {
					return nil, fmt.Errorf("attempt %d of %d", step.Attempt(), step.MaxAttempts())
				}
				return fmt.Sprint(step.Config()["mark"], " ", step.Attempt()), nil
			}}
			client := start(t, dbtest.Pool(t), config)
			ctx := patience(t)
			run, err := client.Create(ctx, tasker.Request{Namespace: "math", Name: "env"})
			require.NoError(t, err)
			task, err := run.Wait(ctx)
			require.NoError(t, err)
			require.Equal(t, dag.TaskComplete, task.State)
			result, err := tasker.Result[string](ctx, run, "one")
			require.NoError(t, err)
			require.Equal(t, want, result)
		})
	}
}
