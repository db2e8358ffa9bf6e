package dag_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func TestStartExpandsAPendingTaskParentsFirst(t *testing.T) {
	t.Parallel()
	graph := compile(t, template(node("join", "left", "right"), node("left"), node("right"), node("alone")))
	p := plan(t, dag.Snapshot{Graph: graph, Task: dag.Task{State: dag.TaskPending}}, dag.Start{})
	require.Equal(t, dag.Plan{
		Expand: []dag.NewStep{
			{Name: "left", Parents: []string{}, Position: 0},
			{Name: "right", Parents: []string{}, Position: 1},
			{Name: "alone", Parents: []string{}, Sink: true, Position: 2},
			{Name: "join", Parents: []string{"left", "right"}, Sink: true, Position: 3},
		},
		Path:      []dag.TaskState{dag.TaskStepsInProcess},
		SinksLeft: 2,
	}, p)
	require.True(t, p.TouchesTask())
}

func TestOnlyAPendingTaskIsStartedOrRejected(t *testing.T) {
	t.Parallel()
	graph := pair(t, dag.OnFailureError)
	for _, state := range dag.TaskStates() {
		s := dag.Snapshot{Graph: graph, Task: dag.Task{State: state, SinksLeft: 1}}
		start, reject := plan(t, s, dag.Start{}), plan(t, s, dag.Reject{})
		if state == dag.TaskPending {
			require.NotEmpty(t, start.Expand)
			require.Equal(t, dag.Plan{Path: []dag.TaskState{dag.TaskError}}, reject)
			continue
		}
		require.Equal(t, dag.Plan{}, start, state)
		require.Equal(t, dag.Plan{}, reject, state)
		require.False(t, start.TouchesTask(), state)
	}
}

// Spec §3.8: what becomes of a task when an execution of right ends. left's fate is in the counters.
func TestATaskFollowsItsStepsAsTheFinalizationTableSays(t *testing.T) {
	t.Parallel()
	path := func(states ...dag.TaskState) []dag.TaskState { return states }
	started := dag.Task{State: dag.TaskStepsInProcess, SinksLeft: 1}
	leftFailed := dag.Task{State: dag.TaskStepsInProcess, SinksLeft: 1, StepsFailed: 1}
	leftRetries := dag.Task{State: dag.TaskStepsInProcess, SinksLeft: 1, StepsRetrying: 1}
	const (
		alone = 1 // right is the only step under way
		both  = 2 // left runs too
	)
	tests := []struct {
		name      string
		task      dag.Task
		onFailure dag.OnFailure
		active    int
		event     dag.Event
		want      []dag.TaskState
		failed    int
		retrying  int
	}{
		{"a failure for good while left runs changes nothing yet", started, "", both, failed("right", true), nil, 1, 0},
		{
			"a failure for good while left waits for its retry waits too", leftRetries, "", alone, failed("right", true),
			path(dag.TaskWaitingForRetry), 1, 0,
		},
		{"a failure to retry after left failed waits", leftFailed, "", alone, failed("right", false), path(dag.TaskWaitingForRetry), 0, 1},
		{"a failure to retry as the last moving step waits", started, "", alone, failed("right", false), path(dag.TaskWaitingForRetry), 0, 1},
		{"a failure to retry while left runs changes nothing yet", started, "", both, failed("right", false), nil, 0, 1},
		{
			"a success after left failed ends in error", leftFailed, "", alone, succeeded("right"),
			path(dag.TaskBlockedByFailures, dag.TaskError), 0, 0,
		},
		{
			"a success after left failed stays blocked if the template says so", leftFailed, dag.OnFailureBlock, alone, succeeded("right"),
			path(dag.TaskBlockedByFailures), 0, 0,
		},
		{"a success while left runs changes nothing", started, "", both, succeeded("right"), nil, 0, 0},
		{"a success while left waits for its retry waits", leftRetries, "", alone, succeeded("right"), path(dag.TaskWaitingForRetry), 0, 0},
		{
			"the last failure for good ends in error", started, "", alone, failed("right", true),
			path(dag.TaskBlockedByFailures, dag.TaskError), 1, 0,
		},
		{
			"the last failure for good stays blocked if the template says so", started, dag.OnFailureBlock, alone, failed("right", true),
			path(dag.TaskBlockedByFailures), 1, 0,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := dag.Snapshot{
				Graph: pair(t, tt.onFailure), Task: tt.task, Active: tt.active,
				Steps: map[string]dag.StepView{
					"right": {State: dag.StepInProgress, Attempts: 1, MaxAttempts: 3},
					"join":  {State: dag.StepPending, ParentsLeft: 2, Sink: true},
				},
				Children: map[string][]string{"right": {"join"}},
			}
			p := plan(t, s, tt.event)
			require.Equal(t, tt.want, p.Path)
			require.Equal(t, tt.failed, p.StepsFailed)
			require.Equal(t, tt.retrying, p.StepsRetrying)
			require.Zero(t, p.SinksLeft)
			require.Equal(t, tt.want != nil || tt.failed+tt.retrying > 0, p.TouchesTask())
		})
	}
}

