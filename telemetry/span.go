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

// Span describes a span.
type Span struct {
	Name string
	Kind trace.SpanKind
	// Parent is the span that it stands under; an invalid one where it begins a trace.
	Parent trace.SpanContext
	// TraceID is that of a trace that begins with the span; a zero one is random.
	TraceID trace.TraceID
	// ID is the span's; a zero one is random.
	ID trace.SpanID
	// Sampled is true where the span is to be recorded whatever a sampler says: its trace goes on from one that is.
	Sampled      bool
	Began, Ended time.Time
	Attributes   []attribute.KeyValue
	Links        []trace.Link
	// Code is the status, Message what failed.
	Code    codes.Code
	Message string
}

// SpanRecorder is a tracer provider that takes spans as they are described here, with the ids that are wanted: all but those
// that handlers run in, which are of the API. With other providers each span is one of the API, which costs more.
type SpanRecorder interface {
	// SpanContext makes the context of a span: its ids, and whether it is recorded.
	SpanContext(ctx context.Context, span *Span) trace.SpanContext
	// RecordSpan records a span that is over. It keeps nothing of what it is given.
	RecordSpan(sc trace.SpanContext, span *Span)
}

// opened is a span that is not over. Its description is filled in until it is.
type opened struct {
	Span

	telemetry *Telemetry
	// context is that of the span; an invalid one where nothing is traced.
	context trace.SpanContext
	// live is the span where it is one of the API: with a provider that is no recorder.
	live trace.Span
	// told and linked are how many attributes and links live has got.
	told, linked int
}

// recording tells whether what is said of the span goes anywhere.
func (o *opened) recording() bool {
	if o.live != nil {
		return o.live.IsRecording()
	}
	return o.context.IsSampled()
}

// in is a context in which the span is the current one.
func (o *opened) in(ctx context.Context) context.Context {
	if o.live != nil {
		return trace.ContextWithSpan(ctx, o.live)
	}
	return trace.ContextWithSpanContext(ctx, o.context)
}

// open begins a span that is described.
func (t *Telemetry) open(ctx context.Context, o *opened) {
	o.telemetry = t
	if t.recorder != nil {
		o.context = t.recorder.SpanContext(ctx, &o.Span)
		return
	}
	o.start(ctx)
	o.context = o.live.SpanContext()
}

// fail gives the span the status of something that failed.
func (o *opened) fail(message string) { o.Code, o.Message = codes.Error, message }

// end ends the span.
func (o *opened) end(at time.Time) {
	if o.live == nil {
		if o.context.IsSampled() {
			o.Ended = at
			o.telemetry.recorder.RecordSpan(o.context, &o.Span)
		}
		return
	}
	o.live.SetAttributes(o.Attributes[o.told:]...)
	for _, link := range o.Links[o.linked:] {
		o.live.AddLink(link)
	}
	o.live.SetStatus(o.Code, o.Message)
	o.live.End(trace.WithTimestamp(at))
}

// record records a span that is over. It returns its context, and whether anything is recorded.
func (t *Telemetry) record(ctx context.Context, span *Span) (_ trace.SpanContext, recorded bool) {
	if t.recorder == nil {
		o := &opened{Span: *span}
		t.open(ctx, o)
		recorded = o.recording()
		o.end(span.Ended)
		return o.context, recorded
	}
	sc := t.recorder.SpanContext(ctx, span)
	if sc.IsSampled() {
		t.recorder.RecordSpan(sc, span)
	}
	return sc, sc.IsSampled()
}

// start makes the span one of the API.
func (o *opened) start(ctx context.Context) {
	options := []trace.SpanStartOption{
		trace.WithTimestamp(o.Began), trace.WithSpanKind(o.Kind), trace.WithAttributes(o.Attributes...),
		trace.WithLinks(o.Links...),
	}
	o.told, o.linked = len(o.Attributes), len(o.Links)
	if o.Parent.IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, o.Parent)
	} else {
		options = append(options, trace.WithNewRoot())
	}
	ctx = want(ctx, wanted{trace: o.TraceID, span: o.ID, sampled: o.Sampled})
	_, o.live = o.telemetry.tracer.Start(ctx, o.Name, options...) //nolint:spancheck // end ends it
	if o.ID.IsValid() {
		o.telemetry.derived.Store(o.live.SpanContext().SpanID() == o.ID)
	}
}

// underRoot makes a span stand right under the root of its task, whichever process that ran in: the root was exported when the
// task was stored, so no crash leaves its children without it. A task that is too old has a new trace. False means that the
// task has no trace: that is decided for all of it.
func (t *Telemetry) underRoot(task *Task, span *Span) bool {
	root := task.root
	switch n := period(task.Age, t.maxAge); {
	case !t.tracing:
		return false
	case !root.IsValid(): // the task was taken up by a process without telemetry
		span.TraceID = TraceID(task.ID)
	case !root.IsSampled():
		return false
	case n > 0:
		span.TraceID, span.Sampled = laterTraceID(task.ID, n), true
		span.Links = append(span.Links, trace.Link{SpanContext: root})
	default:
		span.Parent = root
	}
	return true
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
