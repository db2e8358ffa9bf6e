package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/telemetry"
)

func TestTheCommittedFilesAreWhatTheCatalogueMakes(t *testing.T) {
	t.Parallel()
	require.NoError(t, run(filepath.Join("..", "..", ".."), true))
}

func TestTheSameCatalogueMakesTheSameFiles(t *testing.T) {
	t.Parallel()
	first, err := generate(telemetry.Catalogue())
	require.NoError(t, err)
	second, err := generate(telemetry.Catalogue())
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Len(t, first, len(dashboards)+1)
}

func TestARenamedMetricBreaksTheGeneration(t *testing.T) {
	t.Parallel()
	catalogue := telemetry.Catalogue()
	catalogue[0].Name = "tasker.tasks.asked.total"
	_, err := generate(catalogue)
	require.ErrorContains(t, err, "metric tasker.tasks.requests.total is not in the catalogue")
}

func TestALostLabelBreaksTheGeneration(t *testing.T) {
	t.Parallel()
	catalogue := telemetry.Catalogue()
	catalogue[0].Labels = []string{"task_type"}
	_, err := generate(catalogue)
	require.ErrorContains(t, err, "metric tasker.tasks.requests.total has no label namespace")
}

func TestEveryMetricIsOnADashboardAndThePage(t *testing.T) {
	t.Parallel()
	files, err := generate(telemetry.Catalogue())
	require.NoError(t, err)
	var all []byte
	for path, text := range files {
		if path != referencePath {
			all = append(all, text...)
		}
	}
	catalogue := telemetry.Catalogue()
	for i := range catalogue {
		require.Contains(t, string(all), catalogue[i].PrometheusName(), "no dashboard shows it")
		require.Contains(t, string(files[referencePath]), "### "+catalogue[i].Name+"\n")
	}
}

func TestQueriesThatTheCatalogueDoesNotAnswer(t *testing.T) {
	t.Parallel()
	oneTask := (&dashboard{oneTask: true}).filters()
	for _, test := range []struct {
		name    string
		filters []filter
		ask     func(*source) query
		want    string
	}{
		{"an unknown metric", nil, func(s *source) query { return s.rate("tasker.nothing.total", nil) }, "is not in the catalogue"},
		{"an unknown label to keep", nil, func(s *source) query { return s.rate("tasker.steps.claimed.total", by("pool")) }, "has no label pool"},
		{"an unknown label to match", nil, func(s *source) query {
			return s.rate("tasker.steps.claimed.total", nil, `pool!="x"`)
		}, "has no label pool"},
		{"the rate of a gauge", nil, func(s *source) query { return s.rate("tasker.steps.ready", nil) }, "is a gauge"},
		{"the quantile of a counter", nil, func(s *source) query { return s.quantile(0.5, "tasker.steps.claimed.total", nil) }, "is a counter"},
		{"one task of a metric without the label", oneTask, func(s *source) query {
			return s.reached("tasker.steps.claimed.total", nil)
		}, "has no label correlation_id"},
		{"a library's metric that is not listed", nil, func(s *source) query { return s.other("go_threads", "%s", nil) }, "neither"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSource(telemetry.Catalogue(), test.filters)
			test.ask(s)
			require.ErrorContains(t, s.err(), test.want)
		})
	}
}

func TestGaugesThatEveryProcessReportsAreNeverAddedUpAcrossProcesses(t *testing.T) {
	t.Parallel()
	s := newSource(telemetry.Catalogue(), nil)
	require.Equal(t, "sum by (state) (max by (state, namespace) (tasker_tasks_active{}))", s.gauge("tasker.tasks.active", by("state")).expr)
	require.Equal(t, "max by (queue) (tasker_queue_oldest_message_age_milliseconds{})",
		s.gauge("tasker.queue.oldest_message.age", by("queue")).expr)
	require.Equal(t, "sum by (pool) (tasker_db_pool_max_connections{})", s.gauge("tasker.db.pool.max_connections", by("pool")).expr)
	require.NoError(t, s.err())

	var names []string
	for _, m := range telemetry.Catalogue() {
		if shared(&m) {
			names = append(names, m.Name)
		}
	}
	slices.Sort(names)
	require.Equal(t, []string{
		"tasker.queue.depth", "tasker.queue.oldest_message.age", "tasker.steps.ready", "tasker.tasks.active", "tasker.worker.queue.depth",
	}, names, "the catalogue's help says which: use max, not sum")
}

func TestAPanelHasOneUnit(t *testing.T) {
	t.Parallel()
	b := &board{source: newSource(telemetry.Catalogue(), nil)}
	p := b.chart("Two things", "neither.", b.rate("tasker.steps.claimed.total", nil), b.gauge("tasker.steps.ready", nil))
	_, err := p.render(prometheus)
	require.ErrorContains(t, err, "mixes the units")
}

func TestAChangedMissingOrForgottenFileIsFound(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, run(root, false))
	require.NoError(t, run(root, true))

	page := filepath.Join(root, referencePath)
	require.NoError(t, os.WriteFile(page, []byte("edited"), 0o600))
	require.NoError(t, os.Remove(filepath.Join(root, dashboardDir, "tasker-task.json")))
	require.NoError(t, os.WriteFile(filepath.Join(root, dashboardDir, "old.json"), nil, 0o600))
	err := run(root, true)
	require.ErrorContains(t, err, "metrics-reference.md is not what the catalogue makes")
	require.ErrorContains(t, err, "tasker-task.json is missing")
	require.ErrorContains(t, err, "old.json is generated by nothing")
}
