package otlpreceiver_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testBundle is a receiver and a client of its services.
type testBundle struct {
	*otlpreceiver.Receiver

	traces  coltrace.TraceServiceClient
	metrics colmetrics.MetricsServiceClient
	logs    collogs.LogsServiceClient
}

func start(t *testing.T) *testBundle {
	t.Helper()
	receiver, err := otlpreceiver.Start(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(receiver.Stop)
	conn, err := grpc.NewClient(receiver.Endpoint()[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	return &testBundle{
		Receiver: receiver, traces: coltrace.NewTraceServiceClient(conn), metrics: colmetrics.NewMetricsServiceClient(conn),
		logs: collogs.NewLogsServiceClient(conn),
	}
}

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

func process(id string) *resourcepb.Resource {
	return &resourcepb.Resource{Attributes: []*commonpb.KeyValue{text("service.instance.id", id)}}
}

func spans(names ...string) *coltrace.ExportTraceServiceRequest {
	var batch []*tracepb.Span
	for _, name := range names {
		batch = append(batch, &tracepb.Span{
			Name: name, TraceId: bytes.Repeat([]byte{1}, 16), SpanId: bytes.Repeat([]byte{2}, 8), ParentSpanId: bytes.Repeat([]byte{3}, 8),
			Kind: tracepb.Span_SPAN_KIND_CONSUMER, StartTimeUnixNano: 1e18, EndTimeUnixNano: 1e18 + 5,
			Attributes: []*commonpb.KeyValue{
				text("a", "b"),
				{Key: "n", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: 7}}},
				{Key: "l", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_ArrayValue{ArrayValue: &commonpb.ArrayValue{
					Values: []*commonpb.AnyValue{{Value: &commonpb.AnyValue_BoolValue{BoolValue: true}}},
				}}}},
			},
			Events: []*tracepb.Span_Event{{Name: "asked"}, {Name: "answered"}},
			Links:  []*tracepb.Span_Link{{TraceId: bytes.Repeat([]byte{4}, 16), SpanId: bytes.Repeat([]byte{5}, 8)}},
			Status: &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: "broken"},
		})
	}
	return &coltrace.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource:   process("p1"),
		ScopeSpans: []*tracepb.ScopeSpans{{Scope: &commonpb.InstrumentationScope{Name: "tracer"}, Spans: batch}},
	}}}
}

func metrics(from string, batch ...*metricspb.Metric) *colmetrics.ExportMetricsServiceRequest {
	return &colmetrics.ExportMetricsServiceRequest{ResourceMetrics: []*metricspb.ResourceMetrics{{
		Resource:     process(from),
		ScopeMetrics: []*metricspb.ScopeMetrics{{Scope: &commonpb.InstrumentationScope{Name: "meter"}, Metrics: batch}},
	}}}
}

func number(value int64, namespace string) *metricspb.NumberDataPoint {
	return &metricspb.NumberDataPoint{
		Attributes: []*commonpb.KeyValue{text("namespace", namespace)}, Value: &metricspb.NumberDataPoint_AsInt{AsInt: value},
	}
}

func counter(temporality metricspb.AggregationTemporality, points ...*metricspb.NumberDataPoint) *metricspb.Metric {
	return &metricspb.Metric{Name: "requests", Unit: "{task}", Description: "Requests.", Data: &metricspb.Metric_Sum{Sum: &metricspb.Sum{
		IsMonotonic: true, AggregationTemporality: temporality, DataPoints: points,
	}}}
}

