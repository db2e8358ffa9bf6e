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
	span      opened
	handler   handlerSpan
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
	e := &Execution{
		telemetry: t, task: task, step: step, running: t.Gauges.executions(task.Namespace, step.Handler),
	}
	task.spell() // before other goroutines, of the handler, ask for the ids
	step.spell()
	ctx = context.WithValue(ctx, subjectKey{}, subject{task, step})
	ctx = e.trace(ctx, claim)
	e.running.add(1)
	t.claimed.add(ctx, 1, values{task.Namespace, claim.Method})
	t.claim.record(ctx, milliseconds(claim.Held.Sub(claim.Asked)), values{task.Namespace, claim.Method})
	t.executions.countFor(ctx, task, e.Span(), values{task.Namespace, step.Name, step.Handler})
	return ctx, e
}

// trace opens the spans of the execution and of its handler, whose context it returns, and records that of the claim.
func (e *Execution) trace(ctx context.Context, claim *Claim) context.Context {
	t, task, step := e.telemetry, e.task, e.step
	e.began = time.Now()
	e.span.Span = Span{Name: spanExecute, Kind: trace.SpanKindConsumer, Began: claim.Asked, Links: t.causes(task, step, claim.Parents)}
	if !t.underRoot(task, &e.span.Span) {
		if task.root.IsValid() { // log lines name the trace all the same
			ctx = trace.ContextWithRemoteSpanContext(ctx, task.root)
		}
		return ctx
	}
	execution, handler := executionSpanIDs(step.ID, step.Claim)
	e.span.ID, e.span.Attributes = execution, step.attributes(task.ids(make([]attribute.KeyValue, 0, maxAttributes)))
	t.open(ctx, &e.span)
	of := e.Span()
	ctx = e.span.in(ctx)
	if !e.span.recording() {
		return ctx
	}
	ids := append(task.ids(make([]attribute.KeyValue, 0, maxAttributes)), step.id())
	t.record(ctx, &Span{
		Name: spanClaim, Parent: of, Began: claim.Asked, Ended: claim.Held, Code: codes.Ok,
		Attributes: append(ids, attribute.String("claim_method", claim.Method)),
	})
	e.handler.span.Span = Span{
		Name: spanHandler, Parent: of, ID: handler, Began: e.began, Attributes: append(ids, attribute.String("handler", step.Handler)),
	}
	t.open(ctx, &e.handler.span)
	if e.handler.span.live != nil { // a provider's own span is what its other parts look for
		return e.handler.span.in(ctx)
	}
	return trace.ContextWithSpan(ctx, &e.handler)
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

// Within is a context inside of the execution, but not of its handler.
func (e *Execution) Within(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, subjectKey{}, subject{e.task, e.step})
	switch {
	case e.Span().IsValid():
		ctx = e.span.in(ctx)
	case e.task.root.IsValid(): // log lines name the trace all the same
		ctx = trace.ContextWithRemoteSpanContext(ctx, e.task.root)
	}
	return ctx
}

// Span is the context of the execution's span, for links.
func (e *Execution) Span() trace.SpanContext { return e.span.context }

// Succeeded records that the handler returned a result.
func (e *Execution) Succeeded(ctx context.Context) {
	e.succeeded = true
	e.telemetry.successes.countFor(ctx, e.task, e.Span(), values{e.task.Namespace})
	e.returned(ctx, "success", codes.Ok, "")
}

// Failed records that the handler failed, or that there was none.
func (e *Execution) Failed(ctx context.Context, errorType, message string) {
	e.span.fail(errorType)
	e.telemetry.failures.countFor(ctx, e.task, e.Span(), values{e.task.Namespace, errorType})
	e.returned(ctx, "error", codes.Error, message, attribute.String("error.type", errorType))
}

func (e *Execution) returned(ctx context.Context, result string, code codes.Code, message string, more ...attribute.KeyValue) {
	now := time.Now()
	e.running.add(-1)
	e.telemetry.execution.recordFor(ctx, e.task, e.Span(), now.Sub(e.began), values{e.task.Namespace, result})
	e.handler.end(now, code, message, more...)
}

// Taken records that the step was taken from its worker, for one of the reasons above, and ends the execution: it has neither
// succeeded nor failed.
func (e *Execution) Taken(ctx context.Context, reason string) {
	e.running.add(-1)
	e.telemetry.lost.add(ctx, 1, values{reason})
	now := time.Now()
	e.handler.end(now, codes.Error, reason)
	e.span.fail(reason)
	e.span.end(now)
}

// Submitted records that the result is stored, and ends the execution.
func (e *Execution) Submitted(ctx context.Context, took time.Duration) {
	v := values{e.task.Namespace, "completion"}
	e.telemetry.submitted.countFor(ctx, e.task, e.Span(), v)
	e.telemetry.submission.recordFor(ctx, e.task, e.Span(), took, v)
	if e.succeeded {
		e.span.Code = codes.Ok
	}
	e.span.end(time.Now())
}

// Stale records a result that came too late, and ends the execution.
func (e *Execution) Stale(ctx context.Context) {
	e.telemetry.stale.add(ctx, 1, values{e.task.Namespace})
	e.span.Attributes = append(e.span.Attributes, attribute.Bool("stale", true))
	e.span.end(time.Now())
}

// NotSubmitted records that the result could not be stored, and ends the execution.
func (e *Execution) NotSubmitted(ctx context.Context, err error) {
	e.telemetry.failures.countFor(ctx, e.task, e.Span(), values{e.task.Namespace, "database_error"})
	e.span.fail(err.Error())
	e.span.end(time.Now())
}

// Handed counts the result job that takes a result to an orchestrator, and the step's own job where it is settled with it.
func (e *Execution) Handed(ctx context.Context, queue, kind string, took time.Duration, settled bool) {
	t := e.telemetry
	t.sent.countFor(ctx, e.task, e.Span(), values{queue, kind})
	t.sendTime.record(ctx, milliseconds(took), values{queue})
	if !settled {
		return
	}
	t.archived.add(ctx, 1, values{e.task.Namespace})
	t.archiveTime.record(ctx, milliseconds(took), values{e.task.Namespace})
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
	t.received.countFor(ctx, task, task.root, v)
	t.latency.recordFor(ctx, task, task.root, waited, v)
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