func TestAWaitingTaskGoesOnWhenItsRetryIsDue(t *testing.T) {
	t.Parallel()
	s := dag.Snapshot{
		Graph: pair(t, ""), Task: dag.Task{State: dag.TaskWaitingForRetry, SinksLeft: 1, StepsRetrying: 2},
		Steps: map[string]dag.StepView{
			"left": {State: dag.StepWaitingForRetry, Attempts: 1}, "right": {State: dag.StepWaitingForRetry, Attempts: 1},
		},
	}
	require.Equal(t, dag.Plan{
		Steps: []dag.StepChange{
			{Step: "left", From: dag.StepWaitingForRetry, To: dag.StepEnqueued},
			{Step: "right", From: dag.StepWaitingForRetry, To: dag.StepEnqueued},
		},
		Path: []dag.TaskState{dag.TaskStepsInProcess}, StepsRetrying: -2,
	}, plan(t, s, dag.RetryDue{Steps: []string{"right", "left", "right"}}), "attempts stay used")
	require.Equal(t, dag.Plan{}, plan(t, s, dag.RetryDue{Steps: []string{"elsewhere"}}))
}

func TestNothingIsDueInATaskThatEnded(t *testing.T) {
	t.Parallel()
	for _, state := range []dag.TaskState{dag.TaskComplete, dag.TaskCancelled, dag.TaskResolvedManually} {
		s := dag.Snapshot{
			Graph: pair(t, ""), Task: dag.Task{State: state, SinksLeft: 1, StepsRetrying: 1},
			Steps: map[string]dag.StepView{"left": {State: dag.StepWaitingForRetry}},
		}
		require.Equal(t, dag.Plan{}, plan(t, s, dag.RetryDue{Steps: []string{"left"}}), state)
	}
}

func TestOnlyAWaitingStepIsDue(t *testing.T) {
	t.Parallel()
	for _, state := range dag.StepStates() {
		s := dag.Snapshot{
			Graph: pair(t, ""), Task: dag.Task{State: dag.TaskStepsInProcess, SinksLeft: 1, StepsRetrying: 1}, Active: 1,
			Steps: map[string]dag.StepView{"left": {State: state}},
		}
		if p := plan(t, s, dag.RetryDue{Steps: []string{"left"}}); state != dag.StepWaitingForRetry {
			require.Equal(t, dag.Plan{}, p, state)
		}
	}
}

