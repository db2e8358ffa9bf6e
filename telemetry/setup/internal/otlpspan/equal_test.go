package otlpspan_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// The generators of what a span may hold.
var (
	times  = rapid.Custom(func(t *rapid.T) time.Time { return time.Unix(0, rapid.Int64Range(0, math.MaxInt64/2).Draw(t, "ns")) })
	keys   = rapid.SampledFrom([]string{"a", "b", "c", "correlation_id", "a.longer.key.than.those"})
	values = rapid.Custom(func(t *rapid.T) attribute.Value {
		text := rapid.StringN(0, 10, -1)
		switch rapid.IntRange(0, 11).Draw(t, "type") {
		case 0:
			return attribute.StringValue(text.Draw(t, "text"))
		case 1:
			return attribute.BoolValue(rapid.Bool().Draw(t, "bool"))
		case 2:
			return attribute.Int64Value(rapid.Int64().Draw(t, "int"))
		case 3:
			return attribute.Float64Value(rapid.Float64().Draw(t, "float"))
		case 4:
			return attribute.StringSliceValue(rapid.SliceOfN(text, 0, 4).Draw(t, "texts"))
		case 5:
			return attribute.BoolSliceValue(rapid.SliceOfN(rapid.Bool(), 0, 4).Draw(t, "bools"))
		case 6:
			return attribute.Int64SliceValue(rapid.SliceOfN(rapid.Int64(), 0, 4).Draw(t, "ints"))
		case 7:
			return attribute.Float64SliceValue(rapid.SliceOfN(rapid.Float64(), 0, 4).Draw(t, "floats"))
		case 8:
			return attribute.ByteSliceValue(rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "bytes"))
		case 9:
			return attribute.SliceValue(attribute.StringValue(text.Draw(t, "first")), attribute.IntValue(2))
		case 10:
			return attribute.MapValue(attribute.String("in", text.Draw(t, "inside")), attribute.Bool("yes", true))
		default:
			return attribute.StringValue(rapid.StringN(120, 300, -1).Draw(t, "long text"))
		}
	})
	attributes = rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) attribute.KeyValue {
		return attribute.KeyValue{Key: attribute.Key(keys.Draw(t, "key")), Value: values.Draw(t, "value")}
	}), 0, 4, func(kv attribute.KeyValue) attribute.Key { return kv.Key })
	contexts = rapid.Custom(func(t *rapid.T) trace.SpanContext {
		c := trace.SpanContextConfig{TraceFlags: trace.FlagsSampled, Remote: rapid.Bool().Draw(t, "remote")}
		copy(c.TraceID[:], rapid.SliceOfN(rapid.ByteMin(1), 16, 16).Draw(t, "trace id"))
		copy(c.SpanID[:], rapid.SliceOfN(rapid.ByteMin(1), 8, 8).Draw(t, "span id"))
		if rapid.Bool().Draw(t, "with state") {
			state, err := trace.ParseTraceState("rojo=1,congo=2")
			require.NoError(t, err)
			c.TraceState = state
		}
		return trace.NewSpanContext(c)
	})
	codesOf = rapid.SampledFrom([]codes.Code{codes.Unset, codes.Ok, codes.Error})
	kinds   = rapid.SampledFrom([]trace.SpanKind{
		trace.SpanKindUnspecified, trace.SpanKindInternal, trace.SpanKindServer, trace.SpanKindClient, trace.SpanKindProducer, trace.SpanKindConsumer,
	})
)

