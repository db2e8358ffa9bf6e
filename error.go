package tasker

import (
	"errors"
	"fmt"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

var (
	// ErrTaskNotFound: there is no task with that id.
	ErrTaskNotFound = orchestration.ErrTaskNotFound
	// ErrTemplateNotFound: no template of that name and version is registered.
	ErrTemplateNotFound = orchestration.ErrTemplateNotFound
	// ErrStepNotFound: the task has no step of that name.
	ErrStepNotFound = errors.New("step not found")
	// ErrNoResult: the step has not succeeded, or was resolved without a result.
	ErrNoResult = errors.New("step has no result")
)

// RequestError says why a request can never be accepted as it is, and what to do.
type RequestError struct {
	Reason string
	// Fields lists the fields of the context that break the template's input_schema, as "path: what is wrong".
	Fields []string
	err    error
}

// Error gives the reason.
func (e *RequestError) Error() string { return e.Reason }

// Unwrap returns the cause, such as [ErrTemplateNotFound].
func (e *RequestError) Unwrap() error { return e.err }

// ConflictError says that the state of a task or step forbids what was asked. Nothing was changed.
type ConflictError struct{ Reason string }

// Error gives the reason and what is possible.
func (e *ConflictError) Error() string { return e.Reason }

// EndedError says that a task that was waited for ended otherwise than complete.
type EndedError struct {
	// Task is the task as it ended.
	Task *Task
}

// Error says how the task ended and why.
func (e *EndedError) Error() string {
	if e.Task.Problem == "" {
		return fmt.Sprintf("task %s ended %s", e.Task.ID, e.Task.State)
	}
	return fmt.Sprintf("task %s ended %s: %s", e.Task.ID, e.Task.State, e.Task.Problem)
}

// wrapRequest words the errors of the layers below for callers.
func wrapRequest(err error) error {
	var request *orchestration.RequestError
	var fields *orchestration.ContextError
	var conflict *dag.ConflictError
	switch {
	case errors.As(err, &request):
		return &RequestError{Reason: request.Error(), err: err}
	case errors.As(err, &fields):
		return &RequestError{Reason: fields.Error(), Fields: fields.Fields, err: err}
	case errors.As(err, &conflict) && conflict.UnknownStep:
		return fmt.Errorf("%s: %w", conflict.Reason, ErrStepNotFound)
	case errors.As(err, &conflict):
		return &ConflictError{Reason: conflict.Reason}
	}
	return err
}

// IsUnavailable reports whether an error means that the database cannot be reached now: the same call may succeed later.
func IsUnavailable(err error) bool { return db.Unavailable(err) }

// IsSchemaMismatch reports whether the database's schema is missing, older or newer than this code's.
func IsSchemaMismatch(err error) bool {
	var mismatch *db.SchemaError
	return errors.As(err, &mismatch)
}
