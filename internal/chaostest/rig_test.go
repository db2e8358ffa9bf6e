//go:build linux

package chaostest

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

// long selects the long forms.
var long = os.Getenv("CHAOS") == "long"

// pick returns the short or the long form of something.
func pick[T any](short, longer T) T {
	if long {
		return longer
	}
	return short
}

// rig is one test's cluster: a database, the ledger outside of it, and processes.
type rig struct {
	t         *testing.T
	seed      uint64
	binary    string
	url       string
	ledgerURL string
	pool      *pgxpool.Pool
	ledger    *pgxpool.Pool
	client    *tasker.Client
	running   sync.WaitGroup

	mu        sync.Mutex
	lives     int
	processes []*process
	kills     map[string]time.Time
	acked     map[string]uuid.UUID // by idempotency key
	inputs    map[uuid.UUID]input
	works     map[uuid.UUID]*workload
}

// newRig makes a cluster without processes, on a database of the package's server.
func newRig(t *testing.T) *rig {
	t.Helper()
	if testing.Short() {
		t.Skip("chaos needs patience")
	}
	return newRigOn(t, dbtest.URL(t))
}

func newRigOn(t *testing.T, url string) *rig {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	r := &rig{
		t: t, seed: seed(t), binary: binary, url: url, ledgerURL: dbtest.EmptyURL(t), kills: make(map[string]time.Time),
		acked: make(map[string]uuid.UUID), inputs: make(map[uuid.UUID]input), works: make(map[uuid.UUID]*workload),
	}
	r.pool, r.ledger = r.open(url), r.open(r.ledgerURL)
	_, err = r.pool.Exec(t.Context(), `CREATE SCHEMA chaos;
		CREATE TABLE chaos.tx_effect (step_key text PRIMARY KEY, execution_key text NOT NULL UNIQUE)`)
	require.NoError(t, err)
	_, err = r.ledger.Exec(t.Context(), `
		CREATE TABLE ledger (task_id uuid NOT NULL, step text NOT NULL, claim_no integer NOT NULL, attempt integer NOT NULL,
			worker text NOT NULL, event text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
		CREATE INDEX ON ledger (task_id, step);
		CREATE TABLE gate (name text PRIMARY KEY)`)
	require.NoError(t, err)
	t.Cleanup(r.end)
	return r
}

// seed is the run's, from CHAOS_SEED if given, and printed whatever happens.
func seed(t *testing.T) uint64 {
	t.Helper()
	chosen := rand.Uint64()
	if text := os.Getenv("CHAOS_SEED"); text != "" {
		var err error
		chosen, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "CHAOS_SEED")
	}
	t.Logf("CHAOS_SEED=%d", chosen)
	return chosen
}

// random is a source of choices for one purpose, the same in every run with the same seed.
func (r *rig) random(purpose string) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, r.t.Name(), "/", purpose)
	return rand.New(rand.NewPCG(r.seed, h.Sum64()))
}

func (r *rig) open(url string) *pgxpool.Pool {
	config, err := pgxpool.ParseConfig(url)
	require.NoError(r.t, err)
	config.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(r.t.Context(), config)
	require.NoError(r.t, err)
	r.t.Cleanup(pool.Close)
	return pool
}

// diagnose prints where a failed test's tasks stand and who holds what.
func (r *rig) diagnose() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), 5*time.Second)
	defer cancel()
	for _, query := range []string{
		`SELECT concat('task ', t.id, ' ', t.state, ': ', string_agg(concat(s.name, ' ', s.state, ' claim ', s.claim_no, ' on ', s.worker_id, ' job ', to_jsonb(j) - 'args' - 'tags'), ', '))
		   FROM tasker.tasks t LEFT JOIN tasker.steps s ON s.task_id = t.id AND s.state NOT IN ('pending', 'complete')
		   LEFT JOIN river_job j ON j.id = s.river_job_id WHERE t.state <> 'complete' GROUP BY t.id LIMIT 10`,
		`SELECT concat(pid, ' ', application_name, ' ', state, ' ', wait_event, ' ', now() - state_change, ' blocked by ', pg_blocking_pids(pid), ': ', left(query, 60))
		   FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()`,
	} {
		rows, err := r.pool.Query(ctx, query)
		if err != nil {
			r.t.Logf("diagnose: %v", err)
			continue
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		r.t.Logf("diagnose (%v):\n\t%s", err, strings.Join(lines, "\n\t"))
	}
}

