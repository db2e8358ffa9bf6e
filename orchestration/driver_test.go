package orchestration_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/orchestration"
)

const (
	lease = 15 * time.Second
	grace = 10 * time.Second
)

// driver carries tasks without River: it takes jobs out of the queue table, plays the workers, and makes time pass by moving
// the stored times back. It does one thing after the other, so a test decides what happens when.
type driver struct {
	t *testing.T
	// judge is a way to the database that no fault touches.
	judge *pgxpool.Pool
	// db is how the process that the driver plays reaches the database.
	db     db.Beginner
	engine *orchestration.Engine
	// apart makes a worker that does not orchestrate: it stores results for others.
	apart bool
	// mended makes broken steps work.
	mended bool
}

func newDriver(t *testing.T, pool *pgxpool.Pool) *driver {
	t.Helper()
	river, err := db.CheckSchema(t.Context(), pool)
	require.NoError(t, err)
	return &driver{t: t, judge: pool, db: pool, engine: newEngine(river)}
}

func newEngine(river db.RiverSchema) *orchestration.Engine {
	return &orchestration.Engine{
		River: river, Templates: &orchestration.Templates{}, MaxLosses: 3,
		Holder: orchestration.Holder{Worker: "driver", Lease: lease}, Jitter: func() float64 { return 0 },
	}
}

// via is another process that reaches the database some other way. It knows nothing of what this one has in memory.
func (d *driver) via(way db.Beginner) *driver {
	other := *d
	other.db, other.engine = way, newEngine(d.engine.River)
	return &other
}

func (d *driver) register(shapes ...shape) {
	d.t.Helper()
	for _, s := range shapes {
		require.NoError(d.t, d.tx("register", func(ctx context.Context, tx pgx.Tx) error {
			_, err := d.engine.Templates.Register(ctx, d.engine.River.Queries(tx), s.template())
			return err
		}))
	}
}

func (d *driver) tx(name string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return db.InTx(d.t.Context(), d.db, name, fn)
}

func request(s shape, w wish) orchestration.Request {
	text, err := json.Marshal(w)
	if err != nil {
		panic(err)
	}
	return orchestration.Request{ID: uuid.Must(uuid.NewV7()), Namespace: "toy", Name: s.name, Context: text}
}

func (d *driver) create(requests ...orchestration.Request) (created []orchestration.Created, err error) {
	err = d.tx("create", func(ctx context.Context, tx pgx.Tx) (err error) {
		created, err = d.engine.Create(ctx, tx, requests, false)
		return err
	})
	return created, err
}

// mustCreate creates a task.
func (d *driver) mustCreate(s shape, w wish) uuid.UUID {
	d.t.Helper()
	created, err := d.create(request(s, w))
	require.NoError(d.t, err)
	return created[0].ID
}

// carrier is a River job of one of Tasker's kinds.
type carrier struct {
	ID      int64
	Kind    string
	TaskID  *uuid.UUID
	StepID  *uuid.UUID
	ClaimNo *int32
}

// fetch takes jobs as River does: they are running from now on.
func (d *driver) fetch(limit int) []carrier {
	d.t.Helper()
	return d.fetchOf(uuid.Nil, limit)
}

// fetchOf takes jobs of one task, uuid.Nil for any, and of some kinds, none for any.
func (d *driver) fetchOf(task uuid.UUID, limit int, kinds ...string) []carrier {
	d.t.Helper()
	const take = `UPDATE river_job j SET state = 'running', attempt = j.attempt + 1, attempted_at = now(), attempted_by = ARRAY['driver']
	  FROM (SELECT id FROM river_job WHERE state = 'available' AND kind = ANY ($2) AND ($3 = '' OR $3 = ANY (tags))
	         ORDER BY priority, scheduled_at, id LIMIT $1 FOR UPDATE SKIP LOCKED) l
	 WHERE j.id = l.id
	RETURNING j.id, j.kind, (j.args->>'task_id')::uuid, (j.args->>'step_id')::uuid, (j.args->>'claim_no')::int`
	if len(kinds) == 0 {
		kinds = []string{"tasker_enqueue", "tasker_execute", "tasker_result"}
	}
	var tag string
	if task != uuid.Nil {
		tag = task.String()
	}
	rows, err := d.judge.Query(d.t.Context(), take, limit, kinds, tag)
	require.NoError(d.t, err)
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[carrier])
	require.NoError(d.t, err)
	return jobs
}

