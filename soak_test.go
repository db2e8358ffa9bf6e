package tasker_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/db/migration"
	"github.com/tasker-systems/tasker-go/examples/reference"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// footprint is what a process holds on to.
type footprint struct {
	heap       uint64
	goroutines int
}

// measure looks after everything that is free has been given up.
func measure() footprint {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and pools let go of in the first
	runtime.ReadMemStats(&stats)
	return footprint{stats.HeapAlloc, runtime.NumGoroutine()}
}

// Not parallel: it looks at the whole process.
func TestThousandsOfTasksLeaveNothingBehind(t *testing.T) {
	tasks, perBatch := 2000, 500
	if os.Getenv("CHAOS") == "long" {
		tasks = 10_000
	}
	if testing.Short() {
		t.Skip("a soak needs patience")
	}
	config := math(chain)
	config.Namespaces["math"] = tasker.NamespaceConfig{MaxWorkers: 100}
	client, err := tasker.NewClient(dbtest.Pool(t), config)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(tasks)*100*time.Millisecond)
	defer cancel()
	require.NoError(t, client.Start(ctx))
	defer func() { require.NoError(t, client.Stop(context.WithoutCancel(ctx))) }()
	began := time.Now()
	var early footprint
	for done := 0; done < tasks; done += perBatch {
		inputs := make([]number, perBatch)
		for i := range inputs {
			inputs[i].N = (done+i)%6 + 1
		}
		runs, err := tasker.CreateMany(ctx, client, chain, inputs)
		require.NoError(t, err)
		for _, run := range runs {
			_, err := run.Wait(ctx)
			require.NoError(t, err)
		}
		if done+perBatch == tasks/4 {
			early = measure()
		}
	}
	late := measure()
	took := time.Since(began)
	t.Logf("%d tasks in %v, %.0f steps/s; heap %.1f MB at a quarter, %.1f MB at the end; goroutines %d, %d", tasks, took.Round(time.Millisecond),
		float64(4*tasks)/took.Seconds(), float64(early.heap)/1e6, float64(late.heap)/1e6, early.goroutines, late.goroutines)
	require.Less(t, float64(late.heap), 1.3*float64(early.heap), "the heap is flat")
	require.Less(t, float64(late.goroutines), 1.3*float64(early.goroutines), "goroutines are flat")

	list, err := client.List(ctx, tasker.ListParams{States: openStates(), Limit: 10})
	require.NoError(t, err)
	require.Empty(t, list, "drained")
	began = time.Now()
	checks, err := client.Doctor(ctx, time.Millisecond, 0)
	require.NoError(t, err)
	t.Logf("doctor in %v", time.Since(began).Round(time.Millisecond))
	for _, check := range checks {
		if !check.Warning {
			require.Empty(t, check.Found, "%s: %s", check.ID, check.Title)
		}
	}
}

// openStates are those of tasks that are not complete.
func openStates() []dag.TaskState {
	var open []dag.TaskState
	for _, state := range dag.TaskStates() {
		if state != dag.TaskComplete {
			open = append(open, state)
		}
	}
	return open
}

// statement is what a tracer saw of a query.
type statement struct {
	sql  string
	args []any
}

// witness traces every query of the connections that are made from a pool's configuration.
type witness struct {
	mu   sync.Mutex
	seen []statement
}

func (w *witness) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	w.add(data.SQL, data.Args)
	return ctx
}

func (w *witness) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (w *witness) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	w.add("batch", nil)
	for _, query := range data.Batch.QueuedQueries {
		w.add(query.SQL, query.Arguments)
	}
	return ctx
}

func (w *witness) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (w *witness) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func (w *witness) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	w.add("COPY "+data.TableName.Sanitize(), nil)
	return ctx
}

func (w *witness) TraceCopyFromEnd(context.Context, *pgx.Conn, pgx.TraceCopyFromEndData) {}

func (w *witness) add(sql string, args []any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, statement{sql, append([]any(nil), args...)})
}

