package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

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
	modeRefused = "refused"
)

// The kinds of collectors.
const (
	sinkWorks   = "works"
	sinkHangs   = "hangs"
	sinkRefuses = "refuses"
)

// with runs a workload while everything is recorded that the mode says, and sent to a collector in another process: its CPU
// time is not ours.
func (b *bench) with(ctx context.Context, mode string, run func(context.Context) (line, error)) (line, error) {
	if mode == modeOff {
		return run(ctx)
	}
	settings := setup.Default("production")
	kind := sinkWorks
	switch mode {
	case modeHanging:
		kind = sinkHangs
	case modeRefused:
		kind = sinkRefuses
	}
	endpoint, stop, err := startSink(ctx, kind)
	if err != nil {
		return line{}, err
	}
	defer stop()
	settings.ExportTo(setup.ProtocolGRPC, endpoint)
	settings.Metrics.Prometheus = false
	if err := settings.Metrics.CorrelationLabel.UnmarshalText([]byte(b.labels)); err != nil {
		return line{}, fmt.Errorf("-labels: %w", err)
	}
	settings.Metrics.Interval = 5 * time.Second // often enough that short runs pay for it
	switch mode {
	case modeMetrics:
		settings.Traces.Exporter.Name = "none"
	case modeTraces, modeHanging, modeRefused:
	case modeAbsent:
		stop()
	case modeTenth:
		settings.Traces.SampleRatio = 0.1
	default:
		return line{}, fmt.Errorf("-telemetry %q is not one of off, metrics, traces, tenth, absent, hanging, refused", mode)
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

// sink is a collector: it takes whatever comes and looks at none of it, so that it leaves the machine to those who are measured.
// It ends when it is killed.
func sink(ctx context.Context, kind string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start collector: %w", err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(unread{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if kind == sinkHangs {
			<-stream.Context().Done()
			return stream.Context().Err()
		}
		if err := stream.RecvMsg(nil); err != nil {
			return err //nolint:wrapcheck // gRPC's own
		}
		if kind == sinkRefuses {
			return status.Error(codes.PermissionDenied, "not for you")
		}
		return stream.SendMsg(nil)
	}))
	context.AfterFunc(ctx, server.Stop)
	fmt.Println("http://" + listener.Addr().String())
	return server.Serve(listener) //nolint:wrapcheck // it says what it served
}

// unread is a codec that leaves messages alone. Its answers are empty, which is what a collector answers that has taken all.
type unread struct{}

// Marshal returns nothing.
func (unread) Marshal(any) (mem.BufferSlice, error) { return nil, nil }

// Unmarshal drops what came.
func (unread) Unmarshal(mem.BufferSlice, any) error { return nil }

// Name is that of the messages that are left alone.
func (unread) Name() string { return "proto" }