func TestAChildIsDispatchedWithItsLastParentEvenWithinOneBatch(t *testing.T) {
	t.Parallel()
	s := dag.Snapshot{
		Graph: pair(t, ""), Task: dag.Task{State: dag.TaskStepsInProcess, SinksLeft: 1},
		Steps: map[string]dag.StepView{
			"left": {State: dag.StepInProgress}, "right": {State: dag.StepEnqueuedForOrchestration},
			"join": {State: dag.StepPending, ParentsLeft: 2, Sink: true},
		},
		Children: map[string][]string{"left": {"join"}, "right": {"join"}},
	}
	one := plan(t, s, succeeded("left"))
	require.Equal(t, []dag.StepChange{
		{Step: "join", From: dag.StepPending, To: dag.StepPending, ParentsDone: 1},
		{Step: "left", From: dag.StepInProgress, To: dag.StepComplete},
	}, one.Steps)
	require.False(t, one.TouchesTask(), "a healthy task's row is left alone")

	both := plan(t, s, dag.Finished{Results: []dag.Result{{Step: "right"}, {Step: "left"}, {Step: "right"}}})
	require.Equal(t, []dag.StepChange{
		{Step: "join", From: dag.StepPending, To: dag.StepEnqueued, ParentsDone: 2},
		{Step: "left", From: dag.StepInProgress, To: dag.StepComplete},
		{Step: "right", From: dag.StepEnqueuedForOrchestration, To: dag.StepComplete},
	}, both.Steps)
	require.False(t, both.TouchesTask())
}

func TestAChildThatNoLongerWaitsIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, state := range dag.StepStates() {
		s := dag.Snapshot{
			Graph: pair(t, ""), Task: dag.Task{State: dag.TaskStepsInProcess, SinksLeft: 1},
			Steps:    map[string]dag.StepView{"left": {State: dag.StepInProgress}, "join": {State: state, ParentsLeft: 1}},
			Children: map[string][]string{"left": {"join"}},
		}
		p := plan(t, s, succeeded("left"))
		_, changed := changesOf(t, &p)["join"]
		require.Equal(t, state == dag.StepPending, changed, state)
	}
}

func TestATaskIsCompleteWithItsLastSink(t *testing.T) {
	t.Parallel()
	for _, before := range []dag.TaskState{dag.TaskStepsInProcess, dag.TaskWaitingForRetry, dag.TaskWaitingForDependencies} {
		s := dag.Snapshot{
			Graph: pair(t, ""), Task: dag.Task{State: before, SinksLeft: 1},
			Steps: map[string]dag.StepView{"join": {State: dag.StepInProgress, Sink: true}},
		}
		p := plan(t, s, succeeded("join"))
		require.Equal(t, []dag.TaskState{dag.TaskComplete}, p.Path)
		require.Equal(t, -1, p.SinksLeft)

		s.Task.SinksLeft = 2
		require.NotContains(t, plan(t, s, succeeded("join")).Path, dag.TaskComplete, "another sink is left")
	}
}

func TestAResultOfAStepThatIsNotUnderWayChangesNothing(t *testing.T) {
	t.Parallel()
	running := map[dag.StepState]bool{
		dag.StepInProgress: true, dag.StepEnqueuedForOrchestration: true, dag.StepEnqueuedAsErrorForOrchestration: true,
	}
	for _, state := range dag.StepStates() {
		s := dag.Snapshot{
			Graph: pair(t, ""), Task: dag.Task{State: dag.TaskStepsInProcess, SinksLeft: 1, StepsFailed: 1}, Active: 1,
			Steps:    map[string]dag.StepView{"left": {State: state, MaxAttempts: 3}, "join": {State: dag.StepPending, ParentsLeft: 2}},
			Children: map[string][]string{"left": {"join"}},
		}
		for _, event := range []dag.Event{succeeded("left"), failed("left", true), failed("left", false)} {
			if running[state] {
				require.NotEmpty(t, plan(t, s, event).Steps, state)
			} else {
				require.Equal(t, dag.Plan{}, plan(t, s, event), state)
			}
		}
	}
}

func TestAResultThatIsLateForItsTaskChangesNothing(t *testing.T) {
	t.Parallel()
	for _, state := range dag.TaskStates() {
		s := dag.Snapshot{
			Graph: pair(t, ""), Task: dag.Task{State: state}, Active: 1,
			Steps: map[string]dag.StepView{"left": {State: dag.StepInProgress, MaxAttempts: 3}},
		}
		if state.Closed() {
			require.Equal(t, dag.Plan{}, plan(t, s, succeeded("left")), state)
			require.Equal(t, dag.Plan{}, plan(t, s, failed("left", true)), state)
		}
		require.Equal(t, dag.Plan{}, plan(t, s, succeeded("elsewhere")), "%s: nobody knows that step", state)
	}
}

