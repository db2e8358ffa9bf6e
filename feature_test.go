package tasker_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func single(name string, fn func(context.Context, number) (any, error), opts ...tasker.StepOption) *tasker.Workflow[number] {
	return tasker.Define("math/"+name, "1.0.0", func(f *tasker.Flow[number]) { tasker.Step(f, "one", fn, opts...) },
		tasker.WithIdentity(tasker.IdentityAlwaysUnique))
}

func TestWhatHandlersDoWrongIsClassified(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		fn        func(context.Context, number) (any, error)
		opts      []tasker.StepOption
		kind      string
		permanent bool
		attempts  int
	}{
		"a panic is permanent, with its stack": {
			fn: func(context.Context, number) (any, error) { panic("ouch") }, kind: "handler_panic", permanent: true, attempts: 1,
		},
		"a result that does not marshal is permanent": {
			fn: func(context.Context, number) (any, error) { return make(chan int), nil }, kind: "invalid_result", permanent: true, attempts: 1,
		},
		"a result that Postgres cannot store is permanent": {
			fn: func(context.Context, number) (any, error) { return "a\x00b", nil }, kind: "invalid_result", permanent: true, attempts: 1,
		},
		"a result over the cap is permanent": {
			fn: func(context.Context, number) (any, error) { return strings.Repeat("x", 2<<20), nil }, kind: "invalid_result", permanent: true, attempts: 1,
		},
		"a timeout is tried again": {
			fn:   func(ctx context.Context, _ number) (any, error) { <-ctx.Done(); return nil, ctx.Err() },
			opts: []tasker.StepOption{tasker.Timeout(30 * time.Millisecond), tasker.Retry(2, time.Millisecond)},
			kind: "handler_timeout", attempts: 2,
		},
		"a step that may not be retried fails at once": {
			fn:   func(context.Context, number) (any, error) { return nil, errors.New("no\x00") },
			opts: []tasker.StepOption{tasker.NoRetry()}, kind: "handler_error", attempts: 1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			workflow := single("wrong", test.fn, test.opts...)
			client := start(t, dbtest.Pool(t), math(workflow))
			ctx := patience(t)
			run, err := tasker.Create(ctx, client, workflow, number{})
			require.NoError(t, err)
			var ended *tasker.EndedError
			_, err = run.Wait(ctx)
			require.ErrorAs(t, err, &ended)
			step := ended.Task.Step("one")
			require.Equal(t, test.kind, step.Failure.Type)
			require.Equal(t, test.permanent, step.Failure.Permanent)
			require.Equal(t, test.attempts, step.Attempts)
			require.Equal(t, test.kind == "handler_panic", strings.Contains(step.Failure.Stack, "feature_test.go"))
		})
	}
}

func TestAStepWithoutAHandlerAnywhereFailsClearly(t *testing.T) {
	t.Parallel()
	template, err := tasker.FromDefinition(tasker.Definition{Namespace: "math", Name: "orphan", Version: "1.0.0", Steps: []dag.Step{
		{Name: "one", Handler: dag.Handler{Callable: "nobody.has_this"}},
	}})
	require.NoError(t, err)
	config := math(template)
	config.Lease = time.Second // a worker that has it may take twice as long to come
	client := start(t, dbtest.Pool(t), config)
	ctx := patience(t)
	run, err := client.Create(ctx, tasker.Request{Namespace: "math", Name: "orphan"})
	require.NoError(t, err)
	var ended *tasker.EndedError
	_, err = run.Wait(ctx)
	require.ErrorAs(t, err, &ended)
	require.Equal(t, "handler_not_found", ended.Task.Step("one").Failure.Type)
	require.Contains(t, ended.Task.Problem, `no live worker has a handler for step "one" of math/orphan@1.0.0: register it, deploy, and retry the step`)
}

func TestAStepWhoseHandlerIsElsewhereIsLeftToThatWorker(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	template, err := tasker.FromDefinition(tasker.Definition{Namespace: "math", Name: "split", Version: "1.0.0", Steps: []dag.Step{
		{Name: "one", Handler: dag.Handler{Callable: "there"}},
	}})
	require.NoError(t, err)
	here := math(template)
	there := math(template)
	there.Handlers = map[string]tasker.HandlerFunc{"there": func(context.Context, *tasker.StepContext) (any, error) { return "there", nil }}
	start(t, pool, there)
	client := start(t, pool, here)
	ctx := patience(t)
	for range 2 {
		run, err := client.Create(ctx, tasker.Request{Namespace: "math", Name: "split", IdempotencyKey: uuid.NewString()})
		require.NoError(t, err)
		_, err = run.Wait(ctx)
		require.NoError(t, err)
	}
}

