package orchestration

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// batchLimit bounds what one pass of the reaper, the promoter or the sweep takes on.
const batchLimit = 500

// Reap takes back the steps whose lease ended: their worker died or was cut off. Each gets a new claim number and a new job;
// one that lost its worker too often fails instead. It returns how many there were.
func (e *Engine) Reap(ctx context.Context, tx pgx.Tx) (int, *Effects, error) {
	rows, err := e.queries(tx).StepExpired(ctx, batchLimit)
	if err != nil {
		return 0, nil, fmt.Errorf("find expired leases: %w", err)
	}
	dispatches := make([]Dispatch, len(rows))
	for i, row := range rows {
		dispatches[i] = Dispatch{row.ID, row.ClaimNo}
	}
	effects, err := e.giveBack(ctx, tx, dispatches, true)
	return len(rows), effects, err
}

// Release hands steps back that their worker will not finish because it stops. No attempt is used up and no loss is counted.
func (e *Engine) Release(ctx context.Context, tx pgx.Tx, dispatches []Dispatch) (*Effects, error) {
	return e.giveBack(ctx, tx, dispatches, false)
}

// Lose gives up steps whose lease their own worker could not renew: as if they had been reaped.
func (e *Engine) Lose(ctx context.Context, tx pgx.Tx, dispatches []Dispatch) (*Effects, error) {
	return e.giveBack(ctx, tx, dispatches, true)
}

func (e *Engine) giveBack(ctx context.Context, tx pgx.Tx, dispatches []Dispatch, lost bool) (*Effects, error) {
	effects := newEffects()
	if len(dispatches) == 0 {
		return effects, nil
	}
	p := dbsqlc.StepGiveBackManyParams{Lost: lost, MaxLosses: int32(e.MaxLosses)}
	for _, d := range dispatches {
		p.StepID = append(p.StepID, d.StepID)
		p.ClaimNo = append(p.ClaimNo, d.ClaimNo)
	}
	rows, err := e.queries(tx).StepGiveBackMany(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("give steps back: %w", err)
	}
	for i := range rows {
		effects.wake(rows[i].State, rows[i].Queue)
	}
	return effects, nil
}

// wake marks the queue that a step's new job went to.
func (e *Effects) wake(state, queue string) {
	if state == string(dag.StepEnqueued) {
		e.Queues[queue] = true
	} else {
		e.Queues[Queue] = true
	}
}

// Due says what the promoter should do and when to look again.
type Due struct {
	// Next is the time until the next retry or delayed start.
	Next time.Duration
	// Starts says that a delayed task should have started.
	Starts bool
	// Expired says that some lease has ended.
	Expired bool
}

// NextDue asks one cheap question for reaper and promoter together.
func (e *Engine) NextDue(ctx context.Context, q dbsqlc.DBTX) (Due, error) {
	row, err := e.River.Queries(q).NextDue(ctx)
	if err != nil {
		return Due{}, fmt.Errorf("ask what is due: %w", err)
	}
	return Due{Next: time.Duration(row.Seconds * float64(time.Second)), Starts: row.Starts, Expired: row.Expired}, nil
}

// DueRetries finds the retries whose time has come, as items to advance. Steps of tasks that another transaction holds are
// left for the next look. conn is a pool: the locks that tell must not last.
func (e *Engine) DueRetries(ctx context.Context, conn dbsqlc.DBTX) ([]Item, error) {
	rows, err := e.River.Queries(conn).StepDue(ctx, batchLimit)
	if err != nil {
		return nil, fmt.Errorf("find due retries: %w", err)
	}
	items := make([]Item, len(rows))
	for i, row := range rows {
		items[i] = Item{Kind: ItemRetryDue, TaskID: row.TaskID, Dispatch: Dispatch{StepID: row.ID}}
	}
	return items, nil
}

// StartDelayed lets the tasks start whose run_at has come, and wakes the orchestrators.
func (e *Engine) StartDelayed(ctx context.Context, conn dbsqlc.DBTX) (*Effects, error) {
	if _, err := e.River.Queries(conn).TaskDueMany(ctx, batchLimit); err != nil {
		return nil, fmt.Errorf("start delayed tasks: %w", err)
	}
	effects := newEffects()
	effects.Queues[Queue] = true
	return effects, nil
}

