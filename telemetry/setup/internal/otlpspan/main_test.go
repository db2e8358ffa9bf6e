package otlpspan_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/setup/internal/otlpspan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector is a client that keeps what a collector would read.
type collector struct {
	// hold, if not nil, is waited for before an upload is taken.
	hold chan struct{}

	mu       sync.Mutex
	requests [][]*tracepb.ResourceSpans
	stopped  bool
}

func (*collector) Start(context.Context) error { return nil }

func (c *collector) Stop(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	return nil
}

func (c *collector) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	if c.hold != nil {
		select {
		case <-c.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	wire, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	var read tracepb.TracesData
	if err := proto.Unmarshal(wire, &read); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, read.GetResourceSpans())
	return nil
}

// sizes are the numbers of spans in each request.
func (c *collector) sizes() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sizes []int
	for _, request := range c.requests {
		n := 0
		for _, of := range request {
			for _, scope := range of.GetScopeSpans() {
				n += len(scope.GetSpans())
			}
		}
		sizes = append(sizes, n)
	}
	return sizes
}

// spans are all spans, in the order in which they came.
func (c *collector) spans() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var spans []*tracepb.Span
	for _, request := range c.requests {
		for _, of := range request {
			for _, scope := range of.GetScopeSpans() {
				spans = append(spans, scope.GetSpans()...)
			}
		}
	}
	return spans
}

// testBundle is a sender with a collector.
type testBundle struct {
	collector *collector
	sender    *otlpspan.Sender
	recorder  *otlpspan.Recorder
	made      atomic.Int64
	dropped   atomic.Int64
	errs      chan error
}

var about = resource.NewSchemaless(attribute.String("service.name", "tasker"))

func setup(t testing.TB, change func(*otlpspan.Config)) *testBundle {
	t.Helper()
	b := &testBundle{collector: &collector{}, errs: make(chan error, 1000)}
	config := &otlpspan.Config{
		Client: b.collector, Resource: about, Queue: 1000, Size: 100, Delay: time.Hour, Timeout: time.Minute,
		Made: func() { b.made.Add(1) }, Dropped: func(spans int) { b.dropped.Add(int64(spans)) },
		Send: func(ctx context.Context, _ int, upload func(context.Context) error) { b.errs <- upload(ctx) },
	}
	if change != nil {
		change(config)
	}
	var err error
	b.sender, err = otlpspan.Start(t.Context(), config)
	require.NoError(t, err)
	b.recorder = &otlpspan.Recorder{
		Sender: b.sender, Scope: instrumentation.Scope{Name: "tasker"}, Sampler: sdktrace.ParentBased(sdktrace.AlwaysSample()),
		Follows: true, Limits: sdktrace.NewSpanLimits(),
	}
	return b
}

// shutdown sends what there is.
func (b *testBundle) shutdown(t testing.TB) {
	t.Helper()
	require.NoError(t, b.sender.Shutdown(context.Background()))
	require.True(t, b.collector.stopped)
}

// record records a span that is over.
func (b *testBundle) record(t testing.TB, s *telemetry.Span) {
	t.Helper()
	b.recorder.RecordSpan(b.recorder.SpanContext(t.Context(), s), s)
}
