package dag_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func TestResumeDispatchesReadyStepsAndRepairsTheirCounters(t *testing.T) {
	t.Parallel()
	for _, before := range []dag.TaskState{
		dag.TaskStepsInProcess, dag.TaskWaitingForRetry, dag.TaskBlockedByFailures, dag.TaskWaitingForDependencies,
	} {
		s := dag.Snapshot{
			Graph: pair(t, ""), Task: dag.Task{State: before, SinksLeft: 1},
			Steps: map[string]dag.StepView{
				"left": {State: dag.StepComplete}, "right": {State: dag.StepComplete}, "join": {State: dag.StepPending, ParentsLeft: 1, Sink: true},
			},
		}
		p := plan(t, s, dag.Resume{Ready: []string{"join", "join"}})
		require.Equal(t, []dag.StepChange{{Step: "join", From: dag.StepPending, To: dag.StepEnqueued, ParentsDone: 1}}, p.Steps)
		if before == dag.TaskStepsInProcess {
			require.Empty(t, p.Path)
		} else {
			require.Equal(t, []dag.TaskState{dag.TaskStepsInProcess}, p.Path, before)
		}
	}
}

func TestResumeLeavesAloneWhatIsNotPendingOrHasEnded(t *testing.T) {
	t.Parallel()
	for _, task := range dag.TaskStates() {
		for _, step := range dag.StepStates() {
			s := dag.Snapshot{
				Graph: pair(t, ""), Task: dag.Task{State: task, SinksLeft: 1}, Steps: map[string]dag.StepView{"left": {State: step}},
			}
			if p := plan(t, s, dag.Resume{Ready: []string{"left", "elsewhere"}}); task.Terminal() || step != dag.StepPending {
				require.Equal(t, dag.Plan{}, p, "%s in %s", step, task)
			}
		}
	}
	require.True(t, dag.NeedsActive(dag.Task{}, dag.Resume{}))
}

// Dispatches get lost and counters go wrong at any moment; after the repair the task is as if nothing had happened.
func TestATaskThatLostDispatchesIsRepairedAndEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, randomFlow(t))
		w.begin(dag.Start{})
		for range rapid.IntRange(1, 12).Draw(t, "losses") {
			for _, name := range some(t, w.in(dag.StepEnqueued), 1) {
				w.claim(name)
			}
			w.send(w.outcomes(some(t, w.in(dag.StepInProgress), 1))...)
			var lost []string
			for _, name := range some(t, w.in(dag.StepEnqueued), 0) {
				if r := w.steps[name]; r.claimNo == 1 { // its first dispatch
					r.view.State, r.view.ParentsLeft, r.log = dag.StepPending, rapid.IntRange(0, 3).Draw(t, "parents left"), r.log[:1]
					lost = append(lost, name)
				}
			}
			require.NoError(t, w.operate(dag.Resume{Ready: lost}))
			w.model.check(w.store)
		}
		w.endsWell()
	})
}
