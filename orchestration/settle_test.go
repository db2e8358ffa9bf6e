package orchestration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration"
)

func (d *driver) promote() (n int, err error) {
	err = d.tx("promote", func(ctx context.Context, tx pgx.Tx) (err error) {
		n, _, err = d.engine.Promote(ctx, tx)
		return err
	})
	return n, err
}

func (d *driver) reap() (n int, err error) {
	err = d.tx("reap", func(ctx context.Context, tx pgx.Tx) (err error) {
		n, _, err = d.engine.Reap(ctx, tx)
		return err
	})
	return n, err
}

func (d *driver) release(step *orchestration.Claimed) error {
	return d.tx("release", func(ctx context.Context, tx pgx.Tx) error {
		_, err := d.engine.Release(ctx, tx, []orchestration.Dispatch{step.Dispatch})
		return err
	})
}

func (d *driver) sweep() (done orchestration.Repaired, err error) {
	err = d.tx("sweep", func(ctx context.Context, tx pgx.Tx) (err error) {
		done, _, err = d.engine.Sweep(ctx, tx, grace, &orchestration.SweepCursor{})
		return err
	})
	return done, err
}

func (d *driver) operate(op orchestration.Operation) (effects *orchestration.Effects, err error) {
	op.ID, op.Actor, op.Reason = uuid.New(), "tester", "a test"
	err = d.tx("operate", func(ctx context.Context, tx pgx.Tx) (err error) {
		effects, err = d.engine.Operate(ctx, tx, op)
		return err
	})
	return effects, err
}

// pass makes time pass for whatever waits.
func (d *driver) pass(by time.Duration) {
	d.t.Helper()
	for _, statement := range []string{
		`UPDATE tasker.steps SET retry_at = retry_at - $1::interval, lease_expires_at = lease_expires_at - $1::interval,
		        dispatched_at = dispatched_at - $1::interval, updated_at = updated_at - $1::interval WHERE finished_at IS NULL`,
		`UPDATE tasker.tasks SET run_at = run_at - $1::interval, created_at = created_at - $1::interval,
		        updated_at = updated_at - $1::interval WHERE finished_at IS NULL`,
		`UPDATE river_job SET scheduled_at = scheduled_at - $1::interval, attempted_at = attempted_at - $1::interval
		  WHERE finalized_at IS NULL`,
	} {
		_, err := d.judge.Exec(d.t.Context(), statement, by)
		require.NoError(d.t, err)
	}
}

// settle carries on until nothing moves any more, making time pass for what waits. It returns how many carriers that took.
func (d *driver) settle() (carried int) {
	d.t.Helper()
	for range 1000 {
		if jobs := d.fetch(500); len(jobs) > 0 {
			carried += len(jobs)
			require.NoError(d.t, d.carry(jobs))
			continue
		}
		d.pass(time.Hour)
		promoted, err := d.promote()
		require.NoError(d.t, err)
		reaped, err := d.reap()
		require.NoError(d.t, err)
		repaired, err := d.sweep()
		require.NoError(d.t, err)
		if promoted+reaped == 0 && !repaired.Any() && !d.waiting() {
			return carried
		}
	}
	require.Fail(d.t, "the tasks never come to rest")
	return carried
}

func (d *driver) waiting() (found bool) {
	d.t.Helper()
	require.NoError(d.t, d.judge.QueryRow(d.t.Context(), "SELECT EXISTS (SELECT 1 FROM river_job WHERE state = 'available')").Scan(&found))
	return found
}

// rows is everything about a task that must not depend on what went wrong on its way. Claim numbers, losses and times do.
type rows struct {
	Task  string
	Steps []string
	// Live counts jobs that were left behind.
	Live int
	// Operations lists what people did.
	Operations []string
}

// with adds to the steps what only a process that lives on keeps as it was.
func (r rows) with(fences []string) rows {
	r.Steps = append(r.Steps, fences...)
	return r
}

