package orchestration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// ErrTaskNotFound says that there is no such task.
var ErrTaskNotFound = errors.New("task not found")

// Operation is what a person does to a task. Actor and Reason are kept.
type Operation struct {
	// ID is made by the caller, outside the transaction: an operation whose commit was in doubt recognises itself by it.
	ID     uuid.UUID
	TaskID uuid.UUID
	// Event is a dag.Cancel, dag.Rerun or dag.Resolve.
	Event dag.Event
	// Result is the step's, for a Resolve that has one.
	Result json.RawMessage
	Actor  string
	Reason string
}

// Operate applies an operator's event. A *dag.ConflictError says that the state forbids it.
func (e *Engine) Operate(ctx context.Context, tx pgx.Tx, op Operation) (*Effects, error) {
	q, effects := e.queries(tx), newEffects()
	effects.Pass.Committer, effects.Pass.Began = "operate", time.Now()
	if done, err := q.OperatorActionExists(ctx, op.ID); done || err != nil {
		return effects, err //nolint:wrapcheck // the caller names the operation
	}
	task, err := e.loadWhole(ctx, q, op)
	if err != nil {
		return nil, err
	}
	effects.Pass.Loaded = time.Now()
	plan, err := dag.Decide(task.snapshot(), op.Event, task.now())
	if err != nil {
		return nil, err
	}
	w := newWrites()
	if err := w.add(task, &plan); err != nil {
		return nil, err
	}
	if resolve, ok := op.Event.(dag.Resolve); ok && resolve.HasResult {
		w.setResult(task.steps[resolve.Step].id, op.Result)
	}
	if err := e.apply(ctx, q, w, effects); err != nil {
		return nil, err
	}
	effects.Pass.Decided = time.Now()
	effects.account(map[uuid.UUID]*loadedTask{op.TaskID: task}, nil)
	if err := e.withdraw(ctx, q, task, &plan, effects); err != nil {
		return nil, err
	}
	return effects, e.audit(ctx, q, task, op, &plan)
}

// loadWhole locks a task with every step, and the children of the step that is resolved.
func (e *Engine) loadWhole(ctx context.Context, q *dbsqlc.Queries, op Operation) (*loadedTask, error) {
	tasks, err := e.lockTasks(ctx, q, []uuid.UUID{op.TaskID})
	if err != nil {
		return nil, err
	}
	task := tasks[op.TaskID]
	if task == nil {
		return nil, fmt.Errorf("task %s: %w", op.TaskID, ErrTaskNotFound)
	}
	rows, err := q.StepLockTask(ctx, op.TaskID)
	if err != nil {
		return nil, fmt.Errorf("lock steps of task %s: %w", op.TaskID, err)
	}
	for i := range rows {
		task.addStep(&rows[i])
	}
	resolve, isResolve := op.Event.(dag.Resolve)
	if step, ok := task.steps[resolve.Step]; isResolve && ok {
		if err := e.loadChildren(ctx, q, tasks, map[uuid.UUID]string{step.id: resolve.Step}); err != nil {
			return nil, err
		}
	}
	return task, nil
}

func (t *loadedTask) addStep(row *dbsqlc.StepLockTaskRow) {
	state := dag.StepState(row.State)
	if state.Active() {
		t.active++
	}
	t.steps[row.Name] = loadedStep{id: row.ID, claim: row.ClaimNo, jobID: row.RiverJobID, view: dag.StepView{
		State: state, Attempts: int(row.Attempts), MaxAttempts: int(row.MaxAttempts), ParentsLeft: int(row.ParentsLeft), Sink: row.Sink,
	}}
}

func (w *writes) setResult(step uuid.UUID, result json.RawMessage) {
	for i, id := range w.steps.ID {
		if id == step {
			w.steps.Result[i] = string(result)
		}
	}
}

// withdraw cancels the jobs of steps that were closed over the head of their worker, and names the dispatches that run.
func (e *Engine) withdraw(ctx context.Context, q *dbsqlc.Queries, task *loadedTask, plan *dag.Plan, effects *Effects) error {
	var waiting []int64
	for _, c := range plan.Steps {
		step := task.steps[c.Step]
		switch {
		case step.jobID == nil || c.To == dag.StepEnqueued:
		case c.From == dag.StepEnqueued:
			waiting = append(waiting, *step.jobID)
		case c.From == dag.StepInProgress:
			effects.Interrupt = append(effects.Interrupt, Dispatch{step.id, step.claim})
		}
	}
	if len(waiting) == 0 {
		return nil
	}
	if err := q.JobCancelMany(ctx, waiting); err != nil {
		return fmt.Errorf("withdraw jobs of task %s: %w", task.row.ID, err)
	}
	return nil
}

// audit keeps who did what and why, with the states before and after.
func (e *Engine) audit(ctx context.Context, q *dbsqlc.Queries, task *loadedTask, op Operation, plan *dag.Plan) error {
	p := dbsqlc.OperatorActionInsertParams{
		ID: op.ID, TaskID: op.TaskID, Actor: op.Actor, Reason: op.Reason, FromState: task.row.State, ToState: task.row.State,
	}
	if len(plan.Path) > 0 {
		p.ToState = string(plan.Path[len(plan.Path)-1])
	}
	var step string
	switch event := op.Event.(type) {
	case dag.Cancel:
		p.Action = "cancel_task"
	case dag.Rerun:
		p.Action = "retry_task"
		if len(event.Steps) == 1 {
			p.Action, step = "retry_step", event.Steps[0]
		}
	case dag.Resolve:
		p.Action, step = "resolve_step", event.Step
	}
	if step != "" {
		p.StepName = &step
		for _, c := range plan.Steps {
			if c.Step == step {
				p.FromState, p.ToState = string(c.From), string(c.To)
			}
		}
	}
	if err := q.OperatorActionInsert(ctx, p); err != nil {
		return fmt.Errorf("record operator action: %w", err)
	}
	return nil
}
