package dag_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// halted is a pair whose left failed and whose right waits for its retry.
func halted(t *testing.T, state dag.TaskState) dag.Snapshot {
	t.Helper()
	return dag.Snapshot{
		Graph: pair(t, dag.OnFailureBlock), Task: dag.Task{State: state, SinksLeft: 1, StepsFailed: 1, StepsRetrying: 1},
		Steps: map[string]dag.StepView{
			"left":  {State: dag.StepError, Attempts: 3, MaxAttempts: 3},
			"right": {State: dag.StepWaitingForRetry, Attempts: 2, MaxAttempts: 3},
			"join":  {State: dag.StepPending, ParentsLeft: 2, Sink: true},
		},
		Children: map[string][]string{"left": {"join"}},
	}
}

func TestCancelEndsEverythingThatHasNotEnded(t *testing.T) {
	t.Parallel()
	for _, state := range dag.StepStates() {
		s := halted(t, dag.TaskWaitingForRetry)
		s.Steps["other"] = dag.StepView{State: state}
		p := plan(t, s, dag.Cancel{})
		changes := changesOf(t, &p)
		for _, name := range []string{"join", "left", "right"} {
			require.Equal(t, dag.StepChange{Step: name, From: s.Steps[name].State, To: dag.StepCancelled}, changes[name])
		}
		if state.Closed() {
			require.NotContains(t, changes, "other", state)
		} else {
			require.Equal(t, dag.StepCancelled, changes["other"].To, state)
		}
		require.Equal(t, []dag.TaskState{dag.TaskCancelled}, p.Path)
		require.Equal(t, -1, p.StepsFailed, "nothing waits for an operator any more")
		require.Equal(t, -1, p.StepsRetrying)
	}
}

func TestCancelEndsATaskThatHasNotStarted(t *testing.T) {
	t.Parallel()
	s := dag.Snapshot{Graph: pair(t, ""), Task: dag.Task{State: dag.TaskPending}}
	require.Equal(t, dag.Plan{Path: []dag.TaskState{dag.TaskCancelled}}, plan(t, s, dag.Cancel{}))
}

func TestOperatorsAreToldWhatStandsInTheWay(t *testing.T) {
	t.Parallel()
	with := func(name string, view dag.StepView) dag.Snapshot {
		s := halted(t, dag.TaskWaitingForRetry)
		s.Steps[name] = view
		return s
	}
	calm := with("left", dag.StepView{State: dag.StepComplete})
	tests := []struct {
		name  string
		s     dag.Snapshot
		event dag.Event
		want  string
	}{
		{
			"cancel after cancelled", halted(t, dag.TaskCancelled),
			dag.Cancel{},
			"the task is already cancelled; only a task that has not ended can be cancelled",
		},
		{
			"cancel after complete", halted(t, dag.TaskComplete),
			dag.Cancel{},
			"the task is already complete; only a task that has not ended can be cancelled",
		},
		{
			"cancel after error", halted(t, dag.TaskError),
			dag.Cancel{},
			"the task is already error; only a task that has not ended can be cancelled",
		},
		{
			"cancel after resolved", halted(t, dag.TaskResolvedManually),
			dag.Cancel{},
			"the task is already resolved_manually; only a task that has not ended can be cancelled",
		},
		{
			"rerun a running step", with("left", dag.StepView{State: dag.StepInProgress}),
			dag.Rerun{Steps: []string{"left"}},
			`step "left" is in_progress; only one in error or waiting_for_retry can be retried`,
		},
		{"rerun a step that is not there", calm, dag.Rerun{Steps: []string{"right", "lfet"}}, `the task has no step "lfet"`},
		{"rerun after complete", halted(t, dag.TaskComplete), dag.Rerun{}, "the task is complete; nothing of it can be retried"},
		{"rerun with nothing failed", calm, dag.Rerun{}, "no step of the task has failed; there is nothing to retry"},
		{"resolve a closed step", calm, dag.Resolve{Step: "left"}, `step "left" is already complete`},
		{"resolve a step that is not there", calm, dag.Resolve{Step: "lfet"}, `the task has no step "lfet"`},
		{
			"resolve after cancelled", halted(t, dag.TaskCancelled),
			dag.Resolve{Step: "left"},
			"the task is cancelled; none of its steps can be resolved",
		},
		{
			"resolve before its last parent", with("join", dag.StepView{State: dag.StepPending, ParentsLeft: 1}),
			dag.Resolve{Step: "join"},
			`step "join" still waits for 1 of its dependencies; resolve those first`,
		},
		{
			"resolve before its parents", calm,
			dag.Resolve{Step: "join", HasResult: true},
			`step "join" still waits for 2 of its dependencies; resolve those first`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, refusal(t, tt.s, tt.event))
		})
	}
}

