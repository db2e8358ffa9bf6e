package setup_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

func scrape(t *testing.T, handler http.Handler, accept string) string {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", accept)
	response := httptest.NewRecorder()
	handler.ServeHTTP(response, request)
	require.Equal(t, http.StatusOK, response.Code)
	return response.Body.String()
}

func TestPrometheusReadsTheNamesOfTheSeed(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *setup.Config) {
		c.Traces.Exporter.Name, c.Metrics.Exporter.Name, c.ServiceName = "none", "none", "tasker-orchestration"
	})
	task := newTask(uuid.New())
	record(t.Context(), b.recorder, task, func(context.Context) {})
	text := scrape(t, b.providers.MetricsHandler(), "text/plain")

	labels := `{correlation_id="` + task.CorrelationID.String() + `",namespace="orders",task_type="fulfil"`
	for _, want := range []string{
		"\n# TYPE tasker_tasks_requests_total counter\n",
		"\ntasker_tasks_requests_total" + labels + "} 1\n",
		"\n# TYPE tasker_task_initialization_duration_milliseconds histogram\n",
		"\ntasker_task_initialization_duration_milliseconds_bucket" + labels + `,le="10"} 1` + "\n",
		"\ntasker_task_initialization_duration_milliseconds_count" + labels + "} 1\n",
		"\ntasker_task_initialization_duration_milliseconds_sum" + labels + "} ",
		"\ngo_goroutine_count ",
		`service_name="tasker-orchestration"`,
	} {
		assert.Contains(t, text, want)
	}
	assert.NotContains(t, text, "otel_scope")
	assert.NotContains(t, text, "_total_total")
	assert.NotContains(t, text, "_ratio")

	known := make(map[string]bool)
	for _, m := range telemetry.Catalogue() {
		known[m.PrometheusName()] = true
	}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "# TYPE tasker_"); ok {
			name, _, _ = strings.Cut(name, " ")
			assert.True(t, known["tasker_"+name], "tasker_%s is not in the catalogue", name)
		}
	}
}

func TestExemplarsLeadFromAHistogramToTheTask(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *setup.Config) { c.Metrics.CorrelationLabel = telemetry.LabelOff })
	task := newTask(uuid.New())
	record(t.Context(), b.recorder, task, func(context.Context) {})
	text := scrape(t, b.providers.MetricsHandler(), "application/openmetrics-text; version=1.0.0")
	found := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "tasker_step_execution_duration_milliseconds_bucket") && strings.Contains(line, " # {") {
			found = true
			point, exemplar, _ := strings.Cut(line, " # {")
			assert.NotContains(t, point, "correlation_id")
			assert.Contains(t, exemplar, `correlation_id="`+task.CorrelationID.String()+`"`)
			assert.Contains(t, exemplar, `trace_id="`+telemetry.TraceID(task.ID).String()+`"`)
		}
	}
	assert.True(t, found, text)
}
