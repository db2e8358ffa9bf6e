package setup_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

// checkSignals checks what one recorded task has left at a receiver.
func checkSignals(t *testing.T, s *otlpreceiver.Snapshot, task *telemetry.Task, resource map[string]string) {
	t.Helper()
	describes := func(got map[string]any) {
		for key, want := range resource {
			assert.Equal(t, want, got[key], key)
		}
	}
	byName := make(map[string]otlpreceiver.Span)
	for i := range s.Spans {
		span := &s.Spans[i]
		byName[span.Name] = *span
		assert.Equal(t, telemetry.TraceID(task.ID), span.TraceID, span.Name)
		assert.Equal(t, task.CorrelationID.String(), span.Attributes["correlation_id"], span.Name)
		assert.Equal(t, task.ID.String(), span.Attributes["task_uuid"], span.Name)
		describes(span.Resource)
	}
	for name, parent := range map[string]string{
		"create_and_enqueue_task_from_request": "", "execute_step": "create_and_enqueue_task_from_request",
		"try_claim_step": "execute_step", "handler_execution": "execute_step",
	} {
		require.Contains(t, byName, name)
		assert.Equal(t, byName[parent].SpanID, byName[name].ParentID, name)
	}
	assert.Equal(t, trace.SpanKindProducer, byName["create_and_enqueue_task_from_request"].Kind)

	metrics := s.Metrics()
	for name, kind := range map[string]otlpreceiver.Kind{
		"tasker.tasks.requests.total": otlpreceiver.KindCounter, "tasker.step.execution.duration": otlpreceiver.KindHistogram,
	} {
		m := metrics[name]
		assert.Equal(t, kind, m.Kind, name)
		assert.Equal(t, telemetry.Scope, m.Scope)
		require.Len(t, m.Resources, 1)
		describes(m.Resources[0])
		assert.InDelta(t, 1, s.Total(name, map[string]string{"namespace": "orders"}), 0, name)
	}
	assert.Contains(t, metrics, "go.goroutine.count")

	require.Len(t, s.Logs, 1)
	log := s.Logs[0]
	assert.Equal(t, "step done correlation_id="+task.CorrelationID.String(), log.Body)
	assert.Equal(t, "INFO", log.Severity)
	assert.Equal(t, telemetry.TraceID(task.ID), log.TraceID)
	assert.Equal(t, byName["handler_execution"].SpanID, log.SpanID)
	assert.Equal(t, step.ID.String(), log.Attributes["step_uuid"])
	describes(log.Resource)
}

func TestAllSignalsArriveAtShutdown(t *testing.T) {
	t.Parallel()
	over := map[string]func(*testing.T, *testBundle){
		"gRPC": func(*testing.T, *testBundle) {},
		"HTTP": func(t *testing.T, b *testBundle) {
			server := httptest.NewServer(b.receiver.HTTPHandler())
			t.Cleanup(server.Close)
			b.config.ExportTo(setup.ProtocolHTTP, server.URL)
		},
	}
	for name, prepare := range over {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &testBundle{config: setup.Default("test"), receiver: receive(t), warnings: &lines{}}
			b.config.Logs.Enabled, b.config.ServiceName = true, "tasker-worker"
			b.config.ExportTo(setup.ProtocolGRPC, b.receiver.Endpoint())
			prepare(t, b)
			b.run(t)
			task := newTask(uuid.New())
			record(t.Context(), b.recorder, task, func(ctx context.Context) {
				slog.New(b.providers.LogHandler(slog.DiscardHandler)).InfoContext(ctx, "not for whom it is not written")
				slog.New(b.providers.LogHandler(slog.NewTextHandler(&lines{}, nil))).InfoContext(ctx, "step done")
			})
			b.providers.Shutdown(t.Context())
			b.providers.Shutdown(t.Context())
			checkSignals(t, b.receiver.Snapshot(), task, map[string]string{
				"service.name": "tasker-worker", "service.version": b.config.ServiceVersion, "service.instance.id": b.config.InstanceID,
				"deployment.environment": "test", "deployment.environment.name": "test", "container": "tasker-worker",
			})
			assert.Empty(t, b.warnings.String())
		})
	}
}

