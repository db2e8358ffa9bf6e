package otlpspan

import (
	"context"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// Recorder records the spans of one scope as [telemetry.SpanRecorder] has it, and a [Sender] sends them. They have the SDK's
// limits of attributes and links, but no other processors than the sender.
type Recorder struct {
	// Sender gets the spans that are over.
	Sender *Sender
	// Scope is that of the spans.
	Scope instrumentation.Scope
	// Sampler decides which are recorded.
	Sampler sdktrace.Sampler
	// Follows is true where the sampler decides about spans under a sampled one of another process as was decided there.
	Follows bool
	// Limits bound what a span holds.
	Limits sdktrace.SpanLimits
}

// SpanContext makes the context of a span: its ids, and whether it is recorded.
func (r *Recorder) SpanContext(ctx context.Context, s *telemetry.Span) trace.SpanContext {
	sc := trace.SpanContextConfig{TraceID: s.TraceID, SpanID: s.ID, TraceFlags: s.Parent.TraceFlags(), TraceState: s.Parent.TraceState()}
	switch {
	case s.Parent.IsValid():
		sc.TraceID = s.Parent.TraceID()
	case !sc.TraceID.IsValid():
		sc.TraceID, _ = telemetry.IDs{}.NewIDs(ctx)
	}
	if !sc.SpanID.IsValid() {
		sc.SpanID = telemetry.IDs{}.NewSpanID(ctx, sc.TraceID)
	}
	sampled := s.Sampled || s.Parent.IsSampled() && (r.Follows || !s.Parent.IsRemote())
	if !sampled {
		result := r.Sampler.ShouldSample(sdktrace.SamplingParameters{
			ParentContext: trace.ContextWithSpanContext(ctx, s.Parent), TraceID: sc.TraceID, Name: s.Name, Kind: s.Kind,
			Attributes: s.Attributes, Links: s.Links,
		})
		sc.TraceState, sampled = result.Tracestate, result.Decision == sdktrace.RecordAndSample
	}
	sc.TraceFlags = sc.TraceFlags.WithSampled(sampled)
	return trace.NewSpanContext(sc)
}

// RecordSpan records a span that is over.
func (r *Recorder) RecordSpan(sc trace.SpanContext, s *telemetry.Span) {
	var room [4]sdktrace.Link
	over := record{
		name: s.Name, kind: trace.ValidateSpanKind(s.Kind), context: sc, parent: s.Parent, began: s.Began, ended: s.Ended,
		attributes: s.Attributes, links: room[:0], status: sdktrace.Status{Code: s.Code, Description: s.Message},
	}
	over.attributes, over.droppedAttributes = first(s.Attributes, r.Limits.AttributeCountLimit)
	over.attributes = shorten(over.attributes, r.Limits.AttributeValueLengthLimit)
	links := s.Links
	if limit := r.Limits.LinkCountLimit; limit >= 0 && len(links) > limit {
		over.droppedLinks = len(links) - limit
		links = links[over.droppedLinks:] // the oldest go
	}
	for i := range links {
		l := sdktrace.Link{SpanContext: links[i].SpanContext}
		l.Attributes, l.DroppedAttributeCount = first(links[i].Attributes, r.Limits.AttributePerLinkCountLimit)
		over.links = append(over.links, l)
	}
	r.Sender.add(&r.Scope, &over)
}

// first returns the first attributes up to a limit, and how many are left out; a negative limit is none.
func first(attributes []attribute.KeyValue, limit int) (kept []attribute.KeyValue, dropped int) {
	if limit < 0 || len(attributes) <= limit {
		return attributes, 0
	}
	return attributes[:limit], len(attributes) - limit
}

// shorten cuts texts to a number of characters; a negative one cuts nothing.
func shorten(attributes []attribute.KeyValue, length int) []attribute.KeyValue {
	if length < 0 {
		return attributes
	}
	short := slices.Clone(attributes)
	for i := range short {
		switch v := short[i].Value; v.Type() { //nolint:exhaustive // Tasker's spans have no other texts
		case attribute.STRING:
			short[i].Value = attribute.StringValue(cut(v.AsString(), length))
		case attribute.STRINGSLICE:
			texts := v.AsStringSlice()
			for j := range texts {
				texts[j] = cut(texts[j], length)
			}
			short[i].Value = attribute.StringSliceValue(texts)
		}
	}
	return short
}

func cut(text string, length int) string {
	if runes := []rune(text); len(runes) > length {
		return string(runes[:length])
	}
	return text
}
