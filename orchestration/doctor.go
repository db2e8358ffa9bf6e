package orchestration

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// Check is one invariant, and what it found.
type Check struct {
	// ID is I01 to I24 for what must hold, OP1 to OP13 for the health of the database around it.
	ID string `json:"id"`
	// Title says what should be so.
	Title string `json:"title"`
	// Warning marks the OP checks: something to look at, not a broken promise.
	Warning bool `json:"warning,omitempty"`
	// Repairable says that Repair can mend it.
	Repairable bool `json:"repairable,omitempty"`
	// Found names what breaks it, at most as many as were asked for.
	Found []string `json:"found"`
}

// DoctorOptions say how to examine.
type DoctorOptions struct {
	// Age is how old something must be before the checks about time count it: longer than recovery takes.
	Age time.Duration
	// MaxRows bounds what each check lists.
	MaxRows int
	// Now is the host's clock, for OP12; nil is time.Now.
	Now func() time.Time
}

type examine func(ctx context.Context, q *dbsqlc.Queries, age float64, limit int32) ([]string, error)

type invariant struct {
	id, title string
	repair    bool
	run       examine
}

// strict adapts a check without an age.
func strict(fn func(*dbsqlc.Queries, context.Context, int32) ([]string, error)) examine {
	return func(ctx context.Context, q *dbsqlc.Queries, _ float64, limit int32) ([]string, error) {
		return fn(q, ctx, limit)
	}
}

// invariants are the checks in order; the queries' comments in queries/doctor.sql say more.
func invariants() []invariant {
	type q = *dbsqlc.Queries
	return []invariant{
		{"I01", "nothing is live under a task that has ended", false, strict(q.DoctorI01)},
		{"I02", "a task whose steps have all ended has ended", false, func(ctx context.Context, q q, age float64, limit int32) ([]string, error) {
			return q.DoctorI02(ctx, dbsqlc.DoctorI02Params{AgeSeconds: age, Max: limit})
		}},
		{"I03", "a complete task has only complete or resolved steps", false, strict(q.DoctorI03)},
		{"I04", "no step was dispatched before its parents succeeded", false, strict(q.DoctorI04)},
		{"I05", "what is ready is dispatched", true, func(ctx context.Context, q q, age float64, limit int32) ([]string, error) {
			return q.DoctorI05(ctx, dbsqlc.DoctorI05Params{AgeSeconds: age, Max: limit})
		}},
		{"I06", "every counter equals a recount", false, strict(q.DoctorI06)},
		{"I07", "a step succeeds once", false, strict(q.DoctorI07)},
		{"I08", "a complete step has its winning attempt", false, strict(q.DoctorI08)},
		{"I09", "attempts stay within their limit", false, strict(q.DoctorI09)},
		{"I10", "executions that counted do not overlap", false, strict(q.DoctorI10)},
		{"I11", "a running step has no ended attempt of its claim", false, strict(q.DoctorI11)},
		{"I12", "ended leases are reaped", true, func(ctx context.Context, q q, age float64, limit int32) ([]string, error) {
			return q.DoctorI12(ctx, dbsqlc.DoctorI12Params{AgeSeconds: age, Max: limit})
		}},
		{"I13", "what is dispatched has a live carrier", true, func(ctx context.Context, q q, age float64, limit int32) ([]string, error) {
			return q.DoctorI13(ctx, dbsqlc.DoctorI13Params{AgeSeconds: age, Max: limit})
		}},
		{"I14", "a running carrier has a step that wants it", true, func(ctx context.Context, q q, age float64, limit int32) ([]string, error) {
			return q.DoctorI14(ctx, dbsqlc.DoctorI14Params{AgeSeconds: age, Max: limit})
		}},
		{"I15", "what was fetched is claimed", true, func(ctx context.Context, q q, age float64, limit int32) ([]string, error) {
			return q.DoctorI15(ctx, dbsqlc.DoctorI15Params{AgeSeconds: age, Max: limit})
		}},
		{"I16", "every transition is legal", false, strict(q.DoctorI16)},
		{"I17", "transitions form unbroken chains", false, strict(q.DoctorI17)},
		{"I18", "the last transition is the state", false, strict(q.DoctorI18)},
		{"I19", "nothing leaves a closed state", false, strict(q.DoctorI19)},
		{"I20", "edges are acyclic and stay in their task", false, strict(q.DoctorI20)},
		{"I21", "due retries are dispatched", true, func(ctx context.Context, q q, age float64, limit int32) ([]string, error) {
			return q.DoctorI21(ctx, dbsqlc.DoctorI21Params{AgeSeconds: age, Max: limit})
		}},
		{"I22", "the stored result came from the last claim", false, strict(q.DoctorI22)},
		{"I23", "finished_at is set exactly when ended", false, strict(q.DoctorI23)},
		{"I24", "no orphan rows, no empty live task", false, strict(q.DoctorI24)},
		{"OP1", "dead rows are vacuumed", false, strict(q.DoctorOP1)},
		{"OP2", "no old snapshot blocks vacuum", false, strict(q.DoctorOP2)},
		{"OP3", "sequences have room", false, strict(q.DoctorOP3)},
		{"OP4", "transaction ids have room", false, strict(q.DoctorOP4)},
		{"OP5", "the notification queue is read", false, strict(q.DoctorOP5)},
		{"OP6", "indexes are valid", false, strict(q.DoctorOP6)},
		{"OP7", "nobody waits long for locks", false, strict(q.DoctorOP7)},
		{"OP8", "River has a leader", false, strict(q.DoctorOP8)},
		{"OP9", "no queue waits long for a worker", false, strict(q.DoctorOP9)},
		{"OP10", "ids cannot overflow", false, strict(q.DoctorOP10)},
		{"OP11", "definer functions fix their search path", false, strict(q.DoctorOP11)},
		{"OP13", "the role has no more rights than it needs", false, strict(q.DoctorOP13)},
	}
}

