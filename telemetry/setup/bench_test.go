package setup

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/resource"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// discard takes spans as far as their bytes.
type discard struct{}

func (discard) Start(context.Context) error { return nil }
func (discard) Stop(context.Context) error  { return nil }
func (discard) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	_, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	return err
}

// BenchmarkStep records what one step in a chain does: its execution, and the pass that takes its result and dispatches the
// next one. Seven of the eight spans of a step are in it once, and those of a round.
func BenchmarkStep(b *testing.B) {
	for name, prepare := range map[string]func(*Config){
		"metrics": func(c *Config) { c.Traces.Exporter.Name = exporterNone },
		"traces":  func(*Config) {},
	} {
		b.Run(name, func(b *testing.B) {
			recorder := benchmarked(b, prepare)
			task := &telemetry.Task{
				ID: uuid.New(), CorrelationID: uuid.New(), Namespace: "orders", Name: "fulfil", Steps: 4,
				Root: telemetry.Carrier{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
			}
			step := telemetry.Step{ID: uuid.New(), Name: "ship", Claim: 1, Attempt: 1, Handler: "ship"}
			b.ReportAllocs()
			for b.Loop() {
				benchmarkStep(b.Context(), recorder, *task, step)
			}
		})
	}
}

func benchmarked(b *testing.B, prepare func(*Config)) *telemetry.Telemetry {
	b.Helper()
	c := Default("production")
	c.ExportTo(ProtocolGRPC, "http://localhost:4317")
	prepare(c)
	c.Metrics.Exporter.Name = exporterNone
	p := &Providers{config: c, logger: slog.New(slog.DiscardHandler)}
	p.traces, p.metrics, p.logs = p.outlet(signalTraces), p.outlet(signalMetrics), p.outlet(signalLogs)
	require.NoError(b, p.startMetrics(b.Context(), resource.Empty()))
	if c.Traces.Exporter.on() {
		require.NoError(b, p.sendTraces(b.Context(), resource.Empty(), discard{}))
	}
	b.Cleanup(func() { p.Shutdown(context.Background()) })
	recorder, err := telemetry.New(p.TelemetryConfig())
	require.NoError(b, err)
	return recorder
}

func benchmarkStep(ctx context.Context, recorder *telemetry.Telemetry, task telemetry.Task, step telemetry.Step) {
	now := time.Now()
	held := task
	_, execution := recorder.StartExecution(ctx, &held, &step, &telemetry.Claim{Asked: now, Held: now, Method: telemetry.ClaimEvent})
	execution.Succeeded(ctx)
	execution.Submitted(ctx, time.Millisecond)
	recorder.Passed(ctx, &telemetry.Pass{
		Committer: "advance", Began: now, Loaded: now, Decided: now,
		Progress: []telemetry.Progress{{
			Task:       task,
			Results:    []telemetry.Result{{Step: step, Type: "success", Eager: true, Queue: "orchestration", Kind: "tasker_result", From: execution.Span()}},
			Dispatched: []telemetry.Ready{{Step: step, Queue: "orders", Kind: "tasker_execute", Continued: true}},
		}},
		Archived: map[string]int{"orders": 1},
	}, now)
}
