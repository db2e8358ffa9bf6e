package otlpspan

import (
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// batch is what is sent at once.
type batch struct {
	scopes []scopeSpans
	spans  int
}

// scopeSpans are the spans of one scope, as bytes.
type scopeSpans struct {
	scope instrumentation.Scope
	spans []byte
}

func (b *batch) add(scope *instrumentation.Scope, r *record) {
	b.spans++
	for i := range b.scopes {
		if s := &b.scopes[i]; s.scope == *scope {
			s.spans = appendSpan(s.spans, r)
			return
		}
	}
	b.scopes = append(b.scopes, scopeSpans{*scope, appendSpan(nil, r)})
}

const (
	// maxScopes is how many scopes a batch keeps room for, maxRoom how many bytes for each of them.
	maxScopes = 16
	maxRoom   = 4 << 20
)

// reset makes a batch empty, and keeps its room for the next spans.
func (b *batch) reset() {
	b.spans = 0
	if len(b.scopes) > maxScopes {
		b.scopes = nil
	}
	for i := range b.scopes {
		if s := &b.scopes[i]; cap(s.spans) > maxRoom {
			s.spans = nil
		} else {
			s.spans = s.spans[:0]
		}
	}
}

// message is the batch as the client takes it. The spans are in it as fields that this program does not know: they are written
// out as they are.
func (b *batch) message(about *resource.Resource) *tracepb.ResourceSpans {
	of := &resourcepb.Resource{}
	of.ProtoReflect().SetUnknown(appendPairs(nil, resourceAttributes, about.Attributes()))
	m := &tracepb.ResourceSpans{Resource: of, SchemaUrl: about.SchemaURL()}
	for i := range b.scopes {
		s := &b.scopes[i]
		if len(s.spans) == 0 {
			continue
		}
		scope := &commonpb.InstrumentationScope{Name: s.scope.Name, Version: s.scope.Version}
		scope.ProtoReflect().SetUnknown(appendPairs(nil, scopeAttributes, s.scope.Attributes.ToSlice()))
		spans := &tracepb.ScopeSpans{Scope: scope, SchemaUrl: s.scope.SchemaURL}
		spans.ProtoReflect().SetUnknown(s.spans)
		m.ScopeSpans = append(m.ScopeSpans, spans)
	}
	return m
}
