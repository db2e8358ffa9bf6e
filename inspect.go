package tasker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// Task is a task with its steps.
type Task struct {
	ID        uuid.UUID     `json:"id"`
	Namespace string        `json:"namespace"`
	Name      string        `json:"name"`
	Version   string        `json:"version"`
	State     dag.TaskState `json:"state"`
	// Problem says in a sentence why the task does not move; empty when it does.
	Problem             string          `json:"problem,omitempty"`
	Priority            int             `json:"priority"`
	Context             json.RawMessage `json:"context"`
	CorrelationID       uuid.UUID       `json:"correlation_id"`
	ParentCorrelationID *uuid.UUID      `json:"parent_correlation_id,omitempty"`
	Tags                []string        `json:"tags,omitempty"`
	Initiator           string          `json:"initiator"`
	SourceSystem        string          `json:"source_system"`
	Reason              string          `json:"reason"`
	IdempotencyKey      string          `json:"idempotency_key,omitempty"`
	CreatedAt           time.Time       `json:"created_at"`
	RunAt               *time.Time      `json:"run_at,omitempty"`
	StartedAt           *time.Time      `json:"started_at,omitempty"`
	FinishedAt          *time.Time      `json:"finished_at,omitempty"`
	Steps               []TaskStep      `json:"steps"`
}

// TaskStep is one step of a task.
type TaskStep struct {
	ID           uuid.UUID       `json:"id"`
	Name         string          `json:"name"`
	State        dag.StepState   `json:"state"`
	Dependencies []string        `json:"dependencies"`
	Handler      string          `json:"handler"`
	Attempts     int             `json:"attempts"`
	MaxAttempts  int             `json:"max_attempts"`
	Losses       int             `json:"losses"`
	ClaimNo      int             `json:"claim_no"`
	WorkerID     string          `json:"worker_id,omitempty"`
	StartedAt    *time.Time      `json:"started_at,omitempty"`
	FinishedAt   *time.Time      `json:"finished_at,omitempty"`
	RetryAt      *time.Time      `json:"retry_at,omitempty"`
	Result       json.RawMessage `json:"result,omitempty"`
	Failure      *dag.Failure    `json:"failure,omitempty"`
}

// Step returns the named step, or nil.
func (t *Task) Step(name string) *TaskStep {
	for i := range t.Steps {
		if t.Steps[i].Name == name {
			return &t.Steps[i]
		}
	}
	return nil
}

// Get returns a task with its steps, all as of one moment, or [ErrTaskNotFound].
func (c *Client) Get(ctx context.Context, id uuid.UUID) (*Task, error) {
	engine, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	var task *Task
	err = db.InSnapshot(ctx, c.pool, "get task", func(ctx context.Context, tx pgx.Tx) (err error) {
		task, err = getTask(ctx, engine.River.Queries(tx), id)
		return err
	})
	return task, err
}

func getTask(ctx context.Context, q *dbsqlc.Queries, id uuid.UUID) (*Task, error) {
	row, err := q.TaskGet(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("task %s: %w", id, ErrTaskNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", id, err)
	}
	t := &Task{
		ID: row.ID, Namespace: row.Namespace, Name: row.Name, Version: row.Version, State: dag.TaskState(row.State),
		Priority: int(row.Priority), Context: row.Context, CorrelationID: row.CorrelationID,
		ParentCorrelationID: row.ParentCorrelationID, Tags: row.Tags, Initiator: row.Initiator, SourceSystem: row.SourceSystem,
		Reason: row.Reason, CreatedAt: row.CreatedAt, RunAt: row.RunAt, StartedAt: row.StartedAt, FinishedAt: row.FinishedAt,
		Problem: row.Problem,
	}
	if row.IdempotencyKey != nil {
		t.IdempotencyKey = *row.IdempotencyKey
	}
	steps, err := q.TaskSteps(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("steps of task %s: %w", id, err)
	}
	for i := range steps {
		step, err := taskStep(&steps[i])
		if err != nil {
			return nil, err
		}
		t.Steps = append(t.Steps, step)
	}
	return t, nil
}

func taskStep(row *dbsqlc.TaskStepsRow) (TaskStep, error) {
	s := TaskStep{
		ID: row.ID, Name: row.Name, State: dag.StepState(row.State), Dependencies: row.Dependencies, Handler: row.Handler,
		Attempts: int(row.Attempts), MaxAttempts: max(int(row.MaxAttempts), 1), Losses: int(row.Losses), ClaimNo: int(row.ClaimNo),
		StartedAt: row.StartedAt, FinishedAt: row.FinishedAt, RetryAt: row.RetryAt, Result: row.Result,
	}
	if row.WorkerID != nil {
		s.WorkerID = *row.WorkerID
	}
	if len(row.Failure) > 0 {
		s.Failure = &dag.Failure{}
		if err := json.Unmarshal(row.Failure, s.Failure); err != nil {
			return s, fmt.Errorf("decode failure of step %s: %w", row.Name, err)
		}
	}
	return s, nil
}

func (c *Client) queries(ctx context.Context) (*dbsqlc.Queries, error) {
	engine, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	return engine.River.Queries(c.pool), nil
}

// Result decodes the result of one step of a task. [ErrNoResult] says that it has none (yet).
func Result[Out any](ctx context.Context, run *Run, step string) (Out, error) {
	var out Out
	q, err := run.client.queries(ctx)
	if err != nil {
		return out, err
	}
	row, err := q.StepResult(ctx, dbsqlc.StepResultParams{TaskID: run.ID, Name: step})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return out, fmt.Errorf("task %s, step %q: %w", run.ID, step, ErrStepNotFound)
	case err != nil:
		return out, fmt.Errorf("get result of task %s, step %q: %w", run.ID, step, err)
	case len(row.Result) == 0 || !dag.StepState(row.State).Succeeded():
		return out, fmt.Errorf("task %s, step %q is %s: %w", run.ID, step, row.State, ErrNoResult)
	}
	if err := decode(row.Result, &out); err != nil {
		return out, fmt.Errorf("decode result of task %s, step %q: %w", run.ID, step, err)
	}
	return out, nil
}

