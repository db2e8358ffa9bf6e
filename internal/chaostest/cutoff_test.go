//go:build linux

package chaostest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/embeddedpg"
)

func through(t *testing.T, server *embeddedpg.Server) *cable {
	t.Helper()
	u, err := url.Parse(server.TCPURL())
	require.NoError(t, err)
	return newCable(t, net.JoinHostPort("127.0.0.1", u.Port()))
}

// A worker that cannot reach the database gives its steps up by its own clock, before another one gets them.
func TestChaosS37CutOffWorker(t *testing.T) {
	t.Parallel()
	// With a long lease, a renewal that hangs takes longer than the margin.
	for _, length := range pick([]time.Duration{lease}, []time.Duration{lease, 5 * lease}) {
		for _, role := range []string{worker, both} {
			t.Run(fmt.Sprint(role, " ", length), func(t *testing.T) {
				t.Parallel()
				cutOff(t, role, length)
			})
		}
	}
}

func cutOff(t *testing.T, role string, length time.Duration) {
	t.Helper()
	r, server := newRigOnServer(t)
	c := through(t, server)
	held := single(t, "held-tx", 1, time.Second, act{Gate: "never"}, act{})
	r.register(held)
	leased := func(p *processConfig) { p.Lease = length }
	r.spawn(orchestrator, leased)
	lonely := r.spawn(role, leased, func(p *processConfig) { p.URL = c.url(t, server.TCPURL()) })
	tasks := make([]uuid.UUID, 5)
	for i := range tasks {
		tasks[i] = r.mustCreate(held, fmt.Sprint("held-", i))
	}
	r.wait(10*time.Second, "the worker holds the steps", func() bool { return r.events(eventStart, lonely.config.ID) == len(tasks) })
	other := r.spawn(worker, leased)
	// At different moments between two heartbeats.
	rest(t.Context(), rand64(r.random("moment"), length/3))
	c.pull()
	cut := time.Now()
	r.wait(3*length, "the worker has given its steps up", func() bool { return r.events(eventCancelled, lonely.config.ID) == len(tasks) })
	gaveUp := time.Since(cut)
	assert.Less(t, gaveUp, length, "the worker went on after its leases had ended")
	r.wait(3*length, "another worker has the steps", func() bool { return r.events(eventStart, other.config.ID) >= len(tasks) })
	rest(t.Context(), time.Until(cut.Add(3*length)))
	c.plug()
	f := r.U(20 * time.Second)
	overlaps := r.overlaps()
	assert.Zero(t, overlaps, "executions that overlapped")
	r.report("S37 cut-off-"+role, "lease", length, "gave_up", gaveUp, "losses", f.losses, "overlaps", overlaps, "reruns", f.reruns, "dup", f.dup, "lost", f.lost)
}

// overlaps counts executions that were still under way when the next one of their step began.
func (r *rig) overlaps() int {
	r.t.Helper()
	return r.count(r.ledger, `
		SELECT count(*) FROM (SELECT task_id, step, claim_no, max(at) AS ended FROM ledger WHERE event <> 'start' GROUP BY 1, 2, 3) a
		  JOIN ledger b ON (b.task_id, b.step) = (a.task_id, a.step) AND b.event = 'start' AND b.claim_no > a.claim_no AND b.at < a.ended`)
}

// A row that somebody holds must not hold up what happens to others: neither the reaper nor the heartbeats.
func TestChaosLockedRows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	held := single(t, "held-tx", 1, time.Second, act{Gate: "go"})
	r.register(held)
	r.spawn(orchestrator)
	r.spawn(orchestrator)
	const each = 5
	var workers []*process
	for i := range 2 {
		// The first one has room for its own steps alone.
		workers = append(workers, r.spawn(worker, func(c *processConfig) { c.Slots = each * (i + 1) * (i + 1) }))
		for j := range each {
			r.mustCreate(held, fmt.Sprint("held-", i, "-", j))
		}
		r.wait(10*time.Second, "the worker holds its steps", func() bool { return r.events(eventStart, workers[i].config.ID) == each })
	}
	dead, alive := workers[0], workers[1]
	release := r.lockOneOf(dead, alive)
	dead.kill()
	killed := time.Now()
	r.wait(2*lease, "the dead worker's other steps run again", func() bool { return r.events(eventStart, alive.config.ID) == 2*each-1 })
	recovered := time.Since(killed)
	rest(t.Context(), time.Until(killed.Add(2*lease)))
	release()
	r.openGate("go")
	f := r.U(20 * time.Second)
	// The row that was held for two leases may count as lost too.
	assert.LessOrEqual(t, f.losses, each+1, "the living worker lost steps")
	r.report("locked-rows", "recover", recovered, "losses", f.losses, "dup", f.dup, "lost", f.lost)
}