func histogram(count uint64, sum float64, buckets ...uint64) *metricspb.Metric {
	return &metricspb.Metric{Name: "duration", Unit: "ms", Data: &metricspb.Metric_Histogram{Histogram: &metricspb.Histogram{
		AggregationTemporality: metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE,
		DataPoints: []*metricspb.HistogramDataPoint{{
			Attributes: []*commonpb.KeyValue{text("namespace", "orders")}, Count: count, Sum: &sum, ExplicitBounds: []float64{10, 100},
			BucketCounts: buckets,
			Exemplars: []*metricspb.Exemplar{{
				Value: &metricspb.Exemplar_AsDouble{AsDouble: 12}, TraceId: bytes.Repeat([]byte{1}, 16), SpanId: bytes.Repeat([]byte{2}, 8),
				FilteredAttributes: []*commonpb.KeyValue{text("correlation_id", "c")},
			}},
		}},
	}}}
}

func gauge(value int64) *metricspb.Metric {
	return &metricspb.Metric{Name: "depth", Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{
		DataPoints: []*metricspb.NumberDataPoint{number(value, "orders")},
	}}}
}

const (
	cumulative = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
	delta      = metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
)

func TestASpanComesOutAsItWasSent(t *testing.T) {
	t.Parallel()
	b := start(t)
	_, err := b.traces.Export(t.Context(), spans("one"))
	require.NoError(t, err)
	want := otlpreceiver.Span{
		Name: "one", TraceID: trace.TraceID(bytes.Repeat([]byte{1}, 16)), SpanID: trace.SpanID(bytes.Repeat([]byte{2}, 8)),
		ParentID: trace.SpanID(bytes.Repeat([]byte{3}, 8)), Kind: trace.SpanKindConsumer, Start: time.Unix(1e9, 0), End: time.Unix(1e9, 5),
		Attributes: map[string]any{"a": "b", "n": int64(7), "l": []any{true}}, Status: otelcodes.Error, StatusMessage: "broken",
		Events: []string{"asked", "answered"},
		Links: []otlpreceiver.Link{{
			TraceID: trace.TraceID(bytes.Repeat([]byte{4}, 16)), SpanID: trace.SpanID(bytes.Repeat([]byte{5}, 8)), Attributes: map[string]any{},
		}},
		Scope: "tracer", Resource: map[string]any{"service.instance.id": "p1"},
	}
	assert.Equal(t, []otlpreceiver.Span{want}, b.Spans())
}

func TestMetricsAreTheLastReportOfEachProcessAddedUp(t *testing.T) {
	t.Parallel()
	b := start(t)
	send := func(request *colmetrics.ExportMetricsServiceRequest) {
		_, err := b.metrics.Export(t.Context(), request)
		require.NoError(t, err)
	}
	send(metrics("p1", counter(cumulative, number(3, "orders"), number(1, "mail")), histogram(2, 20, 1, 1, 0), gauge(7)))
	before := b.Snapshot()
	send(metrics("p1", counter(cumulative, number(5, "orders")), gauge(4)))
	send(metrics("p2", counter(cumulative, number(10, "orders")), histogram(3, 300, 0, 1, 2), gauge(9)))

	s := b.Snapshot()
	assert.InDelta(t, 16, s.Total("requests", nil), 0)
	assert.InDelta(t, 15, s.Total("requests", map[string]string{"namespace": "orders"}), 0)
	assert.InDelta(t, 0, s.Total("requests", map[string]string{"namespace": "none"}), 0)
	assert.InDelta(t, 5, s.Total("duration", nil), 0)
	assert.InDelta(t, 0, s.Total("unknown", nil), 0)
	assert.InDelta(t, 4, before.Total("requests", nil), 0, "a snapshot does not change")

	m := s.Metrics()
	assert.Equal(t, otlpreceiver.KindCounter, m["requests"].Kind)
	assert.Equal(t, "{task}", m["requests"].Unit)
	assert.Equal(t, "Requests.", m["requests"].Description)
	assert.Equal(t, "meter", m["requests"].Scope)
	assert.Len(t, m["requests"].Resources, 2)
	require.Len(t, m["depth"].Points, 1)
	assert.Equal(t, otlpreceiver.KindGauge, m["depth"].Kind)
	assert.InDelta(t, 9, m["depth"].Points[0].Value, 0, "all processes see the same queue")
	assert.InDelta(t, 13, m["depth"].Points[0].Sum, 0)
	require.Len(t, m["duration"].Points, 1)
	point := m["duration"].Points[0]
	assert.Equal(t, []uint64{1, 2, 2}, point.Buckets)
	assert.Equal(t, []float64{10, 100}, point.Bounds)
	assert.InDelta(t, 320, point.Sum, 0)
	require.Len(t, point.Exemplars, 2)
	assert.Equal(t, map[string]any{"correlation_id": "c"}, point.Exemplars[0].Attributes)
	assert.InDelta(t, 12, point.Exemplars[0].Value, 0)
}

