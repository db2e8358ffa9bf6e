package dag_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// randomFlow draws an acyclic template of 1 to 40 steps, written in any order.
func randomFlow(t *rapid.T) dag.Template {
	n := rapid.IntRange(1, 40).Draw(t, "steps")
	degree := rapid.IntRange(0, 6).Draw(t, "degree")
	steps := make([]dag.Step, n)
	for i := range steps {
		steps[i] = node(fmt.Sprint("s", i))
		if i > 0 && degree > 0 {
			parents := rapid.SliceOfNDistinct(rapid.IntRange(0, i-1), 0, min(i, degree), rapid.ID[int]).Draw(t, "parents")
			for _, parent := range parents {
				steps[i].Dependencies = append(steps[i].Dependencies, steps[parent].Name)
			}
		}
		steps[i].Retry = &dag.Retry{
			Retryable:   new(rapid.IntRange(0, 5).Draw(t, "retryable") > 0),
			MaxAttempts: new(rapid.IntRange(0, 3).Draw(t, "max attempts")),
			Backoff:     rapid.SampledFrom([]dag.Backoff{dag.BackoffNone, dag.BackoffLinear, dag.BackoffFibonacci, ""}).Draw(t, "backoff"),
		}
	}
	flow := template(rapid.Permutation(steps).Draw(t, "written")...)
	flow.Lifecycle.OnFailure = rapid.SampledFrom([]dag.OnFailure{dag.OnFailureError, dag.OnFailureBlock}).Draw(t, "on failure")
	return flow
}

// world is a store with everybody who acts on it, and the model that watches them.
type world struct {
	*store

	t     *rapid.T
	model *model
	// sent holds every item there ever was, for replays; kept those whose outcome waits at their step.
	sent, kept []item
}

func newWorld(t *rapid.T, flow dag.Template) *world {
	return &world{store: newStore(t, flow), t: t, model: newModel(&flow)}
}

// some draws a part of a list, in any order.
func some[E any](t *rapid.T, of []E, least int) []E {
	if len(of) == 0 {
		return nil
	}
	n := rapid.IntRange(min(least, len(of)), len(of)).Draw(t, "how many")
	return rapid.Permutation(of).Draw(t, "which")[:n]
}

func (w *world) drawFailure() *dag.Failure {
	switch rapid.IntRange(0, 7).Draw(w.t, "outcome") {
	case 0, 1:
		return &dag.Failure{Type: "handler_error"}
	case 2:
		return &dag.Failure{Type: "handler_error", RetryAfter: new(time.Duration(rapid.Int64().Draw(w.t, "hint")))}
	case 3:
		return &dag.Failure{Type: "handler_error", Permanent: true}
	}
	return nil
}

// send brings news together with some that came before.
func (w *world) send(news ...item) {
	batch := append(slices.Clone(news), some(w.t, w.sent[max(0, len(w.sent)-8):], 0)...)
	w.sent = append(w.sent, news...)
	w.advance(rapid.Permutation(batch).Draw(w.t, "batch")...)
}

func (w *world) outcomes(of []string) []item {
	items := make([]item, 0, len(of))
	for _, name := range of {
		items = append(items, item{
			execution: execution{name, w.steps[name].claimNo},
			outcome:   &outcome{failure: w.drawFailure(), jitter: rapid.Float64Range(-1, 1).Draw(w.t, "jitter")},
		})
	}
	return items
}

// passed lets time pass until those steps' back-off is over.
func (w *world) passed(of []string) []item {
	items := make([]item, 0, len(of))
	for _, name := range of {
		if at := w.steps[name].retryAt; at.After(w.now) {
			w.now = at
		}
		items = append(items, item{execution: execution{step: name}, due: true})
	}
	return items
}

// operator does something, allowed or not.
func (w *world) operator(event dag.Event) {
	allowed, failed := w.model.allows(w.store, event), w.in(dag.StepError)
	err := w.operate(event)
	if !allowed {
		require.Error(w.t, err, "%#v", event)
		return
	}
	require.NoError(w.t, err, "%#v", event)
	w.model.did(w.store, event, failed)
}

// actions are what may happen at any moment; the numbers are their weights.
var actions = map[string]struct {
	weight int
	do     func(*world)
}{
	"claim": {6, func(w *world) {
		for _, name := range some(w.t, w.in(dag.StepEnqueued), 1) {
			w.claim(name)
		}
	}},
	"finish": {8, func(w *world) { w.send(w.outcomes(some(w.t, w.in(dag.StepInProgress), 1))...) }},
	"keep": {2, func(w *world) {
		for _, name := range some(w.t, w.in(dag.StepInProgress), 1) {
			w.kept = append(w.kept, w.keep(name, w.drawFailure()))
		}
	}},
	"collect": {2, func(w *world) {
		w.kept = rapid.Permutation(append([]item(nil), w.kept...)).Draw(w.t, "kept")
		n := rapid.IntRange(0, len(w.kept)).Draw(w.t, "how many")
		w.send(w.kept[:n]...)
		w.kept = w.kept[n:]
	}},
	"give back": {1, func(w *world) {
		for _, name := range some(w.t, w.in(dag.StepInProgress), 1) {
			w.giveBack(name)
		}
	}},
	"due":   {4, func(w *world) { w.send(w.passed(some(w.t, w.in(dag.StepWaitingForRetry), 1))...) }},
	"start": {1, func(w *world) { w.begin(dag.Start{}) }},
	"rerun": {2, func(w *world) {
		w.operator(dag.Rerun{Steps: some(w.t, w.in(dag.StepError, dag.StepWaitingForRetry, dag.StepInProgress), 0)})
	}},
	"resolve": {2, func(w *world) {
		if len(w.names) > 0 {
			w.operator(dag.Resolve{Step: rapid.SampledFrom(w.names).Draw(w.t, "step"), HasResult: rapid.Bool().Draw(w.t, "result")})
		}
	}},
}

