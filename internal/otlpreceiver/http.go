package otlpreceiver

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	protobuf = "application/x-protobuf"
	// maxBody bounds a request after decompression.
	maxBody = 64 << 20
)

// HTTPHandler takes the same as the gRPC server, as protobuf over HTTP: POST /v1/traces, /v1/metrics and /v1/logs.
func (r *Receiver) HTTPHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, q *http.Request) {
		var batch coltrace.ExportTraceServiceRequest
		r.answer(w, q, &batch, func() { r.keepSpans(batch.GetResourceSpans()) })
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, q *http.Request) {
		var batch colmetrics.ExportMetricsServiceRequest
		r.answer(w, q, &batch, func() { r.keepMetrics(batch.GetResourceMetrics()) })
	})
	mux.HandleFunc("POST /v1/logs", func(w http.ResponseWriter, q *http.Request) {
		var batch collogs.ExportLogsServiceRequest
		r.answer(w, q, &batch, func() { r.keepLogs(batch.GetResourceLogs()) })
	})
	return mux
}

func (r *Receiver) answer(w http.ResponseWriter, q *http.Request, batch proto.Message, keep func()) {
	if got := q.Header.Get("Content-Type"); got != protobuf {
		http.Error(w, fmt.Sprintf("Content-Type is %q, want %s", got, protobuf), http.StatusUnsupportedMediaType)
		return
	}
	if err := r.admit(q.Context()); err != nil {
		refuse(w, status.Convert(err))
		return
	}
	if err := decode(q, batch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	keep()
	// An empty message, which is no bytes, says that all was taken.
	w.Header().Set("Content-Type", protobuf)
	w.WriteHeader(http.StatusOK)
}

func decode(q *http.Request, batch proto.Message) error {
	body := io.Reader(q.Body)
	if q.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return fmt.Errorf("decompress request: %w", err)
		}
		body = unzipped
	}
	data, err := io.ReadAll(io.LimitReader(body, maxBody))
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if err := proto.Unmarshal(data, batch); err != nil {
		return fmt.Errorf("decode request: %w", err)
	}
	return nil
}

// refuse says over HTTP what a gRPC status says.
func refuse(w http.ResponseWriter, refusal *status.Status) {
	code := http.StatusBadRequest
	switch refusal.Code() { //nolint:exhaustive // the two that OTLP knows to be worth another try; the rest is not
	case codes.Unavailable:
		code = http.StatusServiceUnavailable
	case codes.ResourceExhausted:
		code = http.StatusTooManyRequests
	}
	for _, detail := range refusal.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			seconds := retry.GetRetryDelay().AsDuration().Round(time.Second) / time.Second
			w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
		}
	}
	http.Error(w, refusal.Message(), code)
}
