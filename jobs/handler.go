package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// Handler runs one step and returns its result as JSON. ctx ends with the step's timeout, with its lease, when the task is
// cancelled, and when the process stops.
type Handler func(ctx context.Context, step *orchestration.Claimed) (json.RawMessage, error)

// StepError is an error with a handler's wishes: what to call it, and whether and when to try again.
type StepError struct {
	Err        error
	Code       string
	Permanent  bool
	RetryAfter *time.Duration
}

// Error is the text of the wrapped error.
func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *StepError) Unwrap() error { return e.Err }

// Causes for which a handler's context ends before its time; context.Cause tells them.
var (
	// ErrTimeout: the step's timeout is over.
	ErrTimeout = errors.New("step timed out")
	// ErrLeaseLost: this process could not renew its lease, or the step was cancelled or resolved. The result would not count.
	ErrLeaseLost = errors.New("the step no longer belongs to this worker")
	// errLeaseOverdue is the loss of a process that the database did not answer.
	errLeaseOverdue = fmt.Errorf("%w: the database did not renew it", ErrLeaseLost)
	// errLeaseExpired is the loss of a process that was too starved to renew.
	errLeaseExpired = fmt.Errorf("%w: it could not be renewed in time", ErrLeaseLost)
	// ErrStopping: the process stops; the step is handed back.
	ErrStopping = errors.New("the worker is stopping")
)

const (
	maxErrorBytes = 64 << 10
	maxStackBytes = 16 << 10
	// deafGrace is how long a handler may take to return once its context has ended. Then its step goes on without it.
	deafGrace = time.Second
)

// errExited says that a handler ended its goroutine instead of returning.
var errExited = errors.New("the handler called runtime.Goexit")

// panicError is a recovered panic.
type panicError struct {
	value any
	stack string
}

func (e *panicError) Error() string { return fmt.Sprint(e.value) }

// run calls the handler under the step's timeout and says how it ended. A handler that ignores its context is left behind
// after a grace: its goroutine may run on, its result no longer counts.
func run(ctx context.Context, handler Handler, step *orchestration.Claimed, timeout time.Duration) orchestration.Outcome {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrTimeout)
	defer cancel()
	done := make(chan orchestration.Outcome, 1)
	go call(ctx, handler, step, done)
	select {
	case o := <-done:
		return o
	case <-ctx.Done():
	}
	grace := time.NewTimer(deafGrace)
	defer grace.Stop()
	select {
	case o := <-done:
		return o
	case <-grace.C:
		return outcome(ctx, nil, fmt.Errorf("%w, and the handler ignored it", context.Cause(ctx)))
	}
}

// call classifies what the handler returns where a panic is caught: an error's own methods may panic, too.
func call(ctx context.Context, handler Handler, step *orchestration.Claimed, done chan<- orchestration.Outcome) {
	var o orchestration.Outcome
	returned := false
	defer func() {
		if value := recover(); value != nil {
			o = outcome(ctx, nil, &panicError{value: value, stack: string(debug.Stack())})
		} else if !returned {
			o = outcome(ctx, nil, errExited)
		}
		done <- o
	}()
	result, err := handler(ctx, step)
	o = outcome(ctx, result, err)
	returned = true
}

// outcome classifies what a handler returned.
func outcome(ctx context.Context, result json.RawMessage, err error) orchestration.Outcome {
	if err != nil {
		return orchestration.Outcome{Failure: failure(ctx, err)}
	}
	if len(result) == 0 {
		result = json.RawMessage("null")
	}
	if err := orchestration.CheckJSON("result", result, orchestration.MaxResultBytes); err != nil {
		return orchestration.Outcome{Failure: &dag.Failure{Type: "invalid_result", Message: err.Error(), Permanent: true}}
	}
	return orchestration.Outcome{Result: result}
}

// InvalidResultError says that a result cannot be encoded as JSON; trying again would not help.
type InvalidResultError struct{ Err error }

// Error says what is wrong with the result.
func (e *InvalidResultError) Error() string {
	return "result cannot be encoded as JSON: " + e.Err.Error()
}

func failure(ctx context.Context, err error) *dag.Failure {
	f := &dag.Failure{Type: "handler_error", Message: clean(err.Error(), maxErrorBytes)}
	var panicked *panicError
	var invalid *InvalidResultError
	var wish *StepError
	switch {
	case errors.As(err, &panicked):
		f.Type, f.Permanent = "handler_panic", true
		f.Stack = clean(panicked.stack, maxStackBytes)
	case errors.Is(err, errExited):
		f.Type, f.Permanent = "handler_panic", true
	case errors.As(err, &invalid):
		f.Type, f.Permanent = "invalid_result", true
	case errors.Is(context.Cause(ctx), ErrTimeout) && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrTimeout)):
		f.Type = "handler_timeout"
	case errors.As(err, &wish):
		f.Code, f.Permanent, f.RetryAfter = clean(wish.Code, maxErrorBytes), wish.Permanent, wish.RetryAfter
	}
	return f
}

// clean makes text that Postgres stores: valid UTF-8 without zero bytes, cut with a marker.
func clean(text string, limit int) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", `\0`), "\uFFFD")
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "… (cut)"
}