// Spec §3.2 and §3.4: template, handler and budget each may end the tries.
func TestAFailureIsRetriedUnlessSomethingForbidsIt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		retryable bool
		max       int
		attempts  int
		permanent bool
		want      dag.StepState
	}{
		{"allowed for the first of three", true, 3, 1, false, dag.StepWaitingForRetry},
		{"allowed for the second of three", true, 3, 2, false, dag.StepWaitingForRetry},
		{"forbidden by the handler", true, 3, 1, true, dag.StepError},
		{"forbidden by the template", false, 3, 1, false, dag.StepError},
		{"used up after one", true, 1, 1, false, dag.StepError},
		{"used up after three", true, 3, 3, false, dag.StepError},
		{"used up when none were allowed", true, 0, 1, false, dag.StepError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			only := node("only")
			only.Retry = &dag.Retry{Retryable: &tt.retryable, Jitter: new(0.0)}
			s := dag.Snapshot{
				Graph: compile(t, template(only)), Task: dag.Task{State: dag.TaskStepsInProcess, SinksLeft: 1}, Active: 1,
				Steps: map[string]dag.StepView{"only": {
					State: dag.StepEnqueuedAsErrorForOrchestration, Attempts: tt.attempts, MaxAttempts: tt.max, Sink: true,
				}},
			}
			change := plan(t, s, failed("only", tt.permanent)).Steps[0]
			require.Equal(t, tt.want, change.To)
			require.Equal(t, tt.want == dag.StepWaitingForRetry, change.RetryAt.After(noon))
		})
	}
}

func TestTheRetryOfAStepThatTheTemplateDoesNotKnowFollowsTheDefaults(t *testing.T) {
	t.Parallel()
	s := dag.Snapshot{
		Graph: pair(t, ""), Task: dag.Task{State: dag.TaskStepsInProcess, SinksLeft: 1}, Active: 1,
		Steps: map[string]dag.StepView{"grown": {State: dag.StepInProgress, Attempts: 2, MaxAttempts: 3}},
	}
	require.Equal(t, noon.Add(2*time.Second), plan(t, s, failed("grown", false)).Steps[0].RetryAt)
}

func TestHealthyTasksAreNotCounted(t *testing.T) {
	t.Parallel()
	mixed := dag.Finished{Results: []dag.Result{{Step: "left"}, {Step: "right", Failure: &dag.Failure{}}}}
	require.False(t, dag.NeedsActive(dag.Task{}, succeeded("left")))
	require.False(t, dag.NeedsActive(dag.Task{}, dag.Start{}))
	require.False(t, dag.NeedsActive(dag.Task{}, dag.Cancel{}))
	require.True(t, dag.NeedsActive(dag.Task{}, mixed))
	require.True(t, dag.NeedsActive(dag.Task{}, dag.Rerun{}))
	require.True(t, dag.NeedsActive(dag.Task{}, dag.Resolve{}))
	require.True(t, dag.NeedsActive(dag.Task{StepsFailed: 1}, succeeded("left")))
	require.True(t, dag.NeedsActive(dag.Task{StepsRetrying: 1}, succeeded("left")))
}

func TestATaskWithNothingToDoAndNothingWrongWaitsForDependencies(t *testing.T) {
	t.Parallel()
	s := dag.Snapshot{ // an operator closed a step of a graph that has grown a step nobody dispatched
		Graph: pair(t, ""), Task: dag.Task{State: dag.TaskBlockedByFailures, SinksLeft: 1, StepsFailed: 1},
		Steps: map[string]dag.StepView{"left": {State: dag.StepError}},
	}
	require.Equal(t, []dag.TaskState{dag.TaskStepsInProcess, dag.TaskWaitingForDependencies},
		plan(t, s, dag.Resolve{Step: "left"}).Path, "what may not be skipped is passed through")
}
