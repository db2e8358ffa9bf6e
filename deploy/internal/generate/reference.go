package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// groups are the sections of the reference page.
var groups = []struct{ name, title string }{
	{"orchestration", "Orchestration"},
	{"worker", "Worker"},
	{"database", "Database"},
	{"messaging", "Messaging"},
	{"engine", "Engine"},
}

// introduction is the page's beginning, with the number of core metrics and the names of the shared gauges to be filled in.
//
//go:embed introduction.md
var introduction string

// reference is the page about all metrics.
func reference(catalogue []telemetry.Metric) []byte {
	var out strings.Builder
	var sharedNames []string
	core := 0
	for i := range catalogue {
		if catalogue[i].Core {
			core++
		}
		if shared(&catalogue[i]) {
			sharedNames = append(sharedNames, "`"+catalogue[i].Name+"`")
		}
	}
	out.WriteString(strings.NewReplacer("{core}", strconv.Itoa(core), "{shared}", strings.Join(sharedNames, ", ")).Replace(introduction))
	index(&out, catalogue)
	for _, g := range groups {
		fmt.Fprintf(&out, "## %s\n\n", g.title)
		for i := range catalogue {
			if catalogue[i].Group == g.name {
				describe(&out, &catalogue[i])
			}
		}
	}
	return []byte(strings.TrimRight(out.String(), "\n") + "\n")
}

// index lists all metrics.
func index(out *strings.Builder, catalogue []telemetry.Metric) {
	out.WriteString("## All\n\n| Metric | In Prometheus | Kind | Unit |\n|---|---|---|---|\n")
	for i := range catalogue {
		m := &catalogue[i]
		fmt.Fprintf(out, "| [%s](#%s) | `%s` | %s | %s |\n", m.Name, anchor(m.Name), shownName(m), m.Kind, m.Unit)
	}
	out.WriteString("\n")
}

// anchor is the name of a heading in a link.
func anchor(heading string) string {
	return strings.ReplaceAll(strings.ToLower(heading), ".", "")
}

func shownName(m *telemetry.Metric) string {
	if m.Kind == telemetry.KindHistogram {
		return m.PrometheusName() + "_{bucket,sum,count}"
	}
	return m.PrometheusName()
}

// describe is the section of one metric.
func describe(out *strings.Builder, m *telemetry.Metric) {
	fmt.Fprintf(out, "### %s\n\n%s\n\n", m.Name, m.Help)
	fmt.Fprintf(out, "`%s` · %s · unit %s · labels: %s\n\n", shownName(m), m.Kind, m.Unit, list(m.Labels))
	if len(m.Bounds) > 0 {
		bounds := make([]string, len(m.Bounds))
		for i, bound := range m.Bounds {
			bounds[i] = strconv.FormatFloat(bound, 'f', -1, 64)
		}
		fmt.Fprintf(out, "Buckets up to %s.\n\n", strings.Join(bounds, ", "))
	}
	fmt.Fprintf(out, "```promql\n%s\n```\n\n", examples(m))
}

func list(labels []string) string {
	if len(labels) == 0 {
		return "none"
	}
	quoted := make([]string, len(labels))
	for i, label := range labels {
		quoted[i] = "`" + label + "`"
	}
	return strings.Join(quoted, ", ")
}

// examples are queries of both styles.
func examples(m *telemetry.Metric) string {
	name := m.PrometheusName()
	// One task is never what one wants to see first.
	labels := slices.DeleteFunc(slices.Clone(m.Labels), func(label string) bool { return label == "correlation_id" })
	keep := labels[:min(len(labels), 1)]
	switch {
	case m.Kind == telemetry.KindCounter:
		return "# burst\n" + grouped("sum", keep, name) + "\n# production\n" + grouped("sum", keep, "rate("+name+"[5m])")
	case m.Kind == telemetry.KindHistogram:
		buckets := func(expr string) string {
			return "histogram_quantile(0.95, " + grouped("sum", append([]string{"le"}, keep...), expr) + ")"
		}
		return "# burst\n" + grouped("sum", keep, name+"_sum") + " / " + grouped("sum", keep, name+"_count") +
			"\n# production\n" + buckets("rate("+name+"_bucket[5m])")
	case shared(m) && len(labels) > 1:
		return "# both: the largest value of each, then their sum\n" + grouped("sum", keep, grouped("max", labels, name))
	case shared(m):
		return "# both: every process says the same\n" + grouped("max", keep, name)
	default:
		return "# both: each process has its own\n" + grouped("sum", keep, name)
	}
}
