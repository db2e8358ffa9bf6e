package promtest

import (
	"regexp"
	"slices"
	"strings"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// kind is what may be done with a metric's values.
type kind string

const (
	counter kind = "counter"
	gauge   kind = "gauge"
	// derived is a recording rule's.
	derived kind = "derived"
)

// series are those of one name in Prometheus.
type series struct {
	kind kind
	// labels are those that they may have; nil where it is not known.
	labels []string
	// shared: every process reports the same.
	shared bool
}

// targetLabels are what Prometheus, or the SDK, may add to every series.
var targetLabels = []string{
	"job", "instance", "service_name", "service_namespace", "service_version", "service_instance_id", "deployment_environment",
	"deployment_environment_name", "otel_metric_overflow",
}

// foreign are metrics of others, whose labels are not looked at.
var foreign = regexp.MustCompile(`^(up|target_info|go_[a-z_]+)$`)

// vocabulary are the names that queries may use.
type vocabulary map[string]series

// newVocabulary derives it from the catalogue.
func newVocabulary(catalogue []telemetry.Metric) vocabulary {
	v := make(vocabulary)
	for i := range catalogue {
		m := &catalogue[i]
		labels := slices.Concat(m.Labels, targetLabels)
		name := m.PrometheusName()
		switch m.Kind {
		case telemetry.KindCounter:
			v[name] = series{kind: counter, labels: labels}
		case telemetry.KindGauge:
			v[name] = series{kind: gauge, labels: labels, shared: strings.Contains(m.Help, "use max, not sum")}
		case telemetry.KindHistogram:
			v[name+"_sum"] = series{kind: counter, labels: labels}
			v[name+"_count"] = series{kind: counter, labels: labels}
			v[name+"_bucket"] = series{kind: counter, labels: append([]string{"le"}, labels...)}
		}
	}
	return v
}

// find knows a name.
func (v vocabulary) find(name string) (series, bool) {
	if s, ok := v[name]; ok {
		return s, true
	}
	if !foreign.MatchString(name) {
		return series{}, false
	}
	if strings.HasSuffix(name, "_total") {
		return series{kind: counter}, true
	}
	return series{kind: gauge}, true
}

// matching tells whether a pattern of names stands for any.
func (v vocabulary) matching(pattern string) bool {
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	if err != nil {
		return false
	}
	for name := range v {
		if re.MatchString(name) {
			return true
		}
	}
	return false
}