func TestDeltasAreAddedUp(t *testing.T) {
	t.Parallel()
	b := start(t)
	for _, value := range []int64{1, 2, 3} {
		_, err := b.metrics.Export(t.Context(), metrics("p1", counter(delta, number(value, "orders"))))
		require.NoError(t, err)
	}
	assert.InDelta(t, 6, b.Snapshot().Total("requests", nil), 0)
}

func TestWaitIsWokenByEachArrival(t *testing.T) {
	t.Parallel()
	b := start(t)
	asked := make(chan int, 3)
	waited := make(chan error, 1)
	go func() {
		waited <- b.Wait(t.Context(), func(s *otlpreceiver.Snapshot) bool {
			asked <- len(s.Spans)
			return len(s.Spans) == 3
		})
	}()
	assert.Equal(t, 0, <-asked)
	for _, batch := range [][]string{{"one"}, {"two", "three"}} {
		_, err := b.traces.Export(t.Context(), spans(batch...))
		require.NoError(t, err)
		assert.NotZero(t, <-asked)
	}
	require.NoError(t, <-waited)
}

func TestWaitEndsAndSaysWhatIsThere(t *testing.T) {
	t.Parallel()
	b := start(t)
	_, err := b.traces.Export(t.Context(), spans("one"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = b.Wait(ctx, func(*otlpreceiver.Snapshot) bool { return false })
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "have 1 spans, 0 metrics and 0 log records in 1 batches")
	b.Stop()
	b.Stop()
	require.ErrorContains(t, b.Wait(t.Context(), func(*otlpreceiver.Snapshot) bool { return false }), "receiver is stopped")
	require.NoError(t, b.Wait(t.Context(), func(s *otlpreceiver.Snapshot) bool { return len(s.Spans) == 1 }), "what was received stays")
}

func TestFaults(t *testing.T) {
	t.Parallel()
	b := start(t)
	server := httptest.NewServer(b.HTTPHandler())
	t.Cleanup(server.Close)

	b.SetFault(otlpreceiver.Refuse(codes.ResourceExhausted, 2*time.Second))
	_, err := b.traces.Export(t.Context(), spans("one"))
	refusal := status.Convert(err)
	assert.Equal(t, codes.ResourceExhausted, refusal.Code())
	require.Len(t, refusal.Details(), 1)
	assert.Equal(t, 2*time.Second, refusal.Details()[0].(*errdetails.RetryInfo).GetRetryDelay().AsDuration())
	code, retryAfter := post(t, server.URL+"/v1/traces", spans("one"), nil)
	assert.Equal(t, http.StatusTooManyRequests, code)
	assert.Equal(t, "2", retryAfter)

	b.SetFault(otlpreceiver.Refuse(codes.Unavailable, 0))
	_, err = b.metrics.Export(t.Context(), metrics("p1", gauge(1)))
	assert.Equal(t, codes.Unavailable, status.Code(err))
	code, retryAfter = post(t, server.URL+"/v1/metrics", metrics("p1", gauge(1)), nil)
	assert.Equal(t, http.StatusServiceUnavailable, code)
	assert.Empty(t, retryAfter)

	b.SetFault(otlpreceiver.Hang())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = b.logs.Export(ctx, &collogs.ExportLogsServiceRequest{})
	assert.Equal(t, codes.DeadlineExceeded, status.Code(err))

	b.SetFault(otlpreceiver.Slow(30 * time.Millisecond))
	began := time.Now()
	_, err = b.traces.Export(t.Context(), spans("one"))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)
	assert.Len(t, b.Spans(), 1, "what is refused is not stored")
}

