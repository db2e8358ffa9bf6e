package main

// fillTasks is the first dashboard to look at.
func fillTasks(b *board) {
	b.note("**Load and outcome** says whether tasks end, and well. **Flow** counts one thing at each of its stages: the first stage that is "+
		"too low is where steps are stuck. **Burst** is for tests: a few tasks at once are over before a rate can be computed. Without "+
		"Prometheus' feature created-timestamp-zero-ingestion the flow misses them, too.",
		"", "Gauges are read from the database by every process: they are shown by their largest value, never added up.")
	b.row("Load and outcome")
	b.chart("Tasks requested", "as many as your callers send. None at all, where there should be some, is their outage or the API's.",
		b.rate("tasker.tasks.requests.total", by("namespace")))
	b.chart("Tasks completed", "the same height as the tasks requested, later by what a task takes.",
		b.rate("tasker.tasks.completions.total", by("namespace")))
	b.chart("Tasks failed", "none, or as few as your workflows are known for.", b.rate("tasker.tasks.failures.total", by("namespace")))
	b.chart("Share of tasks that failed", "below 5 %; TaskerTaskFailureRatioHigh pages above.",
		b.rate("tasker.tasks.failures.total", by("namespace")).among(b.rate("tasker.tasks.completions.total", by("namespace")))).upTo(0.05)
	b.chart("Open tasks by state", "a level that comes back to where it was. blocked_by_failures waits for a person.",
		b.gauge("tasker.tasks.active", by("state")))
	b.chart("Steps that wait for a worker", "near zero; a level that stays is a namespace without enough workers.",
		b.gauge("tasker.steps.ready", by("namespace")))
	b.row("Latency")
	b.chart("Creation of a task", "p95 of some milliseconds: it is one transaction.", b.quantiles("tasker.task.initialization.duration")...)
	b.chart("Processing of a result", "p95 of some tens of milliseconds.",
		b.quantile(0.95, "tasker.step_result.processing.duration", by("result_type")))
	b.chart("End of a task", "p95 of some tens of milliseconds.", b.quantiles("tasker.task.finalization.duration")...)
	b.chart("Life of a task, p95", "what the steps take, and little more.", b.quantile(0.95, "tasker.task.duration", by("namespace"))).wide(12)
	b.chart("Life of a task, all", "what the steps take, and little more.", b.quantiles("tasker.task.duration")...).wide(12)
	b.flow()
	b.burst()
	b.row("State changes")
	b.matrix("From a state to the next", "most from pending to steps_in_process, and from there to complete.", "from_state", "to_state",
		b.increase("tasker.task.state_transitions.total", by("from_state", "to_state")))
	b.chart("State changes", "steps_in_process and complete move together.",
		b.rate("tasker.task.state_transitions.total", by("to_state"))).wide(12)
}

// stage is a number of the flow.
type stage struct{ title, metric, good string }

// stages count what a task goes through, in its order.
var stages = []stage{
	{"1 Requests", "tasker.tasks.requests.total", "k, the number of tasks."},
	{"2 Enqueued", "tasker.steps.enqueued.total", "n·k for tasks of n steps, and one for each retry."},
	{"3 Executions", "tasker.steps.executions.total", "as many as enqueued, and those of lost steps again. Fewer: no worker takes them."},
	{"4 Successes", "tasker.steps.successes.total", "n·k. Fewer: handlers fail, or still run."},
	{"5 Submitted", "tasker.steps.results_submitted.total", "the same as executions. Fewer: results cannot be stored."},
	{"6 Processed", "tasker.step_results.processed.total", "the same as submitted. Fewer: orchestrators are behind, or results were late."},
	{"7 Completions", "tasker.tasks.completions.total", "k. Fewer: tasks failed, or are not over yet."},
}

func (b *board) flow() {
	b.row("Flow: k tasks of n steps are k, n·k five times, k")
	for _, s := range stages {
		b.stat(s.title, s.good, b.increase(s.metric, nil))
	}
	b.stat("Failed tasks", "0.", b.increase("tasker.tasks.failures.total", nil)).upTo(1)
}

