package dag

import "fmt"

// Event is something that happened to a task: Start, Reject, Finished, RetryDue, Cancel, Rerun, Resolve or Resume.
type Event interface{ event() }

// Start expands a pending task into its steps.
type Start struct{}

// Reject ends a pending task that cannot be expanded.
type Reject struct{}

// Finished brings results of steps, several at once where a batch has them.
type Finished struct{ Results []Result }

// Result is the outcome of one execution.
type Result struct {
	Step string
	// Failure is nil for a success.
	Failure *Failure
	// Jitter is uniform in [-1, 1), for the delay of a retry.
	Jitter float64
}

// RetryDue says that the back-off of steps is over.
type RetryDue struct{ Steps []string }

// Cancel ends the task and everything of it that has not finished.
type Cancel struct{}

// Rerun gives failed steps fresh attempts; with no names, all of them.
type Rerun struct{ Steps []string }

// Resolve closes a step by hand: complete with a result, resolved_manually without.
type Resolve struct {
	Step      string
	HasResult bool
}

// Resume dispatches pending steps that a recount found ready, whatever their counter says: a repair.
type Resume struct{ Ready []string }

func (Resume) event()   {}
func (Start) event()    {}
func (Reject) event()   {}
func (Finished) event() {}
func (RetryDue) event() {}
func (Cancel) event()   {}
func (Rerun) event()    {}
func (Resolve) event()  {}

// ConflictError says that the state of a task or step forbids what an operator asked for. Nothing was changed.
type ConflictError struct {
	// Reason says what stands in the way and what is possible.
	Reason string
	// UnknownStep says that the task has no step of the name that was given.
	UnknownStep bool
}

// Error returns the reason.
func (e *ConflictError) Error() string { return e.Reason }

func unknownStepIn(name string) error {
	return &ConflictError{Reason: fmt.Sprintf("the task has no step %q", name), UnknownStep: true}
}

func conflict(format string, args ...any) error {
	return &ConflictError{Reason: fmt.Sprintf(format, args...)}
}
