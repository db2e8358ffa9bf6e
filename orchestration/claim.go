package orchestration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// Claim asks for one dispatched step. Token is fresh for each execution.
type Claim struct {
	Dispatch
	Token uuid.UUID
}

// Claimed is a step that this process now holds, with what its handler needs.
type Claimed struct {
	Dispatch
	TaskID uuid.UUID
	// JobID is the River job that brought it; the carrier fills it in.
	JobID         int64
	Name          string
	Attempt       int
	MaxAttempts   int
	CorrelationID uuid.UUID
	Context       json.RawMessage
	Template      *Template
	// LastFailure is why the attempt before failed; nil on the first.
	LastFailure *dag.Failure
	// Results are those of the step's dependencies (of all its ancestors, where it is not typed), by name.
	Results map[string]json.RawMessage
	// Trace is what telemetry knows of the task, Parents the dispatches that the results of the direct dependencies came from.
	Trace   telemetry.Task
	Parents []telemetry.Dispatch
}

// Claim takes steps for a worker until their lease ends. A dispatch that is missing in the answer is stale: its carrier must
// do nothing.
func (e *Engine) Claim(ctx context.Context, tx pgx.Tx, worker string, lease time.Duration, claims []Claim) (map[Dispatch]*Claimed, error) {
	q := e.queries(tx)
	p := dbsqlc.StepClaimManyParams{WorkerID: worker, LeaseSeconds: lease.Seconds()}
	for _, c := range claims {
		p.StepID = append(p.StepID, c.StepID)
		p.ClaimNo = append(p.ClaimNo, c.ClaimNo)
		p.Token = append(p.Token, c.Token)
	}
	rows, err := q.StepClaimMany(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("claim steps: %w", err)
	}
	templateIDs := make([]uuid.UUID, 0, len(rows))
	for i := range rows {
		templateIDs = append(templateIDs, rows[i].TemplateID)
	}
	templates, err := e.Templates.Load(ctx, q, templateIDs)
	if err != nil {
		return nil, err
	}
	claimed := make(map[Dispatch]*Claimed, len(rows))
	for i := range rows {
		c, err := claimedStep(&rows[i], templates)
		if err != nil {
			return nil, err
		}
		claimed[c.Dispatch] = c
	}
	return claimed, e.loadResults(ctx, q, claimed)
}

func claimedStep(row *dbsqlc.StepClaimManyRow, templates map[uuid.UUID]*Template) (*Claimed, error) {
	c := &Claimed{
		Dispatch: Dispatch{row.ID, row.ClaimNo}, TaskID: row.TaskID, Name: row.Name, Attempt: int(row.Attempts),
		MaxAttempts: max(int(row.MaxAttempts), 1), CorrelationID: row.CorrelationID, Context: row.Context,
		Template: templates[row.TemplateID], Results: make(map[string]json.RawMessage),
	}
	graph := c.Template.Graph
	c.Trace = telemetry.Task{
		ID: c.TaskID, CorrelationID: c.CorrelationID, Namespace: graph.Template.Namespace, Name: graph.Template.Name,
		Steps: len(graph.Template.Steps), Age: seconds(row.AgeSeconds), Admitted: row.CorrelationLabel != nil && *row.CorrelationLabel,
	}
	if row.TraceRoot != nil {
		c.Trace.Root = telemetry.Carrier{Traceparent: *row.TraceRoot, Tracestate: text(row.Tracestate)}
	}
	if len(row.LastFailure) > 0 {
		c.LastFailure = &dag.Failure{}
		if err := json.Unmarshal(row.LastFailure, c.LastFailure); err != nil {
			return nil, fmt.Errorf("step %s: decode last failure: %w", row.ID, err)
		}
	}
	return c, nil
}

// successor is a step of the same task, claimed by the same worker right after this one.
func (c *Claimed) successor(dispatch Dispatch, name string, attempt int, job *int64) *Claimed {
	next := *c
	next.Dispatch, next.Name, next.Attempt, next.LastFailure = dispatch, name, attempt, nil
	next.JobID, next.MaxAttempts = 0, 1
	next.Parents = nil
	if job != nil {
		next.JobID = *job
	}
	if step := c.Template.Graph.Step(name); step != nil {
		next.MaxAttempts = max(step.Policy().MaxAttempts, 1)
	}
	next.Results = make(map[string]json.RawMessage, 1)
	return &next
}

