package verify

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// needOutage are the metrics that only something going wrong records.
var needOutage = []string{
	"tasker.db.connection.errors.total", "tasker.messages.send_failures.total", "tasker.messages.receive_failures.total",
}

const noOutage = "the database is not ours to take away"

// closedSets are the values that labels may have, by metric, or by label where that is one thing everywhere.
var closedSets = map[string][]string{
	"claim_method":                                       {"event", "poll"},
	"tasker.sql.queries.total/result":                    {"ok", "error", "canceled"},
	"tasker.sql.query.duration/result":                   {"ok", "error", "canceled"},
	"tasker.db.transaction.duration/result":              {"commit", "rollback"},
	"tasker.db.pool.connections/state":                   {"idle", "active", "constructing"},
	"tasker.step.execution.duration/result":              {"success", "error"},
	"tasker.step_results.processed.total/result_type":    {"success", "error", "timeout"},
	"tasker.step_result.processing.duration/result_type": {"success", "error", "timeout"},
	"tasker.steps.results_submitted.total/result_type":   {"completion"},
	"tasker.step_result.submission.duration/result_type": {"completion"},
	"tasker.task.finalization.duration/final_state":      {"complete", "error", "cancelled", "blocked_by_failures", "resolved_manually"},
	"tasker.telemetry.correlation_labels.total/decision": {"admitted", "refused"},
	"tasker.telemetry.export_failures.total/signal":      {"traces", "metrics", "logs"},
	"tasker.notifications.total/result":                  {"ok", "error"},
	"tasker.db.connection.errors.total/error_type":       connectionErrors,
	"tasker.steps.failures.total/error_type":             executionErrors,
	"tasker.steps.lost.total/reason":                     {"reaped", "expired", "handed_back", "withdrawn"},
	"tasker.commit.batch_size/committer":                 {"claim", "advance", "result"},
	"tasker.commit.wait.duration/committer":              {"claim", "advance", "result"},
	"message_type":                                       {"tasker_enqueue", "tasker_execute", "tasker_result"},
}

var (
	connectionErrors = []string{
		"timeout", "connection_refused", "pool_exhausted", "auth", "too_many", "admin_shutdown", "dns", "tls", "other",
	}
	executionErrors = []string{
		"handler_error", "handler_panic", "handler_timeout", "invalid_result", "handler_not_found", "claim_failed", "database_error",
	}
)

// examineMetric holds what arrived of a metric against its entry in the catalogue.
func examineMetric(e *evidence, want *telemetry.Metric, f *finding) {
	got, there := e.metrics[want.Name]
	if !there || len(got.Points) == 0 {
		if e.outage == nil && slices.Contains(needOutage, want.Name) {
			f.skip(noOutage)
			return
		}
		f.problemf("%s was not exported", want.Name)
		return
	}
	for what, pair := range map[string][2]string{
		"kind": {string(got.Kind), string(want.Kind)}, "unit": {got.Unit, want.Unit},
		"description": {got.Description, want.Help}, "meter": {got.Scope, telemetry.Scope},
	} {
		if pair[0] != pair[1] {
			f.problemf("%s is %q, not %q", what, pair[0], pair[1])
		}
	}
	examineLabels(&got, want, f)
	switch want.Kind {
	case telemetry.KindCounter:
		examineCounter(e, want, f)
	case telemetry.KindHistogram:
		examineHistogram(&got, want, f)
	case telemetry.KindGauge:
		examineGauge(&got, f)
	}
}

const (
	correlationLabel = "correlation_id"
	overflowLabel    = "otel.metric.overflow"
)

// examineLabels wants each point to have all labels of the catalogue and none beside them. Of these correlation_id is on some.
func examineLabels(got *otlpreceiver.Metric, want *telemetry.Metric, f *finding) {
	found := make(map[string]bool)
	for i := range got.Points {
		examinePoint(&got.Points[i], want, func(format string, args ...any) { found[fmt.Sprintf(format, args...)] = true })
	}
	for _, problem := range slices.Sorted(maps.Keys(found)) {
		f.problemf("%s", problem)
	}
	correlated := slices.ContainsFunc(got.Points, func(p otlpreceiver.Point) bool { return p.Attributes[correlationLabel] != nil })
	if slices.Contains(want.Labels, correlationLabel) && !correlated {
		f.problemf("no point has correlation_id")
	}
}

