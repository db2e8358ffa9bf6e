package telemetry

import (
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/embedded"
)

// handlerSpan is the span that a handler runs in, and finds in its context. Few handlers say anything of it. For one that does
// it becomes a span of the provider, with all that such a span can do; else it costs no more than the others.
type handlerSpan struct {
	embedded.Span

	mu   sync.Mutex
	span opened
	over bool
}

// api is the span as one of the API; one that does nothing where it is over, or not recorded.
//
//nolint:contextcheck,nolintlint // no cancellation: the context only names the parent
func (h *handlerSpan) api() trace.Span {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || !h.span.context.IsSampled() {
		return trace.SpanFromContext(nowhere)
	}
	if h.span.live == nil {
		h.span.start(nowhere)
	}
	return h.span.live
}

// end ends the span for Tasker, which says what came of it.
func (h *handlerSpan) end(at time.Time, code codes.Code, message string, more ...attribute.KeyValue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.span.Code, h.span.Message, h.span.Attributes = code, message, append(h.span.Attributes, more...)
	h.span.end(at)
}

// SpanContext is the span's identity.
func (h *handlerSpan) SpanContext() trace.SpanContext { return h.span.context }

// IsRecording tells whether the handler runs, and the span is sampled.
func (h *handlerSpan) IsRecording() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.over && h.span.context.IsSampled() && (h.span.live == nil || h.span.live.IsRecording())
}

// TracerProvider is what spans below this one are made with.
func (h *handlerSpan) TracerProvider() trace.TracerProvider { return h.span.telemetry.tracers }

// What is said of the span is said of the one that it becomes.

func (h *handlerSpan) AddEvent(name string, options ...trace.EventOption) {
	h.api().AddEvent(name, options...)
}
func (h *handlerSpan) AddLink(link trace.Link)            { h.api().AddLink(link) }
func (h *handlerSpan) End(options ...trace.SpanEndOption) { h.api().End(options...) }
func (h *handlerSpan) RecordError(err error, options ...trace.EventOption) {
	h.api().RecordError(err, options...)
}

func (h *handlerSpan) SetAttributes(attributes ...attribute.KeyValue) {
	h.api().SetAttributes(attributes...)
}
func (h *handlerSpan) SetName(name string) { h.api().SetName(name) }
func (h *handlerSpan) SetStatus(code codes.Code, description string) {
	h.api().SetStatus(code, description)
}
