//go:build linux

package chaostest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slot is a place in the cluster: a process that is started again whenever it dies.
type slot struct {
	role string
	now  *process
}

// monkey says how a slot's process lives and dies.
type monkey struct {
	// life and gap are drawn evenly between their bounds.
	lifeMin, lifeMax time.Duration
	gapMin, gapMax   time.Duration
	// most bounds the number of kills of one slot.
	most int
}

// storm kills and restarts the slots' processes, each by its own clock, until the time is up. All of them live when it returns.
func (r *rig) storm(slots []*slot, m monkey, length time.Duration) {
	ctx, cancel := context.WithTimeout(r.t.Context(), length)
	defer cancel()
	var monkeys sync.WaitGroup
	for i, s := range slots {
		rng := r.random(fmt.Sprint("monkey ", i))
		monkeys.Go(func() { r.torment(ctx, s, m, rng) })
	}
	monkeys.Wait()
}

func (r *rig) torment(ctx context.Context, s *slot, m monkey, rng *rand.Rand) {
	for range m.most {
		if !rest(ctx, m.lifeMin+rand64(rng, m.lifeMax-m.lifeMin)) {
			return
		}
		s.now.kill()
		rest(ctx, m.gapMin+rand64(rng, m.gapMax-m.gapMin))
		s.now = r.launch(s.role)
	}
}

// rest waits, and returns false when the time is up.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// cluster starts a process for each role.
func (r *rig) cluster(roles ...string) []*slot {
	r.t.Helper()
	slots := make([]*slot, len(roles))
	for i, role := range roles {
		slots[i] = &slot{role: role, now: r.launch(role)}
	}
	for _, s := range slots {
		r.wait(readyTimeout, "process "+s.now.config.ID+" is ready", func() bool { return closed(s.now.ready) || closed(s.now.exited) })
	}
	return slots
}

// mix is the standard load: sequences and random graphs.
type mix struct {
	sequence *workload
	graphs   []*workload
}

func (r *rig) mix(longest time.Duration) *mix {
	r.t.Helper()
	rng := r.random("graphs")
	m := &mix{sequence: sequence(r.t)}
	for i := range pick(5, 25) {
		m.graphs = append(m.graphs, randomDAG(r.t, rng, fmt.Sprintf("dag_%d", i), pick(20, 60), longest))
	}
	r.register(append(m.graphs, m.sequence)...)
	return m
}

// feed creates tasks evenly over a time, and returns when all are acknowledged.
func (r *rig) feed(m *mix, sequences, graphs int, over time.Duration) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), over+time.Minute)
	defer cancel()
	rng := r.random("feed")
	ticker := time.NewTicker(max(over/time.Duration(sequences+graphs), time.Millisecond))
	defer ticker.Stop()
	for i, turn := range rng.Perm(sequences + graphs) {
		w, in := m.sequence, input{Key: fmt.Sprint("task-", i), N: numberOf(rng)}
		if turn < graphs {
			w = m.graphs[turn%len(m.graphs)]
		}
		_, err := r.create(ctx, w, in)
		if !assert.NoError(r.t, err) {
			return
		}
		<-ticker.C
	}
}

// during runs the feed beside the storm.
func (r *rig) during(feed, storm func()) {
	var feeding sync.WaitGroup
	feeding.Go(feed)
	storm()
	feeding.Wait()
}

func TestChaosS1WorkersKilledInHandlers(t *testing.T) {
	r := newRig(t)
	m := r.mix(pick(400*time.Millisecond, 700*time.Millisecond))
	slots := r.cluster(orchestrator, worker, worker, worker)
	rng := r.random("victims")
	victims := pick(3, 20)
	r.during(
		func() { r.feed(m, 26, pick(24, 200), pick(5*time.Second, 60*time.Second)) },
		func() {
			for range victims {
				rest(t.Context(), pick(1500*time.Millisecond, 3*time.Second))
				s := slots[1+rng.IntN(3)]
				r.awaitBusy(s.now)
				s.now.kill()
				s.now = r.spawn(worker)
			}
		})
	f := r.U(pick(40*time.Second, 4*time.Minute))
	r.calm()
	assert.Positive(t, f.losses, "no kill hit a handler")
	assert.Less(t, f.recover, 4*time.Second, "a lost step took too long to run again")
	r.report("S1 worker-killed", "kills", r.killCount(), "tasks", f.tasks, "steps", f.steps, "losses", f.losses, "reruns", f.reruns,
		"recover_max", f.recover, "drain", f.drain, "clean", f.clean, "dup", f.dup, "lost", f.lost)
}

// awaitBusy waits until a process is in the middle of a handler, but not for ever.
func (r *rig) awaitBusy(p *process) {
	r.t.Helper()
	begun := time.Now()
	for time.Since(begun) < 2*time.Second && r.count(r.pool,
		`SELECT count(*) FROM tasker.steps WHERE state = 'in_progress' AND worker_id = $1`, p.config.ID) == 0 {
		rest(r.t.Context(), look)
	}
}