func TestStopEndsWhatHangs(t *testing.T) {
	t.Parallel()
	b := start(t)
	server := httptest.NewServer(b.HTTPHandler())
	t.Cleanup(server.Close)
	hang, held := otlpreceiver.Hang(), make(chan struct{}, 2)
	b.SetFault(func(ctx context.Context) error {
		held <- struct{}{}
		return hang(ctx)
	})
	failed := make(chan error, 1)
	answered := make(chan int, 1)
	go func() {
		_, err := b.traces.Export(t.Context(), spans("one"))
		failed <- err
	}()
	go func() {
		code, _ := post(t, server.URL+"/v1/traces", spans("one"), nil)
		answered <- code
	}()
	<-held
	<-held
	b.Stop()
	require.Error(t, <-failed)
	assert.Equal(t, http.StatusBadRequest, <-answered)
}

// post sends a batch and returns the answer's status and Retry-After.
func post(t *testing.T, url string, batch proto.Message, change func(*http.Request)) (code int, retryAfter string) {
	t.Helper()
	body, err := proto.Marshal(batch)
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/x-protobuf")
	if change != nil {
		change(request)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode, response.Header.Get("Retry-After")
}

// compress changes a request to one whose body is compressed.
func compress(t *testing.T) func(*http.Request) {
	t.Helper()
	return func(q *http.Request) {
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		_, err := io.Copy(w, q.Body)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		q.Header.Set("Content-Encoding", "gzip")
		q.Body, q.ContentLength = io.NopCloser(&zipped), int64(zipped.Len())
	}
}

func TestHTTPTakesTheSame(t *testing.T) {
	t.Parallel()
	b := start(t)
	server := httptest.NewServer(b.HTTPHandler())
	t.Cleanup(server.Close)
	logs := &collogs.ExportLogsServiceRequest{ResourceLogs: []*logspb.ResourceLogs{{
		Resource: process("p1"),
		ScopeLogs: []*logspb.ScopeLogs{{LogRecords: []*logspb.LogRecord{{
			SeverityText: "WARN", Body: text("", "careful").GetValue(), TraceId: bytes.Repeat([]byte{1}, 16),
		}}}},
	}}}

	for path, batch := range map[string]proto.Message{"traces": spans("one"), "metrics": metrics("p1", gauge(3)), "logs": logs} {
		code, _ := post(t, server.URL+"/v1/"+path, batch, nil)
		assert.Equal(t, http.StatusOK, code, path)
	}
	code, _ := post(t, server.URL+"/v1/traces", spans("two"), compress(t))
	assert.Equal(t, http.StatusOK, code)

	s := b.Snapshot()
	require.Len(t, s.Spans, 2)
	assert.Equal(t, "two", s.Spans[1].Name)
	assert.InDelta(t, 3, s.Total("depth", nil), 0)
	require.Len(t, s.Logs, 1)
	assert.Equal(t, "careful", s.Logs[0].Body)
	assert.Equal(t, "WARN", s.Logs[0].Severity)
	assert.Equal(t, 4, s.Batches)

	code, _ = post(t, server.URL+"/v1/traces", spans("one"), func(q *http.Request) { q.Header.Set("Content-Type", "application/json") })
	assert.Equal(t, http.StatusUnsupportedMediaType, code)
	code, _ = post(t, server.URL+"/v1/traces", spans("one"), func(q *http.Request) { q.Header.Set("Content-Encoding", "gzip") })
	assert.Equal(t, http.StatusBadRequest, code)
}
