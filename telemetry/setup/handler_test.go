package setup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

func TestTheLogHandlerIsASoundHandler(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	var out bytes.Buffer
	slogtest.Run(t, func(*testing.T) slog.Handler {
		out.Reset()
		return b.providers.LogHandler(slog.NewJSONHandler(&out, nil))
	}, func(t *testing.T) map[string]any {
		line := make(map[string]any)
		require.NoError(t, json.Unmarshal(out.Bytes(), &line))
		return line
	})
}

func TestALineBeginsWithWhatItBelongsTo(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	task := newTask(uuid.New())
	task.CorrelationID = uuid.MustParse("0199c3e0-0000-7000-8000-000000000001")
	ids := "correlation_id=0199c3e0-0000-7000-8000-000000000001 task_uuid=" + task.ID.String() +
		" step_uuid=" + step.ID.String() + " namespace=orders task_name=fulfil step_name=ship attempt=1"
	type line struct {
		want string
		log  func(context.Context, *slog.Logger)
	}
	lines := []line{
		{"IDS TRACE duration_ms=12", func(ctx context.Context, l *slog.Logger) {
			l.InfoContext(ctx, "m", slog.Int("duration_ms", 12))
		}},
		{"IDS TRACE worker=a duration_ms=12", func(ctx context.Context, l *slog.Logger) {
			l.With(slog.String("worker", "a")).InfoContext(ctx, "m", slog.Int("duration_ms", 12))
		}},
		// What the line says of itself is said once, at its place.
		{"IDS TRACE duration_ms=12", func(ctx context.Context, l *slog.Logger) {
			l.With(slog.String("task_uuid", task.ID.String())).InfoContext(ctx, "m",
				slog.Int("duration_ms", 12), slog.String("correlation_id", task.CorrelationID.String()))
		}},
		// Ids stay outside of groups.
		{"IDS TRACE worker=a http.status=200 http.request.size=3", func(ctx context.Context, l *slog.Logger) {
			l.With(slog.String("worker", "a")).WithGroup("http").With(slog.Int("status", 200)).WithGroup("request").
				InfoContext(ctx, "m", slog.Int("size", 3))
		}},
		{"correlation_id=mine TRACE", func(_ context.Context, l *slog.Logger) {
			ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: [16]byte{1}, SpanID: [8]byte{2}}))
			l.InfoContext(ctx, "m", slog.String("correlation_id", "mine"))
		}},
		{"correlation_id=later a=1", func(_ context.Context, l *slog.Logger) {
			l.With(slog.String("correlation_id", "earlier")).InfoContext(context.Background(), "m", slog.Int("a", 1), slog.String("correlation_id", "later"))
		}},
		{"a=1", func(_ context.Context, l *slog.Logger) { l.InfoContext(context.Background(), "m", slog.Int("a", 1)) }},
	}
	var traced trace.SpanContext
	var out bytes.Buffer
	logger := slog.New(b.providers.LogHandler(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: withoutTime})))
	record(t.Context(), b.recorder, task, func(ctx context.Context) {
		traced = trace.SpanContextFromContext(ctx)
		for _, l := range lines {
			l.log(ctx, logger)
		}
	})
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, got, len(lines))
	for i, l := range lines {
		want := strings.ReplaceAll(l.want, "IDS TRACE", ids+" trace_id="+traced.TraceID().String()+" span_id="+traced.SpanID().String())
		want = strings.ReplaceAll(want, "TRACE", "trace_id=01000000000000000000000000000000 span_id=0200000000000000")
		assert.Equal(t, "level=INFO msg=m "+want, got[i])
	}

	b.providers.Shutdown(t.Context())
	logs := b.receiver.Logs()
	require.Len(t, logs, len(lines))
	assert.Equal(t, "m correlation_id=mine", logs[4].Body)
	assert.Equal(t, "m correlation_id=later", logs[5].Body)
	assert.Equal(t, "m", logs[6].Body)
	assert.Equal(t, map[string]any{"status": int64(200), "request": map[string]any{"size": int64(3)}}, logs[3].Attributes["http"])
	assert.NotContains(t, logs[0].Attributes, "trace_id", "it is a field of the record")
	assert.Equal(t, traced.TraceID(), logs[0].TraceID)
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func TestWhatIsNotWrittenIsNotExported(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *setup.Config) { c.ServiceName = "quiet" })
	logger := slog.New(b.providers.LogHandler(slog.NewTextHandler(&lines{}, &slog.HandlerOptions{Level: slog.LevelWarn})))
	logger.InfoContext(t.Context(), "low")
	logger.WarnContext(t.Context(), "high")
	b.providers.Shutdown(t.Context())
	logs := b.receiver.Logs()
	require.Len(t, logs, 1)
	assert.Equal(t, "high", logs[0].Body)
	assert.Equal(t, "WARN", logs[0].Severity)
}
