//go:build linux

package chaostest

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// single is a workload of one step with a script, tried as often as given, and a step after it. A name that ends in -tx makes
// the step complete in its own transaction.
func single(t testing.TB, name string, attempts int, backoff time.Duration, script ...act) *workload {
	t.Helper()
	tx := strings.HasSuffix(name, "-tx")
	w := newWorkload(t, name, []string{"first", "second"}, []*plan{{Script: script, Tx: tx}, {Parents: []string{"first"}}})
	base, none := backoff.Milliseconds(), 0.0
	w.steps[0].Retry = &dag.Retry{MaxAttempts: &attempts, BackoffBaseMS: &base, Jitter: &none}
	w.build(t, name)
	return w
}

// events counts what the ledger has of an event, by whom ("" is anyone).
func (r *rig) events(event, by string) int {
	r.t.Helper()
	return r.count(r.ledger, `SELECT count(*) FROM ledger WHERE event = $1 AND worker LIKE $2`, event, by+"%")
}

// states counts first steps in a state.
func (r *rig) states(w *workload, state string) int {
	r.t.Helper()
	return r.count(r.pool, `SELECT count(*) FROM tasker.steps s JOIN tasker.tasks t ON t.id = s.task_id
		JOIN tasker.templates p ON p.id = t.template_id WHERE s.name = 'first' AND p.name = $1 AND s.state = $2`,
		w.template.Definition().Name, state)
}

// picture is everything about the first steps that a late result might change. The lease of a running step moves rightly.
func (r *rig) picture() string {
	r.t.Helper()
	return strings.Join(r.list(r.pool, `SELECT (to_jsonb(s) - 'lease_expires_at')::text FROM tasker.steps s WHERE name = 'first'
		UNION ALL SELECT to_jsonb(a)::text FROM tasker.step_attempts a JOIN tasker.steps s ON s.id = a.step_id WHERE s.name = 'first'
		ORDER BY 1`), "\n")
}

func TestChaosS6Zombie(t *testing.T) {
	t.Parallel()
	for _, role := range []string{worker, both} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			for round := range pick(1, 5) {
				t.Run(strconv.Itoa(round), func(t *testing.T) { zombie(t, role) })
			}
		})
	}
}

// zombie freezes a worker for three leases in the middle of its handlers. Meanwhile their steps are finished, failed or still
// run elsewhere. Then it wakes up, and brings its own results and errors.
func zombie(t *testing.T, role string) {
	t.Helper()
	r := newRig(t)
	const each = 2
	var workloads []*workload
	var becomes []string
	for _, late := range []string{"-result", "-error", "-result-tx"} {
		frozen := act{Gate: "late", Deaf: true}
		if late == "-error" {
			frozen.Then = thenFail
		}
		workloads = append(workloads,
			single(t, "done"+late, 1, time.Second, frozen, act{}),
			single(t, "failed"+late, 2, 8*time.Second, frozen, act{Then: thenFail}, act{}),
			single(t, "running"+late, 1, time.Second, frozen, act{Gate: "go"}))
		becomes = append(becomes, "complete", "waiting_for_retry", "in_progress")
	}
	r.register(workloads...)
	r.spawn(orchestrator)
	undead := r.spawn(role, func(c *processConfig) { c.Slots = 2 * each * len(workloads) })
	for _, w := range workloads {
		for i := range each {
			r.mustCreate(w, fmt.Sprint(w.template.Definition().Name, i))
		}
	}
	all := each * len(workloads)
	r.wait(10*time.Second, "the zombie holds all steps", func() bool { return r.events(eventStart, undead.config.ID) == all })
	undead.signal(syscall.SIGSTOP)
	frozen := time.Now()
	r.spawn(worker)
	r.wait(lease+4*time.Second, "another worker has the steps", func() bool {
		for i, state := range becomes {
			if r.states(workloads[i], state) != each {
				return false
			}
		}
		return r.events(eventStart, worker+"-3") >= all
	})
	taken := time.Since(frozen)
	rest(t.Context(), time.Until(frozen.Add(3*lease)))
	before := r.picture()
	r.openGate("late")
	undead.signal(syscall.SIGCONT)
	r.wait(5*time.Second, "the zombie's results were refused", func() bool { return undead.staleResults() == all })
	// A heartbeat later.
	rest(t.Context(), lease/3+100*time.Millisecond)
	assert.Equal(t, before, r.picture(), "the zombie changed something")
	r.openGate("go")
	f := r.U(20 * time.Second)
	r.calm()
	retried := r.count(r.pool, `SELECT count(*) FROM tasker.steps WHERE name = 'first' AND attempts = 2`)
	assert.Equal(t, len(workloads)/3*each, retried, "the newest executions' retries did not happen")
	assert.Equal(t, all, f.losses)
	r.report("S6 zombie-"+role, "late_results", all, "taken_over", taken, "steps", f.steps, "dup", f.dup, "lost", f.lost)
}

