package promtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/telemetry"
)

var strict = policy{aggregated: true, growth: true}

func TestTheCheckerAcceptsGoodQueries(t *testing.T) {
	t.Parallel()
	names := newVocabulary(telemetry.Catalogue())
	for _, query := range []string{
		`sum by (namespace) (rate(tasker_tasks_requests_total{correlation_id="x"}[5m]))`,
		`histogram_quantile(0.95, sum by (le) (rate(tasker_step_execution_duration_milliseconds_bucket[5m])))`,
		`sum by (state) (max by (state, namespace) (tasker_tasks_active))`,
		`max by (queue) (tasker_queue_depth) / (sum by (queue) (rate(tasker_messages_archived_total[5m])) > 0)`,
		`max by (queue) (deriv(tasker_queue_depth[15m])) > 0.5`,
		`sum by (instance) (go_goroutine_count) or vector(0)`,
		`sum by (job, pool) (tasker_db_pool_connections{state="active"}) / on (job, pool) sum by (job, pool) (tasker_db_pool_max_connections)`,
		`count by (job) (count by (job, __name__) ({__name__=~"tasker_.+", otel_metric_overflow="true"})) > 0`,
		`topk(3, sum by (query_type) (rate(tasker_sql_queries_total[5m])))`,
		`absent_over_time(target_info{job=~".*tasker.*"}[5m])`,
	} {
		require.NoError(t, names.check(query, strict), query)
	}
}

func TestTheCheckerRefusesBadQueries(t *testing.T) {
	t.Parallel()
	names := newVocabulary(telemetry.Catalogue())
	for _, test := range []struct{ name, query, want string }{
		{"no PromQL", `sum by (`, "parse"},
		{"an unknown metric", `sum(rate(tasker_tasks_asked_total[5m]))`, "tasker_tasks_asked_total is not a metric"},
		{"a histogram without its suffix", `sum(rate(tasker_message_latency_milliseconds[5m]))`, "is not a metric"},
		{"the name of the seed's first draft", `sum(rate(tasker_steps_results_processed_total[5m]))`, "is not a metric"},
		{"a pattern without a metric", `count({__name__=~"taskr_.+"})`, "no metric has a name like taskr_.+"},
		{"an undeclared label in a matcher", `sum(rate(tasker_tasks_requests_total{queue="x"}[5m]))`, "has no label queue"},
		{"an undeclared label to keep", `sum by (queue) (rate(tasker_tasks_requests_total[5m]))`, "sum by queue: there is no such label"},
		{"a label lost on the way", `sum by (state) (max by (namespace) (tasker_tasks_active))`, "sum by state"},
		{"a quantile without le", `histogram_quantile(0.9, sum(rate(tasker_message_latency_milliseconds_bucket[5m])))`, "without le"},
		{"le of a sum", `sum by (le) (rate(tasker_message_latency_milliseconds_sum[5m]))`, "sum by le"},
		{"a sum over a shared gauge", `sum by (queue) (tasker_queue_depth)`, "take the max"},
		{"a mean over a shared gauge", `avg(tasker_steps_ready)`, "take the max"},
		{"a bare counter", `rate(tasker_tasks_requests_total[5m])`, "is not aggregated"},
		{"a bare gauge", `tasker_tasks_active > 0`, "is not aggregated"},
		{"the value of a counter", `sum(tasker_tasks_requests_total)`, "ask for its rate"},
		{"the rate of a gauge", `max(rate(tasker_queue_depth[5m]))`, "it is a gauge"},
		{"the slope of a counter", `sum(deriv(tasker_tasks_requests_total[5m]))`, "it is a counter"},
		{
			"sides that never match",
			`sum by (pool) (tasker_db_pool_connections) / sum by (instance, pool) (tasker_db_pool_max_connections)`, "never match",
		},
		{
			"a label to match on that one side lost",
			`sum by (pool) (tasker_db_pool_connections) / on (instance) sum by (instance) (tasker_db_pool_max_connections)`, "on (instance)",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, names.check(test.query, strict), test.want)
		})
	}
}

func TestWhatAPolicyDoesNotAskForIsAccepted(t *testing.T) {
	t.Parallel()
	names := newVocabulary(telemetry.Catalogue())
	burst := `tasker_step_execution_duration_milliseconds_sum / tasker_step_execution_duration_milliseconds_count`
	require.NoError(t, names.check(burst, policy{}), "the seed's own style")
	require.ErrorContains(t, names.check(burst, policy{aggregated: true}), "is not aggregated")
}
