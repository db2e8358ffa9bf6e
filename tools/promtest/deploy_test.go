package promtest

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// The places of what is tested, from here.
const (
	root          = "../.."
	dashboardDir  = root + "/deploy/grafana/dashboards"
	alertsPath    = root + "/deploy/prometheus/alerts.yaml"
	recordingPath = root + "/deploy/prometheus/recording.yaml"
	suitePath     = root + "/deploy/prometheus/alerts_test.yaml"
	documentDir   = root + "/docs/observability"
	runbooksPath  = documentDir + "/runbooks.md"
	runbooksURL   = "https://github.com/tasker-systems/tasker-go/blob/main/docs/observability/runbooks.md"
)

// setup knows all names: the catalogue's, and those of the recording rules.
func setup(t *testing.T) vocabulary {
	t.Helper()
	names := newVocabulary(telemetry.Catalogue())
	rules, err := loadRules(recordingPath)
	require.NoError(t, err)
	require.NoError(t, names.record(rules))
	return names
}

func TestEveryRuleAsksForWhatIsRecorded(t *testing.T) {
	t.Parallel()
	names := setup(t)
	rules, err := loadRules(alertsPath, recordingPath)
	require.NoError(t, err)
	require.NotEmpty(t, rules)
	for _, rule := range rules {
		require.NoError(t, names.check(rule.Expr, policy{aggregated: true}), rule.Alert+rule.Record)
	}
}

func TestEveryAlertSaysWhatToDo(t *testing.T) {
	t.Parallel()
	rules, err := loadRules(alertsPath)
	require.NoError(t, err)
	runbooks := sections(t, runbooksPath)
	for _, rule := range rules {
		require.Contains(t, []string{"page", "ticket"}, rule.Labels["severity"], rule.Alert)
		require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
		require.NotEmpty(t, rule.Annotations["description"], rule.Alert)
		require.Equal(t, runbooksURL+"#"+strings.ToLower(rule.Alert), rule.Annotations["runbook_url"])
		text := runbooks[rule.Alert]
		for _, part := range []string{"**Means.**", "**Look.**", "**Do.**"} {
			require.Contains(t, text, part, "runbooks.md, %s", rule.Alert)
		}
		delete(runbooks, rule.Alert)
	}
	for name := range runbooks {
		require.False(t, strings.HasPrefix(name, "Tasker"), "runbooks.md tells of %s, which is no alert", name)
	}
}

// sections are the parts of a Markdown file below headings of the second level.
func sections(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	out := make(map[string]string)
	for _, part := range strings.Split("\n"+string(text), "\n## ")[1:] {
		heading, body, _ := strings.Cut(part, "\n")
		out[strings.TrimSpace(heading)] = body
	}
	return out
}

func TestEveryDashboardIsSound(t *testing.T) {
	t.Parallel()
	names := setup(t)
	boards, err := loadDashboards(dashboardDir)
	require.NoError(t, err)
	require.Len(t, boards, 6)
	uids := make(map[string]bool)
	for _, b := range boards {
		require.NoError(t, b.lint(names), b.Title)
		require.False(t, uids[b.UID], "%s: its uid is not its own", b.Title)
		uids[b.UID] = true
	}
}

func TestTheLinterOfDashboardsFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	names := setup(t)
	boards, err := loadDashboards(dashboardDir)
	require.NoError(t, err)
	// first returns the first panel that asks for a quantile.
	first := func(d *dashboard) *panel {
		for i := range d.Panels {
			if targets := d.Panels[i].queries(); len(targets) > 0 && strings.HasPrefix(targets[0].Expr, "histogram_quantile") {
				return &d.Panels[i]
			}
		}
		panic("promtest: a dashboard without a latency")
	}
	yes := true
	for _, test := range []struct {
		name, want string
		spoil      func(*dashboard)
	}{
		{"editable", "editable", func(d *dashboard) { d.Editable = &yes }},
		{"no variable for the data source", "no variable for the data source", func(d *dashboard) { d.Templating.List = d.Templating.List[1:] }},
		{"a variable of an unknown metric", "not a metric", func(d *dashboard) {
			d.Templating.List[1].Definition = "label_values(tasker_nothing, job)"
		}},
		{"a fixed data source", "is no variable", func(d *dashboard) { first(d).Targets[0].Datasource.UID = "prometheus" }},
		{"no unit", "no unit", func(d *dashboard) { first(d).FieldConfig.Defaults.Unit = "" }},
		{"no description", "what good looks like", func(d *dashboard) { first(d).Description = "Time." }},
		{"a fixed window", "does not follow", func(d *dashboard) {
			first(d).Targets[0].Expr = strings.ReplaceAll(first(d).Targets[0].Expr, "$__rate_interval", "1m")
		}},
		{"a rate over the whole range", "use $__rate_interval", func(d *dashboard) {
			first(d).Targets[0].Expr = strings.ReplaceAll(first(d).Targets[0].Expr, "$__rate_interval", "$__range")
		}},
		{"no exemplars", "without exemplars", func(d *dashboard) { first(d).Targets[0].Exemplar = false }},
		{"no least step", "least step", func(d *dashboard) { first(d).Targets[0].Interval = "" }},
		{"an unknown metric", "not a metric", func(d *dashboard) { first(d).Targets[0].Expr = "sum(rate(tasker_nothing_total[$__rate_interval]))" }},
		{"a sum over a shared gauge", "take the max", func(d *dashboard) { first(d).Targets[0].Expr = "sum(tasker_tasks_active)" }},
		{"no query", "asks for nothing", func(d *dashboard) { first(d).Targets = nil }},
		{"one panel on another", "lies on", func(d *dashboard) { d.Panels[3].GridPos = d.Panels[2].GridPos }},
		{"two panels with one id", "not its own", func(d *dashboard) { d.Panels[3].ID = d.Panels[2].ID }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			boards, err = loadDashboards(dashboardDir)
			require.NoError(t, err)
			board := boards[slices.IndexFunc(boards, func(d dashboard) bool { return d.UID == "tasker-tasks" })]
			test.spoil(&board)
			require.ErrorContains(t, board.lint(names), test.want)
		})
	}
}