// end kills what is left. It is the first of the cleanups, the databases go after it.
func (r *rig) end() {
	if r.t.Failed() {
		r.diagnose()
	}
	r.mu.Lock()
	all := r.processes
	r.mu.Unlock()
	for _, p := range all {
		p.kill()
	}
	r.running.Wait()
	if r.client != nil {
		require.NoError(r.t, r.client.Stop(context.WithoutCancel(r.t.Context())))
	}
	if r.t.Failed() {
		for _, p := range all[max(0, len(all)-8):] {
			p.show()
		}
	}
}

// register makes the workloads known; the rig's own client creates and examines, and works on nothing.
func (r *rig) register(workloads ...*workload) {
	r.t.Helper()
	templates := make([]tasker.Template, len(workloads))
	for i, w := range workloads {
		templates[i] = w.template
	}
	client, err := tasker.NewClient(r.pool, &tasker.Config{Templates: templates, ID: "judge"})
	require.NoError(r.t, err)
	require.NoError(r.t, client.Register(r.t.Context()))
	r.client = client
}

// create starts a task, asking again with the same key for as long as there is no answer.
func (r *rig) create(ctx context.Context, w *workload, in input) (uuid.UUID, error) {
	definition := w.template.Definition()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		run, err := r.client.Create(ctx, tasker.Request{
			Namespace: definition.Namespace, Name: definition.Name, Context: in, IdempotencyKey: in.Key,
		})
		if err == nil {
			r.mu.Lock()
			r.acked[in.Key], r.inputs[run.ID], r.works[run.ID] = run.ID, in, w
			r.mu.Unlock()
			return run.ID, nil
		}
		if !tasker.IsUnavailable(err) {
			return uuid.Nil, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return uuid.Nil, err
		}
	}
}

// mustCreate is create where the database is up.
func (r *rig) mustCreate(w *workload, key string) uuid.UUID {
	r.t.Helper()
	id, err := r.create(r.t.Context(), w, input{Key: key})
	require.NoError(r.t, err)
	return id
}

// open lets the executions that wait for a gate go on.
func (r *rig) openGate(name string) {
	r.t.Helper()
	_, err := r.ledger.Exec(r.t.Context(), `INSERT INTO gate (name) VALUES ($1)`, name)
	require.NoError(r.t, err)
}

func (r *rig) killed(id string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kills[id] = at
}

func (r *rig) killCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.kills)
}

const look = 20 * time.Millisecond

// wait polls until something is so, and fails the test when it takes too long. It returns how long it took.
func (r *rig) wait(patience time.Duration, what string, so func() bool) time.Duration {
	r.t.Helper()
	begun := time.Now()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for !so() {
		if time.Since(begun) > patience {
			require.Failf(r.t, "too slow", "not within %v: %s", patience, what)
		}
		<-ticker.C
	}
	return time.Since(begun)
}

// count asks the database, or the ledger, for one number.
func (r *rig) count(pool *pgxpool.Pool, query string, args ...any) (n int) {
	r.t.Helper()
	require.NoError(r.t, pool.QueryRow(r.t.Context(), query, args...).Scan(&n), query)
	return n
}

// report prints the scenario's line.
func (r *rig) report(scenario string, figures ...any) {
	verdict := "ok"
	if r.t.Failed() {
		verdict = "FAILED"
	}
	words := []string{scenario, verdict, fmt.Sprintf("seed=%d", r.seed)}
	for i := 0; i+1 < len(figures); i += 2 {
		value := figures[i+1]
		if d, ok := value.(time.Duration); ok {
			value = strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
		}
		words = append(words, fmt.Sprintf("%v=%v", figures[i], value))
	}
	fmt.Fprintln(r.t.Output(), strings.Join(words, " "))
}
