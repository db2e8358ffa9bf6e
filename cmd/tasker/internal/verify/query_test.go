package verify

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/telemetry"
)

const (
	someTrace = "00ee57434921da4e3410cece6d568c1d"
	someID    = "0bad8fd2-1245-466a-bcc7-9be6e7285a95"
)

// about is a run of three tasks and the one created by SQL.
var about = &subject{
	selector: `instance=~"verify-1-.*"`, tasks: 4, histograms: mainHistograms[:1],
	example: Example{CorrelationID: someID, TaskUUID: "01a2", TraceID: someTrace}, failed: Example{TaskUUID: "01a3", TraceID: someTrace},
}

// serve answers requests with pages by path and query; an int is a status of the page after it.
func serve(t *testing.T, answer func(path, query string) (int, string)) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		query := q.URL.Query().Get("query") + q.URL.Query().Get("q")
		code, text := answer(q.URL.Path, query)
		w.WriteHeader(code)
		fmt.Fprint(w, text)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// ask asks the queries whose titles begin so.
func ask(t *testing.T, name string, b backend, title string) []Answer {
	t.Helper()
	queries := slices.DeleteFunc(about.queries(), func(q query) bool { return q.backend != name || !strings.HasPrefix(q.title, title) })
	require.NotEmpty(t, queries)
	p := &patient{
		backends: map[string]backend{name: b}, limit: 200 * time.Millisecond, gap: time.Millisecond, until: make(map[string]time.Time),
	}
	return p.askAll(t.Context(), queries)
}

// vectorOf is Prometheus' answer with some series.
func vectorOf(values ...string) string {
	parts := make([]string, len(values))
	for i, value := range values {
		parts[i] = fmt.Sprintf(`{"metric":{"__name__":"m","n":"%d"},"value":[1763802000.781,%q]}`, i, value)
	}
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(parts, ",") + `]}}`
}

func TestPrometheusIsAskedUntilTheNumberIsRight(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	url := serve(t, func(path, query string) (int, string) {
		require.Equal(t, "/api/v1/query", path)
		switch {
		case query == "tasker_steps_enqueued_total":
			return 200, vectorOf("4", "4", "8")
		case query != `sum(tasker_steps_enqueued_total{namespace="rust_e2e_linear",instance=~"verify-1-.*"})`:
			return 400, query
		case asked.Add(1) == 1:
			return 200, vectorOf()
		case asked.Load() == 2:
			return 503, "starting"
		case asked.Load() == 3:
			return 200, vectorOf("12")
		}
		return 200, vectorOf("16")
	})
	answers := ask(t, prometheusName, &prometheus{url: url}, "tasker_steps_enqueued_total")
	require.Equal(t, []Answer{{
		Backend: prometheusName, Title: "tasker_steps_enqueued_total", Older: "tasker_steps_enqueued_total",
		Today:       `sum(tasker_steps_enqueued_total{namespace="rust_e2e_linear",instance=~"verify-1-.*"})`,
		OlderResult: "3 series, sum 16", Result: "16", Verdict: "works", Status: Passed,
	}}, answers)
	require.EqualValues(t, 4, asked.Load())
}

func TestAWrongNumberFailsInTheEnd(t *testing.T) {
	t.Parallel()
	url := serve(t, func(string, string) (int, string) { return 200, vectorOf("15") })
	answers := ask(t, prometheusName, &prometheus{url: url}, "tasker_steps_enqueued_total")
	require.Equal(t, Failed, answers[0].Status)
	require.Equal(t, "15, not 16", answers[0].Verdict)
}

func TestARateThatABurstHasNotIsNoFailure(t *testing.T) {
	t.Parallel()
	url := serve(t, func(_, query string) (int, string) {
		switch {
		case strings.Contains(query, "rate(") && strings.Contains(query, "quantile"):
			return 200, vectorOf("NaN")
		case strings.Contains(query, "rate("):
			return 200, vectorOf()
		}
		return 200, vectorOf("1.5")
	})
	answers := ask(t, prometheusName, &prometheus{url: url}, "tasker_task_initialization_duration_milliseconds,")
	require.Len(t, answers, 4)
	for i, want := range []Status{Passed, Passed, Skipped, Skipped} {
		require.Equal(t, want, answers[i].Status, answers[i].Title)
	}
	require.Contains(t, answers[3].Verdict, "created-timestamp-zero-ingestion")
	require.Equal(t, "NaN", answers[3].Result)
}

