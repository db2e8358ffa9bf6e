// Package taskertest tests workflows: one handler without a database, or whole workflows against the real engine on a real
// Postgres, with steps stubbed or made to fail, and without waiting for back-offs.
package taskertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// Harness runs workflows to quiet on a database of the test's own.
type Harness struct {
	t      testing.TB
	pool   *pgxpool.Pool
	client *tasker.Client

	mu    sync.Mutex
	stubs map[string]tasker.HandlerFunc
	fails map[string]int
}

const (
	// patience bounds everything that waits for the engine.
	patience = 30 * time.Second
	// longestAdvance is how far Settle moves time forward at once, at most.
	longestAdvance = 365 * 24 * time.Hour
)

// New starts orchestrator and worker for the templates on the pool's database, which must be migrated and must not be shared
// with other tests. Handlers are those that YAML templates name. Everything is stopped when the test ends.
func New(t testing.TB, pool *pgxpool.Pool, handlers map[string]tasker.HandlerFunc, templates ...tasker.Template) *Harness {
	t.Helper()
	h := &Harness{t: t, pool: pool, stubs: make(map[string]tasker.HandlerFunc), fails: make(map[string]int)}
	config := &tasker.Config{
		Templates: templates, Handlers: handlers, Orchestrate: true, Namespaces: make(map[string]tasker.NamespaceConfig),
		Lease: 2 * time.Second, Tick: 50 * time.Millisecond, ClaimGrace: time.Second, StopGrace: time.Second,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Wrap:   h.wrap,
	}
	for _, template := range templates {
		config.Namespaces[template.Definition().Namespace] = tasker.NamespaceConfig{}
	}
	client, err := tasker.NewClient(pool, config)
	if err != nil {
		t.Fatalf("taskertest: %v", err)
	}
	if err := client.Start(t.Context()); err != nil {
		t.Fatalf("taskertest: %v", err)
	}
	h.client = client
	t.Cleanup(func() {
		if err := client.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("taskertest: %v", err)
		}
	})
	return h
}

// Client is the harness's client, for what the harness does not offer.
func (h *Harness) Client() *tasker.Client { return h.client }

// errInjected is what a step fails with after FailTimes.
var errInjected = errors.New("taskertest: injected failure")

// wrap puts stubs and injected failures in front of a handler.
func (h *Harness) wrap(handler tasker.HandlerFunc) tasker.HandlerFunc {
	return func(ctx context.Context, step *tasker.StepContext) (any, error) {
		h.mu.Lock()
		fail := h.fails[step.Name()] > 0
		if fail {
			h.fails[step.Name()]--
		}
		if stub := h.stubs[step.Name()]; stub != nil {
			handler = stub
		}
		h.mu.Unlock()
		if fail {
			return nil, errInjected
		}
		return handler(ctx, step)
	}
}

// Stub makes fn the handler of every step of that name.
func (h *Harness) Stub(step string, fn tasker.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stubs[step] = fn
}

// StubResult makes every step of that name succeed with a result.
func (h *Harness) StubResult(step string, result any) {
	h.Stub(step, func(context.Context, *tasker.StepContext) (any, error) { return result, nil })
}

// FailTimes makes the next n executions of steps of that name fail before their handler runs.
func (h *Harness) FailTimes(step string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fails[step] = n
}

// Advance moves time forward for what waits in the database: back-offs and delayed starts come due that much earlier.
func (h *Harness) Advance(d time.Duration) {
	h.t.Helper()
	river, err := db.CheckSchema(h.t.Context(), h.pool)
	if err != nil {
		h.t.Fatalf("taskertest: advance the clock: %v", err)
	}
	_, err = h.pool.Exec(h.t.Context(), fmt.Sprintf(`
	    WITH retries AS (UPDATE tasker.steps SET retry_at = retry_at - make_interval(secs => $1) WHERE retry_at IS NOT NULL),
	         starts AS (UPDATE tasker.tasks SET run_at = run_at - make_interval(secs => $1)
	                     WHERE state = 'pending' AND run_at IS NOT NULL RETURNING enqueue_job_id)
	    UPDATE %s.river_job SET scheduled_at = scheduled_at - make_interval(secs => $1)
	     WHERE id IN (SELECT enqueue_job_id FROM starts) AND state IN ('scheduled', 'available')`, river), d.Seconds())
	if err != nil {
		h.t.Fatalf("taskertest: advance the clock: %v", err)
	}
}

