package setup

import (
	"context"
	"fmt"
	"slices"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/telemetry"
)

func (p *Providers) startTraces(ctx context.Context, about *resource.Resource) error {
	c := &p.config.Traces
	if !c.Exporter.on() {
		return nil
	}
	exporter, err := newSpanExporter(ctx, &c.Exporter)
	if err != nil {
		return fmt.Errorf("make exporter of traces: %w", err)
	}
	p.tracers = sdktrace.NewTracerProvider(
		sdktrace.WithResource(about),
		sdktrace.WithIDGenerator(telemetry.IDs{}),
		sdktrace.WithSampler(newSampler(c)),
		sdktrace.WithSpanProcessor(taskSpans{p.traces}),
		sdktrace.WithBatcher(spanOutlet{exporter, p.traces}, c.Batch.spanOptions()...),
	)
	p.traces.end = p.tracers.Shutdown
	return nil
}

func (b *Batch) spanOptions() []sdktrace.BatchSpanProcessorOption {
	var options []sdktrace.BatchSpanProcessorOption
	if b.Queue > 0 {
		options = append(options, sdktrace.WithMaxQueueSize(b.Queue))
	}
	if b.Size > 0 {
		options = append(options, sdktrace.WithMaxExportBatchSize(b.Size))
	}
	if b.Delay > 0 {
		options = append(options, sdktrace.WithBatchTimeout(b.Delay))
	}
	if b.Timeout > 0 {
		options = append(options, sdktrace.WithExportTimeout(b.Timeout))
	}
	return options
}

func newSpanExporter(ctx context.Context, e *Exporter) (sdktrace.SpanExporter, error) {
	switch {
	case e.Name != exporterOTLP:
		return autoexport.NewSpanExporter(ctx) //nolint:wrapcheck // the caller says what was attempted
	case e.Protocol == ProtocolHTTP:
		return otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(e.Endpoint)) //nolint:wrapcheck // as above
	default:
		return otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(e.Endpoint)) //nolint:wrapcheck // as above
	}
}

// spanOutlet sends spans through the outlet.
type spanOutlet struct {
	sdktrace.SpanExporter

	outlet *outlet
}

// ExportSpans sends a batch.
func (s spanOutlet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return s.outlet.send(ctx, len(spans), func(ctx context.Context) error {
		return s.SpanExporter.ExportSpans(ctx, spans)
	})
}

func newSampler(c *TraceConfig) sdktrace.Sampler {
	root := follower{sdktrace.TraceIDRatioBased(c.SampleRatio)}
	if c.IgnoreParent {
		// Of other processes, that is: within one, a trace is decided about once.
		return sdktrace.ParentBased(root, sdktrace.WithRemoteParentSampled(root), sdktrace.WithRemoteParentNotSampled(root))
	}
	return sdktrace.ParentBased(root)
}

// follower samples the later traces of a task as its first one was. Others it leaves to the sampler in it.
type follower struct{ sdktrace.Sampler }

// ShouldSample decides about a span that begins a trace.
func (f follower) ShouldSample(q sdktrace.SamplingParameters) sdktrace.SamplingResult {
	sampled, decided := telemetry.Sampled(q.ParentContext)
	if !decided {
		return f.Sampler.ShouldSample(q)
	}
	result := sdktrace.SamplingResult{
		Decision: sdktrace.Drop, Tracestate: trace.SpanContextFromContext(q.ParentContext).TraceState(),
	}
	if sampled {
		result.Decision = sdktrace.RecordAndSample
	}
	return result
}

// taskSpans gives the spans below Tasker's own, of statements or of what a handler calls, the ids of the task they belong to:
// a search by correlation_id finds them too.
type taskSpans struct{ outlet *outlet }

// OnStart adds what the span does not say itself.
func (taskSpans) OnStart(ctx context.Context, span sdktrace.ReadWriteSpan) {
	if span.InstrumentationScope().Name == telemetry.Scope {
		return
	}
	own := span.Attributes()
	for _, attr := range telemetry.Attributes(ctx) {
		if !slices.ContainsFunc(own, func(kv attribute.KeyValue) bool { return kv.Key == attr.Key }) {
			span.SetAttributes(attr)
		}
	}
}

// OnEnd counts the spans that are to be sent.
func (t taskSpans) OnEnd(span sdktrace.ReadOnlySpan) {
	if span.SpanContext().IsSampled() {
		t.outlet.made.Add(1)
	}
}

// Shutdown has nothing to end.
func (taskSpans) Shutdown(context.Context) error { return nil }

// ForceFlush has nothing to send.
func (taskSpans) ForceFlush(context.Context) error { return nil }
