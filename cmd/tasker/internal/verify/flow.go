package verify

import "fmt"

// stations are the counters that a task passes, in order, and how often each of its kind does.
var stations = []struct {
	title, metric string
	times         func(*workflow) int
}{
	{"tasks requested", "tasker.tasks.requests.total", once},
	{"steps enqueued", "tasker.steps.enqueued.total", executed},
	{"steps executed", "tasker.steps.executions.total", executed},
	{"steps succeeded", "tasker.steps.successes.total", func(w *workflow) int { return w.executions - w.failures }},
	{"results submitted", "tasker.steps.results_submitted.total", executed},
	{"results processed", "tasker.step_results.processed.total", executed},
	{"tasks completed", "tasker.tasks.completions.total", func(w *workflow) int { return 1 - w.failed() }},
}

func once(*workflow) int { return 1 }

func executed(w *workflow) int { return w.executions }

func (w *workflow) failed() int {
	if w.fails {
		return 1
	}
	return 0
}

// flowChecks follow the tasks from counter to counter.
func flowChecks() []check {
	var all []check
	for i, station := range stations {
		all = append(all, check{groupFlow, fmt.Sprintf("%d. %s", i+1, station.title), func(e *evidence, f *finding) {
			each := station.times(&sequence)
			examineStation(e, station.metric, each, f)
		}})
	}
	return append(all,
		check{groupFlow, "filtering by correlation_id gives one task's numbers", eachTask},
		check{groupFlow, "failures are counted apart", failures},
	)
}

// examineStation wants the client's tasks and the one created by SQL to have passed a counter, each of them so often.
func examineStation(e *evidence, metric string, each int, f *finding) {
	of := labels{"namespace": sequence.namespace}
	all, viaSQL := e.total(metric, of), 0
	for i := range e.tasks {
		if t := &e.tasks[i]; t.by == bySQL {
			viaSQL += e.total(metric, labels{"correlation_id": t.correlation.String()})
		}
	}
	f.seenf("%d, and %d of the task created by SQL", all-viaSQL, viaSQL)
	if want := e.requested * each; all-viaSQL != want {
		f.problemf("%s is %d for the client's tasks, not %d × %d", metric, all-viaSQL, e.requested, each)
	}
	if viaSQL != each {
		f.problemf("%s is %d for the task created by SQL, not %d", metric, viaSQL, each)
	}
}

// eachTask asks for each task by its correlation id.
func eachTask(e *evidence, f *finding) {
	n := 0
	for i := range e.tasks {
		t := &e.tasks[i]
		if !e.labelled(t) {
			continue
		}
		n++
		of := labels{"correlation_id": t.correlation.String()}
		for _, station := range stations {
			if got, want := e.total(station.metric, of), station.times(t.workflow); got != want {
				f.problemf("%s: %s is %d, not %d", t.workflow.name, station.metric, got, want)
			}
		}
	}
	f.seenf("%d tasks, 7 counters each", n)
	if n == 0 {
		f.problemf("no task has its correlation_id as a label")
	}
}

// failures: attempts that fail and tasks that end in error are no successes.
func failures(e *evidence, f *finding) {
	for i := range e.tasks {
		t := &e.tasks[i]
		if t.workflow.failures == 0 || !e.labelled(t) {
			continue
		}
		of := labels{"correlation_id": t.correlation.String()}
		for metric, want := range map[string]int{
			"tasker.steps.failures.total": t.workflow.failures, "tasker.tasks.failures.total": t.workflow.failed(),
		} {
			if got := e.total(metric, of); got != want {
				f.problemf("%s: %s is %d, not %d", t.workflow.name, metric, got, want)
			}
		}
	}
	f.seenf("%d executions, %d tasks", e.total("tasker.steps.failures.total", nil), e.total("tasker.tasks.failures.total", nil))
}
