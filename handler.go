package tasker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/jobs"
	"github.com/tasker-systems/tasker-go/orchestration"
)

// HandlerFunc runs a step of a template that names its handlers (YAML). What it returns becomes the step's result, as JSON.
// An error is a failed attempt, tried again by the step's policy; see [Permanent] and [RetryAfter]. ctx ends with the step's
// timeout, when the task is cancelled, when the worker stops or loses its lease; context.Cause says why.
type HandlerFunc func(ctx context.Context, step *StepContext) (any, error)

// StepContext is what a handler knows of the step it runs.
type StepContext struct{ claimed *orchestration.Claimed }

type stepKey struct{}

// errNotInHandler says that a function of handlers was called with another context.
var errNotInHandler = errors.New("tasker: not called with a handler's context")

func fromContext(ctx context.Context) (*StepContext, error) {
	step, ok := ctx.Value(stepKey{}).(*StepContext)
	if !ok {
		return nil, errNotInHandler
	}
	return step, nil
}

// Context decodes the task's context into v. Numbers decode exactly into [json.Number] and into integers that hold them.
func (s *StepContext) Context(v any) error {
	if err := decode(s.claimed.Context, v); err != nil {
		return Permanent(fmt.Errorf("decode the task's context: %w", err))
	}
	return nil
}

// Result decodes the result of a step this one depends on, directly or further up, into v.
func (s *StepContext) Result(step string, v any) error {
	text, ok := s.claimed.Results[step]
	if !ok {
		return Permanent(fmt.Errorf("step %q has no result of %q: it does not depend on it", s.claimed.Name, step))
	}
	if len(text) == 0 {
		text = json.RawMessage("null") // resolved by hand without a result
	}
	if err := decode(text, v); err != nil {
		return Permanent(fmt.Errorf("decode the result of %q: %w", step, err))
	}
	return nil
}

func decode(text []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(v) //nolint:wrapcheck // callers say what was decoded
}

// Name is the step's name.
func (s *StepContext) Name() string { return s.claimed.Name }

// TaskID is the task's id.
func (s *StepContext) TaskID() uuid.UUID { return s.claimed.TaskID }

// CorrelationID is the id that task, logs and traces share.
func (s *StepContext) CorrelationID() uuid.UUID { return s.claimed.CorrelationID }

// Attempt is the number of this execution; the first is 1. Executions that were lost with their worker do not count.
func (s *StepContext) Attempt() int { return s.claimed.Attempt }

// MaxAttempts is how many executions the step has in all.
func (s *StepContext) MaxAttempts() int { return s.claimed.MaxAttempts }

// IsRetry reports whether an attempt before this one failed.
func (s *StepContext) IsRetry() bool { return s.claimed.Attempt > 1 }

// IsLastAttempt reports whether a failure would be final.
func (s *StepContext) IsLastAttempt() bool { return s.claimed.Attempt >= s.claimed.MaxAttempts }

// Dependencies are the names of the steps that this one depends on directly.
func (s *StepContext) Dependencies() []string {
	return s.claimed.Template.Graph.Parents(s.claimed.Name)
}

// Config returns the handler.initialization of the step's template. Numbers are json.Number.
func (s *StepContext) Config() map[string]any {
	if step := s.claimed.Template.Graph.Step(s.claimed.Name); step != nil {
		return step.Handler.Initialization
	}
	return nil
}

// IdempotencyKey is the same for every execution of this step: give it to outside services, so that a step that runs twice
// acts once.
func (s *StepContext) IdempotencyKey() string {
	return s.claimed.TaskID.String() + "/" + s.claimed.Name
}

// ExecutionKey is different for every execution, also for one after a loss: a fence for services that can refuse an older one.
func (s *StepContext) ExecutionKey() string {
	return fmt.Sprintf("%s/%d", s.IdempotencyKey(), s.claimed.ClaimNo)
}

// CallHandler runs a handler as a worker does, without storing what it returns. It is for test packages and wrappers; claimed
// comes from the engine.
func CallHandler(ctx context.Context, handler HandlerFunc, claimed *orchestration.Claimed) (any, error) {
	step := &StepContext{claimed: claimed}
	return handler(context.WithValue(ctx, stepKey{}, step), step)
}

// FromContext returns the step that a handler runs; nil outside of one.
func FromContext(ctx context.Context) *StepContext {
	step, err := fromContext(ctx)
	if err != nil {
		return nil
	}
	return step
}

// Attempt is the number of the running execution, for handlers that are plain functions; 0 outside of a handler.
func Attempt(ctx context.Context) int {
	if step := FromContext(ctx); step != nil {
		return step.Attempt()
	}
	return 0
}

// IdempotencyKeyFrom is [StepContext.IdempotencyKey] for handlers that are plain functions; empty outside of a handler.
func IdempotencyKeyFrom(ctx context.Context) string {
	if step := FromContext(ctx); step != nil {
		return step.IdempotencyKey()
	}
	return ""
}

// Permanent marks an error that trying again will not mend: the step fails at once.
func Permanent(err error) error { return wish(err, func(e *jobs.StepError) { e.Permanent = true }) }

// RetryAfter sets the delay before the next attempt, at most 60 s, instead of the step's back-off.
func RetryAfter(err error, d time.Duration) error {
	return wish(err, func(e *jobs.StepError) { e.RetryAfter = &d })
}

// WithCode gives an error a code, such as CARD_DECLINED, which is stored with the failure.
func WithCode(err error, code string) error {
	return wish(err, func(e *jobs.StepError) { e.Code = code })
}

func wish(err error, set func(*jobs.StepError)) error {
	if err == nil {
		return nil
	}
	e := &jobs.StepError{Err: err}
	if before, ok := errors.AsType[*jobs.StepError](err); ok {
		copied := *before
		copied.Err = err
		e = &copied
	}
	set(e)
	return e
}

// ErrStale says that the step was dispatched again, cancelled or resolved since: nothing that this execution does counts.
var ErrStale = errors.New("tasker: the step no longer belongs to this worker")

// CompleteTx stores the step's result inside the handler's own transaction: what the handler wrote in tx and the result
// commit together, or neither does. So the step's effect on this database happens exactly once. Call it last, commit, and
// return the same result from the handler. With [ErrStale], roll back: another execution counts.
func CompleteTx(ctx context.Context, tx pgx.Tx, result any) error {
	step, err := fromContext(ctx)
	if err != nil {
		return err
	}
	complete, ok := ctx.Value(completeKey{}).(completer)
	if !ok {
		return errNotInHandler
	}
	text, err := json.Marshal(result)
	if err != nil {
		return &jobs.InvalidResultError{Err: err}
	}
	if err := orchestration.CheckJSON("result", text, orchestration.MaxResultBytes); err != nil {
		return fmt.Errorf("complete step %s: %w", step.Name(), err)
	}
	verdict, err := complete(ctx, tx, step.claimed, orchestration.Outcome{Result: text})
	if err != nil {
		return fmt.Errorf("complete step %s: %w", step.Name(), err)
	}
	if verdict == orchestration.VerdictStale {
		return ErrStale
	}
	return nil
}

type completeKey struct{}

// completer is what the client gives its handlers for CompleteTx.
type completer = func(context.Context, pgx.Tx, *orchestration.Claimed, orchestration.Outcome) (orchestration.Verdict, error)
