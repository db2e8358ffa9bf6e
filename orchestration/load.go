package orchestration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// loadedTask is a task's row with what was loaded of its steps: the only place where database words become dag words.
type loadedTask struct {
	row      dbsqlc.TaskLockManyRow
	template *Template
	steps    map[string]loadedStep
	children map[string][]string
	active   int

	results  []dag.Result
	due      []string
	outcomes map[string]Outcome
	offers   []*Offer
	enqueue  bool
	news     telemetry.Progress
}

// loadedStep is what apply needs of a step beside dag's view.
type loadedStep struct {
	id    uuid.UUID
	claim int32
	jobID *int64
	view  dag.StepView
}

// lockTasks takes the tasks of a batch and loads their templates.
func (e *Engine) lockTasks(ctx context.Context, q *dbsqlc.Queries, ids []uuid.UUID) (map[uuid.UUID]*loadedTask, error) {
	rows, err := q.TaskLockMany(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("lock tasks: %w", err)
	}
	var templateIDs []uuid.UUID
	for i := range rows {
		if !slices.Contains(templateIDs, rows[i].TemplateID) {
			templateIDs = append(templateIDs, rows[i].TemplateID)
		}
	}
	templates, err := e.Templates.Load(ctx, q, templateIDs)
	if err != nil {
		return nil, err
	}
	tasks := make(map[uuid.UUID]*loadedTask, len(rows))
	for i := range rows {
		template := templates[rows[i].TemplateID]
		if template == nil {
			return nil, fmt.Errorf("task %s: template %s is gone", rows[i].ID, rows[i].TemplateID)
		}
		tasks[rows[i].ID] = &loadedTask{
			row: rows[i], template: template, steps: make(map[string]loadedStep), children: make(map[string][]string),
			outcomes: make(map[string]Outcome), news: progress(&rows[i], template),
		}
	}
	return tasks, nil
}

// lockSteps takes the steps that the items name and files each item under its task. An item whose step has moved on is left
// out: it is late.
func (e *Engine) lockSteps(ctx context.Context, q *dbsqlc.Queries, tasks map[uuid.UUID]*loadedTask, items []Item, effects *Effects) error {
	byStep, ids := fileEnqueues(tasks, items)
	if len(ids) == 0 {
		return nil
	}
	rows, err := q.StepLockMany(ctx, ids)
	if err != nil {
		return fmt.Errorf("lock steps: %w", err)
	}
	for i := range rows {
		row := &rows[i]
		task := tasks[row.TaskID]
		if task == nil {
			continue
		}
		for _, item := range byStep[row.ID] {
			if err := e.file(task, row, item, effects); err != nil {
				return err
			}
		}
	}
	return nil
}

// fileEnqueues marks the tasks to expand, and groups the other items by step.
func fileEnqueues(tasks map[uuid.UUID]*loadedTask, items []Item) (map[uuid.UUID][]*Item, []uuid.UUID) {
	byStep := make(map[uuid.UUID][]*Item, len(items))
	ids := make([]uuid.UUID, 0, len(items))
	for i := range items {
		item := &items[i]
		if item.Kind == ItemEnqueue {
			if task := tasks[item.TaskID]; task != nil {
				task.enqueue = true
			}
			continue
		}
		if byStep[item.StepID] == nil {
			ids = append(ids, item.StepID)
		}
		byStep[item.StepID] = append(byStep[item.StepID], item)
	}
	return byStep, ids
}

// file adds one item to its task, if the step is still where the item left it.
func (e *Engine) file(task *loadedTask, row *dbsqlc.StepLockManyRow, item *Item, effects *Effects) error {
	state := dag.StepState(row.State)
	if _, twice := task.steps[row.Name]; twice || !item.fits(row.ClaimNo, state) {
		return nil
	}
	switch {
	case item.Kind == ItemRetryDue:
		task.due = append(task.due, row.Name)
	case item.Outcome != nil:
		effects.Verdicts[item.Dispatch] = VerdictAccepted
		task.outcomes[row.Name] = *item.Outcome
		if item.Offer != nil && item.Outcome.Failure == nil {
			task.offers = append(task.offers, item.Offer)
		}
		task.results = append(task.results, dag.Result{Step: row.Name, Failure: item.Outcome.Failure, Jitter: e.jitter()})
		task.result(item, row.Name, item.Outcome.Failure)
	default:
		failure, err := storedFailure(state, row.Failure)
		if err != nil {
			return fmt.Errorf("step %s: %w", row.ID, err)
		}
		task.results = append(task.results, dag.Result{Step: row.Name, Failure: failure, Jitter: e.jitter()})
		task.result(item, row.Name, failure)
	}
	task.steps[row.Name] = loadedStep{id: row.ID, claim: row.ClaimNo, jobID: row.RiverJobID, view: dag.StepView{
		State: state, Attempts: int(row.Attempts), MaxAttempts: int(row.MaxAttempts), ParentsLeft: int(row.ParentsLeft), Sink: row.Sink,
	}}
	return nil
}