func TestAnotherProcessExportsAsItsEnvironmentSays(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  []string
		want map[string]string
	}{
		"the seed's variables": {
			[]string{
				"TELEMETRY_ENABLED=true", "OTEL_SERVICE_NAME=tasker-orchestration", "OTEL_SERVICE_VERSION=0.1.0",
				"OTEL_TRACES_SAMPLER_ARG=1.0", "DEPLOYMENT_ENVIRONMENT=development", "OTEL_LOGS_ENABLED=true",
			},
			map[string]string{
				"service.name": "tasker-orchestration", "service.version": "0.1.0", "deployment.environment": "development",
				"container": "tasker-orchestration",
			},
		},
		"attributes of the resource": {
			[]string{
				"OTEL_RESOURCE_ATTRIBUTES=service.name=elsewhere,cloud.region=eu,deployment.environment=blue", "OTEL_LOGS_ENABLED=true",
				"OTEL_EXPORTER_OTLP_COMPRESSION=gzip",
			},
			map[string]string{
				"service.name": "elsewhere", "container": "elsewhere", "cloud.region": "eu", "deployment.environment.name": "blue",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			receiver := receive(t)
			task := newTask(uuid.New())
			command := exec.CommandContext(t.Context(), os.Args[0])
			command.Env = slices.Concat(test.env, []string{
				childVariable + "=" + task.ID.String(), "OTEL_EXPORTER_OTLP_ENDPOINT=" + receiver.Endpoint(),
			})
			output, err := command.CombinedOutput()
			require.NoError(t, err, string(output))
			assert.Contains(t, string(output), `msg="step done" correlation_id=`+task.CorrelationID.String())
			checkSignals(t, receiver.Snapshot(), task, test.want)
		})
	}
}

func TestTheConsoleIsAnExporter(t *testing.T) {
	t.Parallel()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = []string{
		childVariable + "=" + uuid.NewString(), "OTEL_TRACES_EXPORTER=console", "OTEL_METRICS_EXPORTER=console", "OTEL_LOGS_EXPORTER=console",
	}
	output, err := command.Output()
	require.NoError(t, err)
	for _, want := range []string{`"Name":"handler_execution"`, `"Name":"tasker.tasks.requests.total"`, `"Value":"step done correlation_id=`} {
		assert.Contains(t, string(output), want)
	}
}

func TestSpansOfOthersBelongToTheTaskToo(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	task := newTask(uuid.New())
	record(t.Context(), b.recorder, task, func(ctx context.Context) {
		_, span := b.providers.TracerProvider().Tracer("user").Start(ctx, "charge card")
		span.End()
	})
	_, span := b.providers.TracerProvider().Tracer("user").Start(t.Context(), "elsewhere")
	span.End()
	b.providers.Shutdown(t.Context())
	for _, span := range b.receiver.Spans() {
		switch span.Name {
		case "charge card":
			assert.Equal(t, map[string]any{
				"correlation_id": task.CorrelationID.String(), "task_uuid": task.ID.String(), "namespace": "orders", "task_name": "fulfil",
				"step_uuid": step.ID.String(), "step_name": "ship", "attempt": int64(1),
			}, span.Attributes)
		case "elsewhere":
			assert.Empty(t, span.Attributes)
		}
	}
	assert.Len(t, b.receiver.Spans(), 6)
}