// Promote dispatches the retries whose time has come, and lets delayed tasks start, in one transaction: for repairs and
// tests. It returns how many of both there were.
func (e *Engine) Promote(ctx context.Context, tx pgx.Tx) (int, *Effects, error) {
	q := e.queries(tx)
	items, err := e.DueRetries(ctx, tx)
	if err != nil {
		return 0, nil, err
	}
	effects := newEffects()
	if len(items) > 0 {
		if effects, err = e.Advance(ctx, tx, items); err != nil {
			return 0, nil, err
		}
	}
	started, err := q.TaskDueMany(ctx, batchLimit)
	if err != nil {
		return 0, nil, fmt.Errorf("start delayed tasks: %w", err)
	}
	if started > 0 {
		effects.Queues[Queue] = true
	}
	return len(items) + int(started), effects, nil
}

// SweepCursor remembers how far the sweep has looked; each pass takes the next slice and begins again at the end.
type SweepCursor struct {
	time time.Time
	id   uuid.UUID
}

// Repaired counts what a sweep mended.
type Repaired struct {
	Steps, Tasks, Jobs int
}

// Any reports whether anything was mended.
func (r Repaired) Any() bool { return r != Repaired{} }

// Sweep repairs what leases cannot see, once it is older than the grace: dispatched steps and pending tasks whose job was
// deleted, cancelled, discarded, or fetched and forgotten; orchestration jobs that a dead process holds; and running jobs
// that nobody wants.
func (e *Engine) Sweep(ctx context.Context, tx pgx.Tx, grace time.Duration, cursor *SweepCursor) (Repaired, *Effects, error) {
	q, effects := e.queries(tx), newEffects()
	done, err := e.sweepSteps(ctx, q, grace, cursor, effects)
	if err != nil {
		return done, nil, err
	}
	tasks, err := q.TaskUncarriedMany(ctx, dbsqlc.TaskUncarriedManyParams{GraceSeconds: grace.Seconds(), Max: batchLimit})
	if err != nil {
		return done, nil, fmt.Errorf("sweep tasks: %w", err)
	}
	rescued, err := q.JobRescueMany(ctx, dbsqlc.JobRescueManyParams{GraceSeconds: grace.Seconds(), Max: batchLimit})
	if err != nil {
		return done, nil, fmt.Errorf("rescue orchestration jobs: %w", err)
	}
	stale, err := q.JobSettleStale(ctx, dbsqlc.JobSettleStaleParams{GraceSeconds: grace.Seconds(), Max: batchLimit})
	if err != nil {
		return done, nil, fmt.Errorf("settle stale jobs: %w", err)
	}
	done.Tasks, done.Jobs = int(tasks), int(rescued+stale)
	if tasks+rescued > 0 {
		effects.Queues[Queue] = true
	}
	return done, effects, nil
}

// sweepSteps looks at the cursor's slice of dispatched steps, and moves the cursor.
func (e *Engine) sweepSteps(
	ctx context.Context, q *dbsqlc.Queries, grace time.Duration, cursor *SweepCursor, effects *Effects,
) (Repaired, error) {
	var done Repaired
	slice, err := q.StepSlice(ctx, dbsqlc.StepSliceParams{
		GraceSeconds: grace.Seconds(), AfterTime: cursor.time, AfterID: cursor.id, Max: batchLimit,
	})
	if err != nil {
		return done, fmt.Errorf("sweep steps: %w", err)
	}
	rows, err := q.StepUncarried(ctx, dbsqlc.StepUncarriedParams{
		GraceSeconds: grace.Seconds(), AfterTime: cursor.time, AfterID: cursor.id, Max: batchLimit,
	})
	if err != nil {
		return done, fmt.Errorf("sweep steps: %w", err)
	}
	var p dbsqlc.StepRecarryManyParams
	for i := range rows {
		p.StepID = append(p.StepID, rows[i].ID)
		p.ClaimNo = append(p.ClaimNo, rows[i].ClaimNo)
	}
	if len(rows) > 0 {
		carried, err := q.StepRecarryMany(ctx, p)
		if err != nil {
			return done, fmt.Errorf("give steps a new job: %w", err)
		}
		for i := range carried {
			effects.wake(carried[i].State, carried[i].Queue)
		}
		done.Steps = len(carried)
	}
	*cursor = SweepCursor{}
	if slice.Seen == batchLimit {
		*cursor = SweepCursor{time: slice.LastTime, id: slice.LastID}
	}
	return done, nil
}
