package dag

import (
	"cmp"
	"maps"
	"slices"
)

// TaskState is where a task stands, as its column in the database says.
type TaskState string

// The states of a task. Those of the reference system that last less than a transaction (initializing, enqueuing_steps,
// evaluating_results) are not states here: nobody could see them.
const (
	TaskPending                TaskState = "pending"
	TaskStepsInProcess         TaskState = "steps_in_process"
	TaskWaitingForDependencies TaskState = "waiting_for_dependencies"
	TaskWaitingForRetry        TaskState = "waiting_for_retry"
	TaskBlockedByFailures      TaskState = "blocked_by_failures"
	TaskComplete               TaskState = "complete"
	TaskError                  TaskState = "error"
	TaskCancelled              TaskState = "cancelled"
	TaskResolvedManually       TaskState = "resolved_manually"
)

// StepState is where a step stands.
type StepState string

// The states of a step.
const (
	StepPending                         StepState = "pending"
	StepEnqueued                        StepState = "enqueued"
	StepInProgress                      StepState = "in_progress"
	StepEnqueuedForOrchestration        StepState = "enqueued_for_orchestration"
	StepEnqueuedAsErrorForOrchestration StepState = "enqueued_as_error_for_orchestration"
	StepWaitingForRetry                 StepState = "waiting_for_retry"
	StepComplete                        StepState = "complete"
	StepError                           StepState = "error"
	StepCancelled                       StepState = "cancelled"
	StepResolvedManually                StepState = "resolved_manually"
)

// taskTransitions is the task's state machine. docs/state_machines.md and tasker.legal_transitions say the same; a test
// compares the three.
var taskTransitions = map[TaskState][]TaskState{
	TaskPending:                {TaskStepsInProcess, TaskComplete, TaskError, TaskCancelled},
	TaskStepsInProcess:         {TaskWaitingForDependencies, TaskWaitingForRetry, TaskBlockedByFailures, TaskComplete, TaskCancelled},
	TaskWaitingForDependencies: {TaskStepsInProcess, TaskBlockedByFailures, TaskComplete, TaskCancelled},
	TaskWaitingForRetry:        {TaskStepsInProcess, TaskBlockedByFailures, TaskComplete, TaskCancelled},
	TaskBlockedByFailures: {
		TaskStepsInProcess, TaskWaitingForRetry, TaskError, TaskComplete, TaskCancelled, TaskResolvedManually,
	},
	TaskError:            {TaskPending, TaskStepsInProcess, TaskComplete},
	TaskComplete:         {},
	TaskCancelled:        {},
	TaskResolvedManually: {},
}

// stepTransitions is the step's state machine.
var stepTransitions = map[StepState][]StepState{
	StepPending:  {StepEnqueued, StepComplete, StepResolvedManually, StepCancelled},
	StepEnqueued: {StepInProgress, StepComplete, StepResolvedManually, StepCancelled},
	StepInProgress: {
		StepEnqueued, StepEnqueuedForOrchestration, StepEnqueuedAsErrorForOrchestration, StepWaitingForRetry, StepComplete,
		StepError, StepResolvedManually, StepCancelled,
	},
	StepEnqueuedForOrchestration: {StepComplete, StepResolvedManually, StepCancelled},
	StepEnqueuedAsErrorForOrchestration: {
		StepWaitingForRetry, StepError, StepComplete, StepResolvedManually, StepCancelled,
	},
	StepWaitingForRetry:  {StepEnqueued, StepComplete, StepResolvedManually, StepCancelled},
	StepError:            {StepEnqueued, StepComplete, StepResolvedManually, StepCancelled},
	StepComplete:         {},
	StepCancelled:        {},
	StepResolvedManually: {},
}

// TaskStates lists every task state, by name.
func TaskStates() []TaskState { return keys(taskTransitions) }

// StepStates lists every step state, by name.
func StepStates() []StepState { return keys(stepTransitions) }

// CanBecome reports whether a task may go from s to next.
func (s TaskState) CanBecome(next TaskState) bool { return slices.Contains(taskTransitions[s], next) }

// CanBecome reports whether a step may go from s to next.
func (s StepState) CanBecome(next StepState) bool { return slices.Contains(stepTransitions[s], next) }

// Terminal reports whether nothing happens to the task any more by itself. An operator may still retry one in error.
func (s TaskState) Terminal() bool {
	return s == TaskComplete || s == TaskError || s == TaskCancelled || s == TaskResolvedManually
}

// Resting reports whether the task goes no further by itself: it has ended, or waits for an operator.
func (s TaskState) Resting() bool { return s.Terminal() || s == TaskBlockedByFailures }

// Closed reports whether the task has ended for good: no operator action is possible.
func (s TaskState) Closed() bool { return len(taskTransitions[s]) == 0 }

// Active reports whether the step is under way: dispatched, running, or with its result on the way.
func (s StepState) Active() bool {
	return s == StepEnqueued || s == StepInProgress || s == StepEnqueuedForOrchestration || s == StepEnqueuedAsErrorForOrchestration
}

// Succeeded reports whether the step satisfies those that depend on it.
func (s StepState) Succeeded() bool { return s == StepComplete || s == StepResolvedManually }

// Closed reports whether the step has ended for good.
func (s StepState) Closed() bool { return len(stepTransitions[s]) == 0 }

func keys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