func TestRetriesDueSoonStartOnTime(t *testing.T) {
	t.Parallel()
	var began []time.Time
	workflow := single("punctual", func(ctx context.Context, _ number) (any, error) {
		began = append(began, time.Now()) // attempts never overlap
		if tasker.Attempt(ctx) < 3 {
			return nil, tasker.RetryAfter(errors.New("again"), 300*time.Millisecond)
		}
		return 1, nil
	})
	client := start(t, dbtest.Pool(t), math(workflow))
	ctx := patience(t)
	run, err := tasker.Create(ctx, client, workflow, number{})
	require.NoError(t, err)
	_, err = run.Wait(ctx)
	require.NoError(t, err)
	for i := 1; i < len(began); i++ {
		late := began[i].Sub(began[i-1]) - 300*time.Millisecond
		require.GreaterOrEqual(t, late, -time.Millisecond)
		require.Less(t, late, 600*time.Millisecond, "far from River's grid of 5 s, on a loaded machine too")
	}
}

func TestATaskMayStartLater(t *testing.T) {
	t.Parallel()
	client := start(t, dbtest.Pool(t), math(chain))
	ctx := patience(t)
	at := time.Now().Add(700 * time.Millisecond)
	run, err := tasker.Create(ctx, client, chain, number{N: 2}, tasker.RunAt(at))
	require.NoError(t, err)
	task, err := run.Wait(ctx)
	require.NoError(t, err)
	require.False(t, task.StartedAt.Before(at.Truncate(time.Millisecond)))
	require.Less(t, task.StartedAt.Sub(at), 1500*time.Millisecond)
}

func TestIdentityStrategiesDecideWhatIsADuplicate(t *testing.T) {
	t.Parallel()
	define := func(name string, strategy dag.IdentityStrategy) *tasker.Workflow[number] {
		return tasker.Define("math/"+name, "1.0.0", func(f *tasker.Flow[number]) {
			tasker.Step(f, "one", func(_ context.Context, in number) (int, error) { return in.N, nil })
		}, tasker.WithIdentity(strategy))
	}
	strict, other := define("strict", tasker.IdentityStrict), define("other", tasker.IdentityStrict)
	keyed, unique := define("keyed", tasker.IdentityCallerProvided), define("unique", tasker.IdentityAlwaysUnique)
	client := start(t, dbtest.Pool(t), math(strict, other, keyed, unique))
	ctx := patience(t)
	create := func(w *tasker.Workflow[number], n int, opts ...tasker.CreateOption) *tasker.Run {
		run, err := tasker.Create(ctx, client, w, number{N: n}, opts...)
		require.NoError(t, err)
		return run
	}
	first := create(strict, 1)
	again := create(strict, 1)
	require.True(t, again.Duplicate)
	require.Equal(t, first.ID, again.ID)
	require.False(t, create(strict, 2).Duplicate, "another context")
	require.False(t, create(other, 1).Duplicate, "another template")
	for range 2 {
		require.False(t, create(unique, 1).Duplicate)
	}
	require.False(t, create(unique, 1, tasker.Key("k")).Duplicate)
	require.True(t, create(unique, 2, tasker.Key("k")).Duplicate, "a key wins over every strategy")
	require.False(t, create(keyed, 1, tasker.Key("k")).Duplicate, "keys belong to a template")
	var request *tasker.RequestError
	_, err := tasker.Create(ctx, client, keyed, number{})
	require.ErrorAs(t, err, &request)
	require.Contains(t, request.Reason, "needs an idempotency_key")
	runs, err := tasker.CreateMany(ctx, client, strict, []number{{N: 7}, {N: 7}, {N: 1}})
	require.NoError(t, err)
	require.Equal(t, []bool{false, true, true}, []bool{runs[0].Duplicate, runs[1].Duplicate, runs[2].Duplicate})
	require.Equal(t, runs[0].ID, runs[1].ID)
	for _, run := range []*tasker.Run{first, runs[0]} {
		_, err := run.Wait(ctx)
		require.NoError(t, err)
	}
}

func TestBadRequestsAreRefusedWithTheirReason(t *testing.T) {
	t.Parallel()
	workflow := tasker.Define("math/picky", "1.0.0", func(f *tasker.Flow[number]) {
		tasker.Step(f, "one", func(_ context.Context, in number) (int, error) { return in.N, nil })
	}, tasker.WithInputSchema(map[string]any{
		"type": "object", "properties": map[string]any{"n": map[string]any{"type": "integer", "maximum": 9}},
	}))
	client := start(t, dbtest.Pool(t), math(workflow))
	tests := map[string]struct {
		request tasker.Request
		reason  string
	}{
		"not JSON":         {tasker.Request{Name: "picky", Context: json.RawMessage(`{"n":`)}, "context is not valid JSON: unexpected end of JSON input"},
		"not encodable":    {tasker.Request{Name: "picky", Context: make(chan int)}, "context cannot be encoded as JSON"},
		"a zero byte":      {tasker.Request{Name: "picky", Context: json.RawMessage(`{"a":"\u0000"}`)}, `has the character \u0000 at byte 6, which Postgres cannot store`},
		"too large":        {tasker.Request{Name: "picky", Context: map[string]string{"a": strings.Repeat("x", 1<<20)}}, "context has 1048584 bytes, more than the 1048576 allowed"},
		"against schema":   {tasker.Request{Name: "picky", Context: number{N: 10}}, "context.n: maximum: got 10, want 9"},
		"unknown template": {tasker.Request{Name: "pikcy"}, "unknown template math/pikcy"},
		"unknown version":  {tasker.Request{Name: "picky", Version: "9"}, "unknown template math/picky version 9"},
		"priority":         {tasker.Request{Name: "picky", Priority: 101}, "priority 101 is outside -100 to 100"},
		"long reason":      {tasker.Request{Name: "picky", Reason: strings.Repeat("x", 501)}, "reason 500"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.request.Namespace = "math"
			_, err := client.Create(patience(t), test.request)
			var request *tasker.RequestError
			require.ErrorAs(t, err, &request)
			require.Contains(t, request.Reason, test.reason)
			if strings.HasPrefix(name, "unknown") {
				require.ErrorIs(t, err, tasker.ErrTemplateNotFound)
			}
		})
	}
}

