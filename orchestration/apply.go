package orchestration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// writes gathers the plans of a batch as the array parameters of three statements.
type writes struct {
	insert dbsqlc.StepInsertManyParams
	steps  dbsqlc.StepApplyManyParams
	tasks  dbsqlc.TaskApplyManyParams

	restart []uuid.UUID
	// offers are those that were taken, by the step that is continued.
	offers map[uuid.UUID]taken
	queues map[string]bool
	ended  []uuid.UUID
	retry  time.Duration
}

// taken is an offer with the step it was taken for.
type taken struct {
	offer *Offer
	name  string
}

func newWrites() *writes {
	return &writes{queues: make(map[string]bool), offers: make(map[uuid.UUID]taken)}
}

// add turns one plan into writes.
func (w *writes) add(task *loadedTask, plan *dag.Plan) error {
	if len(plan.Expand) > 0 {
		w.expand(task, plan.Expand)
	}
	for i := range plan.Steps {
		if err := w.step(task, &plan.Steps[i]); err != nil {
			return err
		}
	}
	if plan.TouchesTask() {
		w.task(task, plan, "")
	}
	if plan.Restart {
		w.restart = append(w.restart, task.row.ID)
		w.queues[Queue] = true
	}
	return nil
}

// reject ends a task that cannot be expanded.
func (w *writes) reject(task *loadedTask, failure *dag.Failure) {
	text, err := json.Marshal(failure)
	if err != nil { // strings, booleans and a duration always encode
		panic(err)
	}
	w.task(task, &dag.Plan{Path: []dag.TaskState{dag.TaskError}}, string(text))
}

func (w *writes) expand(task *loadedTask, steps []dag.NewStep) {
	graph, p := task.template.Graph, &w.insert
	ids := make(map[string]uuid.UUID, len(steps))
	for i := range steps {
		s := &steps[i]
		def := graph.Step(s.Name)
		ids[s.Name] = uuid.Must(uuid.NewV7())
		root := len(s.Parents) == 0
		if root {
			w.queues[graph.Template.Namespace] = true
		}
		if root {
			task.dispatched(telemetry.Step{ID: ids[s.Name], Name: s.Name, Claim: 1}, false)
		}
		p.ID = append(p.ID, ids[s.Name])
		p.TaskID = append(p.TaskID, task.row.ID)
		p.Name = append(p.Name, s.Name)
		p.Type = append(p.Type, string(dag.StepStandard))
		p.Position = append(p.Position, int32(s.Position))
		p.Handler = append(p.Handler, def.Handler.Callable)
		p.Queue = append(p.Queue, graph.Template.Namespace)
		p.Priority = append(p.Priority, task.row.Priority)
		p.Sink = append(p.Sink, s.Sink)
		p.ParentsLeft = append(p.ParentsLeft, int32(len(s.Parents)))
		p.MaxAttempts = append(p.MaxAttempts, int32(def.Policy().MaxAttempts))
		p.Root = append(p.Root, root)
		for _, parent := range s.Parents {
			p.EdgeParent = append(p.EdgeParent, ids[parent])
			p.EdgeChild = append(p.EdgeChild, ids[s.Name])
		}
	}
}

func (w *writes) step(task *loadedTask, c *dag.StepChange) error {
	p := &w.steps
	row := task.steps[c.Step]
	outcome, fresh := task.outcomes[c.Step]
	var result, failure string
	if fresh && outcome.Failure == nil {
		result = string(outcome.Result)
	}
	if fresh && outcome.Failure != nil {
		text, err := json.Marshal(outcome.Failure)
		if err != nil {
			return fmt.Errorf("encode failure of step %s: %w", row.id, err)
		}
		failure = string(text)
	}
	p.ID = append(p.ID, row.id)
	p.FromState = append(p.FromState, string(c.From))
	p.ToState = append(p.ToState, string(c.To))
	p.ParentsDone = append(p.ParentsDone, int32(c.ParentsDone))
	p.RetryAt = append(p.RetryAt, c.RetryAt)
	p.Reset = append(p.Reset, c.Reset)
	p.Fresh = append(p.Fresh, fresh && c.To != dag.StepCancelled)
	p.Result = append(p.Result, result)
	p.Failure = append(p.Failure, failure)
	token := w.takeOffer(task, c)
	p.Token = append(p.Token, token)
	if c.To == dag.StepEnqueued {
		task.dispatched(telemetry.Step{ID: row.id, Name: c.Step, Claim: row.claim + 1}, token != uuid.Nil)
		task.news.Dispatched[len(task.news.Dispatched)-1].Retry = c.From == dag.StepWaitingForRetry || c.From == dag.StepError
	}
	if c.To == dag.StepWaitingForRetry {
		if wait := max(c.RetryAt.Sub(task.now()), time.Millisecond); w.retry == 0 || wait < w.retry {
			w.retry = wait
		}
	}
	return nil
}

// takeOffer gives a step that becomes ready to a worker that would go on with it.
func (w *writes) takeOffer(task *loadedTask, c *dag.StepChange) uuid.UUID {
	if c.From != dag.StepPending || c.To != dag.StepEnqueued || len(task.offers) == 0 {
		return uuid.Nil
	}
	definition, offer := task.template.Graph.Step(c.Step), task.offers[0]
	if definition == nil || !offer.Runs(definition.Handler.Callable) {
		return uuid.Nil
	}
	task.offers = task.offers[1:]
	w.offers[task.steps[c.Step].id] = taken{offer, c.Step}
	return offer.Token
}