// missing names the steps whose results the handler may ask for and which are not at hand.
func (c *Claimed) missing() []string {
	step := c.Template.Graph.Step(c.Name)
	if step == nil {
		return nil
	}
	names := step.Dependencies
	if !step.Typed {
		names = c.Template.Graph.Ancestors(c.Name)
	}
	missing := make([]string, 0, len(names))
	for _, name := range names {
		if _, known := c.Results[name]; !known {
			missing = append(missing, name)
		}
	}
	return missing
}

// follows notes a dispatch whose result the step works with, if it is that of a direct dependency.
func (c *Claimed) follows(name string, dispatch telemetry.Dispatch) {
	if step := c.Template.Graph.Step(c.Name); step != nil && slices.Contains(step.Dependencies, name) {
		c.Parents = append(c.Parents, dispatch)
	}
}

// loadResults reads, in one query for the batch, the results that the claimed steps' handlers may ask for.
func (e *Engine) loadResults(ctx context.Context, q *dbsqlc.Queries, claimed map[Dispatch]*Claimed) error {
	type wanted struct {
		task uuid.UUID
		name string
	}
	readers := make(map[wanted][]*Claimed)
	var p dbsqlc.StepResultsParams
	for _, c := range claimed {
		for _, name := range c.missing() {
			key := wanted{c.TaskID, name}
			if readers[key] == nil {
				p.TaskIds = append(p.TaskIds, c.TaskID)
				p.Names = append(p.Names, name)
			}
			readers[key] = append(readers[key], c)
		}
	}
	if len(p.Names) == 0 {
		return nil
	}
	rows, err := q.StepResults(ctx, p)
	if err != nil {
		return fmt.Errorf("load results of dependencies: %w", err)
	}
	for _, row := range rows {
		for _, c := range readers[wanted{row.TaskID, row.Name}] {
			c.Results[row.Name] = row.Result
			c.follows(row.Name, telemetry.Dispatch{StepID: row.ID, Claim: row.ClaimNo})
		}
	}
	return nil
}

// StoreResults stores outcomes for the orchestrators to read: the form for workers that do not orchestrate. It answers as
// Advance does for fresh outcomes.
func (e *Engine) StoreResults(ctx context.Context, tx pgx.Tx, items []Item) (*Effects, error) {
	q := e.queries(tx)
	effects := newEffects()
	var p dbsqlc.StepFinishManyParams
	for i := range items {
		item := &items[i]
		failure, jobError := "", ""
		if f := item.Outcome.Failure; f != nil {
			text, err := json.Marshal(f)
			if err != nil {
				return nil, fmt.Errorf("encode failure of step %s: %w", item.StepID, err)
			}
			failure, jobError = string(text), AttemptError(f)
		}
		p.StepID = append(p.StepID, item.StepID)
		p.ClaimNo = append(p.ClaimNo, item.ClaimNo)
		p.Result = append(p.Result, string(item.Outcome.Result))
		p.Failure = append(p.Failure, failure)
		p.JobID = append(p.JobID, item.JobID)
		p.JobError = append(p.JobError, jobError)
	}
	rows, err := q.StepFinishMany(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("store results: %w", err)
	}
	for _, row := range rows {
		effects.Verdicts[Dispatch{row.ID, row.ClaimNo}] = VerdictAccepted
		effects.Queues[Queue] = true
	}
	return effects, e.findReplays(ctx, q, items, effects)
}

// Heartbeat renews the leases of what a worker holds. A step missing from the answer is lost: taken back, cancelled or
// resolved. One that is there with false is still held, but was not renewed: another transaction has its row.
func (e *Engine) Heartbeat(ctx context.Context, tx pgx.Tx, lease time.Duration, held []Dispatch) (map[uuid.UUID]bool, error) {
	p := dbsqlc.StepHeartbeatParams{LeaseSeconds: lease.Seconds()}
	for _, h := range held {
		p.StepIds = append(p.StepIds, h.StepID)
		p.ClaimNos = append(p.ClaimNos, h.ClaimNo)
	}
	rows, err := e.queries(tx).StepHeartbeat(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("renew leases: %w", err)
	}
	kept := make(map[uuid.UUID]bool, len(rows))
	for _, row := range rows {
		kept[row.ID] = row.Renewed
	}
	return kept, nil
}
