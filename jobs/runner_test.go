package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/jobs"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// bundle is a process that orchestrates and works, on a database of its own.
type bundle struct {
	t      *testing.T
	pool   *pgxpool.Pool
	engine *orchestration.Engine
	ended  chan uuid.UUID
}

// setup starts a process with handlers for steps of the namespace "toy".
func setup(t *testing.T, workers int, handlers map[string]jobs.Handler, templates ...dag.Template) *bundle {
	t.Helper()
	pool := dbtest.Pool(t)
	river, err := db.CheckSchema(t.Context(), pool)
	require.NoError(t, err)
	b := &bundle{
		t: t, pool: pool, ended: make(chan uuid.UUID, 10_000),
		engine: &orchestration.Engine{River: river, Templates: &orchestration.Templates{}, MaxLosses: 3},
	}
	for _, template := range templates {
		b.tx(func(ctx context.Context, tx pgx.Tx) error {
			_, err := b.engine.Templates.Register(ctx, river.Queries(tx), template)
			return err
		})
	}
	runner, err := jobs.NewRunner(t.Context(), jobs.Config{
		ID: "runner-" + uuid.NewString()[:8], Pool: pool, Engine: b.engine, Orchestrate: true, Namespaces: map[string]int{"toy": workers},
		Handlers: handlers, Lease: 15 * time.Second, Tick: 50 * time.Millisecond, ClaimGrace: 10 * time.Second, StopGrace: 10 * time.Second,
		PollInterval: 200 * time.Millisecond, LeaderElectionDisabled: true,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}, func(ids []uuid.UUID) {
		for _, id := range ids {
			b.ended <- id
		}
	})
	require.NoError(t, err)
	require.NoError(t, runner.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, runner.Stop(context.WithoutCancel(t.Context()))) })
	return b
}

func (b *bundle) tx(fn func(ctx context.Context, tx pgx.Tx) error) {
	b.t.Helper()
	require.NoError(b.t, db.InTx(b.t.Context(), b.pool, "test", fn))
}

func (b *bundle) create(name string) (id uuid.UUID) {
	b.t.Helper()
	id = uuid.Must(uuid.NewV7())
	b.tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := b.engine.Create(ctx, tx, []orchestration.Request{{ID: id, Namespace: "toy", Name: name, Context: json.RawMessage("{}")}}, true)
		return err
	})
	return id
}

// wait waits for that many tasks to end.
func (b *bundle) wait(tasks int) {
	b.t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for range tasks {
		select {
		case <-b.ended:
		case <-deadline.C:
			require.Fail(b.t, "the tasks do not end")
		}
	}
}

func (b *bundle) healthy() {
	b.t.Helper()
	tx, err := b.pool.BeginTx(b.t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	require.NoError(b.t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(b.t.Context())) }()
	checks, err := b.engine.Doctor(b.t.Context(), tx, orchestration.DoctorOptions{Age: time.Minute, MaxRows: 5})
	require.NoError(b.t, err)
	for _, check := range checks {
		require.True(b.t, check.Warning || len(check.Found) == 0, "%s: %v", check.ID, check.Found)
	}
}

// number reads one number.
func (b *bundle) number(query string, args ...any) (n int) {
	b.t.Helper()
	require.NoError(b.t, b.pool.QueryRow(b.t.Context(), query, args...).Scan(&n))
	return n
}

