package otlpspan

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// record is a span that is over.
type record struct {
	name              string
	kind              trace.SpanKind
	context, parent   trace.SpanContext
	began, ended      time.Time
	attributes        []attribute.KeyValue
	droppedAttributes int
	events            []sdktrace.Event
	droppedEvents     int
	links             []sdktrace.Link
	droppedLinks      int
	status            sdktrace.Status
}

// The numbers of the fields, as opentelemetry/proto/trace/v1/trace.proto and common/v1/common.proto give them.
const (
	resourceAttributes protowire.Number = 1
	scopeAttributes    protowire.Number = 3
	scopeSpansSpans    protowire.Number = 2

	spanTraceID           protowire.Number = 1
	spanSpanID            protowire.Number = 2
	spanTraceState        protowire.Number = 3
	spanParentID          protowire.Number = 4
	spanName              protowire.Number = 5
	spanKind              protowire.Number = 6
	spanBegan             protowire.Number = 7
	spanEnded             protowire.Number = 8
	spanAttributes        protowire.Number = 9
	spanDroppedAttributes protowire.Number = 10
	spanEvents            protowire.Number = 11
	spanDroppedEvents     protowire.Number = 12
	spanLinks             protowire.Number = 13
	spanDroppedLinks      protowire.Number = 14
	spanStatus            protowire.Number = 15
	spanFlags             protowire.Number = 16

	statusMessage protowire.Number = 2
	statusCode    protowire.Number = 3

	eventTime              protowire.Number = 1
	eventName              protowire.Number = 2
	eventAttributes        protowire.Number = 3
	eventDroppedAttributes protowire.Number = 4

	linkTraceID           protowire.Number = 1
	linkSpanID            protowire.Number = 2
	linkTraceState        protowire.Number = 3
	linkAttributes        protowire.Number = 4
	linkDroppedAttributes protowire.Number = 5
	linkFlags             protowire.Number = 6

	pairKey   protowire.Number = 1
	pairValue protowire.Number = 2

	valueString protowire.Number = 1
	valueBool   protowire.Number = 2
	valueInt    protowire.Number = 3
	valueDouble protowire.Number = 4
	valueArray  protowire.Number = 5
	valuePairs  protowire.Number = 6
	valueBytes  protowire.Number = 7

	// listValues is the one field of lists of values, and of pairs.
	listValues protowire.Number = 1
)

// appendSpan appends a span as a field of a ScopeSpans message.
func appendSpan(b []byte, r *record) []byte {
	b, at := open(b, scopeSpansSpans)
	b = appendIDs(b, spanTraceID, spanSpanID, r.context)
	b = appendState(b, spanTraceState, r.context)
	if parent := r.parent.SpanID(); parent.IsValid() {
		b = appendBytes(b, spanParentID, parent[:])
	}
	b = appendString(b, spanName, r.name)
	b = appendNumber(b, spanKind, uint64(kindOf(r.kind))) //nolint:gosec // one of six
	b = appendTime(b, spanBegan, r.began)
	b = appendTime(b, spanEnded, r.ended)
	b = appendPairs(b, spanAttributes, r.attributes)
	b = appendCount(b, spanDroppedAttributes, r.droppedAttributes)
	for i := range r.events {
		b = appendEvent(b, &r.events[i])
	}
	b = appendCount(b, spanDroppedEvents, r.droppedEvents)
	for i := range r.links {
		b = appendLink(b, &r.links[i])
	}
	b = appendCount(b, spanDroppedLinks, r.droppedLinks)
	b = appendStatus(b, &r.status)
	b = appendFlags(b, spanFlags, r.context.TraceFlags(), r.parent)
	return seal(b, at)
}

// kindOf is a kind's number in the protocol.
func kindOf(kind trace.SpanKind) tracepb.Span_SpanKind {
	switch kind {
	case trace.SpanKindInternal:
		return tracepb.Span_SPAN_KIND_INTERNAL
	case trace.SpanKindServer:
		return tracepb.Span_SPAN_KIND_SERVER
	case trace.SpanKindClient:
		return tracepb.Span_SPAN_KIND_CLIENT
	case trace.SpanKindProducer:
		return tracepb.Span_SPAN_KIND_PRODUCER
	case trace.SpanKindConsumer:
		return tracepb.Span_SPAN_KIND_CONSUMER
	case trace.SpanKindUnspecified:
	}
	return tracepb.Span_SPAN_KIND_UNSPECIFIED
}

func appendEvent(b []byte, e *sdktrace.Event) []byte {
	b, at := open(b, spanEvents)
	b = appendTime(b, eventTime, e.Time)
	b = appendString(b, eventName, e.Name)
	b = appendPairs(b, eventAttributes, e.Attributes)
	b = appendCount(b, eventDroppedAttributes, e.DroppedAttributeCount)
	return seal(b, at)
}

func appendLink(b []byte, l *sdktrace.Link) []byte {
	b, at := open(b, spanLinks)
	b = appendIDs(b, linkTraceID, linkSpanID, l.SpanContext)
	b = appendState(b, linkTraceState, l.SpanContext)
	b = appendPairs(b, linkAttributes, l.Attributes)
	b = appendCount(b, linkDroppedAttributes, l.DroppedAttributeCount)
	b = appendFlags(b, linkFlags, l.SpanContext.TraceFlags(), l.SpanContext)
	return seal(b, at)
}

