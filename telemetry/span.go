package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// The spans of a task, and how they stand to each other. Which of them repeat: 5 to 7 with each execution, 8 and 9 with each
// result, 2 to 4 with each round of dispatches, 10 and 11 with each end of the task.
const (
	spanCreate   = "create_and_enqueue_task_from_request" // 1, the root; ends when the task is stored
	spanEnqueue  = "enqueue_ready_steps"                  // 2, under 1
	spanFilter   = "filter_and_prepare_enqueuable_steps"  // 3, under 2
	spanDispatch = "enqueue_steps_to_worker_queue"        // 4, under 2
	spanExecute  = "execute_step"                         // 5, under 1
	spanClaim    = "try_claim_step"                       // 6, under 5
	spanHandler  = "handler_execution"                    // 7, under 5
	spanResult   = "handle_step_execution_result"         // 8, under 1
	spanMetadata = "process_orchestration_metadata"       // 9, under 8
	spanFinalize = "finalize_task"                        // 10, under 1
	spanDecision = "make_finalization_decision"           // 11, under 10
	spanCommit   = "commit_batch"                         // the group commit of 2, 8 and 10, in a trace of its own
)

// SpanNames are the eleven spans of a task, by the name of the span each stands under; the root stands under none.
func SpanNames() map[string]string {
	return map[string]string{
		spanCreate: "", spanEnqueue: spanCreate, spanFilter: spanEnqueue, spanDispatch: spanEnqueue, spanExecute: spanCreate,
		spanClaim: spanExecute, spanHandler: spanExecute, spanResult: spanCreate, spanMetadata: spanResult,
		spanFinalize: spanCreate, spanDecision: spanFinalize,
	}
}

// spanOf says what a span is.
type spanOf struct {
	name  string
	kind  trace.SpanKind
	began time.Time
	// id is wanted; zero is random.
	id    trace.SpanID
	links []trace.Link
}

// underRoot starts a span that stands right under the root of its task, whichever process that ran in: the root was exported
// when the task was stored, so no crash leaves its children without it. A task that is too old has a new trace.
func (t *Telemetry) underRoot(ctx context.Context, task *Task, of *spanOf) (context.Context, trace.Span) {
	root := task.root
	if !root.IsValid() { // the task was taken up by a process without telemetry
		return t.start(ctx, wanted{trace: TraceID(task.ID), span: of.id}, of, trace.WithNewRoot())
	}
	if !root.IsSampled() { // decided for the whole task: what is said inside still names its trace
		ctx = trace.ContextWithRemoteSpanContext(ctx, root)
		return ctx, trace.SpanFromContext(ctx)
	}
	if n := period(task.Age, t.maxAge); n > 0 {
		sampled := root.IsSampled()
		w := wanted{trace: laterTraceID(task.ID, n), span: of.id, sampled: &sampled}
		of.links = append(of.links, trace.Link{SpanContext: root})
		return t.start(ctx, w, of, trace.WithNewRoot())
	}
	return t.start(trace.ContextWithRemoteSpanContext(ctx, root), wanted{span: of.id}, of)
}

// noSpan is that of a process that does not trace.
var noSpan = trace.SpanFromContext(context.Background())

// start starts a span, and leaves none of what was wanted of it in the context.
func (t *Telemetry) start(ctx context.Context, w wanted, of *spanOf, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !t.tracing {
		return ctx, noSpan
	}
	options = append(options, trace.WithTimestamp(of.began), trace.WithSpanKind(of.kind))
	if len(of.links) > 0 {
		options = append(options, trace.WithLinks(of.links...))
	}
	in := ctx
	if w != (wanted{}) {
		in = want(ctx, w)
	}
	_, span := t.tracer.Start(in, of.name, options...)
	if w.span.IsValid() {
		t.derived.Store(span.SpanContext().SpanID() == w.span)
	}
	return trace.ContextWithSpan(ctx, span), span
}

// within adds a span of the same goroutine that is over already.
func (t *Telemetry) within(ctx context.Context, name string, began, ended time.Time, attributes func() []attribute.KeyValue) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(began))
	if span.IsRecording() {
		span.SetAttributes(attributes()...)
	}
	succeed(span, ended)
}

// succeed ends a span in which nothing failed.
func succeed(span trace.Span, at time.Time) {
	span.SetStatus(codes.Ok, "")
	span.End(trace.WithTimestamp(at))
}

// linkTo is a link to a span whose id is derived. It is none where the provider does not derive.
func (t *Telemetry) linkTo(task *Task, id trace.SpanID, relation string) []trace.Link {
	root := task.root
	if !t.derived.Load() || !root.IsSampled() {
		return nil
	}
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: root.TraceID(), SpanID: id, TraceFlags: trace.FlagsSampled, Remote: true})
	return []trace.Link{{SpanContext: sc, Attributes: []attribute.KeyValue{attribute.String("tasker.link", relation)}}}
}
