package promtest

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// sample is a series of the fixture and the value that it comes to.
type sample struct {
	labels labels.Labels
	value  float64
}

// readRecorded reads what processes reported: lines of a series and its value.
func readRecorded(path string) ([]sample, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read recorded run: %w", err)
	}
	defer file.Close()
	var out []sample
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		line := scanner.Text()
		cut := strings.LastIndexByte(line, ' ')
		if cut < 0 {
			return nil, fmt.Errorf("read recorded run: %q is no series and its value", line)
		}
		series, err := promql.ParseMetric(line[:cut])
		if err != nil {
			return nil, fmt.Errorf("read recorded run: %q: %w", line, err)
		}
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("read recorded run: %q: %w", line, err)
		}
		out = append(out, sample{series, value})
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read recorded run: %w", err)
	}
	return out, nil
}

// knownCorrelation is the correlation id of the task that is made up below.
const knownCorrelation = "0199c3e0-ccdb-7581-87ab-3f67daeaa4a5"

// valuesOf are values of labels, as the code sets them: all of those that a query may ask for by name.
var valuesOf = map[string][]string{
	"correlation_id": {knownCorrelation}, "namespace": {"orders"}, "task_type": {"fulfil"}, "step_name": {"reserve"},
	"handler_type": {"orders.reserve"}, "result_type": {"success", "error", "timeout"}, "claim_method": {"event", "poll"},
	"error_type": {"handler_error", "timeout"}, "final_state": {"complete", "error"}, "from_state": {"pending"},
	"to_state": {"steps_in_process"}, "queue": {"orders", "orchestration"}, "message_type": {"tasker_execute", "tasker_result"},
	"query_type": {"StepClaimMany"}, "transaction_type": {"advance"}, "pool": {"orchestration"}, "decision": {"admitted", "refused"},
	"committer": {"claim", "advance", "result"}, "reason": {"reaped", "handed_back"}, "entity": {"step", "job"},
	"signal": {"traces", "metrics"},
}

// metricValuesOf are those of labels that mean something else on each metric.
var metricValuesOf = map[string]map[string][]string{
	"tasker.sql.queries.total":       {"result": {"ok", "error"}},
	"tasker.sql.query.duration":      {"result": {"ok", "error"}},
	"tasker.db.transaction.duration": {"result": {"commit", "rollback"}},
	"tasker.step.execution.duration": {"result": {"success", "error"}},
	"tasker.notifications.total":     {"result": {"ok", "error"}},
	"tasker.tasks.active":            {"state": {"steps_in_process", "blocked_by_failures"}},
	"tasker.db.pool.connections":     {"state": {"active", "idle"}},
}

// madeUp is what the recorded run may not have had: every metric of the catalogue, with every value that matters of each label.
func madeUp(catalogue []telemetry.Metric) []sample {
	var out []sample
	for i := range catalogue {
		m := &catalogue[i]
		for n := range 3 {
			base := map[string]string{"job": "made-up", "instance": "made-up-" + strconv.Itoa(n)}
			for _, label := range m.Labels {
				values := valuesOf[label]
				if own := metricValuesOf[m.Name][label]; own != nil {
					values = own
				}
				base[label] = values[n%len(values)]
			}
			out = append(out, points(m, base)...)
		}
	}
	others := map[string]map[string]string{
		"target_info":                 {"service_name": "tasker"},
		"tasker_steps_enqueued_total": {"otel_metric_overflow": "true"},
	}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		l := labels.NewBuilder(labels.FromMap(others[name]))
		l.Set(model.MetricNameLabel, name).Set("job", "made-up").Set("instance", "made-up-0")
		out = append(out, sample{l.Labels(), 7})
	}
	return out
}

// points are the series of a metric with some labels.
func points(m *telemetry.Metric, base map[string]string) []sample {
	point := func(suffix string, value float64, more ...string) sample {
		l := labels.NewBuilder(labels.FromMap(base)).Set(model.MetricNameLabel, m.PrometheusName()+suffix)
		for i := 0; i < len(more); i += 2 {
			l.Set(more[i], more[i+1])
		}
		return sample{l.Labels(), value}
	}
	if m.Kind != telemetry.KindHistogram {
		return []sample{point("", 26)}
	}
	out := []sample{point("_sum", 260), point("_count", 26), point("_bucket", 26, "le", "+Inf")}
	for i, bound := range m.Bounds {
		// Half of the values are below the middle bucket, and all below the last.
		share := min(1, float64(i)/float64(len(m.Bounds)/2)/2)
		out = append(out, point("_bucket", math.Round(26*share), "le", strconv.FormatFloat(bound, 'f', -1, 64)))
	}
	return out
}

// hour is how long the fixture runs; samples come every minute.
const hour = 60

// play loads an hour in which counters grow evenly to their value, and gauges keep theirs.
func play(names vocabulary, samples []sample) (*promqltest.LazyLoader, error) {
	input := "load 1m\n"
	var lines strings.Builder
	known := make(map[string]bool)
	for _, s := range samples {
		key := s.labels.String()
		if known[key] { // it was recorded and made up
			continue
		}
		known[key] = true
		value, growth := s.value, 0.0
		if found, _ := names.find(s.labels.Get(model.MetricNameLabel)); found.kind == counter {
			value, growth = 0, s.value/hour
		}
		fmt.Fprintf(&lines, "  %s %s+%sx%d\n", s.labels, decimal(value), decimal(growth), hour)
	}
	loader, err := promqltest.NewLazyLoader(input+lines.String(), promqltest.LazyLoaderOpts{EnableAtModifier: true})
	if err != nil {
		return nil, fmt.Errorf("load fixture: %w", err)
	}
	loader.WithSamplesTill(fixtureEnd, func(problem error) { err = problem })
	return loader, err
}

var fixtureEnd = time.Unix(0, 0).UTC().Add(hour * time.Minute)

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// ask evaluates a query at the fixture's end, and returns how many values come, those that are no number left out.
func ask(loader *promqltest.LazyLoader, query string) (int, error) {
	ctx := context.Background()
	q, err := loader.QueryEngine().NewInstantQuery(ctx, loader.Queryable(), nil, query, fixtureEnd)
	if err != nil {
		return 0, fmt.Errorf("ask: %w", err)
	}
	defer q.Close()
	vector, err := q.Exec(ctx).Vector()
	if err != nil {
		return 0, fmt.Errorf("ask: %w", err)
	}
	n := 0
	for _, s := range vector {
		if !math.IsNaN(s.F) {
			n++
		}
	}
	return n, nil
}
