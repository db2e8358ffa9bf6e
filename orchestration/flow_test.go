package orchestration_test

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// flow is one of the transactions that move a task, or a few that follow each other in one process.
type flow struct {
	name string
	wish wish
	// before brings a task to where the flow begins.
	before func(d *driver, s *scene)
	// run is the flow, in the process that a fault meets.
	run func(d *driver, s *scene) error
	// again is what who asked for it does when there was no answer; nil where nobody asked.
	again func(d *driver, s *scene) error
	// variant marks a flow that another one resembles, statement by statement: the short form has it on one shape alone.
	variant bool
	// mends says that broken steps work afterwards.
	mends bool
}

// scene is a task in a flow.
type scene struct {
	shape   shape
	wish    wish
	task    uuid.UUID
	jobs    []carrier
	claimed []*orchestration.Claimed
}

func (s *scene) created(d *driver) { s.task = d.mustCreate(s.shape, s.wish) }

func (s *scene) expanded(d *driver) {
	s.created(d)
	require.NoError(d.t, d.carry(d.fetchOf(s.task, 1, "tasker_enqueue")))
}

// fetched has the first step's job in a worker's hands.
func (s *scene) fetched(d *driver) {
	s.expanded(d)
	s.jobs = d.fetchOf(s.task, 1, "tasker_execute")
	require.Len(d.t, s.jobs, 1)
}

// held has the first step claimed.
func (s *scene) held(d *driver) {
	s.fetched(d)
	var err error
	s.claimed, err = d.claim(s.jobs)
	require.NoError(d.t, err)
	require.Len(d.t, s.claimed, 1)
}

// finished has the first step's outcome decided, or with apart stored.
func (s *scene) finished(d *driver, apart bool) {
	s.held(d)
	worker := *d
	worker.apart = apart
	require.NoError(d.t, worker.finish(s.claimed))
}

func (s *scene) do(d *driver, statement string) {
	_, err := d.judge.Exec(d.t.Context(), statement, s.task)
	require.NoError(d.t, err)
}

// carrying flows are those that happen by themselves on the way of a healthy task.
func carryingFlows() []flow {
	return []flow{
		{name: "create", before: nobody, run: create, again: create},
		{name: "create by SQL", variant: true, before: nobody, run: createSQL, again: createSQL},
		{name: "enqueue", before: func(d *driver, s *scene) {
			s.created(d)
			s.jobs = d.fetchOf(s.task, 1, "tasker_enqueue")
		}, run: carryJobs},
		{name: "claim", before: func(d *driver, s *scene) { s.fetched(d) }, run: func(d *driver, s *scene) error {
			_, err := d.claim(s.jobs)
			return err
		}},
		{name: "heartbeat", before: func(d *driver, s *scene) { s.held(d) }, run: heartbeat},
		{name: "finish folded", before: func(d *driver, s *scene) { s.held(d) }, run: finishHeld},
		{name: "store results", before: func(d *driver, s *scene) { s.held(d) }, run: func(d *driver, s *scene) error {
			d.apart = true
			return d.finish(s.claimed)
		}},
		{name: "result", before: func(d *driver, s *scene) {
			s.finished(d, true)
			s.jobs = d.fetchOf(s.task, 1, "tasker_result")
		}, run: carryJobs},
	}
}

// failingFlows are about steps that fail.
func failingFlows() []flow {
	return []flow{
		{name: "retry", wish: wish{Fail: 1}, before: func(d *driver, s *scene) { s.held(d) }, run: finishHeld},
		{name: "retry from a stored result", variant: true, wish: wish{Fail: 1}, before: func(d *driver, s *scene) {
			s.finished(d, true)
			s.jobs = d.fetchOf(s.task, 1, "tasker_result")
		}, run: carryJobs},
		{name: "fail for good", variant: true, wish: wish{Broken: "a"}, before: func(d *driver, s *scene) { s.held(d) }, run: finishHeld},
		{name: "promote", wish: wish{Fail: 1}, before: func(d *driver, s *scene) {
			s.finished(d, false)
			d.pass(time.Hour)
		}, run: func(d *driver, _ *scene) error {
			_, err := d.promote()
			return err
		}},
		{name: "promote a delayed start", variant: true, before: func(d *driver, s *scene) {
			at, r := time.Now().Add(time.Hour), request(s.shape, s.wish)
			r.RunAt = &at
			created, err := d.create(r)
			require.NoError(d.t, err)
			s.task = created[0].ID
			d.pass(2 * time.Hour)
		}, run: func(d *driver, _ *scene) error {
			_, err := d.promote()
			return err
		}},
	}
}

