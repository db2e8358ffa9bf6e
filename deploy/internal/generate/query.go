package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// Grafana's units.
const (
	unitMS        = "ms"
	unitSeconds   = "s"
	unitCount     = "short"
	unitPerSecond = "ops"
	unitShare     = "percentunit"
	unitBytes     = "bytes"

	unitBytesPerSecond = "Bps"
)

// The windows. Grafana makes the first at least four exports long, so that rate always has two values to work with.
const (
	window = "$__rate_interval"
	whole  = "$__range"
)

// query is an expression and how it is shown.
type query struct {
	expr, legend, unit string
	// help is the catalogue's, of the first metric in it.
	help string
	// instant asks for the newest value alone.
	instant bool
	// exemplars are shown as points that link to traces.
	exemplars bool
}

// named puts a word before the legend.
func (q query) named(word string) query {
	q.legend = strings.TrimSpace(word + " " + q.legend)
	return q
}

// source makes queries about metrics of the catalogue. What it cannot make it notes, and goes on.
type source struct {
	metrics map[string]*telemetry.Metric
	// filters are matchers by label. They apply to the metrics that have the label, or that every series has it of.
	filters  []filter
	problems []error
}

// filter is a matcher that a variable of the dashboard makes.
type filter struct {
	label, matcher string
	// required: a metric without the label cannot be asked for.
	required bool
}

func newSource(catalogue []telemetry.Metric, filters []filter) *source {
	s := &source{metrics: make(map[string]*telemetry.Metric), filters: filters}
	for i := range catalogue {
		s.metrics[catalogue[i].Name] = &catalogue[i]
	}
	return s
}

func (s *source) failf(format string, args ...any) {
	s.problems = append(s.problems, fmt.Errorf(format, args...))
}

func (s *source) err() error { return errors.Join(s.problems...) }

// metric finds an instrument of one of some kinds by its name.
func (s *source) metric(name string, kinds ...telemetry.Kind) *telemetry.Metric {
	m := s.metrics[name]
	switch {
	case m == nil:
		s.failf("metric %s is not in the catalogue", name)
		return &telemetry.Metric{Name: name}
	case !slices.Contains(kinds, m.Kind):
		s.failf("metric %s is a %s", name, m.Kind)
	}
	return m
}

// everySeries are the labels that Prometheus gives to each series.
var everySeries = []string{"job", "instance"}

// labels checks that a metric has some labels.
func (s *source) labels(m *telemetry.Metric, labels []string) {
	for _, label := range labels {
		if !slices.Contains(m.Labels, label) && !slices.Contains(everySeries, label) {
			s.failf("metric %s has no label %s", m.Name, label)
		}
	}
}

// series selects a metric's series: those of the dashboard's filters, and of further matchers.
func (s *source) series(m *telemetry.Metric, suffix string, where []string) string {
	var matchers []string
	for _, f := range s.filters {
		has := slices.Contains(m.Labels, f.label) || slices.Contains(everySeries, f.label)
		if has {
			matchers = append(matchers, f.matcher)
		} else if f.required {
			s.labels(m, []string{f.label})
		}
	}
	for _, matcher := range where {
		s.labels(m, []string{matcher[:strings.IndexAny(matcher, "=!")]})
	}
	matchers = append(matchers, where...)
	return m.PrometheusName() + suffix + "{" + strings.Join(matchers, ", ") + "}"
}

// by are the labels that a query keeps.
func by(labels ...string) []string { return labels }

// grouped aggregates an expression.
func grouped(function string, by []string, expr string) string {
	if len(by) > 0 {
		function += " by (" + strings.Join(by, ", ") + ") "
	}
	return function + "(" + expr + ")"
}

func legend(by []string) string {
	parts := make([]string, len(by))
	for i, label := range by {
		parts[i] = "{{" + label + "}}"
	}
	return strings.Join(parts, " ")
}

// unit is a metric's unit for Grafana.
func unit(m *telemetry.Metric) string {
	if m.Unit == "ms" {
		return unitMS
	}
	return unitCount
}

// over aggregates a function of a counter's series over a window.
func (s *source) over(function, span, name string, by, where []string) query {
	m := s.metric(name, telemetry.KindCounter)
	s.labels(m, by)
	expr := grouped("sum", by, function+"("+s.series(m, "", where)+"["+span+"])")
	return query{expr: expr, legend: legend(by), help: m.Help}
}

// rate is how much a counter grows in a second.
func (s *source) rate(name string, by []string, where ...string) query {
	q := s.over("rate", window, name, by, where)
	q.unit = unitPerSecond
	return q
}

// events is how much a counter grew in the window before each point, for what happens so seldom that a rate is unreadable. So
// one event is seen for some minutes.
func (s *source) events(name string, by []string) query {
	q := s.over("increase", window, name, by, nil)
	q.unit = unitCount
	return q
}

// increase is how much a counter grew in the dashboard's time range.
func (s *source) increase(name string, by []string, where ...string) query {
	q := s.over("increase", whole, name, by, where)
	q.unit, q.instant = unitCount, true
	return q
}

// reached is the value that a counter came to in the dashboard's time range. Processes that ended in it are counted.
func (s *source) reached(name string, by []string, where ...string) query {
	q := s.over("max_over_time", whole, name, by, where)
	q.unit, q.instant = unitCount, true
	return q
}