func TestChaosS11PoisonStep(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const maxLosses = 3
	poison := single(t, "poison-tx", 1, time.Second, act{Then: thenKill})
	fine := sequence(t)
	slow := newWorkload(t, "slow", []string{"slow"}, []*plan{{Work: time.Second}})
	r.register(poison, fine, slow)
	limited := func(c *processConfig) { c.MaxLosses, c.Mortal = maxLosses, true }
	r.spawn(orchestrator, limited)
	r.spawn(orchestrator, limited)
	// Neighbours that run beside the poison: short ones, and some that run until it is gone.
	for i := range pick(10, 100) {
		_, err := r.create(t.Context(), fine, input{Key: fmt.Sprint("fine-", i), N: "12345678901234567890"})
		require.NoError(t, err)
	}
	for i := range 5 {
		r.mustCreate(slow, fmt.Sprint("slow-", i))
	}
	poisoned := r.mustCreate(poison, "poison")
	workers := []*process{r.spawn(worker, limited), r.spawn(worker, limited)}
	deaths := 0
	took := r.wait(40*time.Second, "the poison step has failed", func() bool {
		for i, w := range workers {
			if closed(w.exited) {
				deaths++
				workers[i] = r.spawn(worker, limited)
			}
		}
		return r.count(r.pool, `SELECT count(*) FROM tasker.tasks WHERE finished_at IS NULL`) == 0
	})
	assert.LessOrEqual(t, deaths, maxLosses)
	task, err := r.client.Get(t.Context(), poisoned)
	require.NoError(t, err)
	step := task.Step("first")
	assert.Equal(t, dag.TaskError, task.State)
	assert.Equal(t, dag.StepError, step.State)
	require.NotNil(t, step.Failure)
	assert.Equal(t, "worker_lost", step.Failure.Type)
	assert.Equal(t, []int{maxLosses, 0}, []int{step.Losses, step.Attempts}, "losses and attempts")
	others := r.none(r.pool, "other tasks that did not complete", `SELECT id::text FROM tasker.tasks WHERE state <> 'complete' AND id <> $1`, poisoned)
	clean := r.quiet()
	r.report("S11 poison-step", "deaths", deaths, "failed_after", took, "clean", clean, "lost", others)
}

func TestChaosS9PoliteStop(t *testing.T) {
	t.Parallel()
	for _, role := range []string{worker, both} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			politeStop(t, role)
		})
	}
}

func politeStop(t *testing.T, role string) {
	t.Helper()
	r := newRig(t)
	// Steps that outlast the grace are handed back, the others finish: none uses up an attempt or loses its worker.
	long := single(t, "long-tx", 1, time.Second, act{Gate: "never"}, act{})
	short := randomDAG(t, r.random("short"), "short", 20, 300*time.Millisecond)
	r.register(long, short)
	r.spawn(orchestrator)
	leaving := r.spawn(role, func(c *processConfig) { c.StopGrace = time.Second })
	handed := make([]uuid.UUID, 3)
	for i := range handed {
		handed[i] = r.mustCreate(long, fmt.Sprint("long-", i))
	}
	for i := range 10 {
		r.mustCreate(short, fmt.Sprint("short-", i))
	}
	r.wait(10*time.Second, "the steps run", func() bool {
		return r.states(long, "in_progress") == len(handed) && r.events(eventStart, leaving.config.ID) >= len(handed)+10
	})
	r.spawn(worker)
	took := leaving.stop()
	assert.Less(t, took, time.Second+leaving.config.StopGrace)
	f := r.U(20 * time.Second)
	r.calm()
	assert.Zero(t, f.losses, "a polite stop counted as a loss")
	assert.Zero(t, f.reruns, "a handler shorter than the grace ran again")
	released := r.count(r.pool, `SELECT count(*) FROM tasker.step_attempts WHERE outcome = 'released'`)
	assert.Equal(t, len(handed), released)
	r.report("S9 polite-stop-"+role, "exit", took, "handed_back", released, "steps", f.steps, "reruns", f.reruns, "dup", f.dup, "lost", f.lost)
}