// Run is a task that has come to rest.
type Run struct {
	*tasker.Task

	t testing.TB
}

// Go runs a task of a workflow until it ends. Back-offs cost no time.
func Go[In any](h *Harness, workflow *tasker.Workflow[In], in In, opts ...tasker.CreateOption) *Run {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	run, err := tasker.Create(ctx, h.client, workflow, in, opts...)
	if err != nil {
		h.t.Fatalf("taskertest: create: %v", err)
	}
	return h.Settle(run.ID)
}

// Create runs a task by its request until it ends; see [Go].
func (h *Harness) Create(request tasker.Request) *Run {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	run, err := h.client.Create(ctx, request)
	if err != nil {
		h.t.Fatalf("taskertest: create: %v", err)
	}
	return h.Settle(run.ID)
}

// Settle waits until a task has ended, moving time forward whenever only time is missing.
func (h *Harness) Settle(id uuid.UUID) *Run {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	for ahead := time.Hour; ; ahead = min(2*ahead, longestAdvance) {
		short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
		task, err := h.client.Wait(short, id)
		stop()
		if task != nil {
			return &Run{Task: task, t: h.t}
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			h.t.Fatalf("taskertest: task %s does not end: %v", id, err)
		}
		h.Advance(ahead)
	}
}

// RequireState fails the test unless the task ended in that state.
func (r *Run) RequireState(state dag.TaskState) {
	r.t.Helper()
	if r.State != state {
		r.t.Fatalf("task is %s, want %s%s", r.State, state, r.describe())
	}
}

// RequireOrder fails the test unless the steps finished in that order.
func (r *Run) RequireOrder(steps ...string) {
	r.t.Helper()
	for i := 1; i < len(steps); i++ {
		before, after := r.Step(steps[i-1]), r.Step(steps[i])
		if before == nil || after == nil || before.FinishedAt == nil || after.StartedAt == nil || after.StartedAt.Before(*before.FinishedAt) {
			r.t.Fatalf("step %q did not finish before %q began%s", steps[i-1], steps[i], r.describe())
		}
	}
}

// RequireAttempts fails the test unless the step ran that often.
func (r *Run) RequireAttempts(step string, n int) {
	r.t.Helper()
	if s := r.Step(step); s == nil || s.Attempts != n {
		r.t.Fatalf("step %q did not run %d times%s", step, n, r.describe())
	}
}

// describe lists the steps for messages.
func (r *Run) describe() string {
	var b strings.Builder
	for i := range r.Steps {
		s := &r.Steps[i]
		fmt.Fprintf(&b, "\n  %-24s %s, %d attempts", s.Name, s.State, s.Attempts)
		if s.Failure != nil {
			b.WriteString(": " + s.Failure.Message)
		}
	}
	return b.String()
}

// Output decodes the result of a step of a finished task, or fails the test.
func Output[Out any](r *Run, step string) Out {
	r.t.Helper()
	var out Out
	s := r.Step(step)
	if s == nil || len(s.Result) == 0 {
		r.t.Fatalf("step %q has no result%s", step, r.describe())
	}
	if err := json.Unmarshal(s.Result, &out); err != nil {
		r.t.Fatalf("decode result of step %q: %v", step, err)
	}
	return out
}

// Call runs one handler without a database, with the given task context and dependencies' results, as its first attempt.
func Call(ctx context.Context, handler tasker.HandlerFunc, input any, results map[string]any) (any, error) {
	claimed := &orchestration.Claimed{
		TaskID: uuid.Must(uuid.NewV7()), Name: "step", Attempt: 1, MaxAttempts: 1, Results: make(map[string]json.RawMessage),
	}
	claimed.ClaimNo = 1
	var err error
	if claimed.Context, err = json.Marshal(input); err != nil {
		return nil, fmt.Errorf("encode context: %w", err)
	}
	for name, result := range results {
		if claimed.Results[name], err = json.Marshal(result); err != nil {
			return nil, fmt.Errorf("encode result of %s: %w", name, err)
		}
	}
	graph, err := dag.Compile(dag.Template{Namespace: "test", Name: "test", Version: "1", Steps: []dag.Step{
		{Name: "step", Handler: dag.Handler{Callable: "step"}},
	}})
	if err != nil {
		return nil, fmt.Errorf("make template: %w", err)
	}
	claimed.Template = &orchestration.Template{Graph: graph}
	return tasker.CallHandler(ctx, handler, claimed)
}
