package setup_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

const (
	// budget is what Shutdown may take, and slack what a busy machine may add.
	budget = 7 * time.Second
	slack  = 3 * time.Second
)

// burst makes the spans of a thousand tasks at once, and shuts down.
func burst(t *testing.T, b *testBundle) {
	t.Helper()
	b.receiver.SetFault(otlpreceiver.Slow(20 * time.Millisecond))
	tracer := b.providers.TracerProvider().Tracer("burst")
	var tasks sync.WaitGroup
	for i := range 1000 {
		tasks.Go(func() {
			ctx, root := tracer.Start(t.Context(), fmt.Sprintf("task %d", i))
			for range 10 {
				_, span := tracer.Start(ctx, "step")
				span.End()
			}
			root.End()
		})
	}
	tasks.Wait()
	b.providers.Shutdown(t.Context())
}

func TestNoSpanOfManyTasksAtOnceIsLost(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	burst(t, b)
	assert.Len(t, b.receiver.Spans(), 11_000)
	assert.Empty(t, b.warnings.String())
}

func TestWhatAQueueHasNoRoomForIsSaid(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *setup.Config) { c.Traces.Batch = setup.Batch{Queue: 100, Size: 100} })
	burst(t, b)
	arrived := len(b.receiver.Spans())
	assert.Less(t, arrived, 11_000)
	assert.Len(t, b.warnings.with("telemetry is lost at shutdown", "signal=traces", fmt.Sprintf("lost=%d ", 11_000-arrived)), 1)
}

func TestShutdownKeepsItsBudget(t *testing.T) {
	t.Parallel()
	// Nobody listens any more at an address that was free.
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	for name, prepare := range map[string]func(*testBundle){
		"while the collector hangs": func(b *testBundle) { b.receiver.SetFault(otlpreceiver.Hang()) },
		"while there is none": func(b *testBundle) {
			b.config.ExportTo(setup.ProtocolGRPC, "http://"+listener.Addr().String())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &testBundle{config: setup.Default("test"), receiver: receive(t), warnings: &lines{}}
			b.config.Logs.Enabled = true
			b.config.ExportTo(setup.ProtocolGRPC, b.receiver.Endpoint())
			prepare(b)
			b.run(t)
			logger := slog.New(b.providers.LogHandler(slog.NewTextHandler(&lines{}, nil)))
			record(t.Context(), b.recorder, newTask(uuid.New()), func(ctx context.Context) { logger.InfoContext(ctx, "lost") })
			began := time.Now()
			b.providers.Shutdown(t.Context())
			assert.Less(t, time.Since(began), budget+slack)
			assert.Empty(t, b.receiver.Snapshot().Spans)
			assert.Len(t, b.warnings.with("telemetry is lost at shutdown", "signal=traces", "lost=4"), 1)
			assert.Len(t, b.warnings.with("telemetry is lost at shutdown", "signal=metrics"), 1)
			assert.Len(t, b.warnings.with("telemetry is lost at shutdown", "signal=logs", "lost=1"), 1)
		})
	}
}

func TestARefusalIsCountedWarnedOfAndNotWaitedFor(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *setup.Config) {
		c.Traces.Batch.Delay, c.Logs.Batch.Delay = 10*time.Millisecond, 10*time.Millisecond
		c.Metrics.Interval = 20 * time.Millisecond
	})
	var failures sync.Map
	seen := make(chan struct{}, 1)
	b.providers.OnExportFailure(func(signal string) {
		n, _ := failures.LoadOrStore(signal, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		select {
		case seen <- struct{}{}:
		default:
		}
	})
	b.receiver.SetFault(otlpreceiver.Refuse(codes.Unimplemented, 0))
	// What is exported is also logged through the handler that exports: a warning must not become a record of its own.
	logger := slog.New(b.providers.LogHandler(slog.NewTextHandler(&lines{}, nil)))
	failed := func(signal string) bool {
		n, ok := failures.Load(signal)
		return ok && n.(*atomic.Int64).Load() >= 2
	}
	for !failed("traces") || !failed("metrics") || !failed("logs") {
		record(t.Context(), b.recorder, newTask(uuid.New()), func(ctx context.Context) { logger.InfoContext(ctx, "step done") })
		<-seen
	}
	for _, signal := range []string{"traces", "metrics", "logs"} {
		assert.Len(t, b.warnings.with("telemetry is not exported", "signal="+signal, "refused by the test"), 1, "one warning a minute")
	}
	began := time.Now()
	b.providers.Shutdown(t.Context())
	assert.Less(t, time.Since(began), 3*time.Second+slack)
	assert.Len(t, b.warnings.with("telemetry is lost at shutdown", "signal=traces"), 1)
}

func TestACollectorThatAsksForPatienceGetsEverything(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *setup.Config) { c.Traces.Batch.Delay = 10 * time.Millisecond })
	refused := make(chan struct{}, 16)
	refuse := otlpreceiver.Refuse(codes.ResourceExhausted, 10*time.Millisecond)
	b.receiver.SetFault(func(ctx context.Context) error {
		refused <- struct{}{}
		return refuse(ctx)
	})
	record(t.Context(), b.recorder, newTask(uuid.New()), func(context.Context) {})
	<-refused
	b.receiver.SetFault(nil)
	require.NoError(t, b.receiver.Wait(t.Context(), func(s *otlpreceiver.Snapshot) bool { return len(s.Spans) == 4 }))
	b.providers.Shutdown(t.Context())
	assert.Empty(t, b.warnings.String())
}

func TestALogCallDoesNotWaitForTheCollector(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *setup.Config) {
		c.Traces.Exporter.Name, c.Metrics.Exporter.Name = "none", "none"
		c.Logs.Batch = setup.Batch{Queue: 10, Size: 5, Delay: time.Millisecond}
	})
	held := make(chan struct{}, 1)
	b.receiver.SetFault(func(ctx context.Context) error {
		select {
		case held <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return ctx.Err()
	})
	logger := slog.New(b.providers.LogHandler(slog.NewTextHandler(&lines{}, nil)))
	logger.InfoContext(t.Context(), "this one hangs")
	<-held
	for range 1000 {
		logger.InfoContext(t.Context(), "these find the queue full")
	}
	began := time.Now()
	b.providers.Shutdown(t.Context())
	assert.Less(t, time.Since(began), budget+slack)
	assert.Len(t, b.warnings.with("telemetry is lost at shutdown", "signal=logs", "lost=1001"), 1)
}
