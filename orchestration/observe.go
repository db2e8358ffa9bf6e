package orchestration

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// The kinds of River jobs, as the queries insert them.
const (
	KindEnqueue = "tasker_enqueue"
	KindExecute = "tasker_execute"
	KindResult  = "tasker_result"
)

// progress begins the account of what a batch does to a task.
func progress(row *dbsqlc.TaskLockManyRow, template *Template) telemetry.Progress {
	p := telemetry.Progress{
		Task: telemetry.Task{
			ID: row.ID, CorrelationID: row.CorrelationID, Namespace: template.Graph.Template.Namespace,
			Name: template.Graph.Template.Name, Steps: len(template.Graph.Template.Steps), Age: seconds(row.AgeSeconds),
		},
		Life: seconds(row.LifeSeconds),
	}
	if row.TraceRoot != nil {
		p.Root = telemetry.Carrier{Traceparent: *row.TraceRoot, Tracestate: text(row.Tracestate)}
	}
	p.Admitted = row.CorrelationLabel != nil && *row.CorrelationLabel
	return p
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// takeUp counts a task that was created by SQL, or by a client without telemetry, and begins its trace. Both are stored with
// what the task becomes now: of processes that race for it one wins.
func (t *loadedTask) takeUp(ctx context.Context, to *telemetry.Telemetry) {
	counted := t.row.CorrelationLabel != nil
	if to == nil || counted && (t.row.TraceRoot != nil || !to.Tracing()) {
		return
	}
	caller := telemetry.Carrier{Traceparent: text(t.row.Traceparent), Tracestate: text(t.row.Tracestate)}
	c := to.StartCreation(ctx, &t.news.Task, caller, time.Now().Add(-t.news.Age), counted)
	t.news.Task, t.news.Creation = c.Task, c
}

// result accounts for an outcome that counts.
func (t *loadedTask) result(item *Item, name string, failure *dag.Failure) {
	kind := "success"
	switch {
	case failure == nil:
	case failure.Type == "handler_timeout":
		kind = "timeout"
	default:
		kind = "error"
	}
	t.news.Results = append(t.news.Results, telemetry.Result{
		Step: telemetry.Step{ID: item.StepID, Name: name, Claim: item.ClaimNo}, Type: kind, Eager: item.Outcome != nil,
		Queue: Queue, Kind: KindResult, From: item.Span,
	})
}

// dispatched accounts for a step that goes to its queue.
func (t *loadedTask) dispatched(step telemetry.Step, continued bool) {
	t.news.Dispatched = append(t.news.Dispatched, telemetry.Ready{
		Step: step, Queue: t.template.Graph.Template.Namespace, Kind: KindExecute, Continued: continued,
	})
}

// moved accounts for the states that a task goes through.
func (t *loadedTask) moved(plan *dag.Plan, failure string) {
	if len(plan.Path) == 0 {
		return
	}
	t.news.Path = append(t.news.Path, t.row.State)
	for _, state := range plan.Path {
		t.news.Path = append(t.news.Path, string(state))
	}
	if last := plan.Path[len(plan.Path)-1]; last.Resting() {
		t.news.Final, t.news.Failure = string(last), failure
		if last == dag.TaskError && failure == "" {
			t.news.Failure = t.reason()
		}
	}
}

// arrived accounts for the jobs that brought items through the queue.
func (e *Effects) arrived(tasks map[uuid.UUID]*loadedTask, items []Item) {
	for i := range items {
		item := &items[i]
		task := tasks[item.TaskID]
		if task == nil || item.JobID == 0 || item.Outcome != nil {
			continue
		}
		kind := KindResult
		if item.Kind == ItemEnqueue {
			kind = KindEnqueue
		}
		task.news.Received = append(task.news.Received, telemetry.Arrival{Queue: Queue, Kind: kind, Waited: item.Waited})
	}
}

// reason names the failures that a task ended with, as far as this batch brought them.
func (t *loadedTask) reason() string {
	for i := range t.results {
		if f := t.results[i].Failure; f != nil {
			return fmt.Sprintf("step %s: %s: %s", t.results[i].Step, f.Type, f.Message)
		}
	}
	return "a step failed before"
}

// account fills in what telemetry tells of a batch.
func (e *Effects) account(tasks map[uuid.UUID]*loadedTask, items []Item) {
	e.arrived(tasks, items)
	for _, task := range tasks {
		if n := &task.news; len(n.Received)+len(n.Results)+len(n.Dispatched)+len(n.Path) > 0 {
			e.Pass.Progress = append(e.Pass.Progress, *n)
		}
	}
	for i := range items {
		if items[i].JobID == 0 {
			continue
		}
		queue := Queue
		if task := tasks[items[i].TaskID]; items[i].Outcome != nil && task != nil {
			queue = task.template.Graph.Template.Namespace
		}
		if e.Pass.Archived == nil {
			e.Pass.Archived = make(map[string]int, 2)
		}
		e.Pass.Archived[queue]++
	}
}
