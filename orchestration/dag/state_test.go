package dag_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func TestStatesAreListedOnce(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, []dag.TaskState{
		dag.TaskPending, dag.TaskStepsInProcess, dag.TaskWaitingForDependencies, dag.TaskWaitingForRetry, dag.TaskBlockedByFailures,
		dag.TaskComplete, dag.TaskError, dag.TaskCancelled, dag.TaskResolvedManually,
	}, dag.TaskStates())
	require.ElementsMatch(t, []dag.StepState{
		dag.StepPending, dag.StepEnqueued, dag.StepInProgress, dag.StepEnqueuedForOrchestration,
		dag.StepEnqueuedAsErrorForOrchestration, dag.StepWaitingForRetry, dag.StepComplete, dag.StepError, dag.StepCancelled,
		dag.StepResolvedManually,
	}, dag.StepStates())
}

func TestTaskPredicatesHoldForExactlyTheirStates(t *testing.T) {
	t.Parallel()
	closed := []dag.TaskState{dag.TaskComplete, dag.TaskCancelled, dag.TaskResolvedManually}
	require.ElementsMatch(t, closed, those(dag.TaskStates(), dag.TaskState.Closed))
	require.ElementsMatch(t, append(closed, dag.TaskError), those(dag.TaskStates(), dag.TaskState.Terminal))
}

func TestStepPredicatesHoldForExactlyTheirStates(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, []dag.StepState{
		dag.StepEnqueued, dag.StepInProgress, dag.StepEnqueuedForOrchestration, dag.StepEnqueuedAsErrorForOrchestration,
	}, those(dag.StepStates(), dag.StepState.Active))
	require.ElementsMatch(t, []dag.StepState{dag.StepComplete, dag.StepResolvedManually}, those(dag.StepStates(), dag.StepState.Succeeded))
	require.ElementsMatch(t, []dag.StepState{dag.StepComplete, dag.StepResolvedManually, dag.StepCancelled},
		those(dag.StepStates(), dag.StepState.Closed))
}

func TestNoStateFollowsAClosedOneOrItself(t *testing.T) {
	t.Parallel()
	for _, from := range dag.TaskStates() {
		require.False(t, from.CanBecome(from), from)
		for _, to := range dag.TaskStates() {
			require.False(t, from.Closed() && from.CanBecome(to), "%s to %s", from, to)
		}
	}
	for _, from := range dag.StepStates() {
		require.False(t, from.CanBecome(from), from)
		for _, to := range dag.StepStates() {
			require.False(t, from.Closed() && from.CanBecome(to), "%s to %s", from, to)
		}
	}
}

func TestEveryUnfinishedTaskCanBeCancelledAndEveryUnclosedStepToo(t *testing.T) {
	t.Parallel()
	for _, from := range dag.TaskStates() {
		require.Equal(t, !from.Terminal(), from.CanBecome(dag.TaskCancelled), from)
	}
	for _, from := range dag.StepStates() {
		require.Equal(t, !from.Closed(), from.CanBecome(dag.StepCancelled), from)
		require.Equal(t, !from.Closed(), from.CanBecome(dag.StepResolvedManually), from)
	}
}

func TestAnErrorIsReachedOnlyThroughBlockedByFailuresOrBeforeTheStart(t *testing.T) {
	t.Parallel()
	require.ElementsMatch(t, []dag.TaskState{dag.TaskPending, dag.TaskBlockedByFailures},
		those(dag.TaskStates(), func(s dag.TaskState) bool { return s.CanBecome(dag.TaskError) }))
}

func TestUnknownStatesAreClosedAndLeadNowhere(t *testing.T) {
	t.Parallel()
	require.False(t, dag.TaskState("initializing").CanBecome(dag.TaskStepsInProcess))
	require.False(t, dag.StepState("asleep").CanBecome(dag.StepEnqueued))
	require.True(t, dag.TaskState("initializing").Closed())
	require.True(t, dag.StepState("asleep").Closed())
}

// tasker.legal_transitions is the database's copy, by which `tasker doctor` judges.
func TestTheMigrationKnowsTheSameTransitions(t *testing.T) {
	t.Parallel()
	migration, err := os.ReadFile("../../db/migrations/00001_initial.sql")
	require.NoError(t, err)
	written := make([]string, 0)
	for _, match := range regexp.MustCompile(`\('(task|step)', '(\w+)', '(\w+)'\)`).FindAllStringSubmatch(string(migration), -1) {
		written = append(written, match[1]+" "+match[2]+" "+match[3])
	}
	require.ElementsMatch(t, append(legal("task", dag.TaskStates()), legal("step", dag.StepStates())...), written)
}

type state[S any] interface {
	~string
	CanBecome(next S) bool
}

func legal[S state[S]](entity string, states []S) []string {
	var pairs []string
	for _, from := range states {
		for _, to := range states {
			if from.CanBecome(to) {
				pairs = append(pairs, entity+" "+string(from)+" "+string(to))
			}
		}
	}
	return pairs
}

func those[S any](states []S, is func(S) bool) []S {
	var found []S
	for _, s := range states {
		if is(s) {
			found = append(found, s)
		}
	}
	return found
}
