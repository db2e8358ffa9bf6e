package telemetry_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// promised are the names that dashboards outside of this project rely on, as Prometheus shows them, with their labels.
var promised = map[string]string{
	"tasker_tasks_requests_total":                         "correlation_id namespace task_type",
	"tasker_tasks_completions_total":                      "correlation_id namespace task_type",
	"tasker_tasks_failures_total":                         "correlation_id namespace task_type",
	"tasker_steps_enqueued_total":                         "correlation_id namespace step_name",
	"tasker_step_results_processed_total":                 "correlation_id namespace result_type",
	"tasker_task_initialization_duration_milliseconds":    "correlation_id namespace task_type",
	"tasker_task_finalization_duration_milliseconds":      "correlation_id final_state namespace",
	"tasker_step_result_processing_duration_milliseconds": "correlation_id namespace result_type",
	"tasker_tasks_active":                                 "namespace state",
	"tasker_steps_ready":                                  "namespace",
	"tasker_task_state_transitions_total":                 "from_state namespace to_state",
	"tasker_steps_executions_total":                       "correlation_id handler_type namespace step_name",
	"tasker_steps_successes_total":                        "correlation_id namespace",
	"tasker_steps_failures_total":                         "correlation_id error_type namespace",
	"tasker_steps_claimed_total":                          "claim_method namespace",
	"tasker_steps_results_submitted_total":                "correlation_id namespace result_type",
	"tasker_step_execution_duration_milliseconds":         "correlation_id namespace result",
	"tasker_step_claim_duration_milliseconds":             "claim_method namespace",
	"tasker_step_result_submission_duration_milliseconds": "correlation_id namespace result_type",
	"tasker_steps_active_executions":                      "handler_type namespace",
	"tasker_worker_queue_depth":                           "namespace",
	"tasker_sql_queries_total":                            "query_type result",
	"tasker_sql_query_duration_milliseconds":              "query_type result",
	"tasker_db_pool_checkouts_total":                      "pool",
	"tasker_db_connection_errors_total":                   "error_type",
	"tasker_db_transaction_duration_milliseconds":         "result transaction_type",
	"tasker_db_pool_checkout_duration_milliseconds":       "pool",
	"tasker_db_pool_connections":                          "pool state",
	"tasker_messages_sent_total":                          "correlation_id message_type queue",
	"tasker_messages_received_total":                      "correlation_id message_type queue",
	"tasker_messages_archived_total":                      "queue",
	"tasker_messages_send_failures_total":                 "error_type queue",
	"tasker_messages_receive_failures_total":              "error_type queue",
	"tasker_message_latency_milliseconds":                 "correlation_id message_type queue",
	"tasker_message_send_duration_milliseconds":           "queue",
	"tasker_message_receive_duration_milliseconds":        "queue",
	"tasker_message_archive_duration_milliseconds":        "queue",
	"tasker_queue_depth":                                  "namespace queue",
	"tasker_queue_oldest_message_age_milliseconds":        "queue",
}

func TestTheThirtyNinePromisedMetricsHaveTheirNamesAndLabels(t *testing.T) {
	t.Parallel()
	core := make(map[string]string)
	for _, m := range telemetry.Catalogue() {
		if m.Core {
			labels := slices.Sorted(slices.Values(m.Labels))
			core[m.PrometheusName()] = strings.Join(labels, " ")
		}
	}
	require.Len(t, promised, 39)
	require.Equal(t, promised, core)
}

var (
	dotted = regexp.MustCompile(`^tasker(\.[a-z][a-z_]*)+$`)
	unit   = regexp.MustCompile(`^(ms|\{[a-z]+\})$`)
	label  = regexp.MustCompile(`^[a-z][a-z_]*$`)
)

func TestEveryMetricSaysWhatItIs(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, m := range telemetry.Catalogue() {
		require.Regexp(t, dotted, m.Name)
		require.False(t, seen[m.PrometheusName()], "%s: two metrics with one name", m.Name)
		seen[m.PrometheusName()] = true
		require.Regexp(t, unit, m.Unit, m.Name)
		require.True(t, strings.HasSuffix(m.Help, "."), "%s: help is a sentence", m.Name)
		require.Equal(t, m.Kind == telemetry.KindHistogram, len(m.Bounds) > 0, "%s: bounds", m.Name)
		require.True(t, slices.IsSorted(m.Bounds), m.Name)
		require.NotContains(t, m.Labels, "task_uuid", "%s: ids are for spans", m.Name)
		for _, l := range m.Labels {
			require.Regexp(t, label, l, m.Name)
		}
		if strings.HasSuffix(m.Name, ".total") {
			require.Equal(t, telemetry.KindCounter, m.Kind, m.Name)
		}
		if strings.Contains(m.Name, "duration") {
			require.Equal(t, "ms", m.Unit, m.Name)
		}
	}
}

func TestEachMetricOfTheCatalogueHasAnInstrument(t *testing.T) {
	t.Parallel()
	// New refuses a catalogue with a metric that nothing records, and an instrument that is not in it.
	_, err := telemetry.New(&telemetry.Config{MeterProvider: sdkmetric.NewMeterProvider()})
	require.NoError(t, err)
}