func appendStatus(b []byte, s *sdktrace.Status) []byte {
	var code tracepb.Status_StatusCode
	switch s.Code {
	case codes.Unset:
		return b
	case codes.Ok:
		code = tracepb.Status_STATUS_CODE_OK
	case codes.Error:
		code = tracepb.Status_STATUS_CODE_ERROR
	}
	b, at := open(b, spanStatus)
	if s.Description != "" {
		b = appendString(b, statusMessage, s.Description)
	}
	b = appendNumber(b, statusCode, uint64(code))
	return seal(b, at)
}

func appendIDs(b []byte, traceField, spanField protowire.Number, sc trace.SpanContext) []byte {
	traceID, spanID := sc.TraceID(), sc.SpanID()
	return appendBytes(appendBytes(b, traceField, traceID[:]), spanField, spanID[:])
}

func appendState(b []byte, field protowire.Number, sc trace.SpanContext) []byte {
	if state := sc.TraceState(); state.Len() > 0 {
		return appendString(b, field, state.String())
	}
	return b
}

// appendFlags appends W3C's flags, and whether what they came with is of another process.
func appendFlags(b []byte, field protowire.Number, flags trace.TraceFlags, of trace.SpanContext) []byte {
	all := uint32(flags) | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)
	if of.IsRemote() {
		all |= uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
	}
	return protowire.AppendFixed32(protowire.AppendTag(b, field, protowire.Fixed32Type), all)
}

func appendPairs(b []byte, field protowire.Number, pairs []attribute.KeyValue) []byte {
	for i := range pairs {
		key, value := valid(string(pairs[i].Key)), pairs[i].Value
		if value.Type() == attribute.STRING {
			b = appendText(b, field, key, valid(value.AsString()))
			continue
		}
		var at int
		b, at = open(b, field)
		b = appendString(b, pairKey, key)
		b = appendValue(b, pairValue, value)
		b = seal(b, at)
	}
	return b
}

// appendText appends a pair with a text, which nearly all are. The lengths are known, so that nothing has to be moved.
func appendText(b []byte, field protowire.Number, key, text string) []byte {
	const tag = 1 // the size of the tags below
	inner := tag + protowire.SizeBytes(len(text))
	b = protowire.AppendTag(b, field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(tag+protowire.SizeBytes(len(key))+tag+protowire.SizeBytes(inner))) //nolint:gosec // a length
	b = protowire.AppendString(protowire.AppendTag(b, pairKey, protowire.BytesType), key)
	b = protowire.AppendVarint(protowire.AppendTag(b, pairValue, protowire.BytesType), uint64(inner)) //nolint:gosec // a length
	return protowire.AppendString(protowire.AppendTag(b, valueString, protowire.BytesType), text)
}

func appendValue(b []byte, field protowire.Number, v attribute.Value) []byte {
	b, at := open(b, field)
	switch v.Type() {
	case attribute.STRING:
		b = appendString(b, valueString, v.AsString())
	case attribute.BOOL:
		b = appendNumber(b, valueBool, protowire.EncodeBool(v.AsBool()))
	case attribute.INT64:
		b = appendNumber(b, valueInt, uint64(v.AsInt64())) //nolint:gosec // the protocol's numbers are two's complement
	case attribute.FLOAT64:
		b = protowire.AppendFixed64(protowire.AppendTag(b, valueDouble, protowire.Fixed64Type), math.Float64bits(v.AsFloat64()))
	case attribute.BYTESLICE:
		b = appendBytes(b, valueBytes, v.AsByteSlice())
	case attribute.STRINGSLICE:
		b = appendList(b, v.AsStringSlice(), attribute.StringValue)
	case attribute.BOOLSLICE:
		b = appendList(b, v.AsBoolSlice(), attribute.BoolValue)
	case attribute.INT64SLICE:
		b = appendList(b, v.AsInt64Slice(), attribute.Int64Value)
	case attribute.FLOAT64SLICE:
		b = appendList(b, v.AsFloat64Slice(), attribute.Float64Value)
	case attribute.SLICE:
		b = appendList(b, v.AsSlice(), func(v attribute.Value) attribute.Value { return v })
	case attribute.MAP:
		var pairs int
		b, pairs = open(b, valuePairs)
		b = seal(appendPairs(b, listValues, v.AsMap()), pairs)
	case attribute.EMPTY:
	}
	return seal(b, at)
}

func appendList[T any](b []byte, list []T, value func(T) attribute.Value) []byte {
	b, at := open(b, valueArray)
	for _, v := range list {
		b = appendValue(b, listValues, value(v))
	}
	return seal(b, at)
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), valid(s))
}

// valid mends what is not UTF-8: for one such text a collector refuses all that came with it.
func valid(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, string(utf8.RuneError))
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendNumber(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

// appendCount appends how many things were dropped, if any were.
func appendCount(b []byte, field protowire.Number, n int) []byte {
	if n <= 0 {
		return b
	}
	return appendNumber(b, field, min(uint64(n), math.MaxUint32))
}

func appendTime(b []byte, field protowire.Number, t time.Time) []byte {
	nanos := uint64(max(0, t.UnixNano()))
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), nanos)
}

// open begins a message inside of another, with room for a length of one byte.
func open(b []byte, field protowire.Number) (_ []byte, at int) {
	b = append(protowire.AppendTag(b, field, protowire.BytesType), 0)
	return b, len(b)
}

// seal ends a message that began at a position: it writes the length, and moves the message if that takes more room.
func seal(b []byte, at int) []byte {
	n := len(b) - at
	if more := protowire.SizeVarint(uint64(n)) - 1; more > 0 { //nolint:gosec // a length
		b = append(b, make([]byte, more)...)
		copy(b[at+more:], b[at:])
	}
	protowire.AppendVarint(b[:at-1], uint64(n)) //nolint:gosec // a length
	return b
}