func weighted() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(actions)) {
		for range actions[name].weight {
			names = append(names, name)
		}
	}
	return names
}

// drain lets the machines work until nothing moves.
func (w *world) drain(fate func(name string) *dag.Failure) {
	for round := 0; w.active()+len(w.in(dag.StepWaitingForRetry)) > 0; round++ {
		require.Less(w.t, round, 4*len(w.names)+4, "the run does not end")
		w.advance(w.passed(w.in(dag.StepWaitingForRetry))...)
		for _, name := range w.in(dag.StepEnqueued) {
			w.claim(name)
		}
		items := slices.Clone(w.kept)
		for _, name := range w.in(dag.StepInProgress) {
			items = append(items, item{execution: execution{name, w.steps[name].claimNo}, outcome: &outcome{failure: fate(name)}})
		}
		w.advance(items...)
		w.model.check(w.store)
	}
}

func success(string) *dag.Failure { return nil }

// Whatever happens in whatever order: no child before its parents, no two outcomes, only legal transitions, counters and the
// task's state as a recount says, replays change nothing, and in the end one terminal state.
func TestNoHistoryBringsATaskIntoDisorder(t *testing.T) {
	t.Parallel()
	names := weighted()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, randomFlow(t))
		if rapid.IntRange(0, 9).Draw(t, "rejected") == 0 {
			w.begin(dag.Reject{})
			w.operator(dag.Rerun{})
		}
		w.begin(dag.Start{})
		w.model.check(w.store)
		length := rapid.IntRange(0, 100).Draw(t, "length")
		cancel := rapid.IntRange(-300, 100).Draw(t, "cancelled after")
		for i := range length {
			if i == cancel {
				w.operator(dag.Cancel{})
				w.model.check(w.store)
			}
			actions[rapid.SampledFrom(names).Draw(t, "action")].do(w)
			w.model.check(w.store)
		}
		w.endsWell()
	})
}

// endsWell lets the failures go on until the budgets are spent, then stop.
func (w *world) endsWell() {
	hopeless := some(w.t, w.names, 0)
	w.drain(func(name string) *dag.Failure {
		if slices.Contains(hopeless, name) {
			return &dag.Failure{Type: "handler_error"}
		}
		return nil
	})
	require.True(w.t, w.task.State.Terminal() || w.task.State == dag.TaskBlockedByFailures, "%s is no end", w.task.State)
	if w.task.State.Closed() {
		return
	}
	w.operator(dag.Rerun{})
	w.drain(success)
	require.Equal(w.t, dag.TaskComplete, w.task.State)
}

func TestATaskWhoseStepsAllSucceedIsNeverTouchedInBetween(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, randomFlow(t))
		w.begin(dag.Start{})
		w.drain(success)
		require.Equal(t, []dag.TaskState{dag.TaskPending, dag.TaskStepsInProcess, dag.TaskComplete}, w.log)
		for name, r := range w.steps {
			require.Equal(t, []dag.StepState{dag.StepPending, dag.StepEnqueued, dag.StepInProgress, dag.StepComplete}, r.log, name)
			require.Equal(t, 1, r.claimNo, name)
		}
	})
}

// ending is what a run leaves behind, but for the moments of its retries.
type ending struct {
	task  dag.Task
	steps map[string]row
}

// schedule runs a task to its end with every step's fate given, in an order and in batches of its own.
func schedule(t *rapid.T, flow dag.Template, fates map[string][]*dag.Failure) ending {
	w := newWorld(t, flow)
	w.begin(dag.Start{})
	for w.active()+len(w.in(dag.StepWaitingForRetry)) > 0 {
		for _, name := range some(t, w.in(dag.StepEnqueued), 1) {
			w.claim(name)
		}
		w.advance(w.passed(some(t, w.in(dag.StepWaitingForRetry), 0))...)
		var items []item
		for _, name := range some(t, w.in(dag.StepInProgress), 0) {
			r := w.steps[name]
			items = append(items, item{
				execution: execution{name, r.claimNo}, outcome: &outcome{failure: fates[name][min(r.view.Attempts, len(fates[name]))-1]},
			})
		}
		w.advance(items...)
		w.model.check(w.store)
	}
	end := ending{task: w.task, steps: make(map[string]row)}
	for name, r := range w.steps {
		end.steps[name] = *r
	}
	return end
}

func TestTheOrderOfResultsDoesNotMatterInTheEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		flow := randomFlow(t)
		allSucceed := rapid.Bool().Draw(t, "all succeed")
		fates := make(map[string][]*dag.Failure)
		for _, step := range flow.Steps {
			fate := []*dag.Failure{nil}
			if kind := rapid.IntRange(0, 5).Draw(t, "fate"); !allSucceed && kind < 3 {
				retry := &dag.Failure{Type: "handler_error"}
				fate = [][]*dag.Failure{{{Permanent: true}}, {retry, nil}, {retry, retry, nil}}[kind]
			}
			fates[step.Name] = fate
		}
		one, other := schedule(t, flow, fates), schedule(t, flow, fates)
		require.Equal(t, one, other)
		if allSucceed {
			require.Equal(t, dag.TaskComplete, one.task.State)
		}
	})
}
