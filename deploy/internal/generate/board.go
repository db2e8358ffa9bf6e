package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// board is a dashboard that is being made.
type board struct {
	*source

	panels []*panel
}

// dashboard is how a dashboard is made.
type dashboard struct {
	uid, title, description string
	// from is how far back it looks when it is opened.
	from string
	fill func(*board)
	// oneTask: the dashboard's variable is a correlation id.
	oneTask bool
}

// dashboards are all there are. Their uids are their URLs: /d/tasker-tasks.
var dashboards = []dashboard{
	{
		uid: "tasker-tasks", title: "Tasker / Task overview", from: "now-1h", fill: fillTasks,
		description: "What is asked of Tasker, what comes of it, and where it is held up.",
	},
	{
		uid: "tasker-worker", title: "Tasker / Worker", from: "now-1h", fill: fillWorker,
		description: "How soon steps are taken up, how long they run, and how they end.",
	},
	{
		uid: "tasker-database", title: "Tasker / Database", from: "now-1h", fill: fillDatabase,
		description: "Statements, transactions and connections, as Tasker's processes see them.",
	},
	{
		uid: "tasker-queues", title: "Tasker / Messaging and queues", from: "now-1h", fill: fillQueues,
		description: "The River jobs that carry tasks and steps.",
	},
	{
		uid: "tasker-reliability", title: "Tasker / Reliability", from: "now-6h", fill: fillReliability,
		description: "What was lost and mended, group commits, telemetry itself, and the Go runtime.",
	},
	{
		uid: "tasker-task", title: "Tasker / One task", from: "now-6h", fill: fillTask, oneTask: true,
		description: "All that is known of the tasks with one correlation id.",
	},
}

// filters are the matchers that the dashboard's variables make.
func (d *dashboard) filters() []filter {
	if d.oneTask {
		return []filter{{label: "correlation_id", matcher: `correlation_id="$correlation_id"`, required: true}}
	}
	return []filter{
		{label: "job", matcher: `job=~"$job"`},
		{label: "instance", matcher: `instance=~"$instance"`},
		{label: "namespace", matcher: `namespace=~"$namespace"`},
	}
}

var prometheus = object{"type": "prometheus", "uid": "${datasource}"}

func (d *dashboard) render(catalogue []telemetry.Metric) ([]byte, error) {
	b := &board{source: newSource(catalogue, d.filters())}
	d.fill(b)
	places := place(b.panels)
	panels := make([]object, len(b.panels))
	for i, p := range b.panels {
		rendered, err := p.render(prometheus)
		if err != nil {
			return nil, err
		}
		rendered["id"], rendered["gridPos"] = i+1, places[i]
		panels[i] = rendered
	}
	variables := d.variables(b.source)
	if err := b.err(); err != nil {
		return nil, err
	}
	return marshal(object{
		"uid": d.uid, "title": d.title, "description": d.description, "tags": []string{"tasker"},
		// They are made by a program: what is changed by hand would be lost with the next release.
		"editable": false, "version": 1, "schemaVersion": 41, "timezone": "browser", "refresh": "1m", "graphTooltip": 1,
		"time": object{"from": d.from, "to": "now"}, "panels": panels,
		"templating": object{"list": variables}, "annotations": object{"list": []object{}},
		"links": []object{{
			"type": "dashboards", "title": "Tasker", "tags": []string{"tasker"}, "asDropdown": true, "keepTime": true, "includeVars": true,
			"icon": "external link", "targetBlank": false,
		}},
	})
}

// marshal writes JSON as Grafana's own export does, with <, > and & as they are.
func marshal(o object) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(o); err != nil {
		return nil, fmt.Errorf("encode dashboard: %w", err)
	}
	return out.Bytes(), nil
}

func (d *dashboard) variables(s *source) []object {
	variables := []object{datasourceVariable("datasource", "Prometheus", "prometheus")}
	if d.oneTask {
		return append(variables, datasourceVariable("tempo", "Tempo", "tempo"), datasourceVariable("loki", "Loki", "loki"), object{
			"name": "correlation_id", "label": "Correlation id", "type": "textbox", "query": "", "hide": 0,
			"current": object{"text": "", "value": ""}, "options": []object{{"text": "", "value": "", "selected": true}},
		})
	}
	// Every process asks the database something, and every task changes its state.
	statements := s.metric("tasker.sql.queries.total", telemetry.KindCounter)
	transitions := s.metric("tasker.task.state_transitions.total", telemetry.KindCounter)
	s.labels(transitions, by("namespace"))
	return append(variables,
		valuesVariable("job", "Job", statements.PrometheusName()),
		valuesVariable("instance", "Instance", statements.PrometheusName()+`{job=~"$job"}`),
		valuesVariable("namespace", "Namespace", transitions.PrometheusName()),
	)
}

// datasourceVariable lets the reader choose a data source. The one that grafana/otel-lgtm calls by its type's name is chosen first.
func datasourceVariable(name, label, kind string) object {
	return object{
		"name": name, "label": label, "type": "datasource", "query": kind, "regex": "", "hide": 0, "refresh": 1,
		"multi": false, "includeAll": false, "options": []object{}, "current": object{"text": label, "value": kind},
	}
}

// valuesVariable lets the reader choose among a label's values. All of them is also the series without the label.
func valuesVariable(name, label, series string) object {
	definition := fmt.Sprintf("label_values(%s, %s)", series, name)
	return object{
		"name": name, "label": label, "type": "query", "datasource": prometheus, "definition": definition,
		"query": object{"query": definition, "refId": "Variable-" + name}, "regex": "", "hide": 0, "refresh": 2, "sort": 1,
		"multi": true, "includeAll": true, "allValue": ".*", "options": []object{},
		"current": object{"text": []string{"All"}, "value": []string{"$__all"}},
	}
}