func TestEveryCoreMetricIsWanted(t *testing.T) {
	t.Parallel()
	var list []string
	for _, m := range telemetry.Catalogue() {
		name := m.PrometheusName()
		if m.Kind == telemetry.KindHistogram {
			name += "_count"
		}
		list = append(list, fmt.Sprintf(`{"metric":{"__name__":%q},"value":[1,"1"]}`, name))
	}
	answer := func(list []string) string {
		return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(list, ",") + `]}}`
	}
	full := serve(t, func(string, string) (int, string) { return 200, answer(list) })
	require.Equal(t, Passed, ask(t, prometheusName, &prometheus{url: full}, "every core metric")[0].Status)
	less := serve(t, func(string, string) (int, string) { return 200, answer(list[1:]) })
	answers := ask(t, prometheusName, &prometheus{url: less}, "every core metric")
	require.Equal(t, Failed, answers[0].Status)
	require.Equal(t, "missing: tasker_tasks_requests_total", answers[0].Verdict)

	require.Equal(t, Failed, ask(t, prometheusName, &prometheus{url: less}, "no overflow")[0].Status)
	none := serve(t, func(string, string) (int, string) { return 200, vectorOf() })
	require.Equal(t, Passed, ask(t, prometheusName, &prometheus{url: none}, "no overflow")[0].Status)
}

func TestWhatPrometheusRefusesIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	url := serve(t, func(string, string) (int, string) {
		asked.Add(1)
		return 400, `{"status":"error","errorType":"bad_data","error":"1:5: parse error: unexpected end of input"}`
	})
	answers := ask(t, prometheusName, &prometheus{url: url}, "tasker_tasks_requests_total")
	require.Equal(t, Failed, answers[0].Status)
	require.Contains(t, answers[0].Result, "HTTP 400")
	require.Contains(t, answers[0].Result, "parse error")
	require.EqualValues(t, 2, asked.Load(), "once in each form")
}

// found is Tempo's answer to a search.
const found = `{"traces":[{"traceID":"ee57434921da4e3410cece6d568c1d","rootServiceName":"tasker-client",
	"rootTraceName":"create_and_enqueue_task_from_request","startTimeUnixNano":"1763802000782000000","durationMs":120,
	"spanSets":[{"spans":[{"spanID":"563d623c76514f8e","startTimeUnixNano":"1763802000782000000","durationNanos":"12000"}],"matched":1}]}],
	"metrics":{"inspectedTraces":3,"inspectedBytes":"1024"}}`

func TestABareAttributeIsRefusedAndTheScopedOneWorks(t *testing.T) {
	t.Parallel()
	url := serve(t, func(path, query string) (int, string) {
		require.Equal(t, "/api/search", path)
		if query == `{correlation_id="`+someID+`"}` {
			return 400, "invalid TraceQL query: parse error at line 1, col 2: syntax error: unexpected IDENTIFIER\n"
		}
		require.Equal(t, `{span.correlation_id="`+someID+`"}`, query)
		return 200, found
	})
	answers := ask(t, tempoName, &tempo{url: url, since: time.Now()}, "by correlation_id")
	require.Equal(t, Passed, answers[0].Status)
	require.Equal(t, "works in today's form: "+scopeNote, answers[0].Verdict)
	require.Equal(t, "ask Tempo: HTTP 400: invalid TraceQL query: parse error at line 1, col 2: syntax error: unexpected IDENTIFIER", answers[0].OlderResult)
	require.Equal(t, "1 traces", answers[0].Result)
}

func TestASearchThatFindsAnotherTraceFails(t *testing.T) {
	t.Parallel()
	url := serve(t, func(string, string) (int, string) { return 200, strings.ReplaceAll(found, "ee5743", "ff5743") })
	answers := ask(t, tempoName, &tempo{url: url}, "by task_uuid")
	require.Equal(t, Failed, answers[0].Status)
	require.Contains(t, answers[0].Verdict, someTrace+" is not among the 1 found")
	empty := serve(t, func(string, string) (int, string) { return 200, `{"traces":[],"metrics":{"completedJobs":1}}` })
	require.Equal(t, errNothing.Error(), ask(t, tempoName, &tempo{url: empty}, "by namespace")[0].Verdict)
	require.Equal(t, "works", ask(t, tempoName, &tempo{url: empty}, "slow operations")[0].Verdict, "nothing need be slow")
}

// traceJSON is Tempo's answer for a trace: OTLP as JSON, ids in base64.
func traceJSON(t *testing.T, spoil func(spans []map[string]any)) string {
	t.Helper()
	e := healthy(t)
	own := telemetry.TraceID(e.oneOf(&sequence).id)
	var spans []map[string]any
	for i := range e.spans {
		if s := &e.spans[i]; s.TraceID == own {
			span := map[string]any{
				"traceId": base64.StdEncoding.EncodeToString(s.TraceID[:]), "spanId": base64.StdEncoding.EncodeToString(s.SpanID[:]),
				"name": s.Name, "kind": "SPAN_KIND_INTERNAL", "startTimeUnixNano": "1763802000782000000",
				"attributes": []any{map[string]any{"key": "namespace", "value": map[string]any{"stringValue": "rust_e2e_linear"}}},
				"status":     map[string]any{"code": "STATUS_CODE_OK"},
			}
			if s.ParentID.IsValid() {
				span["parentSpanId"] = base64.StdEncoding.EncodeToString(s.ParentID[:])
			}
			spans = append(spans, span)
		}
	}
	spoil(spans)
	text, err := json.Marshal(map[string]any{"trace": map[string]any{"resourceSpans": []any{
		map[string]any{"scopeSpans": []any{map[string]any{"spans": spans[:1]}}},
		map[string]any{"scopeSpans": []any{map[string]any{"spans": spans[1:]}}},
	}}})
	require.NoError(t, err)
	return string(text)
}