// doctorSettings keep an examination from holding its snapshot for long.
// After a bulk load the planner has no statistics yet, and would join large tables row by row.
const doctorSettings = "SELECT set_config('statement_timeout', '30s', true), set_config('enable_nestloop', 'off', true)"

// maxSkew is how far the host's clock may be from the database's before OP12 says so. Nothing depends on it; people do.
const maxSkew = time.Second

// Doctor examines the database. Run it in a read-only, repeatable-read transaction, so that the checks agree.
func (e *Engine) Doctor(ctx context.Context, tx pgx.Tx, options DoctorOptions) ([]Check, error) {
	if _, err := tx.Exec(ctx, doctorSettings); err != nil { //nolint:forbidigo // settings are not a query of sqlc's
		return nil, fmt.Errorf("examine: %w", err)
	}
	q := e.queries(tx)
	var checks []Check
	for _, i := range invariants() {
		found, err := i.run(ctx, q, options.Age.Seconds(), int32(options.MaxRows))
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", i.id, err)
		}
		if i.id == "OP13" {
			skew, err := clockSkew(ctx, q, options.Now)
			if err != nil {
				return nil, err
			}
			checks = append(checks, skew)
		}
		checks = append(checks, Check{
			ID: i.id, Title: i.title, Warning: i.id[0] == 'O', Repairable: i.repair, Found: append([]string{}, found...),
		})
	}
	return checks, nil
}

// clockSkew is OP12: the host's clock against the database's, the round trip halved.
func clockSkew(ctx context.Context, q *dbsqlc.Queries, now func() time.Time) (Check, error) {
	check := Check{ID: "OP12", Title: "this host's clock agrees with the database's", Warning: true, Found: []string{}}
	if now == nil {
		now = time.Now
	}
	asked := now()
	database, err := q.DatabaseClock(ctx)
	if err != nil {
		return check, fmt.Errorf("check OP12: %w", err)
	}
	answered := now()
	if skew := database.Sub(asked.Add(answered.Sub(asked) / 2)); skew.Abs() > maxSkew {
		check.Found = []string{fmt.Sprintf("the database is %v ahead of this host", skew.Round(time.Millisecond))}
	}
	return check, nil
}