func TestAHandlerMaySayMoreOfItsSpan(t *testing.T) {
	t.Parallel()
	says := map[string]func(trace.Span){
		"nothing": func(span trace.Span) { span.TracerProvider() },
		"a lot": func(span trace.Span) {
			span.SetAttributes(attribute.String("card", "visa"), attribute.String("handler", "mine"))
			span.AddEvent("authorized", trace.WithAttributes(attribute.Int("amount", 7)))
			span.RecordError(errors.New("slow bank"))
			span.AddLink(trace.Link{SpanContext: span.SpanContext()})
			span.SetStatus(codes.Error, "not for the handler to say")
		},
	}
	for name, say := range says {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, nil)
			task := newTask(uuid.New())
			var kept trace.Span
			record(t.Context(), b.recorder, task, func(ctx context.Context) {
				kept = trace.SpanFromContext(ctx)
				assert.True(t, kept.IsRecording())
				say(kept)
				_, below := kept.TracerProvider().Tracer("user").Start(ctx, "below")
				below.End()
			})
			assert.False(t, kept.IsRecording())
			kept.SetName("too late")
			kept.End()
			b.providers.Shutdown(t.Context())

			byName := make(map[string][]otlpreceiver.Span)
			for _, span := range b.receiver.Spans() {
				byName[span.Name] = append(byName[span.Name], span)
			}
			assert.NotContains(t, byName, "too late")
			require.Len(t, byName["handler_execution"], 1)
			handler, below := byName["handler_execution"][0], byName["below"][0]
			assert.Equal(t, byName["execute_step"][0].SpanID, handler.ParentID)
			assert.Equal(t, handler.SpanID, below.ParentID)
			assert.Equal(t, kept.SpanContext().SpanID(), handler.SpanID)
			assert.Equal(t, telemetry.TraceID(task.ID), handler.TraceID)
			assert.Equal(t, task.CorrelationID.String(), handler.Attributes["correlation_id"])
			assert.Equal(t, codes.Ok, handler.Status)
			if name == "nothing" {
				assert.Equal(t, "ship", handler.Attributes["handler"])
				assert.Empty(t, handler.Events)
				return
			}
			assert.Equal(t, "visa", handler.Attributes["card"])
			assert.Equal(t, "mine", handler.Attributes["handler"])
			assert.Equal(t, []string{"authorized", "exception"}, handler.Events)
			assert.Len(t, handler.Links, 1)
		})
	}
}

func TestCorrelationIsALabelOnlyWhereTheModeSaysSo(t *testing.T) {
	t.Parallel()
	// An exemplar has the label where the points have not.
	for mode, exemplar := range map[telemetry.LabelMode]bool{
		telemetry.LabelOff: true, telemetry.LabelExemplars: true, telemetry.LabelBounded: false, telemetry.LabelAll: false,
	} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			b := start(t, func(c *setup.Config) { c.Metrics.CorrelationLabel = mode })
			task := newTask(uuid.New())
			record(t.Context(), b.recorder, task, func(context.Context) {})
			b.providers.Shutdown(t.Context())
			id := task.CorrelationID.String()
			for _, name := range []string{"tasker.tasks.requests.total", "tasker.task.initialization.duration"} {
				points := b.receiver.Metrics()[name].Points
				require.Len(t, points, 1)
				require.NotEmpty(t, points[0].Exemplars)
				assert.Equal(t, telemetry.TraceID(task.ID), points[0].Exemplars[0].TraceID)
				if exemplar {
					assert.NotContains(t, points[0].Attributes, "correlation_id")
					assert.Equal(t, map[string]any{"correlation_id": id}, points[0].Exemplars[0].Attributes)
				} else {
					assert.Equal(t, id, points[0].Attributes["correlation_id"])
					assert.Empty(t, points[0].Exemplars[0].Attributes)
				}
			}
		})
	}
}

func TestLabelsStayBelowTheLimitOfTheProvider(t *testing.T) {
	t.Parallel()
	for mode, overflows := range map[telemetry.LabelMode]bool{telemetry.LabelBounded: false, telemetry.LabelAll: true} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			b := start(t, func(c *setup.Config) {
				c.Traces.Exporter.Name = "none"
				c.Metrics.CorrelationLabel, c.Metrics.CorrelationBudget = mode, 100
			})
			for range 3000 {
				c := b.recorder.StartCreation(t.Context(), newTask(uuid.New()), telemetry.Carrier{}, time.Now(), false)
				c.Count(t.Context())
				c.Stored(t.Context(), time.Now(), "")
			}
			b.providers.Shutdown(t.Context())
			s := b.receiver.Snapshot()
			assert.InDelta(t, 3000, s.Total("tasker.tasks.requests.total", nil), 0)
			overflowed := false
			for _, p := range s.Metrics()["tasker.tasks.requests.total"].Points {
				overflowed = overflowed || p.Attributes["otel.metric.overflow"] != nil
			}
			assert.Equal(t, overflows, overflowed)
			if mode == telemetry.LabelBounded {
				assert.Len(t, b.warnings.with("correlation_id labels is spent"), 1)
			}
		})
	}
}