func TestEveryQueryInTheDocumentationAsksForWhatIsRecorded(t *testing.T) {
	t.Parallel()
	names := setup(t)
	paths, err := filepath.Glob(filepath.Join(documentDir, "*.md"))
	require.NoError(t, err)
	asked := 0
	for _, path := range paths {
		found, err := blocks(path, "promql")
		require.NoError(t, err)
		for _, b := range found {
			for _, query := range statements(b.text) {
				require.NoError(t, names.check(filledIn(query), policy{}), "%s:%d: %s", path, b.line, query)
				asked++
			}
		}
	}
	require.Greater(t, asked, 100)
}

func TestStatementsOfABlockAreToldApart(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"a", "b\n/ c", "d", "e"}, statements("# one\na\n# two\nb\n/ c\n\nd\ne\n"))
}

func TestEveryQueryOfADashboardHasDataAfterARun(t *testing.T) {
	t.Parallel()
	names := setup(t)
	recorded, err := readRecorded("testdata/recorded.txt")
	require.NoError(t, err)
	loader, err := play(names, slices.Concat(recorded, madeUp(telemetry.Catalogue())))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, loader.Close()) })
	boards, err := loadDashboards(dashboardDir)
	require.NoError(t, err)
	for _, b := range boards {
		for _, p := range b.graphs() {
			for _, q := range p.queries() {
				n, err := ask(loader, filledIn(q.Expr))
				require.NoError(t, err, "%s: %s: %s", b.Title, p.Title, q.Expr)
				require.Positive(t, n, "%s: %s: no data for %s", b.Title, p.Title, q.Expr)
			}
		}
	}
	n, err := ask(loader, `sum(rate(tasker_sql_queries_total{result="failed"}[5m]))`)
	require.NoError(t, err)
	require.Zero(t, n, "a value that no label has must find nothing")
}

// notRecorded are the core metrics for which something must fail that did not fail in the recorded run.
var notRecorded = []string{
	"tasker.db.connection.errors.total", "tasker.messages.receive_failures.total", "tasker.messages.send_failures.total",
}

func TestARealRunReportsWhatTheCatalogueSays(t *testing.T) {
	t.Parallel()
	names := setup(t)
	recorded, err := readRecorded("testdata/recorded.txt")
	require.NoError(t, err)
	seen := make(map[string]bool)
	for _, s := range recorded {
		name := s.labels.Get(model.MetricNameLabel)
		known, ok := names.find(name)
		require.True(t, ok, "%s is not a metric of the catalogue", name)
		seen[name] = true
		if known.labels == nil {
			continue
		}
		s.labels.Range(func(l labels.Label) {
			require.True(t, l.Name == model.MetricNameLabel || slices.Contains(known.labels, l.Name), "%s has a label %s", name, l.Name)
		})
	}
	missing := make(map[string]bool)
	for _, m := range telemetry.Catalogue() {
		name := m.PrometheusName()
		if m.Core && !seen[name] && !seen[name+"_count"] {
			missing[m.Name] = true
		}
	}
	require.Equal(t, notRecorded, slices.Sorted(maps.Keys(missing)))
}

func TestEveryAlertFiresAndIsQuietInItsTests(t *testing.T) {
	t.Parallel()
	s, err := loadSuite(suitePath)
	require.NoError(t, err)
	rules, err := loadRules(alertsPath)
	require.NoError(t, err)
	firing, quiet := make(map[string]bool), make(map[string]bool)
	for i := range s.Tests {
		sc := &s.Tests[i]
		for _, e := range sc.Alerts {
			firing[e.Alert] = firing[e.Alert] || len(e.Expected) > 0
			quiet[e.Alert] = quiet[e.Alert] || len(e.Expected) == 0
		}
		t.Run(sc.Name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, s.run(sc))
		})
	}
	for _, rule := range rules {
		require.True(t, firing[rule.Alert], "no test in which %s fires", rule.Alert)
		require.True(t, quiet[rule.Alert], "no test in which %s is quiet", rule.Alert)
	}
}

func TestTheSeriesOfTheAlertTestsAreRecorded(t *testing.T) {
	t.Parallel()
	names := setup(t)
	s, err := loadSuite(suitePath)
	require.NoError(t, err)
	for _, sc := range s.Tests {
		for _, in := range sc.InputSeries {
			require.NoError(t, names.check(in.Series, policy{}), sc.Name)
		}
	}
}

func TestTheRunnerOfAlertTestsFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	s, err := loadSuite("testdata/wrong_test.yaml")
	require.NoError(t, err)
	for i := range s.Tests {
		sc := &s.Tests[i]
		want := regexp.MustCompile(`^[^:]+`).FindString(sc.Name)
		require.ErrorContains(t, s.run(sc), want, sc.Name)
	}
}
