package telemetry

import (
	"context"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// The ways a step comes to a worker.
const (
	// ClaimEvent: a notification brought it, or the step before it in the same worker.
	ClaimEvent = "event"
	// ClaimPoll: no notification came; polling found it.
	ClaimPoll = "poll"
)

// maxLinks bounds the links of a span.
const maxLinks = 32

// Execution is a step that a worker holds.
type Execution struct {
	telemetry *Telemetry
	task      *Task
	step      *Step
	span      trace.Span
	ctx       context.Context //nolint:containedctx // what is recorded later belongs to the step's span
	handler   trace.Span
	began     time.Time
	running   *int64Gauge
	succeeded bool
}

// Claim is how a worker came to a step.
type Claim struct {
	// Asked is when the worker began to claim, Held when it knew that the step is its own.
	Asked, Held time.Time
	Method      string
	// Parents are the dispatches whose results the step works with.
	Parents []Dispatch
}

// Dispatch names one dispatch of a step.
type Dispatch struct {
	StepID uuid.UUID
	Claim  int32
}

// StartExecution records a claim that was won and opens the span of the execution. The context is the handler's.
func (t *Telemetry) StartExecution(ctx context.Context, task *Task, step *Step, claim *Claim) (context.Context, *Execution) {
	t.adopt(task)
	e := &Execution{telemetry: t, task: task, step: step, running: t.Gauges.executions(task.Namespace, step.Handler)}
	e.attributes() // before other goroutines, of the handler, ask for them
	ctx = context.WithValue(ctx, subjectKey{}, subject{task, step})
	of := &spanOf{name: spanExecute, kind: trace.SpanKindConsumer, began: claim.Asked, id: executionSpanID(step.ID, step.Claim)}
	of.links = t.causes(task, step, claim.Parents)
	ctx, e.span = t.underRoot(ctx, task, of)
	if e.span.IsRecording() {
		e.span.SetAttributes(e.attributes()...)
	}
	e.ctx = ctx
	t.within(ctx, spanClaim, claim.Asked, claim.Held, func() []attribute.KeyValue {
		return append(task.stepIDs(step), attribute.String("claim_method", claim.Method))
	})
	e.running.add(1)
	t.claimed.add(ctx, 1, values{task.Namespace, claim.Method})
	t.claim.record(ctx, milliseconds(claim.Held.Sub(claim.Asked)), values{task.Namespace, claim.Method})
	t.executions.countFor(ctx, task, values{task.Namespace, step.Name, step.Handler})
	e.began, e.handler = time.Now(), noSpan
	if !e.span.IsRecording() {
		return ctx, e
	}
	ctx, e.handler = t.start(ctx, wanted{span: handlerSpanID(step.ID, step.Claim)},
		&spanOf{name: spanHandler, kind: trace.SpanKindInternal, began: e.began})
	if e.handler.IsRecording() {
		e.handler.SetAttributes(append(task.stepIDs(step), attribute.String("handler", step.Handler))...)
	}
	return ctx, e
}

// causes links an execution to what it follows: the attempt before it, or the several steps that it joins.
func (t *Telemetry) causes(task *Task, step *Step, parents []Dispatch) []trace.Link {
	var links []trace.Link
	if step.Claim > 1 {
		links = t.linkTo(task, executionSpanID(step.ID, step.Claim-1), "previous_dispatch")
	}
	if len(parents) < 2 {
		return links
	}
	for _, parent := range parents[:min(len(parents), maxLinks)] {
		links = append(links, t.linkTo(task, handlerSpanID(parent.StepID, parent.Claim), "dependency")...)
	}
	return links
}

func (e *Execution) attributes() []attribute.KeyValue {
	return append(e.task.ids(), e.step.attributes()...)
}

// Within is a context inside of the execution, but not of its handler.
func (e *Execution) Within(ctx context.Context) context.Context {
	return trace.ContextWithSpan(context.WithValue(ctx, subjectKey{}, subject{e.task, e.step}), e.span)
}

// Span is the context of the execution's span, for links.
func (e *Execution) Span() trace.SpanContext { return e.span.SpanContext() }

// Succeeded records that the handler returned a result.
func (e *Execution) Succeeded() {
	e.succeeded = true
	e.telemetry.successes.countFor(e.ctx, e.task, values{e.task.Namespace})
	e.returned("success")
}

// Failed records that the handler failed, or that there was none.
func (e *Execution) Failed(errorType, message string) {
	e.handler.SetAttributes(attribute.String("error.type", errorType))
	e.handler.SetStatus(codes.Error, message)
	e.span.SetStatus(codes.Error, errorType)
	e.telemetry.failures.countFor(e.ctx, e.task, values{e.task.Namespace, errorType})
	e.returned("error")
}

func (e *Execution) returned(result string) {
	now := time.Now()
	e.running.add(-1)
	e.telemetry.execution.recordFor(e.ctx, e.task, now.Sub(e.began), values{e.task.Namespace, result})
	if e.succeeded {
		succeed(e.handler, now)
	} else {
		e.handler.End(trace.WithTimestamp(now))
	}
}

// Taken records that the step was taken from its worker, for one of the reasons above, and ends the execution: it has neither
// succeeded nor failed.
func (e *Execution) Taken(reason string) {
	e.running.add(-1)
	e.telemetry.lost.add(e.ctx, 1, values{reason})
	for _, span := range []trace.Span{e.handler, e.span} {
		span.SetStatus(codes.Error, reason)
		span.End()
	}
}

// Submitted records that the result is stored, and ends the execution.
func (e *Execution) Submitted(took time.Duration) {
	v := values{e.task.Namespace, "completion"}
	e.telemetry.submitted.countFor(e.ctx, e.task, v)
	e.telemetry.submission.recordFor(e.ctx, e.task, took, v)
	if e.succeeded {
		e.span.SetStatus(codes.Ok, "")
	}
	e.span.End()
}

// Stale records a result that came too late, and ends the execution.
func (e *Execution) Stale() {
	e.telemetry.stale.add(e.ctx, 1, values{e.task.Namespace})
	e.span.SetAttributes(attribute.Bool("stale", true))
	e.span.End()
}

// NotSubmitted records that the result could not be stored, and ends the execution.
func (e *Execution) NotSubmitted(err error) {
	e.telemetry.failures.countFor(e.ctx, e.task, values{e.task.Namespace, "database_error"})
	e.span.SetStatus(codes.Error, err.Error())
	e.span.End()
}

// Handed counts the result job that takes a result to an orchestrator, and the step's own job where it is settled with it.
func (e *Execution) Handed(queue, kind string, took time.Duration, settled bool) {
	t := e.telemetry
	t.sent.countFor(e.ctx, e.task, values{queue, kind})
	t.sendTime.record(e.ctx, milliseconds(took), values{queue})
	if !settled {
		return
	}
	t.archived.add(e.ctx, 1, values{e.task.Namespace})
	t.archiveTime.record(e.ctx, milliseconds(took), values{e.task.Namespace})
}

// Received counts a job that was fetched, and how long it waited.
func (t *Telemetry) Received(ctx context.Context, task *Task, queue, kind string, waited time.Duration) {
	v := values{queue, kind}
	if task == nil {
		t.received.add(ctx, 1, v)
		t.latency.record(ctx, milliseconds(waited), v)
		return
	}
	t.adopt(task)
	t.received.countFor(ctx, task, v)
	t.latency.recordFor(ctx, task, waited, v)
}

// FetchFailed counts a fetch of jobs that failed.
func (t *Telemetry) FetchFailed(ctx context.Context, queue, errorType string) {
	t.receiveFailures.add(ctx, 1, values{queue, errorType})
}

// Fetched records a fetch of jobs.
func (t *Telemetry) Fetched(ctx context.Context, queue string, took time.Duration) {
	t.receiveTime.record(ctx, milliseconds(took), values{queue})
}

// ClaimFailed counts a claim that could not be made.
func (t *Telemetry) ClaimFailed(ctx context.Context, namespace string) {
	t.failures.add(ctx, 1, values{namespace, "claim_failed"})
}