func TestARolledBackTransactionLeavesNothing(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	client := start(t, pool, math(chain))
	ctx := patience(t)
	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	run, err := tasker.CreateTx(ctx, client, tx, chain, number{N: 2})
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(ctx))
	_, err = client.Get(ctx, run.ID)
	require.ErrorIs(t, err, tasker.ErrTaskNotFound)
	var jobs int
	require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM river_job").Scan(&jobs))
	require.Zero(t, jobs)
}

func TestAResultStoredInTheHandlersTransactionCountsEvenIfTheHandlerFailsAfterwards(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	workflow := single("tx", func(ctx context.Context, in number) (any, error) {
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return tasker.CompleteTx(ctx, tx, in.N) })
		if err != nil {
			return nil, err
		}
		return nil, errors.New("too late to fail")
	})
	client := start(t, pool, math(workflow))
	ctx := patience(t)
	run, err := tasker.Create(ctx, client, workflow, number{N: 4})
	require.NoError(t, err)
	task, err := run.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, "4", string(task.Step("one").Result))
	require.ErrorContains(t, tasker.CompleteTx(ctx, nil, 1), "not called with a handler's context")
}

func TestTasksAreListedAndFound(t *testing.T) {
	t.Parallel()
	client := start(t, dbtest.Pool(t), math(chain))
	ctx := patience(t)
	var last *tasker.Run
	for i := range 5 {
		run, err := tasker.Create(ctx, client, chain, number{N: i}, tasker.Tags("red", "blue"), tasker.Initiator("ada", "test"), tasker.Reason("list"))
		require.NoError(t, err)
		_, err = run.Wait(ctx)
		require.NoError(t, err)
		last = run
	}
	list, err := client.List(ctx, tasker.ListParams{Namespace: "math", Name: "chain", Tag: "red", States: []dag.TaskState{dag.TaskComplete}, Limit: 3})
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.Equal(t, last.ID, list[0].ID, "the newest first")
	require.Equal(t, "4/4", list[0].Steps)
	rest, err := client.List(ctx, tasker.ListParams{Before: list[2].ID})
	require.NoError(t, err)
	require.Len(t, rest, 2)
	none, err := client.List(ctx, tasker.ListParams{Tag: "green"})
	require.NoError(t, err)
	require.Empty(t, none)
	for _, text := range []string{last.ID.String(), last.ID.String()[28:], "@last"} {
		found, err := client.Find(ctx, text)
		require.NoError(t, err)
		require.Equal(t, last.ID, found)
	}
	_, err = client.Find(ctx, "ffff0000ffff")
	require.ErrorIs(t, err, tasker.ErrTaskNotFound)
	templates, err := client.Templates(ctx)
	require.NoError(t, err)
	require.Len(t, templates, 1)
	definition, err := client.Template(ctx, "math", "chain", "")
	require.NoError(t, err)
	require.Equal(t, chain.Definition().Steps, definition.Steps)
}

func TestAChangedTemplateInUseNeedsANewVersion(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	client := start(t, pool, math(chain))
	ctx := patience(t)
	changed := tasker.Define("math/chain", "1.0.0", func(f *tasker.Flow[number]) {
		tasker.Step(f, "only", func(context.Context, number) (int, error) { return 1, nil })
	})
	other, err := tasker.NewClient(pool, math(changed))
	require.NoError(t, err)
	require.NoError(t, other.Register(ctx), "nothing uses it yet")
	require.NoError(t, client.Register(ctx))
	run, err := tasker.Create(ctx, client, chain, number{N: 2})
	require.NoError(t, err)
	_, err = run.Wait(ctx)
	require.NoError(t, err)
	require.ErrorContains(t, other.Register(ctx), "give the changed template a new version")
	require.NoError(t, client.Register(ctx), "the same definition is fine")
}

func TestMistakesInATypedGraphAreReportedByNewClient(t *testing.T) {
	t.Parallel()
	wrong := tasker.Define("Math/bad name", "1", func(f *tasker.Flow[number]) {
		one := tasker.Step(f, "one", func(context.Context, number) (int, error) { return 1, nil })
		tasker.Step1(f, "one", square, one)
	})
	_, err := tasker.NewClient(nil, &tasker.Config{Templates: []tasker.Template{wrong}})
	require.ErrorContains(t, err, "BAD_NAMESPACE")
	require.ErrorContains(t, err, "BAD_NAME")
	require.ErrorContains(t, err, "DUPLICATE_STEP_NAME")
}