func TestChaosS2BlindKillsAfterTheResult(t *testing.T) {
	r := newRig(t)
	m := r.mix(2 * time.Millisecond)
	slots := r.cluster(orchestrator, worker, both)
	kills := pick(5, 200)
	length := time.Duration(kills) * time.Second
	stop := r.watchOrphans()
	r.during(
		func() { r.feed(m, 26, pick(40, 200), length) },
		func() {
			r.storm(slots[1:], monkey{
				lifeMin: 500 * time.Millisecond, lifeMax: 1500 * time.Millisecond, gapMin: 50 * time.Millisecond,
				gapMax: 200 * time.Millisecond, most: kills,
			}, length)
		})
	f := r.U(pick(40*time.Second, 4*time.Minute))
	r.calm()
	oldest := stop()
	assert.Less(t, oldest, orphanTime, "a running job that no step wanted stayed")
	r.report("S2 killed-after-commit", "kills", r.killCount(), "tasks", f.tasks, "steps", f.steps, "losses", f.losses, "reruns", f.reruns,
		"orphan_max", oldest, "drain", f.drain, "dup", f.dup, "lost", f.lost)
}

// watchOrphans looks for running jobs that no step wants until it is stopped, and then returns the age of the oldest it saw.
func (r *rig) watchOrphans() (stop func() time.Duration) {
	ctx, cancel := context.WithCancel(r.t.Context())
	var watching sync.WaitGroup
	var oldest float64
	watching.Go(func() {
		for rest(ctx, 200*time.Millisecond) {
			var age float64
			err := r.pool.QueryRow(ctx, `
				SELECT coalesce(max(extract(epoch FROM now() - greatest(j.attempted_at, s.updated_at))), 0)::float8
				  FROM river_job j LEFT JOIN tasker.steps s ON s.id = (j.args->>'step_id')::uuid
				 WHERE j.kind = 'tasker_execute' AND j.state = 'running'
				   AND (s.id IS NULL OR s.river_job_id IS DISTINCT FROM j.id OR s.state NOT IN ('enqueued', 'in_progress'))`).Scan(&age)
			if err != nil && ctx.Err() == nil {
				r.t.Errorf("look for orphans: %v", err)
				return
			}
			oldest = max(oldest, age)
		}
	})
	return func() time.Duration {
		cancel()
		watching.Wait()
		return time.Duration(oldest * float64(time.Second))
	}
}

func TestChaosS4OrchestratorsKilled(t *testing.T) {
	r := newRig(t)
	m := r.mix(20 * time.Millisecond)
	slots := r.cluster(orchestrator, orchestrator, worker, worker)
	length := pick(5*time.Second, 60*time.Second)
	r.during(
		func() { r.feed(m, 26, pick(40, 200), length) },
		func() {
			r.storm(slots[:2], monkey{
				lifeMin: time.Second, lifeMax: 3 * time.Second, gapMin: 50 * time.Millisecond, gapMax: 300 * time.Millisecond, most: 100,
			}, length)
		})
	f := r.U(pick(20*time.Second, 4*time.Minute))
	r.calm()
	assert.Zero(t, f.losses, "a worker lost a step although none was killed")
	assert.Less(t, f.drain, pick(20*time.Second, 2*time.Minute))
	r.report("S4 orchestrators-killed", "kills", r.killCount(), "tasks", f.tasks, "steps", f.steps, "losses", f.losses,
		"drain", f.drain, "clean", f.clean, "dup", f.dup, "lost", f.lost)
}

// Everything at once: every process is killed again and again, and the database crashes too.
func TestChaosS5KillStorm(t *testing.T) {
	r, server := newRigOnServer(t)
	m := r.mix(50 * time.Millisecond)
	slots := r.cluster(orchestrator, orchestrator, worker, worker, worker)
	length := pick(10*time.Second, 5*time.Minute)
	crashes := pick(2, 10)
	r.during(
		func() { r.feed(m, 26, pick(200, 400), length*8/10) },
		func() {
			var crashing sync.WaitGroup
			crashing.Go(func() {
				for range crashes {
					rest(t.Context(), length/time.Duration(crashes+1))
					assert.NoError(t, server.CrashRestart(t.Context()))
				}
			})
			r.storm(slots, monkey{
				lifeMin: time.Second, lifeMax: 3 * time.Second, gapMin: 200 * time.Millisecond, gapMax: time.Second, most: 300,
			}, length)
			crashing.Wait()
		})
	f := r.U(pick(40*time.Second, 5*time.Minute))
	require.Positive(t, r.killCount())
	r.report("S5 kill-storm", "kills", r.killCount(), "crashes", crashes, "tasks", f.tasks, "steps", f.steps, "losses", f.losses, "reruns", f.reruns,
		"recover_max", f.recover, "drain", f.drain, "clean", f.clean, "dup", f.dup, "lost", f.lost)
}
