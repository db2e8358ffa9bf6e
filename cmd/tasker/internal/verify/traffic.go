package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
)

// The reference workflows that are run.
var (
	sequence  = workflow{namespace: "rust_e2e_linear", name: "mathematical_sequence", input: `{"even_number":6}`, executions: 4}
	failing   = workflow{namespace: "test_errors", name: "permanent_error_only", input: `{}`, executions: 1, failures: 1, fails: true}
	retried   = workflow{namespace: "rust_e2e_retry", name: "retry_mechanics_test", input: `{}`, executions: 3, failures: 2}
	succeeded = workflow{namespace: "test_errors", name: "success_only", input: `{}`, executions: 1}
)

// workflow is a template, and what becomes of each of its tasks.
type workflow struct {
	namespace, name, input string
	// executions are those of all steps, failures the ones that fail.
	executions, failures int
	// fails: the task ends in error.
	fails bool
}

// The ways a task is created.
const (
	byClient = "client"
	bySQL    = "SQL"
)

// task is one that was run.
type task struct {
	id, correlation uuid.UUID
	workflow        *workflow
	by              string
}

// burst runs the tasks: one that fails, one that is tried again, then many of the same kind in rapid succession, and one more
// by SQL.
func (s *stage) burst(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience+time.Duration(s.options.Tasks)*100*time.Millisecond)
	defer cancel()
	workflows := append([]*workflow{&failing, &retried}, slices.Repeat([]*workflow{&sequence}, s.options.Tasks)...)
	for _, w := range workflows {
		if err := s.create(ctx, w); err != nil {
			return err
		}
	}
	if err := s.createBySQL(ctx); err != nil {
		return err
	}
	return s.wait(ctx, s.tasks)
}

func (s *stage) create(ctx context.Context, w *workflow) error {
	correlation := uuid.New()
	run, err := s.client.Create(ctx, w.request(correlation))
	if err != nil {
		return fmt.Errorf("create task: %w", err)
	}
	s.tasks = append(s.tasks, task{run.ID, correlation, w, byClient})
	return nil
}

func (w *workflow) request(correlation uuid.UUID) tasker.Request {
	return tasker.Request{
		Namespace: w.namespace, Name: w.name, Context: []byte(w.input), CorrelationID: correlation,
		Initiator: clientApplication, SourceSystem: "tasker-cli", Reason: "verify telemetry",
	}
}

// createBySQL creates a task as other languages do. Nobody has counted or traced it when it is taken up.
func (s *stage) createBySQL(ctx context.Context) error {
	made := task{correlation: uuid.New(), workflow: &sequence, by: bySQL}
	const call = "SELECT tasker.create_task($1, $2, $3::jsonb, correlation_id => $4)"
	row := s.pool.QueryRow(ctx, call, sequence.namespace, sequence.name, sequence.input, made.correlation) //nolint:forbidigo // users' SQL
	if err := row.Scan(&made.id); err != nil {
		return fmt.Errorf("create task by SQL: %w", err)
	}
	s.tasks = append(s.tasks, made)
	return nil
}

// wait returns when the tasks have ended, each as its workflow does.
func (s *stage) wait(ctx context.Context, tasks []task) error {
	for i := range tasks {
		t := &tasks[i]
		_, err := s.client.Wait(ctx, t.id)
		_, failed := errors.AsType[*tasker.EndedError](err)
		switch {
		case err != nil && !failed:
			return fmt.Errorf("task of %s: %w", t.workflow.name, err)
		case failed != t.workflow.fails:
			return fmt.Errorf("task of %s ended otherwise than it should: %w", t.workflow.name, err)
		}
	}
	return nil
}

// creationsInOutage is how many tasks are to be created while the database is away: one is under way when it goes.
const creationsInOutage = 2

// outage is what was seen while the database was away.
type outage struct {
	// refused is how many creations failed.
	refused int
	took    time.Duration
}

// interrupt takes the database away until the server has noticed, and gives it back. Somebody else's stays.
func (s *stage) interrupt(ctx context.Context) error {
	if s.postgres == nil || s.receiver == nil {
		return nil
	}
	s.options.Say("taking the database away for a moment")
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	underWay, err := s.holdUp(ctx)
	if err != nil {
		return err
	}
	if err := s.postgres.Stop(ctx); err != nil {
		return fmt.Errorf("stop the embedded Postgres: %w", err)
	}
	s.outage = &outage{}
	for _, create := range []func() error{func() error { return <-underWay }, func() error { return s.tryCreate(ctx) }} {
		if err := create(); err != nil {
			s.outage.refused++
		}
	}
	noticed := s.receiver.Wait(ctx, func(snapshot *otlpreceiver.Snapshot) bool {
		return snapshot.Total("tasker.messages.receive_failures.total", nil) > 0 &&
			snapshot.Total("tasker.db.connection.errors.total", nil) > 0
	})
	if noticed != nil {
		return fmt.Errorf("wait until the outage shows in metrics: %w", noticed)
	}
	if err := s.startPostgres(ctx); err != nil {
		return err
	}
	if s.postgres.URL() != s.url {
		return errors.New("the embedded Postgres came back on another port: another process took the one it had")
	}
	s.outage.took = time.Since(began)
	return nil
}

// holdUp locks River's jobs, and returns when a fetch and a creation wait for them: the end of the server then hits both.
func (s *stage) holdUp(ctx context.Context) (underWay <-chan error, err error) {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	s.later(conn.Close)
	const lock = "BEGIN; LOCK TABLE river_job IN ACCESS EXCLUSIVE MODE" // until the server ends
	if _, err := conn.Exec(ctx, lock); err != nil {                     //nolint:forbidigo // as an accident would
		return nil, fmt.Errorf("lock River's jobs: %w", err)
	}
	creation := make(chan error, 1)
	go func() { creation <- s.tryCreate(ctx) }()
	const waiting = `SELECT count(DISTINCT application_name) FROM pg_stat_activity
		WHERE (application_name = $1 OR query LIKE '-- name: JobGetAvailable %') AND wait_event_type = 'Lock'`
	for n := 0; n < 2; {
		// By another connection: within a transaction the view does not change.
		if err := s.pool.QueryRow(ctx, waiting, clientApplication).Scan(&n); err != nil { //nolint:forbidigo // of no table of ours
			return nil, fmt.Errorf("wait for a fetch and a creation that wait: %w", err)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return creation, nil
}

func (s *stage) tryCreate(ctx context.Context) error {
	_, err := s.client.Create(ctx, succeeded.request(uuid.New()))
	return err
}

// finish runs one more task, as soon as there is a database again. What it exports is on its way when the server is stopped.
func (s *stage) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := s.create(ctx, &succeeded)
		if err == nil {
			break
		}
		if !tasker.IsUnavailable(err) {
			return err
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return s.wait(ctx, s.tasks[len(s.tasks)-1:])
}

// pause waits a little.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait: %w", ctx.Err())
	}
}