func TestRerunGivesFailedStepsTheirAttemptsBack(t *testing.T) {
	t.Parallel()
	left := dag.StepChange{Step: "left", From: dag.StepError, To: dag.StepEnqueued, Reset: true}
	right := dag.StepChange{Step: "right", From: dag.StepWaitingForRetry, To: dag.StepEnqueued, Reset: true}
	tests := []struct {
		name             string
		steps            []string
		changes          []dag.StepChange
		failed, retrying int
	}{
		{"a named step", []string{"left"}, []dag.StepChange{left}, -1, 0},
		{"a step in back-off", []string{"right"}, []dag.StepChange{right}, 0, -1},
		{"a step named twice", []string{"left", "left"}, []dag.StepChange{left}, -1, 0},
		{"all failed ones", nil, []dag.StepChange{left}, -1, 0},
		{"several", []string{"right", "left"}, []dag.StepChange{left, right}, -1, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, before := range []dag.TaskState{dag.TaskBlockedByFailures, dag.TaskError, dag.TaskWaitingForRetry} {
				require.Equal(t, dag.Plan{
					Steps: tt.changes, Path: []dag.TaskState{dag.TaskStepsInProcess}, StepsFailed: tt.failed, StepsRetrying: tt.retrying,
				}, plan(t, halted(t, before), dag.Rerun{Steps: tt.steps}), before)
			}
		})
	}
}

func TestRerunStartsARejectedTaskAnew(t *testing.T) {
	t.Parallel()
	s := dag.Snapshot{Graph: pair(t, ""), Task: dag.Task{State: dag.TaskError}}
	p := plan(t, s, dag.Rerun{})
	require.Equal(t, dag.Plan{Path: []dag.TaskState{dag.TaskPending}, Restart: true}, p)
	require.True(t, p.TouchesTask())
}

func TestResolveClosesAStepInAnyOpenState(t *testing.T) {
	t.Parallel()
	for _, state := range dag.StepStates() {
		for withResult, want := range map[bool]dag.StepState{true: dag.StepComplete, false: dag.StepResolvedManually} {
			s := halted(t, dag.TaskWaitingForRetry)
			s.Steps["left"] = dag.StepView{State: state}
			if state.Closed() {
				continue
			}
			if s.Task.StepsFailed = 0; state == dag.StepError {
				s.Task.StepsFailed = 1
			}
			if s.Task.StepsRetrying = 1; state == dag.StepWaitingForRetry {
				s.Task.StepsRetrying = 2
			}
			if state.Active() {
				s.Active = 1
			}
			p := plan(t, s, dag.Resolve{Step: "left", HasResult: withResult})
			changes := changesOf(t, &p)
			require.Equal(t, dag.StepChange{Step: "left", From: state, To: want}, changes["left"])
			require.Equal(t, dag.StepChange{Step: "join", From: dag.StepPending, To: dag.StepPending, ParentsDone: 1}, changes["join"])
			require.Zero(t, s.Task.StepsFailed+p.StepsFailed, "%s: no failure is left", state)
			require.Equal(t, 1, s.Task.StepsRetrying+p.StepsRetrying, "%s: right still waits", state)
			require.Empty(t, p.Path, "%s: nothing moves, and right still waits for its retry", state)
		}
	}
}

func TestResolveDispatchesTheChildThatWaitedForTheStepAlone(t *testing.T) {
	t.Parallel()
	for _, before := range []dag.TaskState{dag.TaskBlockedByFailures, dag.TaskError} {
		s := dag.Snapshot{
			Graph: pair(t, dag.OnFailureError), Task: dag.Task{State: before, SinksLeft: 1, StepsFailed: 1},
			Steps: map[string]dag.StepView{
				"left": {State: dag.StepError}, "right": {State: dag.StepComplete},
				"join": {State: dag.StepPending, ParentsLeft: 1, Sink: true},
			},
			Children: map[string][]string{"left": {"join"}},
		}
		require.Equal(t, dag.Plan{
			Steps: []dag.StepChange{
				{Step: "join", From: dag.StepPending, To: dag.StepEnqueued, ParentsDone: 1},
				{Step: "left", From: dag.StepError, To: dag.StepResolvedManually},
			},
			Path: []dag.TaskState{dag.TaskStepsInProcess}, StepsFailed: -1,
		}, plan(t, s, dag.Resolve{Step: "left"}))
	}
}

func TestResolvingTheLastSinkCompletesTheTaskFromWhereverItWas(t *testing.T) {
	t.Parallel()
	for _, before := range []dag.TaskState{dag.TaskBlockedByFailures, dag.TaskError, dag.TaskStepsInProcess} {
		s := dag.Snapshot{
			Graph: pair(t, ""), Task: dag.Task{State: before, SinksLeft: 1, StepsFailed: 1},
			Steps: map[string]dag.StepView{"join": {State: dag.StepError, Sink: true}},
		}
		require.Equal(t, dag.Plan{
			Steps: []dag.StepChange{{Step: "join", From: dag.StepError, To: dag.StepComplete}},
			Path:  []dag.TaskState{dag.TaskComplete}, SinksLeft: -1, StepsFailed: -1,
		}, plan(t, s, dag.Resolve{Step: "join", HasResult: true}))
	}
}

func TestATaskInErrorStaysThereWhileAnotherStepHasFailed(t *testing.T) {
	t.Parallel()
	s := dag.Snapshot{
		Graph: pair(t, ""), Task: dag.Task{State: dag.TaskError, SinksLeft: 1, StepsFailed: 2},
		Steps: map[string]dag.StepView{
			"left": {State: dag.StepError}, "right": {State: dag.StepError}, "join": {State: dag.StepPending, ParentsLeft: 2, Sink: true},
		},
		Children: map[string][]string{"left": {"join"}},
	}
	p := plan(t, s, dag.Resolve{Step: "left"})
	require.Empty(t, p.Path, "it is neither blocked again nor in error twice")
	require.Equal(t, -1, p.StepsFailed)
}
