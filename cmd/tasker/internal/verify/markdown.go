package verify

import (
	_ "embed" // the template
	"fmt"
	"io"
	"strings"
	"text/template"
)

//go:embed results.md.tmpl
var resultsText string

var resultsTemplate = template.Must(template.New("results").Funcs(template.FuncMap{
	"box": func(s Status) string { return map[Status]string{Passed: "x", Failed: " ", Skipped: "-"}[s] },
	// code marks the names of metrics.
	"code": func(name string) string {
		if isMetric(name) {
			return "`" + name + "`"
		}
		return name
	},
	"cell":  cell,
	"plain": func(text string) string { return strings.ReplaceAll(text, "|", `\|`) },
}).Parse(resultsText))

func isMetric(name string) bool {
	return strings.HasPrefix(name, "tasker_") && !strings.Contains(name, " ")
}

// cell is code in a table.
func cell(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
}

// Section is a group under its heading.
type Section struct {
	Title  string
	Checks []Check
}

func (r *Report) sections(names ...string) []Section {
	var out []Section
	for _, name := range names {
		if checks := r.Of(name); len(checks) > 0 {
			out = append(out, Section{Title: name, Checks: checks})
		}
	}
	return out
}

// Verified are the sections about what was exported.
func (r *Report) Verified() []Section {
	return r.sections(groupTraces, groupOrchestration, groupWorker, groupGauges, groupDatabase, groupMessaging, groupHistograms,
		groupCatalogue, groupLogs)
}

// Readiness are the sections about the process.
func (r *Report) Readiness() []Section { return r.sections(groupConfiguration, groupShutdown) }

// Flow is the section about the way of the tasks.
func (r *Report) Flow() []Section { return r.sections(groupFlow) }

// Failures are the names of the checks and queries that failed.
func (r *Report) Failures() []string {
	var out []string
	for i := range r.Checks {
		if c := &r.Checks[i]; c.Status == Failed {
			out = append(out, fmt.Sprintf("%s, %s: %s", c.Group, c.Name, strings.Join(c.Shown(), "; ")))
		}
	}
	for i := range r.Queries {
		if q := &r.Queries[i]; q.Status == Failed {
			out = append(out, fmt.Sprintf("%s, %s: %s", q.Backend, q.Title, q.Verdict))
		}
	}
	return out
}

// Asked tells whether backends were asked.
func (r *Report) Asked() bool { return len(r.Queries) > 0 && r.Queries[0].Status != "" }

// WriteMarkdown writes the results document.
func (r *Report) WriteMarkdown(w io.Writer) error {
	if err := resultsTemplate.Execute(w, r); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}