// fences are the claim numbers, losses and executions of a task.
func (d *driver) fences(task uuid.UUID) []string {
	d.t.Helper()
	found, err := d.judge.Query(d.t.Context(), `SELECT concat_ws(' ', s.name, 'claim', s.claim_no, 'losses', s.losses,
	    (SELECT string_agg(concat(a.claim_no, ' ', a.outcome), ', ' ORDER BY a.claim_no) FROM tasker.step_attempts a WHERE a.step_id = s.id))
	  FROM tasker.steps s WHERE s.task_id = $1 ORDER BY s.position`, task)
	require.NoError(d.t, err)
	all, err := pgx.CollectRows(found, pgx.RowTo[string])
	require.NoError(d.t, err)
	return all
}

// final reads a task's rows.
func (d *driver) final(task uuid.UUID) rows {
	d.t.Helper()
	ctx := d.t.Context()
	var r rows
	require.NoError(d.t, d.judge.QueryRow(ctx, `SELECT concat_ws(' ', state, sinks_left, steps_failed, steps_retrying, failure->>'type'),
	    (SELECT count(*) FROM river_job WHERE $1::text = ANY (tags) AND finalized_at IS NULL),
	    (SELECT coalesce(array_agg(concat_ws(' ', action, step_name, from_state, to_state) ORDER BY action), '{}')
	       FROM tasker.operator_actions WHERE task_id = t.id)
	    FROM tasker.tasks t WHERE id = $1::uuid`, task.String()).Scan(&r.Task, &r.Live, &r.Operations))
	const steps = `SELECT concat_ws(' ', s.name, s.state, 'attempts', s.attempts, 'parents', s.parents_left, s.result::text, s.failure->>'type',
	    (SELECT string_agg(concat(a.outcome, ' ', a.attempt), ', ' ORDER BY a.claim_no) FROM tasker.step_attempts a
	      WHERE a.step_id = s.id AND a.outcome IN ('complete', 'error')))
	  FROM tasker.steps s WHERE s.task_id = $1 ORDER BY s.position`
	found, err := d.judge.Query(ctx, steps, task)
	require.NoError(d.t, err)
	r.Steps, err = pgx.CollectRows(found, pgx.RowTo[string])
	require.NoError(d.t, err)
	return r
}

// results are the stored results of a task's steps.
func (d *driver) results(task uuid.UUID) map[string]string {
	d.t.Helper()
	found, err := d.judge.Query(d.t.Context(), "SELECT name, result FROM tasker.steps WHERE task_id = $1 AND result IS NOT NULL", task)
	require.NoError(d.t, err)
	all := make(map[string]string)
	var name string
	var result json.RawMessage
	_, err = pgx.ForEachRow(found, []any{&name, &result}, func() error {
		all[name] = string(result)
		return nil
	})
	require.NoError(d.t, err)
	return all
}

// healthy demands that the doctor finds nothing.
func (d *driver) healthy(note string) {
	d.t.Helper()
	require.Empty(d.t, d.examine(time.Nanosecond), note)
}

// sound demands what must hold at any instant, whatever is under way.
func (d *driver) sound(note string) {
	d.t.Helper()
	require.Empty(d.t, d.examine(24*time.Hour), note)
}

func (d *driver) examine(age time.Duration) (found []string) {
	d.t.Helper()
	ctx := d.t.Context()
	tx, err := d.judge.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	require.NoError(d.t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	checks, err := d.engine.Doctor(ctx, tx, orchestration.DoctorOptions{Age: age, MaxRows: 5})
	require.NoError(d.t, err)
	for _, check := range checks {
		if !check.Warning && len(check.Found) > 0 {
			found = append(found, fmt.Sprintf("%s (%s): %s", check.ID, check.Title, strings.Join(check.Found, "; ")))
		}
	}
	return found
}

// state is a task's state.
func (d *driver) state(task uuid.UUID) (state string) {
	d.t.Helper()
	require.NoError(d.t, d.judge.QueryRow(d.t.Context(), "SELECT state FROM tasker.tasks WHERE id = $1", task).Scan(&state))
	return state
}