// stub is any span that an SDK may hand over.
var stub = rapid.Custom(func(t *rapid.T) tracetest.SpanStub {
	s := tracetest.SpanStub{
		Name: rapid.String().Draw(t, "name"), SpanContext: contexts.Draw(t, "context"), SpanKind: kinds.Draw(t, "kind"),
		StartTime: times.Draw(t, "began"), EndTime: times.Draw(t, "ended"), Attributes: attributes.Draw(t, "attributes"),
		Status:            sdktrace.Status{Code: codesOf.Draw(t, "code")},
		DroppedAttributes: rapid.IntRange(0, 1000).Draw(t, "dropped"), DroppedLinks: rapid.IntRange(0, 2).Draw(t, "dropped links"),
		DroppedEvents: rapid.IntRange(0, 2).Draw(t, "dropped events"), Resource: about,
		InstrumentationScope: instrumentation.Scope{Name: rapid.SampledFrom([]string{"", "one", "two"}).Draw(t, "scope"), Version: "1"},
	}
	if rapid.Bool().Draw(t, "schema") {
		s.InstrumentationScope.SchemaURL = "https://example.org/schema"
		s.InstrumentationScope.Attributes = attribute.NewSet(attribute.String("of", "scope"))
	}
	if s.Status.Code == codes.Error {
		s.Status.Description = rapid.String().Draw(t, "what failed")
	}
	if rapid.Bool().Draw(t, "with parent") {
		s.Parent = contexts.Draw(t, "parent")
	}
	for range rapid.IntRange(0, 3).Draw(t, "events") {
		s.Events = append(s.Events, sdktrace.Event{
			Name: "event", Time: times.Draw(t, "at"), Attributes: attributes.Draw(t, "of event"), DroppedAttributeCount: 1,
		})
	}
	for range rapid.IntRange(0, 3).Draw(t, "links") {
		// The library leaves the state of links out.
		s.Links = append(s.Links, sdktrace.Link{SpanContext: contexts.Draw(t, "link").WithTraceState(trace.TraceState{}), DroppedAttributeCount: 2})
	}
	return s
})

// mapped makes spans comparable: in no order, and without what says nothing.
func mapped(requests [][]*tracepb.ResourceSpans) map[string]*tracepb.Span {
	all := make(map[string]*tracepb.Span)
	for _, request := range requests {
		for _, of := range request {
			for _, scope := range of.GetScopeSpans() {
				for i, span := range scope.GetSpans() {
					if span.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_UNSET {
						span.Status = nil
					}
					id := fmt.Sprint(prototext.Format(of.GetResource()), of.GetSchemaUrl(), prototext.Format(scope.GetScope()), scope.GetSchemaUrl(), i)
					all[id] = span
				}
			}
		}
	}
	return all
}

func TestSpansOfTheSDKArriveAsItsOwnExporterSendsThem(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		stubs := tracetest.SpanStubs(rapid.SliceOfN(stub, 1, 4).Draw(rt, "spans"))
		theirs := &collector{}
		exporter, err := otlptrace.New(t.Context(), theirs)
		require.NoError(rt, err)
		require.NoError(rt, exporter.ExportSpans(t.Context(), stubs.Snapshots()))
		ours := setup(t, nil)
		for _, s := range stubs.Snapshots() {
			ours.sender.OnEnd(s)
		}
		ours.shutdown(t)
		require.NoError(rt, <-ours.errs)

		want, got := mapped(theirs.requests), mapped(ours.collector.requests)
		require.Len(rt, got, len(want))
		for id, span := range want {
			require.True(rt, proto.Equal(span, got[id]), "want %v\ngot  %v", span, got[id])
		}
	})
}

// fixed gives every span the same ids.
type fixed struct{ sc trace.SpanContext }

func (f fixed) NewIDs(context.Context) (trace.TraceID, trace.SpanID) {
	return f.sc.TraceID(), f.sc.SpanID()
}
func (f fixed) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return f.sc.SpanID() }

// described is any span that Tasker may describe.
var described = rapid.Custom(func(t *rapid.T) *telemetry.Span {
	s := &telemetry.Span{
		Name: "span", Kind: kinds.Draw(t, "kind"), Began: times.Draw(t, "began"), Ended: times.Draw(t, "ended"),
		Attributes: attributes.Draw(t, "attributes"), Code: codesOf.Draw(t, "code"),
	}
	id := contexts.Draw(t, "id")
	s.TraceID, s.ID = id.TraceID(), id.SpanID()
	if rapid.Bool().Draw(t, "with parent") {
		s.Parent = contexts.Draw(t, "parent")
		s.TraceID = s.Parent.TraceID()
	}
	for range rapid.IntRange(0, 6).Draw(t, "links") {
		s.Links = append(s.Links, trace.Link{
			SpanContext: contexts.Draw(t, "link").WithTraceState(trace.TraceState{}), Attributes: attributes.Draw(t, "of link"),
		})
	}
	if s.Code == codes.Error {
		s.Message = "broken"
	}
	return s
})