// losingFlows bring back what was lost.
func losingFlows() []flow {
	reap := func(d *driver, _ *scene) error {
		_, err := d.reap()
		return err
	}
	sweep := func(d *driver, _ *scene) error {
		_, err := d.sweep()
		return err
	}
	return []flow{
		{name: "reap", before: func(d *driver, s *scene) {
			s.held(d)
			d.pass(time.Hour)
		}, run: reap},
		{name: "reap poison", variant: true, before: func(d *driver, s *scene) {
			s.held(d)
			s.do(d, "UPDATE tasker.steps SET losses = 2 WHERE task_id = $1 AND state = 'in_progress'")
			d.pass(time.Hour)
		}, run: reap},
		{name: "release", before: func(d *driver, s *scene) { s.held(d) }, run: func(d *driver, s *scene) error {
			return d.release(s.claimed[0])
		}},
		{name: "sweep a forgotten step", before: func(d *driver, s *scene) {
			s.fetched(d)
			d.pass(time.Hour)
		}, run: sweep},
		{name: "sweep a deleted task job", variant: true, before: func(d *driver, s *scene) {
			s.created(d)
			s.do(d, "DELETE FROM river_job WHERE id = (SELECT enqueue_job_id FROM tasker.tasks WHERE id = $1)")
			d.pass(time.Hour)
		}, run: sweep},
		{name: "sweep a forgotten result", variant: true, before: func(d *driver, s *scene) {
			s.finished(d, true)
			d.fetchOf(s.task, 1, "tasker_result")
			d.pass(time.Hour)
		}, run: sweep},
		{name: "sweep a discarded result", variant: true, before: func(d *driver, s *scene) {
			s.finished(d, true)
			s.do(d, `UPDATE river_job SET state = 'discarded', finalized_at = now()
			  WHERE kind = 'tasker_result' AND state = 'available' AND $1::uuid::text = ANY (tags)`)
			d.pass(time.Hour)
		}, run: sweep},
	}
}

// operatorFlows are what people do.
func operatorFlows() []flow {
	do := func(event dag.Event, result string) func(d *driver, s *scene) error {
		return func(d *driver, s *scene) error {
			_, err := d.operate(orchestration.Operation{TaskID: s.task, Event: event, Result: json.RawMessage(result)})
			return err
		}
	}
	held := func(d *driver, s *scene) { s.held(d) }
	failed := func(d *driver, s *scene) {
		s.created(d)
		for jobs := d.fetchOf(s.task, 10); len(jobs) > 0; jobs = d.fetchOf(s.task, 10) {
			require.NoError(d.t, d.carry(jobs))
		}
		require.Equal(d.t, "error", d.state(s.task))
	}
	cancel, rerun := do(dag.Cancel{}, ""), do(dag.Rerun{}, "")
	with, without := do(dag.Resolve{Step: "a", HasResult: true}, `{"sum": "0", "step": "a"}`), do(dag.Resolve{Step: "a"}, "")
	return []flow{
		{name: "cancel", before: held, run: cancel, again: cancel},
		{name: "cancel before the first step", variant: true, before: func(d *driver, s *scene) { s.created(d) }, run: cancel, again: cancel},
		{name: "rerun", mends: true, wish: wish{Broken: "a"}, before: failed, run: rerun, again: rerun},
		{name: "resolve with a result", wish: wish{Broken: "a"}, before: failed, run: with, again: with},
		{name: "resolve without", variant: true, wish: wish{Broken: "a"}, before: failed, run: without, again: without},
		{name: "resolve a running step", variant: true, before: held, run: with, again: with},
	}
}

func allFlows() []flow {
	var all []flow
	for _, some := range [][]flow{carryingFlows(), failingFlows(), losingFlows(), operatorFlows()} {
		all = append(all, some...)
	}
	return all
}

func nobody(_ *driver, s *scene) { s.wish.Key = uuid.NewString() }

func create(d *driver, s *scene) error {
	r := request(s.shape, s.wish)
	r.IdempotencyKey = s.wish.Key
	created, err := d.create(r)
	if err == nil {
		s.task = created[0].ID
	}
	return err
}

func createSQL(d *driver, s *scene) error {
	text := request(s.shape, s.wish).Context
	return d.tx("create_task", func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, "SELECT tasker.create_task('toy', $1, $2, idempotency_key => $3)", s.shape.name, text, s.wish.Key).Scan(&s.task)
	})
}

func carryJobs(d *driver, s *scene) error { return d.carry(s.jobs) }

func finishHeld(d *driver, s *scene) error { return d.finish(s.claimed) }

func heartbeat(d *driver, s *scene) error {
	return d.tx("heartbeat", func(ctx context.Context, tx pgx.Tx) error {
		kept, err := d.engine.Heartbeat(ctx, tx, lease, []orchestration.Dispatch{s.claimed[0].Dispatch})
		// False is a step that is held, and whose row another transaction has: the one that was cut off, perhaps.
		if _, held := kept[s.claimed[0].StepID]; err == nil && !held {
			return errors.New("the lease was lost")
		}
		return err
	})
}
