//go:build linux

package chaostest

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// orphanTime is how soon after the last task's end nothing of the chaos may be left.
const orphanTime = 5 * time.Second

// figures are what a run's oracles found.
type figures struct {
	tasks, steps int
	// drain is how long the tasks took to end, clean how long until the doctor found nothing after that.
	drain, clean time.Duration
	// losses counts executions that lost their worker; reruns are effects on the outside world that happened again for it.
	losses, reruns int
	// dup counts what happened again without an excuse, lost what did not happen: both are failures.
	dup, lost int
	// recover is the longest time from a kill to the lost step running again.
	recover time.Duration
}

// U is the oracle of every scenario: all tasks complete by the deadline, and every promise was kept.
func (r *rig) U(deadline time.Duration) figures {
	r.t.Helper()
	f := figures{drain: r.drain(deadline)}
	f.clean = r.quiet()
	f.tasks = r.count(r.pool, `SELECT count(*) FROM tasker.tasks`)
	f.steps = r.count(r.pool, `SELECT count(*) FROM tasker.steps`)
	f.lost = r.none(r.pool, "tasks that did not complete", `
		SELECT concat(t.id, ' ', t.state, ' ', string_agg(concat(s.name, ' ', s.state, ' ', s.failure), ', ' ORDER BY s.position) FILTER (WHERE s.state <> 'complete'))
		  FROM tasker.tasks t LEFT JOIN tasker.steps s ON s.task_id = t.id WHERE t.state <> 'complete' GROUP BY t.id`)
	r.steps()
	r.effects()
	r.results()
	r.acknowledged()
	r.outside(&f)
	f.recover = r.recovery()
	return f
}

// drain waits for all tasks to end.
func (r *rig) drain(deadline time.Duration) time.Duration {
	r.t.Helper()
	return r.wait(deadline, "all tasks have ended", func() bool {
		return r.count(r.pool, `SELECT count(*) FROM tasker.tasks WHERE finished_at IS NULL`) == 0
	})
}

// quiet waits until the doctor finds nothing of any age, and no job is left that anyone would run.
func (r *rig) quiet() time.Duration {
	r.t.Helper()
	var found []string
	begun := time.Now()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for time.Since(begun) < orphanTime {
		if found = r.doctor(time.Millisecond); len(found) == 0 {
			return time.Since(begun)
		}
		<-ticker.C
	}
	assert.Empty(r.t, found, "what the doctor finds %v after the last task ended", orphanTime)
	return orphanTime
}

// doctor returns what breaks an invariant, and which jobs are not settled.
func (r *rig) doctor(age time.Duration) []string {
	r.t.Helper()
	checks, err := r.client.Doctor(r.t.Context(), age, 5)
	require.NoError(r.t, err)
	var found []string
	for _, c := range checks {
		if !c.Warning && len(c.Found) > 0 {
			found = append(found, fmt.Sprintf("%s %s: %s", c.ID, c.Title, strings.Join(c.Found, "; ")))
		}
	}
	return append(found, r.list(r.pool, `SELECT concat('job ', id, ' ', kind, ' ', state) FROM river_job
		WHERE state NOT IN ('completed', 'discarded', 'cancelled') AND kind LIKE 'tasker%' LIMIT 5`)...)
}