// fits is the fence: whether the step is still where the item left it.
func (i *Item) fits(claimNo int32, state dag.StepState) bool {
	switch {
	case i.Kind == ItemRetryDue:
		return state == dag.StepWaitingForRetry
	case i.ClaimNo != claimNo:
		return false
	case i.Outcome != nil:
		return state == dag.StepInProgress
	}
	return state == dag.StepEnqueuedForOrchestration || state == dag.StepEnqueuedAsErrorForOrchestration
}

func storedFailure(state dag.StepState, stored json.RawMessage) (*dag.Failure, error) {
	if state == dag.StepEnqueuedForOrchestration {
		return nil, nil //nolint:nilnil // no failure is a success
	}
	failure := &dag.Failure{}
	if err := json.NewDecoder(bytes.NewReader(stored)).Decode(failure); err != nil {
		return nil, fmt.Errorf("decode failure: %w", err)
	}
	return failure, nil
}

// loadChildren reads the dependents of the steps that succeed.
func (e *Engine) loadChildren(ctx context.Context, q *dbsqlc.Queries, tasks map[uuid.UUID]*loadedTask, parents map[uuid.UUID]string) error {
	if len(parents) == 0 {
		return nil
	}
	ids := make([]uuid.UUID, 0, len(parents))
	for id := range parents {
		ids = append(ids, id)
	}
	rows, err := q.StepChildren(ctx, ids)
	if err != nil {
		return fmt.Errorf("load children: %w", err)
	}
	for i := range rows {
		row := &rows[i]
		task := tasks[row.TaskID]
		parent := parents[row.ParentID]
		task.children[parent] = append(task.children[parent], row.Name)
		task.steps[row.Name] = loadedStep{id: row.ID, view: dag.StepView{
			State: dag.StepState(row.State), Attempts: int(row.Attempts), MaxAttempts: int(row.MaxAttempts),
			ParentsLeft: int(row.ParentsLeft), Sink: row.Sink,
		}}
	}
	return nil
}

// loadActive counts what moves in the tasks whose decision depends on it.
func (e *Engine) loadActive(ctx context.Context, q *dbsqlc.Queries, tasks map[uuid.UUID]*loadedTask) error {
	var ids []uuid.UUID
	for id, task := range tasks {
		if event := task.event(); event != nil && dag.NeedsActive(task.view(), event) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := q.StepActiveCounts(ctx, ids)
	if err != nil {
		return fmt.Errorf("count active steps: %w", err)
	}
	for _, row := range rows {
		tasks[row.TaskID].active = int(row.Active)
	}
	return nil
}

// event is what the batch says about the task; nil when everything was late.
func (t *loadedTask) event() dag.Event {
	switch {
	case t.enqueue && t.row.State == string(dag.TaskPending):
		return dag.Start{}
	case len(t.results) > 0:
		return dag.Finished{Results: t.results}
	case len(t.due) > 0:
		return dag.RetryDue{Steps: t.due}
	}
	return nil
}

// successes maps the ids of the steps that end well to their names.
func (t *loadedTask) successes(into map[uuid.UUID]string) {
	for i := range t.results {
		if t.results[i].Failure == nil {
			into[t.steps[t.results[i].Step].id] = t.results[i].Step
		}
	}
}

func (t *loadedTask) view() dag.Task {
	return dag.Task{
		State: dag.TaskState(t.row.State), SinksLeft: int(t.row.SinksLeft), StepsFailed: int(t.row.StepsFailed),
		StepsRetrying: int(t.row.StepsRetrying),
	}
}

func (t *loadedTask) snapshot() dag.Snapshot {
	steps := make(map[string]dag.StepView, len(t.steps))
	for name, step := range t.steps {
		steps[name] = step.view
	}
	return dag.Snapshot{Graph: t.template.Graph, Task: t.view(), Steps: steps, Children: t.children, Active: t.active}
}

func (t *loadedTask) now() time.Time { return t.row.LockedAt }
