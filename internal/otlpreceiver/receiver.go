package otlpreceiver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // for exporters that compress
)

// Receiver takes what exporters send.
type Receiver struct {
	address net.Addr
	server  *grpc.Server
	serving sync.WaitGroup
	// stopped is closed when the receiver stops; why says why.
	stopped chan struct{}
	stop    sync.Once
	why     error

	mu      sync.Mutex
	fault   Fault
	spans   []Span
	logs    []Log
	series  map[seriesKey]series
	batches int
	// arrived is closed, and replaced, when something arrives.
	arrived chan struct{}
}

var errStopped = errors.New("receiver is stopped")

// Start listens for OTLP over gRPC at a TCP address; port 0 takes any that is free.
func Start(ctx context.Context, address string) (*Receiver, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for OTLP: %w", err)
	}
	r := &Receiver{
		address: listener.Addr(),
		server:  grpc.NewServer(grpc.WaitForHandlers(true)),
		stopped: make(chan struct{}),
		series:  make(map[seriesKey]series),
		arrived: make(chan struct{}),
	}
	coltrace.RegisterTraceServiceServer(r.server, traceService{receiver: r})
	colmetrics.RegisterMetricsServiceServer(r.server, metricsService{receiver: r})
	collogs.RegisterLogsServiceServer(r.server, logsService{receiver: r})
	r.serving.Go(func() {
		if err := r.server.Serve(listener); err != nil {
			r.end(fmt.Errorf("serve OTLP: %w", err))
		}
	})
	return r, nil
}

// Endpoint is the URL that gRPC exporters send to.
func (r *Receiver) Endpoint() string { return "http://" + r.address.String() }

// Stop closes all connections, also those of requests that hang, and waits until nothing runs any more. What was received
// stays.
func (r *Receiver) Stop() {
	r.end(errStopped)
	r.server.Stop()
	r.serving.Wait()
}

func (r *Receiver) end(why error) {
	r.stop.Do(func() {
		r.why = why
		close(r.stopped)
	})
}

// Snapshot is what has arrived until now.
func (r *Receiver) Snapshot() *Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.snapshot()
}

func (r *Receiver) snapshot() *Snapshot {
	return &Snapshot{
		Spans: slices.Clip(r.spans), Logs: slices.Clip(r.logs), Batches: r.batches, series: maps.Clone(r.series),
	}
}

// Spans are all spans, in the order of their arrival.
func (r *Receiver) Spans() []Span { return r.Snapshot().Spans }

// Logs are all log records, in the order of their arrival.
func (r *Receiver) Logs() []Log { return r.Snapshot().Logs }

// Metrics are the metrics by name, as they were reported last.
func (r *Receiver) Metrics() map[string]Metric { return r.Snapshot().Metrics() }

// Wait returns when enough says that what has arrived is enough. It asks at once, and after each arrival.
func (r *Receiver) Wait(ctx context.Context, enough func(*Snapshot) bool) error {
	for {
		r.mu.Lock()
		snapshot, arrived := r.snapshot(), r.arrived
		r.mu.Unlock()
		if enough(snapshot) {
			return nil
		}
		var err error
		select {
		case <-arrived:
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-r.stopped:
			err = r.why
		}
		return fmt.Errorf("wait for telemetry, have %d spans, %d metrics and %d log records in %d batches: %w",
			len(snapshot.Spans), len(snapshot.Metrics()), len(snapshot.Logs), snapshot.Batches, err)
	}
}

// keep stores a batch and wakes those that wait.
func (r *Receiver) keep(store func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	store()
	r.batches++
	close(r.arrived)
	r.arrived = make(chan struct{})
}

// admit holds a request up, or refuses it, where a fault is set.
func (r *Receiver) admit(ctx context.Context) error {
	r.mu.Lock()
	fault := r.fault
	r.mu.Unlock()
	if fault == nil {
		return nil
	}
	// An HTTP server doesn't end the requests that hang when it is closed.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-r.stopped:
		case <-ctx.Done():
		}
	}()
	return fault(ctx)
}

type traceService struct {
	coltrace.UnimplementedTraceServiceServer

	receiver *Receiver
}

// Export takes spans.
func (s traceService) Export(ctx context.Context, q *coltrace.ExportTraceServiceRequest) (*coltrace.ExportTraceServiceResponse, error) {
	if err := s.receiver.admit(ctx); err != nil {
		return nil, err
	}
	s.receiver.keepSpans(q.GetResourceSpans())
	return &coltrace.ExportTraceServiceResponse{}, nil
}

type metricsService struct {
	colmetrics.UnimplementedMetricsServiceServer

	receiver *Receiver
}

// Export takes metrics.
func (s metricsService) Export(
	ctx context.Context, q *colmetrics.ExportMetricsServiceRequest,
) (*colmetrics.ExportMetricsServiceResponse, error) {
	if err := s.receiver.admit(ctx); err != nil {
		return nil, err
	}
	s.receiver.keepMetrics(q.GetResourceMetrics())
	return &colmetrics.ExportMetricsServiceResponse{}, nil
}

type logsService struct {
	collogs.UnimplementedLogsServiceServer

	receiver *Receiver
}

// Export takes log records.
func (s logsService) Export(ctx context.Context, q *collogs.ExportLogsServiceRequest) (*collogs.ExportLogsServiceResponse, error) {
	if err := s.receiver.admit(ctx); err != nil {
		return nil, err
	}
	s.receiver.keepLogs(q.GetResourceLogs())
	return &collogs.ExportLogsServiceResponse{}, nil
}
