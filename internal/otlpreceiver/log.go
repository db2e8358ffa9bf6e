package otlpreceiver

import (
	"time"

	"go.opentelemetry.io/otel/trace"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
)

// Log is a log record as it arrived.
type Log struct {
	Time     time.Time
	Severity string
	// Body is a string for what slog logs.
	Body       any
	Attributes map[string]any
	// TraceID and SpanID are zero where the record was logged outside of a span.
	TraceID trace.TraceID
	SpanID  trace.SpanID
	// Scope is the name of the logger, Resource what is known of the process.
	Scope    string
	Resource map[string]any
}

func (r *Receiver) keepLogs(batch []*logspb.ResourceLogs) {
	var logs []Log
	for _, process := range batch {
		resource := attributes(process.GetResource().GetAttributes())
		for _, scope := range process.GetScopeLogs() {
			for _, record := range scope.GetLogRecords() {
				logs = append(logs, Log{
					Time: instant(record.GetTimeUnixNano()), Severity: record.GetSeverityText(), Body: value(record.GetBody()),
					Attributes: attributes(record.GetAttributes()), TraceID: traceID(record.GetTraceId()),
					SpanID: spanID(record.GetSpanId()), Scope: scope.GetScope().GetName(), Resource: resource,
				})
			}
		}
	}
	r.keep(func() { r.logs = append(r.logs, logs...) })
}