// observed is how many measurements a histogram got in a second.
func (s *source) observed(name string, by []string, where ...string) query {
	m := s.metric(name, telemetry.KindHistogram)
	s.labels(m, by)
	expr := grouped("sum", by, "rate("+s.series(m, "_count", where)+"["+window+"])")
	return query{expr: expr, legend: legend(by), unit: unitPerSecond, help: m.Help}
}

// quantile is a quantile of a histogram.
func (s *source) quantile(q float64, name string, by []string, where ...string) query {
	m := s.metric(name, telemetry.KindHistogram)
	s.labels(m, by)
	buckets := grouped("sum", append([]string{"le"}, by...), "rate("+s.series(m, "_bucket", where)+"["+window+"])")
	return query{
		expr: fmt.Sprintf("histogram_quantile(%g, %s)", q, buckets), legend: legend(by), unit: unit(m), help: m.Help, exemplars: true,
	}
}

// quantiles are the three that say most of a latency.
func (s *source) quantiles(name string, where ...string) []query {
	return []query{
		s.quantile(0.5, name, nil, where...).named("p50"),
		s.quantile(0.95, name, nil, where...).named("p95"),
		s.quantile(0.99, name, nil, where...).named("p99"),
	}
}

// heat is a histogram's buckets over time.
func (s *source) heat(name string, where ...string) query {
	m := s.metric(name, telemetry.KindHistogram)
	expr := grouped("sum", by("le"), "increase("+s.series(m, "_bucket", where)+"["+window+"])")
	return query{expr: expr, legend: legend(by("le")), unit: unit(m), help: m.Help, exemplars: true}
}

// mean is the mean of all that a histogram has measured since its processes began.
func (s *source) mean(name string, by []string, where ...string) query {
	m := s.metric(name, telemetry.KindHistogram)
	s.labels(m, by)
	expr := grouped("sum", by, s.series(m, "_sum", where)) + " / " + grouped("sum", by, s.series(m, "_count", where))
	return query{expr: expr, legend: legend(by), unit: unit(m), help: m.Help, instant: true}
}

// meanReached is the same, processes that ended in the dashboard's time range included.
func (s *source) meanReached(name string, by []string) query {
	m := s.metric(name, telemetry.KindHistogram)
	s.labels(m, by)
	part := func(suffix string) string {
		return grouped("sum", by, "max_over_time("+s.series(m, suffix, nil)+"["+whole+"])")
	}
	return query{expr: part("_sum") + " / " + part("_count"), legend: legend(by), unit: unit(m), help: m.Help, instant: true}
}

// gauge is the present value. Where every process reports the same, the largest is taken before anything is added up.
func (s *source) gauge(name string, by []string, where ...string) query {
	m := s.metric(name, telemetry.KindGauge)
	s.labels(m, by)
	expr := s.series(m, "", where)
	switch {
	case !shared(m):
		expr = grouped("sum", by, expr)
	case len(by) < len(m.Labels):
		expr = grouped("sum", by, grouped("max", m.Labels, expr))
	default:
		expr = grouped("max", by, expr)
	}
	return query{expr: expr, legend: legend(by), unit: unit(m), help: m.Help}
}

// shared tells whether all processes report the same value: what they read from the database. The catalogue says so in words.
func shared(m *telemetry.Metric) bool {
	return m.Kind == telemetry.KindGauge && strings.Contains(m.Help, "use max, not sum")
}

// top are the n largest.
func (q query) top(n int) query {
	q.expr = fmt.Sprintf("topk(%d, %s)", n, q.expr)
	return q
}

// per divides by another query.
func (q query) per(other query, unit string) query {
	q.expr, q.unit = q.expr+" / "+other.expr, unit
	return q
}

// among is the share of q in q and the rest. The rest may not exist yet: then all is q.
func (q query) among(rest query) query {
	q.expr = fmt.Sprintf("%s / (%s + (%s or 0 * %s))", q.expr, q.expr, rest.expr, q.expr)
	q.unit = unitShare
	return q
}

// positive leaves out what is zero, as divisors must.
func (q query) positive() query {
	q.expr = "(" + q.expr + " > 0)"
	return q
}

// foreign are metrics of libraries: the Go runtime's.
var foreign = map[string]query{
	"go_goroutine_count":              {unit: unitCount, help: "Goroutines."},
	"go_memory_used_bytes":            {unit: unitBytes, help: "Memory used by the Go runtime."},
	"go_memory_gc_goal_bytes":         {unit: unitBytes, help: "Size of the heap at which the garbage collector runs."},
	"go_memory_allocated_bytes_total": {unit: unitBytesPerSecond, help: "Memory allocated on the heap, in a second."},
}

// other asks for a metric that is not Tasker's. %s in the expression stands for its series.
func (s *source) other(name, expr string, by []string) query {
	q, known := foreign[name]
	if !known {
		s.failf("metric %s is neither in the catalogue nor known from a library", name)
	}
	var matchers []string
	for _, f := range s.filters {
		if slices.Contains(everySeries, f.label) {
			matchers = append(matchers, f.matcher)
		}
	}
	q.expr = grouped("sum", by, fmt.Sprintf(expr, name+"{"+strings.Join(matchers, ", ")+"}"))
	q.legend = legend(by)
	return q
}
