package verify

import (
	"strings"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
)

// logChecks are about log records.
var logChecks = []check{
	{groupLogs, "each task has lines", taskLines},
	{groupLogs, "the body has the correlation_id", bodies},
	{groupLogs, "trace_id and span_id are those of the task's trace", lineSpans},
	{groupLogs, "service.name and container", lineResources},
}

// taskLogs calls fn with each record that is about a task.
func (e *evidence) taskLogs(fn func(t *task, record *otlpreceiver.Log)) {
	byCorrelation := make(map[string]*task, len(e.tasks))
	for i := range e.tasks {
		byCorrelation[e.tasks[i].correlation.String()] = &e.tasks[i]
	}
	for i := range e.logs {
		if t := byCorrelation[text(e.logs[i].Attributes, "correlation_id")]; t != nil {
			fn(t, &e.logs[i])
		}
	}
}

// taskLines: at level debug each execution ends with a line.
func taskLines(e *evidence, f *finding) {
	lines, all := make(map[*task]int), 0
	e.taskLogs(func(t *task, _ *otlpreceiver.Log) {
		lines[t]++
		all++
	})
	for i := range e.tasks {
		if t := &e.tasks[i]; lines[t] < t.workflow.executions {
			f.problemf("task %s (%s) has %d lines for %d executions", t.id, t.workflow.name, lines[t], t.workflow.executions)
		}
	}
	f.seenf("%d of %d lines", all, len(e.logs))
}

// bodies: a line filter looks nowhere else.
func bodies(e *evidence, f *finding) {
	n := 0
	e.taskLogs(func(t *task, record *otlpreceiver.Log) {
		body, _ := record.Body.(string)
		if !strings.Contains(body, "correlation_id="+t.correlation.String()) {
			f.problemf("%q does not have it", body)
			return
		}
		n++
	})
	f.seenf("%d lines", n)
	if n == 0 {
		f.problemf("no line is about a task")
	}
}

func lineSpans(e *evidence, f *finding) {
	n := 0
	e.taskLogs(func(t *task, record *otlpreceiver.Log) {
		n++
		switch span := e.index.byID[record.SpanID]; {
		case !record.TraceID.IsValid() || !record.SpanID.IsValid():
			f.problemf("%q has no trace", record.Body)
		case e.index.owner[record.TraceID] != t:
			f.problemf("%q is in trace %s, which is not its task's", record.Body, record.TraceID)
		case span == nil || span.TraceID != record.TraceID:
			f.problemf("%q is of span %s, which did not arrive", record.Body, record.SpanID)
		}
	})
	f.seenf("%d lines", n)
	if n == 0 {
		f.problemf("no line is about a task")
	}
}

func lineResources(e *evidence, f *finding) {
	for i := range e.logs {
		for _, key := range []string{"service.name", "container"} {
			if got := text(e.logs[i].Resource, key); got != serverService {
				f.problemf("a line has %s %q, not %s", key, got, serverService)
			}
		}
		if e.logs[i].Severity == "" {
			f.problemf("%q has no level", e.logs[i].Body)
		}
	}
	f.seenf("%s", serverService)
}
