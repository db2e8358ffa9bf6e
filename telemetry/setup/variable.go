package setup

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// variables reads the environment and collects what is wrong with it.
type variables struct {
	getenv   func(string) string
	problems []error
}

// text is the value of a variable. An empty one is the same as none.
func (v *variables) text(name string) string { return strings.TrimSpace(v.getenv(name)) }

// expect notes what is wrong with a variable, once.
func (v *variables) expect(name string, err error) {
	if err == nil {
		return
	}
	err = fmt.Errorf("%s: %w", name, err)
	if !slices.ContainsFunc(v.problems, func(p error) bool { return p.Error() == err.Error() }) {
		v.problems = append(v.problems, err)
	}
}

// flag reads a variable that is true or false, and tells whether it is true.
func (v *variables) flag(name string, into *bool) bool {
	text := v.text(name)
	if text == "" {
		return false
	}
	value, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		v.expect(name, fmt.Errorf("%q is neither true nor false", text))
		return false
	}
	*into = value
	return value
}

// number reads a variable that is a positive number.
func (v *variables) number(name string, into *int) {
	text := v.text(name)
	if text == "" {
		return
	}
	var n count
	err := n.UnmarshalText([]byte(text))
	v.expect(name, err)
	if err == nil {
		*into = int(n)
	}
}

// check looks at the variables that only the SDK and its exporters read: they would go on without what they don't understand,
// and say so where nobody looks.
func (v *variables) check() {
	for _, signal := range []string{"", "TRACES_", "METRICS_", "LOGS_"} {
		prefix := "OTEL_EXPORTER_OTLP_" + signal
		v.number(prefix+"TIMEOUT", new(int))
		v.list(prefix + "HEADERS")
		v.oneOf(prefix+"COMPRESSION", "gzip", "none")
		for _, file := range []string{"CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"} {
			v.file(prefix + file)
		}
	}
	v.list("OTEL_RESOURCE_ATTRIBUTES")
	v.oneOf("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", "delta", "lowmemory")
	v.oneOf("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "explicit_bucket_histogram", "base2_exponential_bucket_histogram")
	v.oneOf("OTEL_METRICS_EXEMPLAR_FILTER", "trace_based", "always_on", "always_off")
}

func (v *variables) oneOf(name string, values ...string) {
	if text := strings.ToLower(v.text(name)); text != "" && !slices.Contains(values, text) {
		v.expect(name, fmt.Errorf("%q is not one of %s", text, strings.Join(values, ", ")))
	}
}

// list checks key=value,key=value. What it finds is not shown: headers hold secrets.
func (v *variables) list(name string) {
	text := v.text(name)
	if text == "" {
		return
	}
	for i, pair := range strings.Split(text, ",") {
		if key, _, ok := strings.Cut(pair, "="); !ok || strings.TrimSpace(key) == "" {
			v.expect(name, fmt.Errorf("entry %d is not of the form key=value", i+1))
		}
	}
}

func (v *variables) file(name string) {
	path := v.text(name)
	if path == "" {
		return
	}
	_, err := os.Stat(path)
	v.expect(name, err)
}