// steps checks what each complete step's history must come to: one success, its planned failures, no attempt used up by a loss.
func (r *rig) steps() {
	r.t.Helper()
	r.none(r.pool, "steps without exactly one complete attempt", `
		SELECT concat(s.task_id, '/', s.name, ': ', count(a.step_id)) FROM tasker.steps s
		  LEFT JOIN tasker.step_attempts a ON a.step_id = s.id AND a.outcome = 'complete'
		 GROUP BY s.id HAVING count(a.step_id) <> 1`)
	r.none(r.pool, "steps whose attempts are not their counted executions", `
		SELECT concat(s.task_id, '/', s.name, ': ', s.attempts, ' attempts, ', count(a.step_id), ' executions') FROM tasker.steps s
		  LEFT JOIN tasker.step_attempts a ON a.step_id = s.id AND a.outcome IN ('complete', 'error')
		 GROUP BY s.id HAVING s.attempts <> count(a.step_id)`)
	r.none(r.pool, "steps whose losses are not their lost executions", `
		SELECT concat(s.task_id, '/', s.name, ': ', s.losses, ' losses, ', count(a.step_id), ' lost') FROM tasker.steps s
		  LEFT JOIN tasker.step_attempts a ON a.step_id = s.id AND a.outcome = 'lost'
		 GROUP BY s.id HAVING s.losses <> count(a.step_id)`)
	r.none(r.pool, "failures that no plan asked for", `
		SELECT concat(s.task_id, '/', s.name, ' claim ', a.claim_no, ': ', a.failure) FROM tasker.step_attempts a
		  JOIN tasker.steps s ON s.id = a.step_id WHERE a.outcome = 'error' AND a.failure->>'message' <> $1`, errPlanned.Error())
}

// effects is the oracle TX.
func (r *rig) effects() {
	r.t.Helper()
	want := r.list(r.pool, `SELECT concat(s.task_id, '/', s.name, '/', s.claim_no)
		  FROM tasker.steps s JOIN tasker.tasks t ON t.id = s.task_id JOIN tasker.templates p ON p.id = t.template_id
		 CROSS JOIN LATERAL jsonb_path_query(p.definition, '$.steps[*]') d
		 WHERE d->>'name' = s.name AND d @> '{"handler": {"initialization": {"plan": {"tx": true}}}}' AND s.state = 'complete' ORDER BY 1`)
	got := r.list(r.pool, `SELECT execution_key FROM chaos.tx_effect ORDER BY 1`)
	assert.Equal(r.t, want, got, "TX: the effects in the database are not those of the executions that count")
	// A late execution may find the effect there. One whose outcome counts may not.
	rows := r.executions(`SELECT task_id, step, claim_no, worker, min(at) FROM ledger WHERE event = 'violation' GROUP BY 1, 2, 3, 4`)
	counted := r.attempts(`outcome IN ('complete', 'error')`)
	for key := range rows {
		assert.NotContains(r.t, counted, key, "TX: an execution that counts found its effect there already")
	}
}

// results is the oracle HS.
func (r *rig) results() {
	r.t.Helper()
	var wrong []string
	references := make(map[uuid.UUID]map[string]string)
	var task uuid.UUID
	var name, result string
	r.each(r.pool, []any{&task, &name, &result}, func() {
		if references[task] == nil && r.works[task] != nil {
			references[task] = r.works[task].reference(r.inputs[task])
		}
		if want := references[task][name]; want != result {
			wrong = append(wrong, fmt.Sprintf("%s/%s: %s, not %s", task, name, result, want))
		}
	}, `SELECT task_id, name, coalesce(result::text, '') FROM tasker.steps WHERE state = 'complete'`)
	assert.Emptyf(r.t, wrong[:min(len(wrong), 5)], "HS: results that are not the reference's (%d)", len(wrong))
}

// acknowledged is the oracle AK.
func (r *rig) acknowledged() {
	r.t.Helper()
	found := make(map[string]uuid.UUID)
	var key string
	var id uuid.UUID
	r.each(r.pool, []any{&key, &id}, func() {
		assert.NotContains(r.t, found, key, "AK: created twice")
		found[key] = id
	}, `SELECT idempotency_key, id FROM tasker.tasks`)
	assert.Equal(r.t, r.acked, found, "AK: what was acknowledged is not what exists")
}

