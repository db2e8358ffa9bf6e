package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// prometheus asks a Prometheus, or what has its API.
type prometheus struct{ url string }

// vector is the answer to an instant query.
type vector struct {
	Data struct {
		ResultType string          `json:"resultType"` //nolint:tagliatelle // theirs
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

type sample struct {
	Metric map[string]string `json:"metric"`
	// Value is a time and a number as text.
	Value [2]any `json:"value"`
}

func (p *prometheus) ask(ctx context.Context, query string) (*reply, error) {
	var answer vector
	if err := getJSON(ctx, p.url, "/api/v1/query", url.Values{"query": {query}}, &answer); err != nil {
		return nil, fmt.Errorf("ask Prometheus: %w", err)
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("ask Prometheus: a %s came back, no vector", answer.Data.ResultType)
	}
	var samples []sample
	if err := json.Unmarshal(answer.Data.Result, &samples); err != nil {
		return nil, fmt.Errorf("read Prometheus' answer: %w", err)
	}
	found := &reply{names: make(map[string]bool)}
	for _, s := range samples {
		text, _ := s.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(value) {
			continue
		}
		found.n++
		found.value += value
		found.names[s.Metric["__name__"]] = true
	}
	switch {
	case len(samples) == 0:
		found.text = "no data"
	case found.n == 0:
		found.text = "NaN"
	case found.n == 1:
		found.text = fmt.Sprintf("%.6g", found.value)
	default:
		found.text = fmt.Sprintf("%d series, sum %.6g", found.n, found.value)
	}
	return found, nil
}

// rateNote is why rate() may find nothing.
const rateNote = "a burst that falls into one export has no rate; Prometheus needs --enable-feature=created-timestamp-zero-ingestion"

// with adds what selects a run's series to a metric, beside other matchers.
func (about *subject) with(metric string, matchers ...string) string {
	if about.selector != "" {
		matchers = append(matchers, about.selector)
	}
	if len(matchers) == 0 {
		return metric
	}
	return metric + "{" + strings.Join(matchers, ",") + "}"
}

// promQL are the older documents' queries of metrics, instant and with rate, and a few of ours.
func promQL(about *subject) []query {
	var all []query
	for _, counter := range []struct {
		metric string
		each   int
	}{
		{"tasker_tasks_requests_total", 1},
		{"tasker_tasks_completions_total", 1},
		{"tasker_steps_enqueued_total", sequence.executions},
		{"tasker_step_results_processed_total", sequence.executions},
		{"tasker_steps_executions_total", sequence.executions},
		{"tasker_steps_successes_total", sequence.executions},
		{"tasker_steps_claimed_total", sequence.executions},
		{"tasker_steps_results_submitted_total", sequence.executions},
	} {
		today := about.with(counter.metric, fmt.Sprintf(`namespace=%q`, sequence.namespace))
		all = append(all, query{
			backend: prometheusName, title: counter.metric, older: counter.metric, today: "sum(" + today + ")",
			enough: equals(float64(counter.each * about.tasks)),
		})
	}
	one := fmt.Sprintf(`tasker_tasks_requests_total{correlation_id=%q}`, about.example.CorrelationID)
	all = append(all, query{backend: prometheusName, title: "one task", older: one, today: one, enough: equals(1)})
	for _, histogram := range about.histograms {
		all = append(all, about.histogramQueries(histogram+"_milliseconds")...)
	}
	return append(all,
		query{
			backend: prometheusName, title: "every core metric", enough: hasCore,
			today: "count by (__name__) (" + about.with("", `__name__=~"tasker_.+"`) + ")",
		},
		query{
			backend: prometheusName, title: "no overflow", optional: true, enough: none,
			today: about.with("", `__name__=~"tasker_.+"`, `otel_metric_overflow="true"`),
		},
	)
}

// histogramQueries are mean and p95, of the moment and over a window.
func (about *subject) histogramQueries(metric string) []query {
	sum, count, bucket := about.with(metric+"_sum"), about.with(metric+"_count"), about.with(metric+"_bucket")
	return []query{
		{
			backend: prometheusName, title: metric + ", mean", older: fmt.Sprintf("%[1]s_sum / %[1]s_count", metric),
			today: fmt.Sprintf("sum(%s) / sum(%s)", sum, count), enough: something,
		},
		{
			backend: prometheusName, title: metric + ", p95",
			older: fmt.Sprintf("histogram_quantile(0.95, sum by (le) (%s_bucket))", metric),
			today: fmt.Sprintf("histogram_quantile(0.95, sum by (le) (%s))", bucket), enough: something,
		},
		{
			backend: prometheusName, title: metric + ", mean over 5 minutes", optional: true, note: rateNote,
			older: fmt.Sprintf("rate(%[1]s_sum[5m]) / rate(%[1]s_count[5m])", metric),
			today: fmt.Sprintf("sum(rate(%s[5m])) / sum(rate(%s[5m]))", sum, count), enough: something,
		},
		{
			backend: prometheusName, title: metric + ", p95 over 5 minutes", optional: true, note: rateNote,
			older: fmt.Sprintf("histogram_quantile(0.95, sum by (le) (rate(%s_bucket[5m])))", metric),
			today: fmt.Sprintf("histogram_quantile(0.95, sum by (le) (rate(%s[5m])))", bucket), enough: something,
		},
	}
}

// something: there is an answer.
func something(r *reply) error {
	if r.n == 0 {
		return errNothing
	}
	return nil
}

// none: there is no answer, as it should be.
func none(r *reply) error {
	if r.n > 0 {
		return fmt.Errorf("%d series, there should be none", r.n)
	}
	return nil
}

// equals: the sum of the answer is a number.
func equals(want float64) func(*reply) error {
	return func(r *reply) error {
		if r.n == 0 {
			return errNothing
		}
		if r.value != want {
			return fmt.Errorf("%g, not %g", r.value, want)
		}
		return nil
	}
}

// hasCore: all metrics that need no outage are there.
func hasCore(r *reply) error {
	var missing []string
	catalogue := telemetry.Catalogue()
	for i := range catalogue {
		m := &catalogue[i]
		name := m.PrometheusName()
		if m.Kind == telemetry.KindHistogram {
			name += "_count"
		}
		if m.Core && !slices.Contains(needOutage, m.Name) && !r.names[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing: %s", strings.Join(missing, ", "))
	}
	return nil
}
