package setup

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/setup/internal/otlpspan"
)

func (p *Providers) startTraces(ctx context.Context, about *resource.Resource) (err error) {
	switch e := &p.config.Traces.Exporter; {
	case !e.on():
		return nil
	case e.Name != exporterOTLP:
		err = p.writeTraces(ctx, about)
	case e.Protocol == ProtocolHTTP:
		protobuf := otlptracehttp.WithEncoding(otlptracehttp.EncodingProtobuf) // spans come encoded so
		err = p.sendTraces(ctx, about, otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(e.Endpoint), protobuf))
	default:
		err = p.sendTraces(ctx, about, otlptracegrpc.NewClient(otlptracegrpc.WithEndpointURL(e.Endpoint)))
	}
	if err != nil {
		return fmt.Errorf("make exporter of traces: %w", err)
	}
	return nil
}

// newTracerProvider makes the SDK's provider.
func (p *Providers) newTracerProvider(about *resource.Resource, end sdktrace.SpanProcessor) *sdktrace.TracerProvider {
	tracers := sdktrace.NewTracerProvider(
		sdktrace.WithResource(about), sdktrace.WithIDGenerator(telemetry.IDs{}), sdktrace.WithSampler(newSampler(&p.config.Traces)),
		sdktrace.WithSpanProcessor(taskSpans{}), sdktrace.WithSpanProcessor(end),
	)
	p.traces.end = tracers.Shutdown
	return tracers
}

// writeTraces has spans written by an exporter of another kind, such as the console.
func (p *Providers) writeTraces(ctx context.Context, about *resource.Resource) error {
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return err //nolint:wrapcheck // the caller says what was attempted
	}
	batches := sdktrace.NewBatchSpanProcessor(spanOutlet{exporter, p.traces}, p.config.Traces.Batch.spanOptions()...)
	p.tracers = p.newTracerProvider(about, countedSpans{batches, p.traces})
	return nil
}

// sendTraces has spans sent to a collector.
func (p *Providers) sendTraces(ctx context.Context, about *resource.Resource, client otlptrace.Client) error {
	batch := &p.config.Traces.Batch
	sender, err := otlpspan.Start(ctx, &otlpspan.Config{
		Client: client, Resource: about,
		Queue: cmp.Or(max(batch.Queue, 0), sdktrace.DefaultMaxQueueSize), Size: cmp.Or(max(batch.Size, 0), sdktrace.DefaultMaxExportBatchSize),
		Delay:   cmp.Or(max(batch.Delay, 0), sdktrace.DefaultScheduleDelay*time.Millisecond),
		Timeout: cmp.Or(max(batch.Timeout, 0), sdktrace.DefaultExportTimeout*time.Millisecond),
		Made:    func() { p.traces.made.Add(1) },
		Dropped: func(spans int) { p.drop("queue_full", spans) },
		Send: func(ctx context.Context, spans int, upload func(context.Context) error) {
			_ = p.traces.send(ctx, spans, func(ctx context.Context) error { //nolint:errcheck // it is nil whatever comes of it
				err := upload(ctx)
				if err != nil {
					p.drop("export_failed", spans)
				}
				return err
			})
		},
	})
	if err != nil {
		return err
	}
	p.tracers = &tracerProvider{p.newTracerProvider(about, sender), &otlpspan.Recorder{
		Sender: sender, Scope: instrumentation.Scope{Name: telemetry.Scope}, Sampler: newSampler(&p.config.Traces),
		Follows: !p.config.Traces.IgnoreParent, Limits: sdktrace.NewSpanLimits(),
	}}
	return nil
}

// tracerProvider is the SDK's, and records most of Tasker's own spans, of which there are nine for each step, without it.
type tracerProvider struct {
	*sdktrace.TracerProvider
	*otlpspan.Recorder
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

// countedSpans counts the spans that are to be sent.
type countedSpans struct {
	sdktrace.SpanProcessor

	outlet *outlet
}

// OnEnd counts a span and passes it on.
func (c countedSpans) OnEnd(span sdktrace.ReadOnlySpan) {
	if span.SpanContext().IsSampled() {
		c.outlet.made.Add(1)
	}
	c.SpanProcessor.OnEnd(span)
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
	if telemetry.Sampled(q.ParentContext) {
		return sdktrace.AlwaysSample().ShouldSample(q)
	}
	return f.Sampler.ShouldSample(q)
}

// taskSpans gives the spans below Tasker's own, of statements or of what a handler calls, the ids of the task they belong to:
// a search by correlation_id finds them too.
type taskSpans struct{}

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

// OnEnd has nothing to add.
func (taskSpans) OnEnd(sdktrace.ReadOnlySpan) {}

// Shutdown has nothing to end.
func (taskSpans) Shutdown(context.Context) error { return nil }

// ForceFlush has nothing to send.
func (taskSpans) ForceFlush(context.Context) error { return nil }
