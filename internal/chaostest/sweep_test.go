//go:build linux

package chaostest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
)

// A worker that dies between River's fetch and the claim leaves a running job whose step was never begun. Its step gets a new
// job, and when the old one comes back, it counts for nothing.
func TestChaosS3DeathBetweenFetchAndClaim(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := single(t, "plain", 1, time.Second, act{})
	r.register(w)
	r.spawn(orchestrator)
	const tasks = 10
	for i := range tasks {
		r.mustCreate(w, fmt.Sprint("task-", i))
	}
	r.wait(10*time.Second, "all steps are dispatched", func() bool { return r.states(w, "enqueued") == tasks })
	// Fetched just before, by a process that no longer exists.
	var fetched time.Time
	require.NoError(t, r.pool.QueryRow(t.Context(), `
		WITH job AS (UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now(), attempted_by = ARRAY['dead']
		              WHERE kind = 'tasker_execute' AND state = 'available' RETURNING attempted_at)
		SELECT max(attempted_at) FROM job`).Scan(&fetched))
	r.wait(claimGrace+3*time.Second, "all steps have new jobs", func() bool {
		return r.count(r.pool, `SELECT count(*) FROM tasker.steps s JOIN river_job j ON j.id = s.river_job_id
			WHERE s.claim_no = 2 AND j.state = 'available'`) == tasks
	})
	recovered := time.Since(fetched.Add(claimGrace))
	// As River's rescuer would have it; the oldest job is fetched first.
	_, err := r.pool.Exec(t.Context(), `UPDATE river_job SET state = 'available', finalized_at = NULL, max_attempts = 2
		WHERE kind = 'tasker_execute' AND state = 'discarded'`)
	require.NoError(t, err)
	r.spawn(worker)
	f := r.U(15 * time.Second)
	r.calm()
	assert.Zero(t, f.losses, "an old job took a step that was dispatched anew")
	assert.Zero(t, r.count(r.ledger, `SELECT count(*) FROM ledger WHERE step = 'first' AND claim_no <> 2`))
	r.report("S3 fetched-never-claimed", "tasks", tasks, "recover_after_grace", recovered, "dup", f.dup, "lost", f.lost)
}

// damages are what may happen to River's rows behind our back. They wait for no row: only Tasker and River could be at fault
// for a deadlock then.
var damages = map[string]string{
	"truncate": `TRUNCATE river_job`,
	// What a rescuer does with jobs that it takes for stuck, while they run.
	"rescue":   damage(`UPDATE river_job SET state = 'available', scheduled_at = now()`, `state = 'running'`),
	"delete":   damage(`DELETE FROM river_job`, `id % 2 = 0 AND state <> 'completed'`),
	"cancel":   damage(`UPDATE river_job SET state = 'cancelled', finalized_at = now()`, `state IN ('available', 'running')`),
	"discard":  damage(`UPDATE river_job SET state = 'discarded', finalized_at = now()`, `state IN ('available', 'running')`),
	"complete": damage(`UPDATE river_job SET state = 'completed', finalized_at = now()`, `state IN ('available', 'running')`),
	// What an operator does in River UI: the steps of these jobs have been done, or are under way under another claim.
	"retry": damage(`UPDATE river_job SET state = 'available', finalized_at = NULL, scheduled_at = now(), max_attempts = max_attempts + 1`,
		`state IN ('completed', 'discarded')`),
}

func damage(what, where string) string {
	return what + ` WHERE id IN (SELECT id FROM river_job WHERE ` + where + ` FOR UPDATE SKIP LOCKED)`
}

// Whatever is done to River's rows, the sweep gives steps and tasks new ones.
func TestChaosSweepMendsWhatBypassedUs(t *testing.T) {
	t.Parallel()
	all := slices.Sorted(maps.Keys(damages))
	if !long {
		sweep(t, all)
		return
	}
	for _, name := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sweep(t, []string{name})
		})
	}
}

func sweep(t *testing.T, kinds []string) {
	t.Helper()
	r := newRig(t)
	m := r.mix(30 * time.Millisecond)
	rng := r.random("damages")
	rng.Shuffle(len(kinds), func(a, b int) { kinds[a], kinds[b] = kinds[b], kinds[a] })
	strikes, damaged := 0, 0
	strike := func() {
		damaged += r.strike(damages[kinds[strikes%len(kinds)]])
		strikes++
	}
	// Before anyone works: tasks to expand are all that there is.
	r.feed(m, 5, 5, 0)
	strike()
	r.cluster(orchestrator)
	r.wait(10*time.Second, "the tasks are expanded", func() bool {
		return r.count(r.pool, `SELECT count(*) FROM tasker.tasks WHERE state = 'pending'`) == 0
	})
	// Before anyone runs steps: dispatched ones.
	strike()
	r.cluster(worker, both)
	r.during(
		func() {
			for i := range pick(30, 100) {
				_, err := r.create(t.Context(), m.graphs[i%len(m.graphs)], input{Key: fmt.Sprint("later-", i)})
				assert.NoError(t, err)
			}
		},
		// Under way.
		func() {
			for range pick(len(kinds), 20) {
				rest(t.Context(), 400*time.Millisecond)
				strike()
			}
		})
	f := r.U(30 * time.Second)
	r.calm()
	assert.Zero(t, f.losses)
	r.report("sweep-"+strings.Join(kinds, "-"), "damaged", damaged, "tasks", f.tasks, "steps", f.steps, "reruns", f.reruns,
		"drain", f.drain, "clean", f.clean, "dup", f.dup, "lost", f.lost)
}

// strike does damage, again where it met the engine's locks: it takes its own in no order.
func (r *rig) strike(damage string) int {
	r.t.Helper()
	tag, err := r.pool.Exec(r.t.Context(), damage)
	for range 10 {
		if err == nil || !tasker.IsUnavailable(err) {
			break
		}
		tag, err = r.pool.Exec(r.t.Context(), damage)
	}
	require.NoError(r.t, err)
	return int(tag.RowsAffected())
}
