package otlpreceiver

import (
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Span is a span as it arrived.
type Span struct {
	Name    string
	TraceID trace.TraceID
	SpanID  trace.SpanID
	// ParentID is zero where the span begins its trace.
	ParentID   trace.SpanID
	Kind       trace.SpanKind
	Start, End time.Time
	Attributes map[string]any
	Links      []Link
	// Events are the names of what happened meanwhile.
	Events []string
	Status codes.Code
	// StatusMessage says more about an error.
	StatusMessage string
	// Scope is the name of the tracer, Resource what is known of the process.
	Scope    string
	Resource map[string]any
}

// Link is a span's link to another one.
type Link struct {
	TraceID    trace.TraceID
	SpanID     trace.SpanID
	Attributes map[string]any
}

func (r *Receiver) keepSpans(batch []*tracepb.ResourceSpans) {
	var spans []Span
	for _, process := range batch {
		resource := attributes(process.GetResource().GetAttributes())
		for _, scope := range process.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				spans = append(spans, newSpan(span, scope.GetScope().GetName(), resource))
			}
		}
	}
	r.keep(func() { r.spans = append(r.spans, spans...) })
}

func newSpan(from *tracepb.Span, scope string, resource map[string]any) Span {
	span := Span{
		Name: from.GetName(), TraceID: traceID(from.GetTraceId()), SpanID: spanID(from.GetSpanId()),
		ParentID: spanID(from.GetParentSpanId()), Kind: trace.SpanKind(from.GetKind()),
		Start: instant(from.GetStartTimeUnixNano()), End: instant(from.GetEndTimeUnixNano()),
		Attributes: attributes(from.GetAttributes()), StatusMessage: from.GetStatus().GetMessage(), Scope: scope, Resource: resource,
	}
	switch from.GetStatus().GetCode() {
	case tracepb.Status_STATUS_CODE_UNSET:
		span.Status = codes.Unset
	case tracepb.Status_STATUS_CODE_OK:
		span.Status = codes.Ok
	case tracepb.Status_STATUS_CODE_ERROR:
		span.Status = codes.Error
	}
	for _, event := range from.GetEvents() {
		span.Events = append(span.Events, event.GetName())
	}
	for _, link := range from.GetLinks() {
		span.Links = append(span.Links, Link{
			TraceID: traceID(link.GetTraceId()), SpanID: spanID(link.GetSpanId()), Attributes: attributes(link.GetAttributes()),
		})
	}
	return span
}

// traceID and spanID copy what they get of an id: one of a wrong length comes out wrong, not as a panic.
func traceID(b []byte) (id trace.TraceID) {
	copy(id[:], b)
	return id
}

func spanID(b []byte) (id trace.SpanID) {
	copy(id[:], b)
	return id
}