// item is what an orchestrator makes of a carrier.
func (c carrier) item() orchestration.Item {
	item := orchestration.Item{Kind: orchestration.ItemEnqueue, TaskID: *c.TaskID, JobID: c.ID}
	if c.Kind == "tasker_result" {
		item.Kind, item.Dispatch = orchestration.ItemResult, orchestration.Dispatch{StepID: *c.StepID, ClaimNo: *c.ClaimNo}
	}
	return item
}

// carry does what fetched jobs ask for, to the end.
func (d *driver) carry(jobs []carrier) error {
	var items []orchestration.Item
	var executions []carrier
	for _, job := range jobs {
		if job.Kind == "tasker_execute" {
			executions = append(executions, job)
		} else {
			items = append(items, job.item())
		}
	}
	if len(items) > 0 {
		if _, err := d.advance(items); err != nil {
			return err
		}
	}
	if len(executions) == 0 {
		return nil
	}
	claimed, err := d.claim(executions)
	if err != nil {
		return err
	}
	return d.finish(claimed)
}

func (d *driver) advance(items []orchestration.Item) (effects *orchestration.Effects, err error) {
	err = d.tx("advance", func(ctx context.Context, tx pgx.Tx) (err error) {
		effects, err = d.engine.Advance(ctx, tx, items)
		return err
	})
	return effects, err
}

// claim takes the steps of execute jobs; stale jobs are completed, as River does when a worker returns.
func (d *driver) claim(jobs []carrier) ([]*orchestration.Claimed, error) {
	claims := make([]orchestration.Claim, len(jobs))
	for i, job := range jobs {
		claims[i] = orchestration.Claim{Dispatch: orchestration.Dispatch{StepID: *job.StepID, ClaimNo: *job.ClaimNo}, Token: uuid.New()}
	}
	var held map[orchestration.Dispatch]*orchestration.Claimed
	err := d.tx("claim", func(ctx context.Context, tx pgx.Tx) (err error) {
		held, err = d.engine.Claim(ctx, tx, d.engine.Holder.Worker, lease, claims)
		return err
	})
	if err != nil {
		return nil, err
	}
	var claimed []*orchestration.Claimed
	for i, job := range jobs {
		step := held[claims[i].Dispatch]
		if step == nil {
			_, err := d.judge.Exec(d.t.Context(),
				"UPDATE river_job SET state = 'completed', finalized_at = now() WHERE id = $1 AND state = 'running'", job.ID)
			require.NoError(d.t, err)
			continue
		}
		step.JobID = job.ID
		claimed = append(claimed, step)
	}
	return claimed, nil
}

// finish runs the handlers of claimed steps and of all that they are continued with.
func (d *driver) finish(claimed []*orchestration.Claimed) error {
	for len(claimed) > 0 {
		items := make([]orchestration.Item, len(claimed))
		for i, step := range claimed {
			items[i] = d.outcome(step)
		}
		if d.apart {
			_, err := d.store(items)
			return err
		}
		effects, err := d.advance(items)
		if err != nil {
			return err
		}
		claimed = claimed[:0:0]
		for i := range items {
			if next := effects.Next[items[i].Dispatch]; next != nil {
				claimed = append(claimed, next)
			}
		}
	}
	return nil
}

// outcome runs a step's handler and makes the item that brings what came out.
func (d *driver) outcome(step *orchestration.Claimed) orchestration.Item {
	outcome := handle(step, d.mended)
	item := orchestration.Item{
		Kind: orchestration.ItemResult, TaskID: step.TaskID, Dispatch: step.Dispatch, JobID: step.JobID, Outcome: &outcome,
	}
	if !d.apart {
		item.Offer = &orchestration.Offer{Token: uuid.New(), Step: step, Runs: func(string) bool { return true }}
	}
	return item
}

func (d *driver) store(items []orchestration.Item) (effects *orchestration.Effects, err error) {
	err = d.tx("result", func(ctx context.Context, tx pgx.Tx) (err error) {
		effects, err = d.engine.StoreResults(ctx, tx, items)
		return err
	})
	return effects, err
}
