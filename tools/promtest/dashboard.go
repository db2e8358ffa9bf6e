package promtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// dashboard is what is looked at of a dashboard's JSON.
type dashboard struct {
	UID        string  `json:"uid"`
	Title      string  `json:"title"`
	Editable   *bool   `json:"editable"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []variable `json:"list"`
	} `json:"templating"`
}

type variable struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	Definition string `json:"definition"`
}

type panel struct {
	ID          int        `json:"id"`
	Type        string     `json:"type"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Datasource  datasource `json:"datasource"`
	Targets     []target   `json:"targets"`
	GridPos     struct {
		X, Y, W, H int
	} `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit string `json:"unit"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type target struct {
	Datasource datasource `json:"datasource"`
	Expr       string     `json:"expr"`
	Query      string     `json:"query"`
	Interval   string     `json:"interval"`
	Instant    bool       `json:"instant"`
	Exemplar   bool       `json:"exemplar"`
}

// loadDashboards reads those of a folder.
func loadDashboards(dir string) ([]dashboard, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("list dashboards: %w", err)
	}
	out := make([]dashboard, len(paths))
	for i, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read dashboard: %w", err)
		}
		if err := json.Unmarshal(text, &out[i]); err != nil {
			return nil, fmt.Errorf("read dashboard %s: %w", path, err)
		}
	}
	return out, nil
}

// graphs are the panels that show data.
func (d *dashboard) graphs() []panel {
	var out []panel
	for _, p := range d.Panels {
		if p.Type != "row" && p.Type != "text" {
			out = append(out, p)
		}
	}
	return out
}

// filledIn replaces a dashboard's variables, as Grafana does. Every series has the correlation id that the fixture has.
func filledIn(query string) string {
	return strings.NewReplacer(
		"$__rate_interval", "5m", "$__range", "1h", "$job", ".*", "$instance", ".*", "$namespace", ".*", "$correlation_id", knownCorrelation,
	).Replace(query)
}

// queries are the PromQL queries of a panel.
func (p *panel) queries() []target {
	var out []target
	for _, t := range p.Targets {
		if t.Datasource.Type == "prometheus" {
			out = append(out, t)
		}
	}
	return out
}

// lint tells what is wrong with a dashboard, its queries included.
func (d *dashboard) lint(names vocabulary) error {
	var problems []error
	failf := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if d.Editable == nil || *d.Editable {
		failf("it is editable")
	}
	variables := make(map[string]bool)
	for _, v := range d.Templating.List {
		variables[v.Type+" "+v.Name] = true
		if err := v.lint(names); err != nil {
			failf("variable %s: %w", v.Name, err)
		}
	}
	if !variables[dataSource("prometheus")] {
		failf("there is no variable for the data source")
	}
	problems = append(problems, d.places()...)
	for _, p := range d.graphs() {
		if err := p.lint(names, variables); err != nil {
			failf("panel %q: %w", p.Title, err)
		}
	}
	return errors.Join(problems...)
}

// places tells which panels are in each other's way.
func (d *dashboard) places() []error {
	var problems []error
	for i := range d.Panels {
		p := &d.Panels[i]
		for j := range d.Panels[:i] {
			other := &d.Panels[j]
			if p.ID == other.ID {
				problems = append(problems, fmt.Errorf("panel %q: its id %d is not its own", p.Title, p.ID))
			}
			if p.overlaps(other) {
				problems = append(problems, fmt.Errorf("panel %q lies on %q", p.Title, other.Title))
			}
		}
	}
	return problems
}

func (p *panel) overlaps(other *panel) bool {
	a, b := p.GridPos, other.GridPos
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

var labelValues = regexp.MustCompile(`^label_values\((.+), ([a-z_]+)\)$`)

// lint looks at the query that a variable's values come from.
func (v *variable) lint(names vocabulary) error {
	if v.Type != "query" {
		return nil
	}
	parts := labelValues.FindStringSubmatch(v.Definition)
	if parts == nil {
		return fmt.Errorf("%q is no label_values(series, label)", v.Definition)
	}
	return names.check(fmt.Sprintf("max by (%s) (%s)", parts[2], filledIn(parts[1])), policy{})
}

// dataSources are the variables that panels may take their data from.
var dataSources = map[string]string{"prometheus": "datasource", "tempo": "tempo", "loki": "loki"}

// dataSource is such a variable, by its type and name.
func dataSource(kind string) string { return "datasource " + dataSources[kind] }

func (p *panel) lint(names vocabulary, variables map[string]bool) error {
	var problems []error
	failf := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if p.FieldConfig.Defaults.Unit == "" {
		failf("it has no unit")
	}
	if !strings.Contains(p.Description, "**Good:** ") {
		failf("its description does not say what good looks like")
	}
	if len(p.Targets) == 0 {
		failf("it asks for nothing")
	}
	for _, t := range p.Targets {
		if t.Datasource.UID != "${"+dataSources[t.Datasource.Type]+"}" || !variables[dataSource(t.Datasource.Type)] {
			failf("its data source %q is no variable", t.Datasource.UID)
		}
	}
	for _, t := range p.queries() {
		if err := t.lint(names); err != nil {
			failf("%s: %w", t.Expr, err)
		}
	}
	return errors.Join(problems...)
}

var (
	window   = regexp.MustCompile(`\[[^\]]*\]`)
	rated    = regexp.MustCompile(`\b(?:i?rate)\([^\[]*\[([^\]]*)\]`)
	latency  = regexp.MustCompile(`^histogram_quantile\(.*_milliseconds_bucket`)
	interval = "60s"
)

func (t *target) lint(names vocabulary) error {
	var problems []error
	failf := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if err := names.check(filledIn(t.Expr), policy{aggregated: true, growth: !t.Instant}); err != nil {
		problems = append(problems, err)
	}
	for _, w := range window.FindAllString(t.Expr, -1) {
		if w != "[$__rate_interval]" && w != "[$__range]" {
			failf("the window %s does not follow the dashboard", w)
		}
	}
	for _, match := range rated.FindAllStringSubmatch(t.Expr, -1) {
		if match[1] != "$__rate_interval" {
			failf("rate over %s: use $__rate_interval", match[1])
		}
	}
	if latency.MatchString(t.Expr) && !t.Exemplar {
		failf("a latency without exemplars")
	}
	if t.Interval != interval {
		failf("its least step is %q: without %s $__rate_interval may be shorter than two exports", t.Interval, interval)
	}
	return errors.Join(problems...)
}
