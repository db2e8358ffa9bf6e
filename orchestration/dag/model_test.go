package dag_test

import (
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// model is what a task looks like when everything is counted anew from the template and the steps' states. It knows nothing
// of counters, snapshots and plans.
type model struct {
	parents map[string][]string
	sinks   map[string]bool
	block   bool
}

func newModel(flow *dag.Template) *model {
	m := &model{parents: make(map[string][]string), sinks: make(map[string]bool), block: flow.Lifecycle.OnFailure == dag.OnFailureBlock}
	for i := range flow.Steps {
		m.parents[flow.Steps[i].Name] = flow.Steps[i].Dependencies
		m.sinks[flow.Steps[i].Name] = true
	}
	for _, parents := range m.parents {
		for _, parent := range parents {
			delete(m.sinks, parent)
		}
	}
	return m
}

// waits counts the parents that have not succeeded.
func (m *model) waits(s *store, name string) int {
	n := 0
	for _, parent := range m.parents[name] {
		if !s.steps[parent].view.State.Succeeded() {
			n++
		}
	}
	return n
}

// state is spec §3.8 for a started task.
func (m *model) state(s *store) dag.TaskState {
	switch {
	case len(s.in(dag.StepCancelled)) > 0:
		return dag.TaskCancelled
	case len(s.in(dag.StepComplete, dag.StepResolvedManually)) == len(m.parents):
		return dag.TaskComplete
	case s.active() > 0:
		return dag.TaskStepsInProcess
	case len(s.in(dag.StepWaitingForRetry)) > 0:
		return dag.TaskWaitingForRetry
	case m.block:
		return dag.TaskBlockedByFailures
	}
	return dag.TaskError
}

// check compares a store with the model.
func (m *model) check(s *store) {
	require.False(s.t, slices.ContainsFunc(s.log[:len(s.log)-1], dag.TaskState.Closed), "a task that ended goes on: %v", s.log)
	require.Equal(s.t, s.log[len(s.log)-1], s.task.State)
	if len(s.steps) == 0 {
		require.Contains(s.t, []dag.TaskState{dag.TaskPending, dag.TaskError, dag.TaskCancelled}, s.task.State)
		require.Zero(s.t, s.task.SinksLeft+s.task.StepsFailed+s.task.StepsRetrying)
		return
	}
	require.Len(s.t, s.steps, len(m.parents))
	sinks := 0
	for name, r := range s.steps {
		left := m.waits(s, name)
		require.Equal(s.t, left, r.view.ParentsLeft, "%s: parents_left", name)
		require.Equal(s.t, m.sinks[name], r.view.Sink, name)
		if state := r.view.State; state == dag.StepPending {
			require.Positive(s.t, left, "%s waits for nothing", name)
		} else if state != dag.StepCancelled {
			require.Zero(s.t, left, "%s is %s before its parents", name, state)
		}
		if m.sinks[name] && !r.view.State.Succeeded() {
			sinks++
		}
	}
	require.Equal(s.t, m.state(s), s.task.State, "task")
	require.Equal(s.t, sinks, s.task.SinksLeft, "sinks_left")
	require.Equal(s.t, len(s.in(dag.StepError)), s.task.StepsFailed, "steps_failed")
	require.Equal(s.t, len(s.in(dag.StepWaitingForRetry)), s.task.StepsRetrying, "steps_retrying")
}

// allows reports whether an operator may do that now.
func (m *model) allows(s *store, event dag.Event) bool {
	switch e := event.(type) {
	case dag.Cancel:
		return !s.task.State.Terminal()
	case dag.Rerun:
		rejected := s.task.State == dag.TaskError && len(s.steps) == 0
		failed := s.in(dag.StepError, dag.StepWaitingForRetry)
		known := !slices.ContainsFunc(e.Steps, func(name string) bool { return !slices.Contains(failed, name) })
		return !s.task.State.Closed() && (rejected || (known && (len(e.Steps) > 0 || len(s.in(dag.StepError)) > 0)))
	case dag.Resolve:
		r := s.steps[e.Step]
		return !s.task.State.Closed() && r != nil && !r.view.State.Closed() && m.waits(s, e.Step) == 0
	}
	return false
}

// did checks what an operator sees afterwards.
func (m *model) did(s *store, event dag.Event, failed []string) {
	switch e := event.(type) {
	case dag.Cancel:
		require.Equal(s.t, dag.TaskCancelled, s.task.State)
		require.Len(s.t, s.in(those(dag.StepStates(), dag.StepState.Closed)...), len(s.names))
	case dag.Rerun:
		if len(e.Steps) > 0 {
			failed = e.Steps
		}
		for _, name := range failed {
			require.Equal(s.t, dag.StepEnqueued, s.steps[name].view.State, name)
			require.Zero(s.t, s.steps[name].view.Attempts, name)
		}
	case dag.Resolve:
		want := dag.StepResolvedManually
		if e.HasResult {
			want = dag.StepComplete
		}
		require.Equal(s.t, want, s.steps[e.Step].view.State)
	}
}