func TestWithoutTelemetryNothingIsThere(t *testing.T) {
	t.Parallel()
	b := &testBundle{config: &setup.Config{}, warnings: &lines{}}
	b.run(t)
	assert.Nil(t, b.providers.MetricsHandler())
	assert.Nil(t, b.providers.TelemetryConfig().TracerProvider)
	assert.Nil(t, b.providers.TelemetryConfig().MeterProvider)
	record(t.Context(), b.recorder, newTask(uuid.New()), func(ctx context.Context) {
		assert.False(t, trace.SpanContextFromContext(ctx).IsValid())
	})
	_, span := b.providers.TracerProvider().Tracer("user").Start(t.Context(), "nothing")
	defer span.End()
	assert.False(t, span.IsRecording())
	out := &lines{}
	slog.New(b.providers.LogHandler(slog.NewTextHandler(out, nil))).InfoContext(t.Context(), "a line")
	assert.Len(t, out.with(`msg="a line"`), 1)
	b.providers.Shutdown(t.Context())
	assert.Empty(t, b.warnings.String())
}

// sampledTraces are the traces that came out, with how many spans.
func sampledTraces(t *testing.T, b *testBundle) map[trace.TraceID]int {
	t.Helper()
	b.providers.Shutdown(t.Context())
	spans := make(map[trace.TraceID]int)
	for _, span := range b.receiver.Spans() {
		spans[span.TraceID]++
	}
	return spans
}

func TestARatioAloneTakesWholeTracesAndFollowsParents(t *testing.T) {
	t.Parallel()
	b := &testBundle{receiver: receive(t), warnings: &lines{}}
	var err error
	b.config, err = setup.Load(t.TempDir(), "test", env(map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": b.receiver.Endpoint(), "OTEL_TRACES_SAMPLER_ARG": "0.1",
	}))
	require.NoError(t, err)
	b.run(t)
	for range 2000 {
		record(t.Context(), b.recorder, newTask(uuid.New()), func(context.Context) {})
	}

	caller := func(flags trace.TraceFlags) trace.SpanContext {
		id := uuid.New()
		return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(id), SpanID: trace.SpanID(id[:8]), TraceFlags: flags, Remote: true})
	}
	var wanted, unwanted []trace.SpanContext
	for range 20 {
		wanted, unwanted = append(wanted, caller(trace.FlagsSampled)), append(unwanted, caller(0))
		record(trace.ContextWithRemoteSpanContext(t.Context(), wanted[len(wanted)-1]), b.recorder, newTask(uuid.New()), func(context.Context) {})
		record(trace.ContextWithRemoteSpanContext(t.Context(), unwanted[len(unwanted)-1]), b.recorder, newTask(uuid.New()), func(context.Context) {})
	}

	traces := sampledTraces(t, b)
	for _, sc := range wanted {
		assert.Equal(t, 4, traces[sc.TraceID()])
		delete(traces, sc.TraceID())
	}
	for _, sc := range unwanted {
		assert.Zero(t, traces[sc.TraceID()])
	}
	for id, spans := range traces {
		assert.Equal(t, 4, spans, "trace %s is not whole", id)
	}
	assert.InDelta(t, 200, len(traces), 60)
	assert.Empty(t, b.warnings.String())
}

func TestLaterTracesOfATaskAreSampledAsTheFirst(t *testing.T) {
	t.Parallel()
	// The ratio alone would decide otherwise.
	for name, test := range map[string]struct {
		flags string
		ratio float64
		want  int
	}{"sampled": {"01", 0, 3}, "not sampled": {"00", 1, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, func(c *setup.Config) { c.Traces.SampleRatio, c.Traces.IgnoreParent = test.ratio, true })
			task := newTask(uuid.New())
			task.Age = 2 * time.Hour
			task.Root = telemetry.Carrier{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-" + test.flags}
			var later trace.SpanContext
			work(t.Context(), b.recorder, task, func(ctx context.Context) { later = trace.SpanContextFromContext(ctx) })
			assert.Equal(t, test.want == 0, later.TraceID().String() == "4bf92f3577b34da6a3ce929d0e0e4736",
				"what is not sampled needs no trace of its own")
			assert.Equal(t, test.want, sampledTraces(t, b)[later.TraceID()])
		})
	}
}