// take returns what was seen since the last time.
func (w *witness) take() []statement {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// watched is a pool whose queries are seen, also those of the pools that a client makes from its configuration.
func watched(t *testing.T) (*pgxpool.Pool, *witness) {
	t.Helper()
	config, err := pgxpool.ParseConfig(dbtest.URL(t))
	require.NoError(t, err)
	w := &witness{}
	config.ConnConfig.Tracer = w
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool, w
}

// after waits for a length of time to pass: here it is what is measured.
func after(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal("interrupted")
	}
}

func TestAnIdleClientOfNineNamespacesAsksLittle(t *testing.T) {
	t.Parallel()
	templates, err := reference.Templates()
	require.NoError(t, err)
	config := &tasker.Config{
		Templates: templates, Handlers: reference.Handlers(), Orchestrate: true,
		Namespaces: map[string]tasker.NamespaceConfig{"ninth": {}},
	}
	for _, name := range reference.Namespaces() {
		config.Namespaces[name] = tasker.NamespaceConfig{}
	}
	require.Len(t, config.Namespaces, 9)
	pool, w := watched(t)
	client := start(t, pool, config)
	run, err := client.Create(patience(t), tasker.Request{Namespace: "test_errors", Name: "success_only"})
	require.NoError(t, err)
	_, err = run.Wait(patience(t))
	require.NoError(t, err)
	after(t, 2*time.Second) // what the start and the task brought about
	w.take()
	const length = 6 * time.Second
	after(t, length)
	seen := w.take()
	count := make(map[string]int)
	for _, s := range seen {
		count[title(s.sql)]++
	}
	rate := float64(len(seen)) / length.Seconds()
	t.Logf("%.1f statements a second: %v", rate, count)
	require.LessOrEqual(t, rate, 10.0)
	require.NotEmpty(t, seen, "the tracer sees the client's own pools")
}

// title is the name that a generated query bears, or its first words.
func title(sql string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(sql), "\n")
	words := strings.Fields(strings.TrimPrefix(first, "-- name: "))
	return strings.Join(words[:min(len(words), 2)], " ")
}

// otherClock makes a database whose clock differs from this host's.
func otherClock(t *testing.T, difference string) *pgxpool.Pool {
	t.Helper()
	url := dbtest.EmptyURL(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	for _, sql := range []string{
		"CREATE SCHEMA clock",
		"CREATE FUNCTION clock.now() RETURNS timestamptz STABLE LANGUAGE sql AS $$SELECT pg_catalog.now() + interval '" + difference + "'$$",
		"CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql AS $$SELECT pg_catalog.clock_timestamp() + interval '" +
			difference + "'$$",
		"ALTER DATABASE " + conn.Config().Database + " SET search_path = clock, public, pg_catalog",
	} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	require.NoError(t, conn.Close(t.Context()))
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, migration.Up(t.Context(), pool, &migration.Config{RiverSchema: "public"}))
	var apart float64
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT extract(epoch FROM now() - pg_catalog.now())::float8").Scan(&apart))
	require.InDelta(t, 3600, max(apart, -apart), 1)
	return pool
}

func TestAHostWhoseClockIsAnHourOffWorksLikeAnyOther(t *testing.T) {
	t.Parallel()
	for name, difference := range map[string]string{"behind the database": "1 hour", "ahead of the database": "-1 hour"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var began []time.Time
			workflow := tasker.Define("math/late", "1.0.0", func(f *tasker.Flow[number]) {
				one := tasker.Step(f, "one", func(ctx context.Context, in number) (int, error) {
					began = append(began, time.Now()) // attempts never overlap
					if tasker.Attempt(ctx) == 1 {
						return 0, errAgain
					}
					return in.N, nil
				}, tasker.Retry(2, 400*time.Millisecond))
				tasker.Step1(f, "two", func(ctx context.Context, _ number, n int) (int, error) {
					after(t, 2500*time.Millisecond) // longer than two leases
					return n * n, ctx.Err()
				}, one)
			})
			config := math(workflow)
			config.Lease, config.ClaimGrace = time.Second, time.Second
			client := start(t, otherClock(t, difference), config)
			ctx := patience(t)
			run, err := tasker.Create(ctx, client, workflow, number{N: 3})
			require.NoError(t, err)
			task, err := run.Wait(ctx)
			require.NoError(t, err)
			require.Equal(t, 2, task.Step("one").Attempts)
			require.Len(t, began, 2)
			require.InDelta(t, 400, began[1].Sub(began[0]).Milliseconds(), 1500, "the back-off is no hour longer, and no hour shorter")
			require.Greater(t, began[1].Sub(began[0]), 300*time.Millisecond)
			require.Equal(t, 1, task.Step("two").ClaimNo, "a lease that is renewed is not lost")
			checks, err := client.Doctor(ctx, 0, 0)
			require.NoError(t, err)
			for _, check := range checks {
				require.Equal(t, check.ID == "OP12", strings.Contains(strings.Join(check.Found, ""), "ahead of this host"), check.ID)
			}
		})
	}
}