func TestAWideJoinIsDispatchedOnceWhoeverFinishesLast(t *testing.T) {
	t.Parallel()
	const parents = 2000
	wide := dag.Template{Namespace: "toy", Name: "wide", Version: "1", Identity: dag.IdentityAlwaysUnique}
	join := dag.Step{Name: "join", Handler: dag.Handler{Callable: "toy.join"}}
	for i := range parents {
		name := fmt.Sprintf("part_%d", i)
		wide.Steps = append(wide.Steps, dag.Step{Name: name, Handler: dag.Handler{Callable: "toy.part"}})
		join.Dependencies = append(join.Dependencies, name)
	}
	wide.Steps = append(wide.Steps, join)
	var ran, joined atomic.Int64
	b := setup(t, 32, map[string]jobs.Handler{
		"toy.part": func(context.Context, *orchestration.Claimed) (json.RawMessage, error) {
			ran.Add(1)
			return json.RawMessage("1"), nil
		},
		"toy.join": func(_ context.Context, step *orchestration.Claimed) (json.RawMessage, error) {
			joined.Add(1)
			if len(step.Results) != parents {
				return nil, fmt.Errorf("%d results of %d", len(step.Results), parents)
			}
			return json.RawMessage("1"), nil
		},
	}, wide)
	runs := rounds(1, 50)
	start := time.Now()
	for range runs {
		b.create("wide")
		b.wait(1)
	}
	took := time.Since(start)
	require.Equal(t, int64(runs), joined.Load())
	require.Equal(t, int64(runs*parents), ran.Load())
	require.Equal(t, runs, b.number(`SELECT count(*) FROM river_job j JOIN tasker.steps s ON s.id = (j.args->>'step_id')::uuid
	    WHERE j.kind = 'tasker_execute' AND s.name = 'join'`))
	require.Equal(t, runs, b.number("SELECT count(*) FROM tasker.tasks WHERE state = 'complete'"))
	b.healthy()
	t.Logf("S42 wide-fan-in ok parents=%d completers=32 runs=%d joins=%d took=%v", parents, runs, joined.Load(), took.Round(time.Millisecond))
}

// Whatever a handler returns, its step ends, for good, and nothing waits for ever.
func TestHostileResultsAndErrorsEndTheirStepAtOnce(t *testing.T) {
	t.Parallel()
	results := map[string]string{
		"zero": `{"a": "\u0000"}`, "surrogate": `"\ud800"`, "number": `[1e400000]`, "digits": `[` + strings.Repeat("9", 140_000) + `]`,
		"deep": strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000), "utf8": "\"\xff\"", "half": `{"a":`, "nan": `NaN`,
		"large": `"` + strings.Repeat("x", orchestration.MaxResultBytes) + `"`,
	}
	errs := map[string]error{
		"zero_error": errors.New("a\x00b"), "utf8_error": errors.New("\xff\xfe\xed\xa0\x80"),
		"large_error": errors.New(strings.Repeat("\x00", 10<<20)), "nil_error": (*typed)(nil),
	}
	var mu sync.Mutex
	calls := make(map[string]int)
	handlers, templates := make(map[string]jobs.Handler), []dag.Template{}
	once := 1
	add := func(name, result string, err error) {
		handlers["toy."+name] = func(context.Context, *orchestration.Claimed) (json.RawMessage, error) {
			mu.Lock()
			defer mu.Unlock()
			calls[name]++
			return json.RawMessage(result), err
		}
		step := dag.Step{Name: "one", Handler: dag.Handler{Callable: "toy." + name}}
		if err != nil {
			step.Retry = &dag.Retry{MaxAttempts: &once}
		}
		templates = append(templates, dag.Template{
			Namespace: "toy", Name: name, Version: "1", Identity: dag.IdentityAlwaysUnique, Steps: []dag.Step{step},
		})
	}
	for name, result := range results {
		add(name, result, nil)
	}
	for name, err := range errs {
		add(name, "", err)
	}
	b := setup(t, 4, handlers, templates...)
	for _, template := range templates {
		b.create(template.Name)
	}
	b.wait(len(templates))
	require.Equal(t, len(templates), b.number("SELECT count(*) FROM tasker.tasks WHERE state = 'error'"))
	require.Equal(t, len(results), b.number(`SELECT count(*) FROM tasker.steps
	    WHERE state = 'error' AND failure->>'type' = 'invalid_result' AND (failure->>'permanent')::boolean AND attempts = 1 AND losses = 0`))
	for name, n := range calls {
		require.Equal(t, 1, n, "%s runs once", name)
	}
	require.Zero(t, b.number("SELECT count(*) FROM river_job WHERE finalized_at IS NULL"))
	require.Less(t, b.number("SELECT max(octet_length(failure::text))::int FROM tasker.steps"), 200_000)
	b.healthy()
}

// typed is an error type whose nil pointer panics when asked for its text.
type typed struct{ text string }

func (e *typed) Error() string { return e.text }