func TestATraceIsWholeByItsID(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil   func(spans []map[string]any)
		verdict string
	}{
		"whole":        {func([]map[string]any) {}, "works"},
		"wrong parent": {func(spans []map[string]any) { spans[2]["parentSpanId"] = spans[0]["spanId"] }, "spans stand where they should not"},
		"orphan":       {func(spans []map[string]any) { spans[1]["parentSpanId"] = "AAAA" }, "spans stand where they should not"},
		"other name":   {func(spans []map[string]any) { spans[len(spans)-1]["name"] = "x" }, `there is no make_finalization_decision under "finalize_task"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			page := traceJSON(t, test.spoil)
			url := serve(t, func(path, _ string) (int, string) {
				require.Equal(t, "/api/v2/traces/"+someTrace, path)
				if asked.Add(1) == 1 {
					return 404, "trace not found"
				}
				return 200, page
			})
			answers := ask(t, tempoName, &tempo{url: url}, "the whole trace")
			require.Equal(t, test.verdict, answers[0].Verdict)
			require.Equal(t, "35 spans", answers[0].Result)
		})
	}
	id, err := hex.DecodeString(someTrace)
	require.NoError(t, err)
	require.Len(t, id, 16)
}

// lines is Loki's answer.
func lines(n int) string {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf(`["17638020007820%05d","step complete correlation_id=%s",{"span_id":"563d623c76514f8e"}]`, i, someID)
	}
	streams := ""
	if n > 0 {
		streams = `{"stream":{"service_name":"tasker-orchestration"},"values":[` + strings.Join(values, ",") + `]}`
	}
	return `{"status":"success","data":{"resultType":"streams","result":[` + streams + `],"stats":{}}}`
}

func TestLokiFindsLinesAlsoWhereItDoesNotIndexContainers(t *testing.T) {
	t.Parallel()
	url := serve(t, func(path, query string) (int, string) {
		require.Equal(t, "/loki/api/v1/query_range", path)
		if strings.HasPrefix(query, "{container=") {
			return 200, lines(0)
		}
		require.True(t, strings.HasPrefix(query, `{service_name="tasker-orchestration"} |`), query)
		return 200, lines(4)
	})
	answers := ask(t, lokiName, &loki{url: url, since: time.Now()}, "")
	require.Len(t, answers, 4)
	for _, a := range answers {
		require.Equal(t, Passed, a.Status, a.Title)
		require.Equal(t, "4 lines", a.Result)
	}
	require.Equal(t, "works in today's form: "+containerNote, answers[0].Verdict)
	require.Equal(t, "0 lines", answers[0].OlderResult)
	require.Equal(t, "works", answers[2].Verdict)

	few := serve(t, func(string, string) (int, string) { return 200, lines(3) })
	require.Equal(t, "3 lines, not the 4 of the task's executions", ask(t, lokiName, &loki{url: few}, "from a trace")[0].Verdict)
}

func TestABackendThatIsNotThereFailsAfterTheLimit(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	answers := ask(t, lokiName, &loki{url: server.URL}, "from a trace")
	require.Equal(t, Failed, answers[0].Status)
	require.Contains(t, answers[0].Verdict, "connection refused")
	garbage := serve(t, func(string, string) (int, string) { return 200, "<html>" })
	require.Contains(t, ask(t, prometheusName, &prometheus{url: garbage}, "one task")[0].Verdict, "read answer")
}

func TestTheQueriesOfOlderDocumentsAreAllThere(t *testing.T) {
	t.Parallel()
	var olders []string
	for _, q := range about.queries() {
		olders = append(olders, q.older)
	}
	for _, want := range []string{
		"tasker_tasks_requests_total", "tasker_tasks_completions_total", "tasker_steps_enqueued_total", "tasker_step_results_processed_total",
		"tasker_steps_executions_total", "tasker_steps_successes_total", "tasker_steps_claimed_total", "tasker_steps_results_submitted_total",
		`tasker_tasks_requests_total{correlation_id="` + someID + `"}`,
		"tasker_task_initialization_duration_milliseconds_sum / tasker_task_initialization_duration_milliseconds_count",
		"histogram_quantile(0.95, sum by (le) (tasker_task_initialization_duration_milliseconds_bucket))",
		"rate(tasker_task_initialization_duration_milliseconds_sum[5m]) / rate(tasker_task_initialization_duration_milliseconds_count[5m])",
		"histogram_quantile(0.95, sum by (le) (rate(tasker_task_initialization_duration_milliseconds_bucket[5m])))",
		`{correlation_id="` + someID + `"}`, `{span.correlation_id != nil}`, `{duration > 1s}`, `{status = error}`, `{task_uuid="01a2"}`,
		`{namespace="rust_e2e_linear"}`, `{container="tasker-orchestration"} |= "correlation_id"`,
	} {
		require.Contains(t, olders, want)
	}
}