// lockOneOf holds the row of one step of each worker until it is released.
func (r *rig) lockOneOf(workers ...*process) (release func()) {
	r.t.Helper()
	tx, err := r.pool.Begin(r.t.Context())
	require.NoError(r.t, err)
	release = func() { _ = tx.Rollback(context.WithoutCancel(r.t.Context())) }
	r.t.Cleanup(release)
	for _, w := range workers {
		tag, err := tx.Exec(r.t.Context(), `SELECT FROM tasker.steps WHERE id = (SELECT id FROM tasker.steps
			WHERE worker_id = $1 AND state = 'in_progress' ORDER BY id LIMIT 1) FOR UPDATE`, w.config.ID)
		require.NoError(r.t, err)
		require.EqualValues(r.t, 1, tag.RowsAffected())
	}
	return release
}

// A database that answers nobody for longer than a lease must not look like the death of all workers.
func TestChaosDatabaseStalls(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	held := single(t, "held-tx", 1, time.Second, act{Gate: "go"})
	r.register(held)
	r.spawn(orchestrator)
	r.spawn(both)
	r.spawn(worker)
	const tasks = 20
	for i := range tasks {
		r.mustCreate(held, fmt.Sprint("held-", i))
	}
	r.wait(10*time.Second, "the steps run", func() bool { return r.events(eventStart, "") == tasks })
	stalls := pick(2, 10)
	for range stalls {
		r.stall(lease + lease/2)
		rest(t.Context(), lease+lease/4)
	}
	r.openGate("go")
	f := r.U(20 * time.Second)
	assert.Zero(t, f.losses, "steps lost workers that lived")
	r.report("database-stalls", "stalls", stalls, "losses", f.losses, "reruns", f.reruns, "dup", f.dup, "lost", f.lost)
}

// stall keeps everyone from the steps for a while.
func (r *rig) stall(length time.Duration) {
	r.t.Helper()
	tx, err := r.pool.Begin(r.t.Context())
	require.NoError(r.t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(r.t.Context())) }()
	_, err = tx.Exec(r.t.Context(), `LOCK TABLE tasker.steps IN ACCESS EXCLUSIVE MODE`)
	require.NoError(r.t, err)
	rest(r.t.Context(), length)
}

// A process that vanishes from the network in the middle of its transactions must not hold up the others.
func TestChaosS36HalfOpenConnections(t *testing.T) {
	t.Parallel()
	r, server := newRigOnServer(t)
	m := r.mix(20 * time.Millisecond)
	for _, role := range []string{orchestrator, worker, both} {
		r.spawn(role)
	}
	length := pick(4*time.Second, 30*time.Second)
	pulled := make([]*cable, 0, 2)
	for _, role := range []string{orchestrator, both} {
		c := through(t, server)
		r.spawn(role, func(p *processConfig) { p.URL = c.url(t, server.TCPURL()) })
		pulled = append(pulled, c)
	}
	var idle int
	r.during(
		func() { r.feed(m, 26, pick(40, 200), length) },
		func() {
			rest(t.Context(), length/2)
			for _, c := range pulled {
				c.pull()
			}
			rest(t.Context(), length/4)
			idle = r.count(r.pool, `SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = current_database()
				AND now() - state_change > interval '500 ms'`)
		})
	f := r.U(pick(30*time.Second, time.Minute))
	r.report("S36 half-open", "left_open", strconv.Itoa(idle), "losses", f.losses, "drain", f.drain, "clean", f.clean, "dup", f.dup, "lost", f.lost)
}