// The database's clock is the only one: a host whose own is an hour off decides the same. The one time that a host may send is
// a task's run_at, which its caller chose.
func TestNoStatementTakesTheTimeOfThisHost(t *testing.T) {
	t.Parallel()
	workflow := tasker.Define("math/clockless", "1.0.0", func(f *tasker.Flow[number]) {
		one := tasker.Step(f, "one", func(ctx context.Context, in number) (int, error) {
			if tasker.Attempt(ctx) == 1 {
				return 0, tasker.RetryAfter(errAgain, 50*time.Millisecond)
			}
			return in.N, nil
		})
		tasker.Step1(f, "two", square, one, tasker.NoRetry())
	}, tasker.WithIdentity(tasker.IdentityAlwaysUnique))
	pool, w := watched(t)
	config := math(workflow)
	config.Lease = time.Second // so that there are heartbeats
	config.Logger = slog.New(slog.DiscardHandler)
	client := start(t, pool, config)
	ctx := patience(t)
	run, err := tasker.Create(ctx, client, workflow, number{N: 3})
	require.NoError(t, err)
	_, err = run.Wait(ctx)
	require.NoError(t, err)
	later, err := tasker.Create(ctx, client, workflow, number{N: 3}, tasker.RunAt(time.Now().Add(time.Hour)))
	require.NoError(t, err)
	require.NoError(t, client.Cancel(ctx, later.ID, ops))
	_, err = client.List(ctx, tasker.ListParams{})
	require.NoError(t, err)
	after(t, 1500*time.Millisecond) // promoter, sweep and heartbeats

	times := make(map[string]int)
	for _, s := range w.take() {
		if !strings.Contains(s.sql, "tasker.") {
			continue // River's own upkeep keeps its own clock; nothing of ours hangs on it
		}
		for _, arg := range s.args {
			if carriesTime(reflect.ValueOf(arg)) {
				times[title(s.sql)]++
			}
		}
	}
	t.Logf("statements with a time: %v", times)
	for name := range times {
		require.Contains(t, allowedTimes, name)
	}
}

var errAgain = errors.New("again")

// allowedTimes are the statements that take a time, and why they may.
var allowedTimes = map[string]string{
	"StepApplyMany :many":            "retry_at, counted from the now() of the transaction that decides",
	"JobSchedule :many":              "River's scheduler; delayed starts are the promoter's, by the database's clock",
	"JobSetStateIfRunningMany :many": "River's completer: when a job of an orchestrator ended, for people",
	"JobDeleteBefore :execresult":    "River's cleaner: what ended a day ago",
	"JobGetStuck :many":              "River's rescuer, which finds nothing: it is told to wait for ever",
}

// carriesTime reports whether a time stands anywhere in an argument.
func carriesTime(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && carriesTime(v.Elem())
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if carriesTime(v.Index(i)) {
				return true
			}
		}
	case reflect.Struct:
		if at, ok := reflect.TypeAssert[time.Time](v); ok {
			return !at.IsZero()
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && carriesTime(v.Field(i)) {
				return true
			}
		}
	}
	return false
}