// examinePoint says what is wrong with the labels of one point.
func examinePoint(p *otlpreceiver.Point, want *telemetry.Metric, problemf func(format string, args ...any)) {
	for label, value := range p.Attributes {
		if !slices.Contains(want.Labels, label) {
			problemf("label that is not declared: %s", label)
		}
		if allowed := closedSet(want.Name, label); allowed != nil && !slices.Contains(allowed, fmt.Sprint(value)) {
			problemf("value that a label must not have: %s=%v", label, value)
		}
	}
	for _, label := range want.Labels {
		if _, ok := p.Attributes[label]; !ok && label != correlationLabel {
			problemf("label missing on some points: %s", label)
		}
	}
}

func closedSet(metric, label string) []string {
	if allowed := closedSets[metric+"/"+label]; allowed != nil {
		return allowed
	}
	return closedSets[label]
}

func examineCounter(e *evidence, want *telemetry.Metric, f *finding) {
	total := e.total(want.Name, nil)
	f.seenf("%d", total)
	if total <= 0 {
		f.problemf("nothing was counted")
	}
}

func examineHistogram(got *otlpreceiver.Metric, want *telemetry.Metric, f *finding) {
	all := sumUp(got)
	var inBuckets uint64
	for _, n := range all.Buckets {
		inBuckets += n
	}
	switch {
	case all.Count == 0:
		f.problemf("nothing was measured")
		return
	case !slices.Equal(all.Bounds, want.Bounds):
		f.problemf("buckets end at %v, not at %v", all.Bounds, want.Bounds)
	case inBuckets != all.Count:
		f.problemf("%d measurements, but %d in the buckets", all.Count, inBuckets)
	case !(all.Sum >= 0):
		f.problemf("the sum is %g", all.Sum)
	}
	f.seenf("%d, mean %s ms, p95 %s ms", all.Count, number(all.Sum/float64(all.Count)), number(quantile(0.95, &all)))
}

func examineGauge(got *otlpreceiver.Metric, f *finding) {
	highest := math.Inf(-1)
	for i := range got.Points {
		highest = max(highest, got.Points[i].Value)
	}
	f.seenf("%s at most, %d series", number(highest), len(got.Points))
	if highest < 0 {
		f.problemf("it is negative")
	}
}

// sumUp is sum by (le).
func sumUp(m *otlpreceiver.Metric) otlpreceiver.Point {
	var all otlpreceiver.Point
	for i := range m.Points {
		p := &m.Points[i]
		all.Count += p.Count
		all.Sum += p.Sum
		if i == 0 {
			all.Bounds, all.Buckets = p.Bounds, slices.Clone(p.Buckets)
			continue
		}
		for j := range min(len(all.Buckets), len(p.Buckets)) {
			all.Buckets[j] += p.Buckets[j]
		}
	}
	return all
}

// quantile is Prometheus' histogram_quantile: even within a bucket, and the highest bound for what lies above it.
func quantile(q float64, p *otlpreceiver.Point) float64 {
	rank, below := q*float64(p.Count), 0.0
	for i, n := range p.Buckets {
		if i >= len(p.Bounds) {
			break
		}
		if below+float64(n) < rank || n == 0 {
			below += float64(n)
			continue
		}
		lower := 0.0
		if i > 0 {
			lower = p.Bounds[i-1]
		}
		return lower + (p.Bounds[i]-lower)*(rank-below)/float64(n)
	}
	if len(p.Bounds) == 0 {
		return math.NaN()
	}
	return p.Bounds[len(p.Bounds)-1]
}

// number is short.
func number(v float64) string { return fmt.Sprintf("%.3g", v) }

// metricChecks are about several points or metrics at once.
var metricChecks = []check{
	{groupOrchestration, "a request that the database refuses is counted", refusedRequests},
	{groupOrchestration, "tasks have correlation_id on their metrics", admitted},
	{groupWorker, "claims won by notification (claim_method event)", claimMethods},
	{groupGauges, "every execution ended", nothingRuns},
	{groupGauges, "each worked namespace and queue is shown", shownQueues},
	{groupDatabase, "pools orchestration, worker and river", pools},
	{groupDatabase, "statements by name", statements},
	{groupMessaging, "sent = received = archived", balance},
	{groupMessaging, "every failed fetch is counted", failedFetches},
	{groupHistograms, "one measurement for each event", measurements},
	{groupHistograms, "exemplars lead to traces", exemplars},
	{groupCatalogue, "nothing is exported that is not declared", undeclared},
	{groupCatalogue, "no series overflowed (otel.metric.overflow)", overflow},
	{groupCatalogue, "the same names at /metrics", pageNames},
}

func join[V any](m map[string]V) string {
	parts := make([]string, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %v", key, m[key]))
	}
	return strings.Join(parts, ", ")
}
