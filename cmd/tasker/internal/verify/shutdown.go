package verify

import (
	"slices"
	"strings"
	"time"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
)

// shutdownChecks are about the end of the server, which comes right after a task, and of this process's own telemetry.
var shutdownChecks = []check{
	{groupShutdown, "SIGTERM: exit code 0, in time", exits},
	{groupShutdown, "nothing on standard error about telemetry that is lost", silence},
	{groupShutdown, "what was finished last is there: spans, metrics, log lines", lastTask},
	{groupShutdown, "no export failed", exportFailures},
}

func exits(e *evidence, f *finding) {
	f.seenf("code %d after %v", e.end.code, e.end.took.Round(10*time.Millisecond))
	switch {
	case e.end.killed:
		f.problemf("it did not stop within %v, and was killed", stopPatience)
	case e.end.code != 0:
		f.problemf("exit code %d", e.end.code)
	case e.end.took > stopLimit:
		f.problemf("it took %v, longer than %v", e.end.took, stopLimit)
	}
}

// complaints are what the SDK, its exporters and Go say when something of telemetry goes wrong.
var complaints = []string{
	"channel closed", "channel is closed", "closed channel", "telemetry is lost", "telemetry is not exported", "traces export",
	"failed to upload", "exporter export timeout", "OpenTelemetry", "panic:", "fatal error:", "DATA RACE", "correlation_id labels is spent",
}

func silence(e *evidence, f *finding) {
	lines := 0
	for _, source := range []string{e.output, e.warnings} {
		for line := range strings.SplitSeq(source, "\n") {
			lines++
			if strings.Contains(line, "level=DEBUG") {
				continue // River speaks of its own channels there
			}
			if slices.ContainsFunc(complaints, func(c string) bool { return strings.Contains(line, c) }) {
				f.problemf("%s", line)
			}
		}
	}
	f.seenf("%d lines looked at", lines)
}

// lastTask ended a moment before the server was told to stop: only a flush can have brought it here.
func lastTask(e *evidence, f *finding) {
	if len(e.tasks) == 0 {
		f.problemf("there are no tasks")
		return
	}
	t := &e.tasks[len(e.tasks)-1]
	wants, lines := sum(t.workflow.wants()), 0
	spans := len(e.index.byTask[t.id])
	e.taskLogs(func(of *task, _ *otlpreceiver.Log) {
		if of == t {
			lines++
		}
	})
	f.seenf("%d spans, %d log lines", spans, lines)
	if spans != wants {
		f.problemf("%d of its %d spans arrived", spans, wants)
	}
	if lines < t.workflow.executions {
		f.problemf("%d of its log lines arrived", lines)
	}
	of := labels{"namespace": t.workflow.namespace, "task_type": t.workflow.name}
	if n := e.total("tasker.tasks.completions.total", of); n == 0 {
		f.problemf("it is not counted as complete")
	}
}

func exportFailures(e *evidence, f *finding) {
	n := e.total("tasker.telemetry.export_failures.total", nil)
	f.seenf("%d", n)
	if n != 0 {
		f.problemf("%d exports failed", n)
	}
}