// timings are the histograms of a task's way, in its order.
var timings = []stage{
	{"Creation", "tasker.task.initialization.duration", "some milliseconds."},
	{"Claim", "tasker.step.claim.duration", "some milliseconds."},
	{"Execution", "tasker.step.execution.duration", "what your handlers take."},
	{"Submission", "tasker.step_result.submission.duration", "some milliseconds."},
	{"Processing", "tasker.step_result.processing.duration", "some milliseconds."},
	{"End", "tasker.task.finalization.duration", "some milliseconds."},
}

func (b *board) burst() {
	b.row("Burst: means since the processes began, sum / count")
	for _, t := range timings {
		b.stat(t.title, t.good+" A mean: it needs no time to have passed, and hides what is slow.", b.mean(t.metric, nil)).wide(4)
	}
}

// fillTask shows one task.
func fillTask(b *board) {
	b.note("Enter a correlation id above: `tasker task show TASK` prints it. The traces and logs below are there in any case.",
		"", "**Metrics of one task are there only where correlation_id is a label**: `telemetry.metrics.correlation_id_label = \"bounded\"`, "+
			"the default in development and test, for some of the tasks. In production it is off: use the traces and the logs; the "+
			"exemplars on the other dashboards' latencies lead to them.")
	b.row("Flow: a task of n steps is 1, n five times, 1")
	for _, s := range stages {
		b.stat(s.title, s.good, b.reached(s.metric, nil))
	}
	b.stat("Failed", "0.", b.reached("tasker.tasks.failures.total", nil)).upTo(1)
	b.row("Times: the mean of what was measured")
	for _, t := range timings {
		if t.metric != "tasker.step.claim.duration" { // which no task has a label on
			b.stat(t.title, t.good, b.meanReached(t.metric, nil)).wide(4)
		}
	}
	b.stat("Wait in a queue", "some milliseconds, where workers are free.", b.meanReached("tasker.message.latency", nil)).wide(4)
	b.row("Traces and logs")
	b.traces("Traces",
		"one trace for each task, green but for attempts that failed. A task older than an hour has further ones, linked to the first.")
	b.logs("Logs", "no errors.")
}

// traces lists what Tempo has of the task. It asks for each span by itself: Tempo finds what relates spans of a long trace only
// after minutes.
func (b *board) traces(title, good string) {
	b.add(&panel{
		kind: "table", title: title, good: good, w: 24, h: 9,
		queries: []query{{expr: `{span.correlation_id="$correlation_id"}`, unit: unitCount, help: "Spans with this correlation id, by trace."}},
		rest: object{"datasource": tempo, "targets": []object{{
			"datasource": tempo, "refId": "A", "queryType": "traceql", "tableType": "traces", "limit": 20, "spss": 20,
			"query": `{span.correlation_id="$correlation_id"}`,
		}}},
	})
}

// logs shows what Loki has of the task. Over OTLP the id is structured metadata of the line and no part of its text.
func (b *board) logs(title, good string) {
	b.add(&panel{
		kind: "logs", title: title, good: good, w: 24, h: 12,
		queries: []query{{
			expr: `{service_name=~".+"} | correlation_id="$correlation_id"`, unit: unitCount, help: "Log lines with this correlation id.",
		}},
		options: object{
			"showTime": true, "wrapLogMessage": true, "enableLogDetails": true, "sortOrder": "Ascending", "dedupStrategy": "none",
			"prettifyLogMessage": false, "showLabels": false, "showCommonLabels": false,
		},
		rest: object{"datasource": loki, "targets": []object{{
			"datasource": loki, "refId": "A", "queryType": "range", "expr": `{service_name=~".+"} | correlation_id="$correlation_id"`,
		}}},
	})
}

var (
	tempo = object{"type": "tempo", "uid": "${tempo}"}
	loki  = object{"type": "loki", "uid": "${loki}"}
)
