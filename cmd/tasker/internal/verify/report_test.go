package verify

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func reportOf(t *testing.T, e *evidence) *Report {
	t.Helper()
	s := &stage{options: &Options{Tasks: e.requested, Version: testVersion}, version: "15.14"}
	r := newReport(s, e, began)
	r.Checks, r.Queries = examine(e, checks()), documented()
	return r
}

func TestTheChecklistHasEachGroupWithItsMarks(t *testing.T) {
	t.Parallel()
	e := healthy(t)
	e.end.code = 3
	for i := range e.spans {
		e.spans[i].Resource = nil
	}
	var text bytes.Buffer
	r := reportOf(t, e)
	require.NoError(t, r.WriteText(&text))
	for _, part := range append([]string{
		"tasker 1.2.3, go1.", "3 tasks of mathematical_sequence in rapid succession; one more created by SQL",
		"  ✓ tasker_tasks_requests_total", "  ✗ SIGTERM: exit code 0, in time", "      exit code 3\n", "… and ",
		"1. tasks requested", "3, and 1 of the task created by SQL\n", "2 failed",
	}, groups...) {
		require.Contains(t, text.String(), part)
	}
	require.LessOrEqual(t, strings.Count(text.String(), "is of service"), maxProblems)
	require.Equal(t, 2, r.Count(Failed))
}

func TestTheResultsNameNeitherMachineNorPath(t *testing.T) {
	t.Parallel()
	r := reportOf(t, healthy(t))
	var text bytes.Buffer
	require.NoError(t, r.WriteMarkdown(&text))
	host, err := os.Hostname()
	require.NoError(t, err)
	require.NotContains(t, text.String(), host)
	require.NotContains(t, text.String(), os.TempDir()) //nolint:usetesting // the point
	require.NotContains(t, text.String(), "<no value>")
	for _, part := range []string{
		"- **Date**: 2026-11-22\n", "PostgreSQL 15.14\n", "\n### Traces\n\n- [x] one trace", "- [x] `tasker_tasks_requests_total`: ",
		"## Task execution flow", "| Tempo | by namespace | `{namespace=\"rust_e2e_linear\"}` | `{span.namespace=\"rust_e2e_linear\"}` | " + scopeNote + " |",
		"| `{container=\"tasker-orchestration\"} \\|= \"correlation_id\"` |", "\nNothing.\n", "- **Status**: complete\n",
	} {
		require.Contains(t, text.String(), part)
	}
}

func TestTheResultsOfBackendsStandBesideTheirQueries(t *testing.T) {
	t.Parallel()
	r := reportOf(t, healthy(t))
	r.Checks = examine(healthy(t), localChecks())
	r.Queries = []Answer{{
		Backend: tempoName, Title: "errors", Older: "{status = error}", Today: "{a | b}", OlderResult: "3 traces", Result: "HTTP 400: a | b",
		Verdict: "nothing was found", Status: Failed,
	}}
	var text, list bytes.Buffer
	require.NoError(t, r.WriteMarkdown(&text))
	require.Contains(t, text.String(), "| Tempo | errors | `{status = error}` | `{a \\| b}` | 3 traces; HTTP 400: a \\| b | nothing was found |")
	require.Contains(t, text.String(), "- Tempo, errors: nothing was found")
	require.Contains(t, text.String(), "- **Status**: 1 checks failed")
	require.NotContains(t, text.String(), "### Traces")
	require.NoError(t, r.WriteText(&list))
	require.Contains(t, list.String(), "\nTempo\n  ✗ errors: nothing was found\n      older  {status = error}\n             → 3 traces\n")
}

func TestTheReportIsJSON(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(reportOf(t, healthy(t)))
	require.NoError(t, err)
	for _, part := range []string{`"tasks":3,`, `{"group":"Traces","name":"one trace for each`, `"status":"passed"`, `"trace_id":"`} {
		require.Contains(t, string(text), part)
	}
}