// outside is the oracle LG: the outside world saw each dispatch once at most, each completed one at least once, and nothing
// after it.
func (r *rig) outside(f *figures) {
	r.t.Helper()
	f.dup = r.none(r.ledger, "LG: dispatches that ran twice", `SELECT concat(task_id, '/', step, '/', claim_no, ': ', string_agg(worker, ', '))
		FROM ledger WHERE event = 'start' GROUP BY task_id, step, claim_no HAVING count(*) > 1`)
	done := r.executions(`SELECT task_id, step, claim_no, worker, min(at) FROM ledger WHERE event = 'done' GROUP BY 1, 2, 3, 4`)
	started := r.executions(`SELECT task_id, step, claim_no, worker, min(at) FROM ledger WHERE event = 'start' GROUP BY 1, 2, 3, 4`)
	complete := make(map[string]int)
	for key := range r.attempts(`outcome = 'complete'`) {
		if _, effect := done[key]; !assert.True(r.t, effect, "LG: a result counted without its effect: %v", key) {
			f.lost++
		}
		complete[key.step()] = key.claim
	}
	for key := range started {
		if claim, ended := complete[key.step()]; ended && key.claim > claim {
			assert.Failf(r.t, "LG: a step ran again after its result counted", "%v after claim %d", key, claim)
			f.dup++
		}
	}
	f.losses, f.reruns = len(r.attempts(`outcome = 'lost'`)), len(done)-len(complete)
}

// recovery is the longest time from the kill of a worker to a step of it running again.
func (r *rig) recovery() (longest time.Duration) {
	r.t.Helper()
	started := make(map[execution]time.Time)
	for key, e := range r.executions(`SELECT task_id, step, claim_no, worker, min(at) FROM ledger WHERE event = 'start' GROUP BY 1, 2, 3, 4`) {
		started[key] = e.at
	}
	for key, e := range r.attempts(`outcome = 'lost'`) {
		r.mu.Lock()
		killed, known := r.kills[e.worker]
		r.mu.Unlock()
		// A new execution may have died before it began; then that one's successor is measured.
		if again, ran := started[execution{key.task, key.name, key.claim + 1}]; known && ran {
			longest = max(longest, again.Sub(killed))
		}
	}
	return longest
}

// execution names one dispatch of a step.
type execution struct {
	task  uuid.UUID
	name  string
	claim int
}

func (e execution) step() string { return e.task.String() + "/" + e.name }

// seen says who ran an execution, and when.
type seen struct {
	worker string
	at     time.Time
}

func (r *rig) executions(query string, args ...any) map[execution]seen {
	return r.collect(r.ledger, query, args...)
}

func (r *rig) attempts(where string) map[execution]seen {
	return r.collect(r.pool, `SELECT s.task_id, s.name, a.claim_no, coalesce(a.worker_id, ''), a.finished_at
		FROM tasker.step_attempts a JOIN tasker.steps s ON s.id = a.step_id WHERE `+where)
}

func (r *rig) collect(pool *pgxpool.Pool, query string, args ...any) map[execution]seen {
	r.t.Helper()
	all := make(map[execution]seen)
	var e execution
	var s seen
	r.each(pool, []any{&e.task, &e.name, &e.claim, &s.worker, &s.at}, func() { all[e] = s }, query, args...)
	return all
}

// each scans a query's rows one by one.
func (r *rig) each(pool *pgxpool.Pool, into []any, do func(), query string, args ...any) {
	r.t.Helper()
	rows, err := pool.Query(r.t.Context(), query, args...)
	require.NoError(r.t, err, query)
	_, err = pgx.ForEachRow(rows, into, func() error {
		do()
		return nil
	})
	require.NoError(r.t, err, query)
}

// list returns a query's one column.
func (r *rig) list(pool *pgxpool.Pool, query string, args ...any) []string {
	r.t.Helper()
	rows, err := pool.Query(r.t.Context(), query, args...)
	require.NoError(r.t, err, query)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(r.t, err, query)
	return all
}

// none reports the rows of a query that must have none, the first few of them, and returns how many there are.
func (r *rig) none(pool *pgxpool.Pool, what, query string, args ...any) int {
	r.t.Helper()
	found := r.list(pool, query, args...)
	assert.Emptyf(r.t, found[:min(len(found), 5)], "%s (%d)", what, len(found))
	return len(found)
}
