package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

// The modes of telemetry.
const (
	modeOff     = "off"
	modeMetrics = "metrics"
	modeTraces  = "traces"
	modeTenth   = "tenth"
	modeAbsent  = "absent"
	modeHanging = "hanging"
)

// The kinds of collectors.
const (
	sinkWorks = "works"
	sinkHangs = "hangs"
)

// with runs a workload while everything is recorded that the mode says, and sent to a collector in another process: its CPU
// time is not ours.
func (b *bench) with(ctx context.Context, mode string, run func(context.Context) (line, error)) (line, error) {
	if mode == modeOff {
		return run(ctx)
	}
	settings := setup.Default("production")
	kind := sinkWorks
	if mode == modeHanging {
		kind = sinkHangs
	}
	endpoint, stop, err := startSink(ctx, kind)
	if err != nil {
		return line{}, err
	}
	defer stop()
	settings.ExportTo(setup.ProtocolGRPC, endpoint)
	settings.Metrics.Prometheus = false
	settings.Metrics.CorrelationLabel = telemetry.LabelBounded
	settings.Metrics.Interval = 5 * time.Second // often enough that short runs pay for it
	switch mode {
	case modeMetrics:
		settings.Traces.Exporter.Name = "none"
	case modeTraces, modeHanging:
	case modeAbsent:
		stop()
	case modeTenth:
		settings.Traces.SampleRatio = 0.1
	default:
		return line{}, fmt.Errorf("-telemetry %q is not one of off, metrics, traces, tenth, absent, hanging", mode)
	}
	providers, err := setup.Start(ctx, settings, slog.Default())
	if err != nil {
		return line{}, fmt.Errorf("start telemetry: %w", err)
	}
	defer providers.Shutdown(context.WithoutCancel(ctx))
	b.watched = providers.TelemetryConfig()
	defer func() { b.watched = nil }()
	return run(ctx)
}

// startSink starts this program again as a collector.
func startSink(ctx context.Context, kind string) (endpoint string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("find own program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "-sink", kind)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, fmt.Errorf("start collector: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("start collector: %w", err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() //nolint:errcheck // it has nothing to lose
		_ = cmd.Wait()         //nolint:errcheck // killed
	})
	text, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("read address of collector: %w", err)
	}
	return strings.TrimSpace(text), stop, nil
}

// sink receives until it is killed.
func sink(ctx context.Context, kind string) error {
	receiver, err := otlpreceiver.Start(ctx, "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start collector: %w", err)
	}
	defer receiver.Stop()
	if kind == sinkHangs {
		receiver.SetFault(otlpreceiver.Hang())
	}
	fmt.Println(receiver.Endpoint())
	<-ctx.Done()
	return nil
}