func TestSpansThatAreRecordedAreThoseOfTheSDK(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := described.Draw(rt, "span")
		limits := sdktrace.NewSpanLimits()
		for _, limit := range []*int{&limits.AttributeCountLimit, &limits.AttributePerLinkCountLimit} {
			*limit = rapid.SampledFrom([]int{-1, 0, 1, 2, 3, 128}).Draw(rt, "limit")
		}
		limits.LinkCountLimit = rapid.SampledFrom([]int{-1, 1, 2, 3, 128}).Draw(rt, "limit of links") // with 0 the SDK does not count
		ours := setup(t, nil)
		ours.recorder.Limits = limits
		sc := ours.recorder.SpanContext(t.Context(), s)
		ours.recorder.RecordSpan(sc, s)
		ours.shutdown(t)

		theirs := &collector{}
		exporter, err := otlptrace.New(t.Context(), theirs)
		require.NoError(rt, err)
		id := trace.NewSpanContext(trace.SpanContextConfig{TraceID: s.TraceID, SpanID: s.ID})
		provider := sdktrace.NewTracerProvider(sdktrace.WithRawSpanLimits(limits), sdktrace.WithSyncer(exporter), sdktrace.WithResource(about),
			sdktrace.WithIDGenerator(fixed{id}))
		_, span := provider.Tracer("tasker").Start(trace.ContextWithSpanContext(t.Context(), s.Parent), s.Name, trace.WithSpanKind(s.Kind),
			trace.WithTimestamp(s.Began), trace.WithAttributes(s.Attributes...), trace.WithLinks(s.Links...))
		span.SetStatus(s.Code, s.Message)
		span.End(trace.WithTimestamp(s.Ended))

		require.Equal(rt, span.SpanContext(), sc)
		want, got := mapped(theirs.requests), mapped(ours.collector.requests)
		require.Len(rt, want, 1)
		require.Len(rt, got, 1)
		for id, span := range want {
			require.True(rt, proto.Equal(span, got[id]), "want %v\ngot  %v", span, got[id])
		}
	})
}

func TestLimitsOfTextsAreKept(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.recorder.Limits.AttributeValueLengthLimit = 3
	s := told("a")
	s.Attributes = []attribute.KeyValue{
		attribute.String("long", "größer"), attribute.String("short", "ab"), attribute.Int("n", 12345),
		attribute.StringSlice("texts", []string{"a", "bcde"}),
	}
	b.record(t, s)
	b.shutdown(t)
	span := b.collector.spans()[0]
	require.Equal(t, "grö", span.GetAttributes()[0].GetValue().GetStringValue())
	require.Equal(t, "ab", span.GetAttributes()[1].GetValue().GetStringValue())
	require.EqualValues(t, 12345, span.GetAttributes()[2].GetValue().GetIntValue())
	require.Equal(t, "bcd", span.GetAttributes()[3].GetValue().GetArrayValue().GetValues()[1].GetStringValue())
	require.Equal(t, "größer", s.Attributes[0].Value.AsString(), "who describes a span keeps its description")
}

func TestSamplersAreAskedAboutWhatIsNotDecided(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	sampled := func(s *telemetry.Span) bool { return b.recorder.SpanContext(t.Context(), s).IsSampled() }
	unsampled := told("a")
	unsampled.Parent = trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, Remote: true})
	require.False(t, sampled(unsampled))
	require.Equal(t, unsampled.Parent.TraceID(), b.recorder.SpanContext(t.Context(), unsampled).TraceID())
	require.True(t, sampled(told("root")))

	b.recorder.Sampler = sdktrace.ParentBased(sdktrace.NeverSample())
	require.False(t, sampled(told("root")))
	decided := told("decided")
	decided.Sampled = true
	require.True(t, sampled(decided), "whatever the sampler says")
	remote := told("remote")
	remote.Parent = unsampled.Parent.WithTraceFlags(trace.FlagsSampled)
	require.True(t, sampled(remote))
	b.recorder.Sampler, b.recorder.Follows = sdktrace.NeverSample(), false
	require.False(t, sampled(remote), "a sampler that follows nobody is asked")
	local := told("local")
	local.Parent = remote.Parent.WithRemote(false)
	require.True(t, sampled(local), "within a process that is decided once")
	b.shutdown(t)
}