// Repair mends what the named checks found, through the same fenced paths as always; it never edits a state. It returns what
// it did, a line each.
func (e *Engine) Repair(ctx context.Context, tx pgx.Tx, ids []string, age time.Duration) ([]string, *Effects, error) {
	all := newEffects()
	var done []string
	if slices.Contains(ids, "I05") {
		n, effects, err := e.resume(ctx, tx, age)
		if err != nil {
			return nil, nil, err
		}
		done = append(done, fmt.Sprintf("I05: dispatched the ready steps of %d tasks", n))
		all.merge(effects)
	}
	if slices.Contains(ids, "I12") {
		n, effects, err := e.Reap(ctx, tx)
		if err != nil {
			return nil, nil, err
		}
		done = append(done, fmt.Sprintf("I12: reaped %d leases", n))
		all.merge(effects)
	}
	if slices.Contains(ids, "I13") || slices.Contains(ids, "I14") || slices.Contains(ids, "I15") {
		repaired, effects, err := e.Sweep(ctx, tx, age, &SweepCursor{})
		if err != nil {
			return nil, nil, err
		}
		done = append(done, fmt.Sprintf("I13, I14, I15: gave %d steps and %d tasks a new job, settled %d jobs",
			repaired.Steps, repaired.Tasks, repaired.Jobs))
		all.merge(effects)
	}
	if slices.Contains(ids, "I21") {
		n, effects, err := e.Promote(ctx, tx)
		if err != nil {
			return nil, nil, err
		}
		done = append(done, fmt.Sprintf("I21: dispatched %d due retries", n))
		all.merge(effects)
	}
	return done, all, nil
}

func (e *Effects) merge(other *Effects) {
	for queue := range other.Queues {
		e.Queues[queue] = true
	}
	e.Ended = append(e.Ended, other.Ended...)
	e.Interrupt = append(e.Interrupt, other.Interrupt...)
}

// resume recounts the tasks that have a ready step which nobody dispatched.
func (e *Engine) resume(ctx context.Context, tx pgx.Tx, age time.Duration) (int, *Effects, error) {
	q, effects := e.queries(tx), newEffects()
	ids, err := q.TasksUndispatched(ctx, dbsqlc.TasksUndispatchedParams{AgeSeconds: age.Seconds(), Max: batchLimit})
	if err != nil {
		return 0, nil, fmt.Errorf("find ready steps: %w", err)
	}
	tasks, err := e.lockTasks(ctx, q, ids)
	if err != nil {
		return 0, nil, err
	}
	w := newWrites()
	for _, id := range ids {
		if err := e.resumeTask(ctx, q, tasks[id], id, w); err != nil {
			return 0, nil, err
		}
	}
	return len(ids), effects, e.apply(ctx, q, w, effects)
}

func (e *Engine) resumeTask(ctx context.Context, q *dbsqlc.Queries, task *loadedTask, id uuid.UUID, w *writes) error {
	rows, err := q.StepLockTask(ctx, id)
	if err != nil {
		return fmt.Errorf("lock steps of task %s: %w", id, err)
	}
	for i := range rows {
		task.addStep(&rows[i])
	}
	ready, err := q.StepsReady(ctx, id)
	if err != nil {
		return fmt.Errorf("recount steps of task %s: %w", id, err)
	}
	plan, err := dag.Decide(task.snapshot(), dag.Resume{Ready: ready}, task.now())
	if err != nil {
		return fmt.Errorf("resume task %s: %w", id, err)
	}
	return w.add(task, &plan)
}