func (w *writes) task(task *loadedTask, plan *dag.Plan, failure string) {
	p := &w.tasks
	state := dag.TaskState(task.row.State)
	for i, next := range plan.Path {
		p.LogTaskID = append(p.LogTaskID, task.row.ID)
		p.LogSeq = append(p.LogSeq, task.row.TransitionNo+int32(i)+1)
		p.LogFrom = append(p.LogFrom, string(state))
		p.LogTo = append(p.LogTo, string(next))
		state = next
	}
	p.ID = append(p.ID, task.row.ID)
	p.ToState = append(p.ToState, string(state))
	p.SinksLeft = append(p.SinksLeft, int32(plan.SinksLeft))
	p.StepsFailed = append(p.StepsFailed, int32(plan.StepsFailed))
	p.StepsRetrying = append(p.StepsRetrying, int32(plan.StepsRetrying))
	p.Transitions = append(p.Transitions, int32(len(plan.Path)))
	p.Failure = append(p.Failure, failure)
	task.moved(plan, failure)
	c := task.news.Creation
	p.Counted = append(p.Counted, c != nil && task.row.CorrelationLabel == nil)
	p.Admitted = append(p.Admitted, task.news.Admitted)
	p.TraceRoot = append(p.TraceRoot, "")
	p.Tracestate = append(p.Tracestate, "")
	if c != nil {
		last := len(p.TraceRoot) - 1
		p.TraceRoot[last], p.Tracestate[last] = c.Root.Traceparent, c.Root.Tracestate
	}
	if len(plan.Path) > 0 && state.Resting() {
		w.ended = append(w.ended, task.row.ID)
	}
}

// settleItems closes the River jobs that brought the items, in the same transaction. A failed execution shows in River UI as
// what it is: discarded, with its error.
func (w *writes) settleItems(items []Item, effects *Effects) {
	for i := range items {
		item := &items[i]
		if item.JobID == 0 {
			continue
		}
		state, text := "completed", ""
		if item.Outcome != nil && item.Outcome.Failure != nil && effects.Verdicts[item.Dispatch] == VerdictAccepted {
			state, text = "discarded", AttemptError(item.Outcome.Failure)
		}
		w.steps.SettleID = append(w.steps.SettleID, item.JobID)
		w.steps.SettleState = append(w.steps.SettleState, state)
		w.steps.SettleError = append(w.steps.SettleError, text)
	}
}

// AttemptError is a failure in the form River keeps with a job and shows in its UI.
func AttemptError(f *dag.Failure) string {
	message := f.Type + ": " + f.Message
	if f.Code != "" {
		message = f.Type + " " + f.Code + ": " + f.Message
	}
	text, err := json.Marshal(map[string]any{"at": time.Now().UTC(), "attempt": 1, "error": message, "trace": f.Stack})
	if err != nil { // strings always encode
		panic(err)
	}
	return string(text)
}

// apply runs the statements that have something to do.
func (e *Engine) apply(ctx context.Context, q *dbsqlc.Queries, w *writes, effects *Effects) error {
	if len(w.insert.ID) > 0 {
		if err := q.StepInsertMany(ctx, w.insert); err != nil {
			return fmt.Errorf("insert steps: %w", err)
		}
	}
	if len(w.steps.ID)+len(w.steps.SettleID) > 0 {
		if err := e.applySteps(ctx, q, w, effects); err != nil {
			return err
		}
	}
	if len(w.tasks.ID) > 0 {
		if err := q.TaskApplyMany(ctx, w.tasks); err != nil {
			return fmt.Errorf("apply tasks: %w", err)
		}
	}
	if len(w.restart) > 0 {
		if err := q.TaskRestart(ctx, w.restart); err != nil {
			return fmt.Errorf("restart tasks: %w", err)
		}
	}
	maps.Copy(effects.Queues, w.queues)
	effects.Ended = append(effects.Ended, w.ended...)
	effects.Retry = w.retry
	return nil
}

func (e *Engine) applySteps(ctx context.Context, q *dbsqlc.Queries, w *writes, effects *Effects) error {
	w.steps.WorkerID, w.steps.LeaseSeconds = e.Holder.Worker, e.Holder.Lease.Seconds()
	rows, err := q.StepApplyMany(ctx, w.steps)
	if err != nil {
		return fmt.Errorf("apply steps: %w", err)
	}
	if len(rows) != len(w.steps.ID) {
		return fmt.Errorf("apply steps: %d of %d changes found their step as it was loaded", len(rows), len(w.steps.ID))
	}
	for i := range rows {
		switch {
		case rows[i].Continued:
			w.next(&rows[i], effects)
		case rows[i].ToState == string(dag.StepEnqueued):
			w.queues[rows[i].Queue] = true
		}
	}
	return nil
}

// next hands a continued step to the worker whose offer was taken. What both steps share is in the worker's memory.
func (w *writes) next(row *dbsqlc.StepApplyManyRow, effects *Effects) {
	t := w.offers[row.ID]
	effects.Next[t.offer.Step.Dispatch] = t.offer.Step.successor(Dispatch{row.ID, row.ClaimNo}, t.name, int(row.Attempts), row.RiverJobID)
}
