package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/cmd/tasker/internal/verify"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// verified runs the command, which has to find everything as it should be, and returns its report.
func verified(t *testing.T, s *shell, args ...string) *verify.Report {
	t.Helper()
	r := s.patiently(append([]string{"verify", "telemetry", "-o", "json"}, args...)...)
	report := decodeText[verify.Report](t, r.stdout)
	for _, c := range report.Checks {
		require.NotEqual(t, verify.Failed, c.Status, "%s: %v", c.Name, c.Problems)
	}
	for _, q := range report.Queries {
		require.NotEqual(t, verify.Failed, q.Status, "%+v", q)
	}
	require.Zero(t, r.code, r.stderr)
	return &report
}

// patiently runs a command that takes as long as many others.
func (s *shell) patiently(args ...string) result {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := s.command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(s.t, cmd.Start())
	timer := time.AfterFunc(5*deadline, func() { _ = cmd.Process.Signal(syscall.SIGTERM) }) //nolint:errcheck // the exit code tells
	defer timer.Stop()
	_ = cmd.Wait() //nolint:errcheck // the exit code tells
	s.inspect(stderr.String(), args)
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func values(report *verify.Report) map[string]string {
	all := make(map[string]string)
	for _, c := range report.Checks {
		all[c.Name] = c.Value
	}
	return all
}

func TestVerifyTelemetryProvesARealRun(t *testing.T) {
	t.Parallel()
	temporary := openDir(t)
	s := newShell(t, "").with("OTEL_EXPORTER_OTLP_ENDPOINT=http://192.0.2.1:4317", "OTEL_METRICS_EXPORTER=none", "TMPDIR="+temporary)
	report := verified(t, s, "--report", "results.md")
	require.GreaterOrEqual(t, report.Count(verify.Passed), 80)
	require.Zero(t, report.Count(verify.Skipped))
	seen := values(report)
	require.Equal(t, "26, and 1 of the task created by SQL", seen["1. tasks requested"])
	require.Equal(t, "104, and 4 of the task created by SQL", seen["6. results processed"])
	require.Equal(t, "30 of 30 tasks, also the one created by SQL", seen["one trace for each task, its id known from the task's"])
	require.Equal(t, "27 × 35 spans, 1 × 27 spans, 2 × 11 spans", seen["the whole flow is in it: eleven names, the right number of each"])

	text, err := os.ReadFile(filepath.Join(s.dir, "results.md"))
	require.NoError(t, err)
	require.Contains(t, string(text), report.Example.TraceID)
	host, err := os.Hostname()
	require.NoError(t, err)
	require.NotContains(t, string(text), host)
	require.NotRegexp(t, `(^|[\s"'(])/(tmp|root|home|work|var)/`, string(text))
	left, err := os.ReadDir(temporary)
	require.NoError(t, err)
	require.Empty(t, left, "its folder and its Postgres are gone")
}

func TestVerifyTelemetryLeavesAGivenDatabaseInPeace(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	s := newShell(t, url)
	s.write("docs/observability/README.md", "")
	report := verified(t, s, "--tasks", "3")
	require.Equal(t, 5, report.Count(verify.Skipped), "what needs an outage")
	require.Equal(t, "3, and 1 of the task created by SQL", values(report)["1. tasks requested"])
	require.FileExists(t, filepath.Join(s.dir, "docs/observability/VERIFICATION_RESULTS.md"))
	require.Equal(t, 7, ask[int](t, url, "SELECT count(*) FROM tasker.tasks"))
	s.ok("doctor")
}

func TestVerifyTelemetryAsksBackends(t *testing.T) {
	t.Parallel()
	receiver, err := otlpreceiver.Start(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(receiver.Stop)
	backends := httptest.NewServer(&fakeBackends{receiver})
	t.Cleanup(backends.Close)
	s := newShell(t, dbtest.URL(t)).with("OTEL_EXPORTER_OTLP_ENDPOINT=" + receiver.Endpoint())
	report := verified(t, s, "--tasks", "3", "--prometheus", backends.URL, "--tempo", backends.URL, "--loki", backends.URL)
	require.Equal(t, 12, report.Count(verify.Skipped), "rate() over a burst")
	verdicts := make(map[string]string)
	for _, q := range report.Queries {
		verdicts[q.Title] = q.Verdict
	}
	require.Equal(t, "works", verdicts["tasker_steps_enqueued_total"])
	require.Equal(t, "works", verdicts["the whole trace by its id"])
	require.Contains(t, verdicts["by correlation_id"], "works in today's form: TraceQL wants span.")
	require.Contains(t, verdicts["lines with a correlation_id"], "works in today's form: Loki indexes")
}

func TestVerifyTelemetryRefusesNonsense(t *testing.T) {
	t.Parallel()
	s := newShell(t, "")
	require.Contains(t, s.fails(exitUsage, "verify", "telemetry", "--tasks", "0"), "--tasks 0 is not one of 1 to 500")
	require.Contains(t, s.fails(exitUsage, "verify", "telemetry", "--loki", "localhost"), "--loki is not a URL")
	require.Contains(t, s.fails(exitUsage, "verify", "telemetri"), "did you mean telemetry?")
	require.Contains(t, s.fails(exitUsage, "verify", "telemetry", "now"), "usage:")
	nowhere := s.with("DATABASE_URL=postgres://tasker@127.0.0.1:1/tasker")
	require.Contains(t, nowhere.fails(exitUnreachable, "verify", "telemetry"), "connection refused")
}

// fakeBackends answers as Prometheus, Tempo and Loki do, with what a receiver has got.
type fakeBackends struct{ receiver *otlpreceiver.Receiver }

// ServeHTTP implements [http.Handler].
func (b *fakeBackends) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	snapshot, query := b.receiver.Snapshot(), q.URL.Query().Get("query")+q.URL.Query().Get("q")
	var answer any
	switch id, byID := strings.CutPrefix(q.URL.Path, "/api/v2/traces/"); {
	case byID:
		answer = map[string]any{"trace": map[string]any{"resourceSpans": []any{map[string]any{
			"scopeSpans": []any{map[string]any{"spans": spansOf(snapshot, id)}},
		}}}}
	case q.URL.Path == "/api/v1/query":
		answer = map[string]any{"status": "success", "data": map[string]any{"resultType": "vector", "result": series(snapshot, query)}}
	case q.URL.Path == "/api/search" && regexp.MustCompile(`^\{(correlation_id|task_uuid|namespace)=`).MatchString(query):
		http.Error(w, "invalid TraceQL query: parse error at line 1, col 2: syntax error: unexpected IDENTIFIER", http.StatusBadRequest)
		return
	case q.URL.Path == "/api/search" && !searchable(q.URL.Query()):
		http.Error(w, "http parameter start must be before end", http.StatusBadRequest)
		return
	case q.URL.Path == "/api/search":
		traces := make(map[string]any)
		for _, span := range snapshot.Spans {
			traces[span.TraceID.String()] = map[string]any{"traceID": strings.TrimLeft(span.TraceID.String(), "0"), "durationMs": 1}
		}
		answer = map[string]any{"traces": mapValues(traces)}
	case q.URL.Path == "/loki/api/v1/query_range":
		answer = map[string]any{"status": "success", "data": map[string]any{"resultType": "streams", "result": []any{
			map[string]any{"stream": map[string]any{}, "values": linesOf(snapshot, query)},
		}}}
	default:
		http.NotFound(w, q)
		return
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(err)
	}
}

// searchable tells whether Tempo searches a time: it leaves the last half minute out, and wants something to be left.
func searchable(q url.Values) bool {
	start, err := strconv.ParseInt(q.Get("start"), 10, 64)
	if err != nil {
		return false
	}
	end, err := strconv.ParseInt(q.Get("end"), 10, 64)
	return err == nil && start < min(end, time.Now().Add(-30*time.Second).Unix())
}

func mapValues(m map[string]any) []any {
	all := make([]any, 0, len(m))
	for _, value := range m {
		all = append(all, value)
	}
	return all
}

func spansOf(snapshot *otlpreceiver.Snapshot, trace string) []any {
	var spans []any
	for _, span := range snapshot.Spans {
		if span.TraceID.String() == trace {
			own := map[string]any{"spanId": span.SpanID.String(), "name": span.Name}
			if span.ParentID.IsValid() {
				own["parentSpanId"] = span.ParentID.String()
			}
			spans = append(spans, own)
		}
	}
	return spans
}

var selection = regexp.MustCompile(`(tasker_\w+)\{(namespace|correlation_id)="([^"]+)"`)

// series evaluates PromQL, as far as it has to.
func series(snapshot *otlpreceiver.Snapshot, query string) []any {
	one := func(name string, value float64) any {
		return map[string]any{"metric": map[string]string{"__name__": name}, "value": []any{1.5, fmt.Sprint(value)}}
	}
	names, reported := make(map[string]string), snapshot.Metrics()
	var all []any
	for _, m := range telemetry.Catalogue() {
		names[m.PrometheusName()] = m.Name
		if suffix := map[telemetry.Kind]string{telemetry.KindHistogram: "_count"}[m.Kind]; len(reported[m.Name].Points) > 0 {
			all = append(all, one(m.PrometheusName()+suffix, 1))
		}
	}
	switch match := selection.FindStringSubmatch(query); {
	case strings.Contains(query, "rate("), strings.Contains(query, "overflow"):
		return []any{}
	case strings.HasPrefix(query, "count by"):
		return all
	case strings.HasPrefix(query, "tasker_queue_depth{") && len(reported["tasker.queue.depth"].Points) == 0:
		return []any{} // no export has come since the server sampled its gauges
	case match != nil:
		return []any{one("", snapshot.Total(names[match[1]], map[string]string{match[2]: match[3]}))}
	}
	return []any{one("", 1.5)}
}

// linesOf evaluates LogQL, as far as it has to: container is not indexed.
func linesOf(snapshot *otlpreceiver.Snapshot, query string) [][]string {
	values := [][]string{}
	_, filter, _ := strings.Cut(query, "} ")
	wanted := regexp.MustCompile(`"([^"]+)"`).FindStringSubmatch(filter)[1]
	for _, record := range snapshot.Logs {
		text := fmt.Sprint(record.Body, record.Attributes, record.TraceID)
		if !strings.HasPrefix(query, "{container=") && strings.Contains(text, wanted) {
			values = append(values, []string{"1763802000782000000", fmt.Sprint(record.Body)})
		}
	}
	return values
}