// ListParams filter and page a list of tasks; empty fields match everything.
type ListParams struct {
	States        []dag.TaskState
	Namespace     string
	Name          string
	Tag           string
	CorrelationID uuid.UUID
	// Before continues a list: the id of its last task.
	Before uuid.UUID
	// Limit is 1 to 1000; default 50.
	Limit int
}

// TaskSummary is one line of a list.
type TaskSummary struct {
	ID        uuid.UUID     `json:"id"`
	Namespace string        `json:"namespace"`
	Name      string        `json:"name"`
	Version   string        `json:"version"`
	State     dag.TaskState `json:"state"`
	// Steps is "done/total".
	Steps         string     `json:"steps"`
	Problem       string     `json:"problem,omitempty"`
	Tags          []string   `json:"tags,omitempty"`
	Initiator     string     `json:"initiator"`
	CorrelationID uuid.UUID  `json:"correlation_id"`
	CreatedAt     time.Time  `json:"created_at"`
	FinishedAt    *time.Time `json:"finished_at,omitempty"`
}

const (
	defaultListLimit = 50
	maxListLimit     = 1000
)

// List returns tasks, the newest first.
func (c *Client) List(ctx context.Context, params ListParams) ([]TaskSummary, error) {
	q, err := c.queries(ctx)
	if err != nil {
		return nil, err
	}
	p := dbsqlc.TaskListParams{
		States: []string{}, Namespace: params.Namespace, Name: params.Name, Tag: params.Tag,
		CorrelationID: params.CorrelationID, Before: params.Before, Max: defaultListLimit,
	}
	for _, state := range params.States {
		p.States = append(p.States, string(state))
	}
	if params.Limit > 0 {
		p.Max = int32(min(params.Limit, maxListLimit))
	}
	if p.Before == uuid.Nil {
		p.Before = uuid.Max
	}
	rows, err := q.TaskList(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	list := make([]TaskSummary, len(rows))
	for i := range rows {
		row := &rows[i]
		list[i] = TaskSummary{
			ID: row.ID, Namespace: row.Namespace, Name: row.Name, Version: row.Version, State: dag.TaskState(row.State),
			Steps: row.Steps, Problem: row.Problem, Tags: row.Tags, Initiator: row.Initiator,
			CorrelationID: row.CorrelationID, CreatedAt: row.CreatedAt, FinishedAt: row.FinishedAt,
		}
	}
	return list, nil
}

// Change is one entry of a task's history: a state change of the task or, with Step set, of a step, or what a person did.
type Change struct {
	At   time.Time `json:"at"`
	Step string    `json:"step,omitempty"`
	From string    `json:"from,omitempty"`
	To   string    `json:"to"`
	Note string    `json:"note,omitempty"`
}

// History returns everything that happened to a task, in order.
func (c *Client) History(ctx context.Context, id uuid.UUID) ([]Change, error) {
	q, err := c.queries(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := q.TaskHistory(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("history of task %s: %w", id, err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("task %s: %w", id, ErrTaskNotFound)
	}
	changes := make([]Change, len(rows))
	for i, row := range rows {
		changes[i] = Change{At: row.At, Step: row.Step, From: row.FromState, To: row.ToState, Note: row.Note}
	}
	return changes, nil
}

// ErrAmbiguous says that more than one task fits an abbreviated id.
var ErrAmbiguous = errors.New("more than one task ends like this")

// Find resolves what a person types: a whole id, its last characters (at least four), or @last for the newest task.
func (c *Client) Find(ctx context.Context, text string) (uuid.UUID, error) {
	if id, err := uuid.Parse(text); err == nil {
		return id, nil
	}
	q, err := c.queries(ctx)
	if err != nil {
		return uuid.Nil, err
	}
	if text == "@last" {
		id, err := q.TaskNewest(ctx)
		if errors.Is(err, pgx.ErrNoRows) {
			return uuid.Nil, fmt.Errorf("there is no task yet: %w", ErrTaskNotFound)
		}
		return id, err //nolint:wrapcheck // nothing to add
	}
	if len(text) < 4 {
		return uuid.Nil, fmt.Errorf("%q: give at least the last four characters of the id: %w", text, ErrTaskNotFound)
	}
	ids, err := q.TaskFindBySuffix(ctx, text)
	switch {
	case err != nil:
		return uuid.Nil, fmt.Errorf("find task %q: %w", text, err)
	case len(ids) == 0:
		return uuid.Nil, fmt.Errorf("task %q: %w", text, ErrTaskNotFound)
	case len(ids) > 1:
		return uuid.Nil, fmt.Errorf("task %q: %w", text, ErrAmbiguous)
	}
	return ids[0], nil
}
