package tasker_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

type number struct {
	N int `json:"n"`
}

func square(_ context.Context, _ number, n int) (int, error) { return n * n, nil }

var chain = tasker.Define("math/chain", "1.0.0", func(f *tasker.Flow[number]) {
	one := tasker.Step(f, "one", func(_ context.Context, in number) (int, error) { return in.N * in.N, nil })
	two := tasker.Step1(f, "two", square, one)
	three := tasker.Step1(f, "three", square, two)
	tasker.Step1(f, "four", square, three)
}, tasker.WithIdentity(tasker.IdentityAlwaysUnique))

// start runs a client that orchestrates and works, stopped at the end of the test.
func start(t *testing.T, pool *pgxpool.Pool, config *tasker.Config) *tasker.Client {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	client, err := tasker.NewClient(pool, config)
	require.NoError(t, err)
	require.NoError(t, client.Start(t.Context()))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		requireHealthy(ctx, t, client)
		require.NoError(t, client.Stop(ctx))
	})
	return client
}

// requireHealthy is the doctor's round after every test.
func requireHealthy(ctx context.Context, t *testing.T, client *tasker.Client) {
	t.Helper()
	checks, err := client.Doctor(ctx, 0, 0)
	require.NoError(t, err)
	require.Len(t, checks, 24+13)
	for _, check := range checks {
		if !check.Warning {
			require.Empty(t, check.Found, "%s: %s", check.ID, check.Title)
		}
	}
}

func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestATaskRunsItsStepsInOrderAndCompletes(t *testing.T) {
	t.Parallel()
	client := start(t, dbtest.Pool(t), &tasker.Config{
		Templates: []tasker.Template{chain}, Orchestrate: true,
		Namespaces: map[string]tasker.NamespaceConfig{"math": {}},
	})
	ctx := patience(t)
	run, err := tasker.Create(ctx, client, chain, number{N: 6})
	require.NoError(t, err)
	task, err := run.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, "complete", string(task.State))
	result, err := tasker.Result[int](ctx, run, "four")
	require.NoError(t, err)
	require.Equal(t, 2821109907456, result)
	history, err := client.History(ctx, run.ID)
	require.NoError(t, err)
	for _, change := range history {
		t.Log(change)
	}
}

func TestAFailedStepIsRetriedAndThenEndsTheTask(t *testing.T) {
	t.Parallel()
	flaky := tasker.Define("math/flaky", "1.0.0", func(f *tasker.Flow[number]) {
		tasker.Step(f, "fails", func(ctx context.Context, in number) (int, error) {
			if tasker.Attempt(ctx) <= in.N {
				return 0, errors.New("not yet")
			}
			return tasker.Attempt(ctx), nil
		}, tasker.Retry(3, 20*time.Millisecond))
	})
	client := start(t, dbtest.Pool(t), &tasker.Config{
		Templates: []tasker.Template{flaky}, Orchestrate: true,
		Namespaces: map[string]tasker.NamespaceConfig{"math": {}},
	})
	ctx := patience(t)
	run, err := tasker.Create(ctx, client, flaky, number{N: 2})
	require.NoError(t, err)
	_, err = run.Wait(ctx)
	require.NoError(t, err)
	attempts, err := tasker.Result[int](ctx, run, "fails")
	require.NoError(t, err)
	require.Equal(t, 3, attempts)

	run, err = tasker.Create(ctx, client, flaky, number{N: 3})
	require.NoError(t, err)
	_, err = run.Wait(ctx)
	var ended *tasker.EndedError
	require.ErrorAs(t, err, &ended)
	require.Equal(t, "error", string(ended.Task.State))
	require.Equal(t, "fails: not yet (3 of 3 attempts)", ended.Task.Problem)
}
