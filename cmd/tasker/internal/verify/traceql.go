package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// tempo asks a Tempo.
type tempo struct {
	url   string
	since time.Time
}

// searchMargin is how long before the run a search begins. Tempo leaves the last half minute out, and refuses to search a time
// of which that leaves nothing.
const searchMargin = time.Minute

// byTraceID asks for a trace by its id rather than by a query.
const byTraceID = "GET /api/v2/traces/"

func (t *tempo) ask(ctx context.Context, query string) (*reply, error) {
	if id, ok := strings.CutPrefix(query, byTraceID); ok {
		return t.trace(ctx, id)
	}
	var answer struct {
		Traces []struct {
			TraceID string `json:"traceID"` //nolint:tagliatelle // theirs
		} `json:"traces"`
	}
	parameters := url.Values{
		"q": {query}, "limit": {"100"}, "start": {strconv.FormatInt(t.since.Add(-searchMargin).Unix(), 10)},
		"end": {strconv.FormatInt(time.Now().Unix()+1, 10)},
	}
	if err := getJSON(ctx, t.url, "/api/search", parameters, &answer); err != nil {
		return nil, fmt.Errorf("ask Tempo: %w", err)
	}
	found := &reply{n: len(answer.Traces), names: make(map[string]bool), text: fmt.Sprintf("%d traces", len(answer.Traces))}
	for _, one := range answer.Traces {
		// Tempo leaves out leading zeros.
		found.names[fmt.Sprintf("%032s", strings.ToLower(one.TraceID))] = true
	}
	return found, nil
}

// resourceSpans is OTLP as JSON, as far as it matters here.
type resourceSpans struct {
	ScopeSpans []struct {
		Spans []jsonSpan `json:"spans"`
	} `json:"scopeSpans"` //nolint:tagliatelle // OTLP's
}

// jsonSpan is a span. Its ids are whatever text they are: Tempo writes base64.
type jsonSpan struct {
	SpanID       string `json:"spanId"`       //nolint:tagliatelle // OTLP's
	ParentSpanID string `json:"parentSpanId"` //nolint:tagliatelle // OTLP's
	Name         string `json:"name"`
}

// trace reads a whole trace. Its reply counts spans, and lists them with the names of their parents.
func (t *tempo) trace(ctx context.Context, id string) (*reply, error) {
	var answer struct {
		Trace struct {
			ResourceSpans []resourceSpans `json:"resourceSpans"` //nolint:tagliatelle // OTLP's
		} `json:"trace"`
	}
	err := getJSON(ctx, t.url, strings.TrimPrefix(byTraceID, "GET ")+id, nil, &answer)
	if rejected, ok := errors.AsType[*rejectedError](err); ok && rejected.status == http.StatusNotFound {
		return &reply{text: "not there"}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask Tempo: %w", err)
	}
	var spans []jsonSpan
	for _, process := range answer.Trace.ResourceSpans {
		for _, scope := range process.ScopeSpans {
			spans = append(spans, scope.Spans...)
		}
	}
	return &reply{n: len(spans), names: family(spans), text: fmt.Sprintf("%d spans", len(spans))}, nil
}

// family are the names of spans, each with its parent's.
func family(spans []jsonSpan) map[string]bool {
	names, all := make(map[string]string, len(spans)), make(map[string]bool)
	for i := range spans {
		names[spans[i].SpanID] = spans[i].Name
	}
	for i := range spans {
		parent := names[spans[i].ParentSpanID]
		if parent == "" && spans[i].ParentSpanID != "" {
			parent = "a span that is not there"
		}
		all[spans[i].Name+" under "+parent] = true
	}
	return all
}

// scopeNote is why a bare attribute is refused.
const scopeNote = "TraceQL wants span. or a leading dot before an attribute"

// traceQL are the older documents' queries of traces, and the way that works at once.
func traceQL(about *subject) []query {
	bare := func(title, attribute, value string, enough func(*reply) error) query {
		return query{
			backend: tempoName, title: title, older: fmt.Sprintf(`{%s=%q}`, attribute, value),
			today: fmt.Sprintf(`{span.%s=%q}`, attribute, value), enough: enough, note: scopeNote,
		}
	}
	t := &about.example
	return []query{
		{backend: tempoName, title: "the whole trace by its id", today: byTraceID + t.TraceID, enough: isWhole},
		bare("by correlation_id", "correlation_id", t.CorrelationID, hasTrace(t.TraceID)),
		{
			backend: tempoName, title: "everything with a correlation_id", older: `{span.correlation_id != nil}`,
			today: `{span.correlation_id != nil}`, enough: something,
		},
		{
			backend: tempoName, title: "slow operations", older: `{duration > 1s}`, today: `{duration > 1s}`, // none need be slow
		},
		{
			backend: tempoName, title: "errors", older: `{status = error}`,
			today: fmt.Sprintf(`{status = error && span.task_uuid=%q}`, about.failed.TaskUUID), enough: hasTrace(about.failed.TraceID),
		},
		bare("by task_uuid", "task_uuid", t.TaskUUID, hasTrace(t.TraceID)),
		bare("by namespace", "namespace", sequence.namespace, something),
	}
}

// hasTrace: a trace is among those found.
func hasTrace(id string) func(*reply) error {
	return func(r *reply) error {
		if r.n == 0 {
			return errNothing
		}
		if !r.names[id] {
			return fmt.Errorf("trace %s is not among the %d found", id, r.n)
		}
		return nil
	}
}

// isWhole: it has all the spans of a run, each under its parent.
func isWhole(r *reply) error {
	if r.n == 0 {
		return errNothing
	}
	if want := sum(sequence.wants()); r.n != want {
		return fmt.Errorf("%d spans, not %d", r.n, want)
	}
	for name, parent := range telemetry.SpanNames() {
		if !r.names[name+" under "+parent] {
			return fmt.Errorf("there is no %s under %q", name, parent)
		}
	}
	if len(r.names) != len(telemetry.SpanNames()) {
		return errors.New("spans stand where they should not")
	}
	return nil
}
