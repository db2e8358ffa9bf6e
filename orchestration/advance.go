package orchestration

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// Advance moves a batch of tasks forward: it locks and loads them, asks dag.Decide about each, and applies the plans with one
// statement for each table. Items that come late change nothing. All of it is one transaction, the caller's.
func (e *Engine) Advance(ctx context.Context, tx pgx.Tx, items []Item) (*Effects, error) {
	effects := newEffects()
	effects.Pass.Committer, effects.Pass.Began = "advance", time.Now()
	q := e.queries(tx)
	tasks, err := e.lockTasks(ctx, q, taskIDs(items))
	if err != nil {
		return nil, err
	}
	if err := e.lockSteps(ctx, q, tasks, items, effects); err != nil {
		return nil, err
	}
	parents := make(map[uuid.UUID]string)
	for _, task := range tasks {
		task.successes(parents)
	}
	if err := e.loadChildren(ctx, q, tasks, parents); err != nil {
		return nil, err
	}
	if err := e.loadActive(ctx, q, tasks); err != nil {
		return nil, err
	}
	effects.Pass.Loaded = time.Now()
	w := newWrites()
	for _, task := range tasks {
		if err := e.decide(ctx, task, w); err != nil {
			return nil, err
		}
	}
	w.settleItems(items, effects)
	effects.Pass.Decided = time.Now()
	effects.account(tasks, items)
	if err := e.apply(ctx, q, w, effects); err != nil {
		return nil, err
	}
	if err := e.findReplays(ctx, q, items, effects); err != nil {
		return nil, err
	}
	return effects, e.loadNext(ctx, q, items, effects)
}

// loadNext completes the steps that workers go on with: the result just stored is at hand, others are read.
func (e *Engine) loadNext(ctx context.Context, q *dbsqlc.Queries, items []Item, effects *Effects) error {
	if len(effects.Next) == 0 {
		return nil
	}
	claimed := make(map[Dispatch]*Claimed, len(effects.Next))
	for i := range items {
		if next := effects.Next[items[i].Dispatch]; next != nil {
			next.Results[items[i].Offer.Step.Name] = items[i].Outcome.Result
			next.follows(items[i].Offer.Step.Name, telemetry.Dispatch{StepID: items[i].StepID, Claim: items[i].ClaimNo})
			claimed[next.Dispatch] = next
		}
	}
	return e.loadResults(ctx, q, claimed)
}

func taskIDs(items []Item) []uuid.UUID {
	seen := make(map[uuid.UUID]bool, len(items))
	ids := make([]uuid.UUID, 0, len(items))
	for i := range items {
		if !seen[items[i].TaskID] {
			seen[items[i].TaskID] = true
			ids = append(ids, items[i].TaskID)
		}
	}
	return ids
}

// decide asks dag about one task and adds its plan to the writes. A task that has two kinds of news in one batch gets the
// second one from its promoter or its next job: it is not lost, only later.
func (e *Engine) decide(ctx context.Context, task *loadedTask, w *writes) error {
	event := task.event()
	if event == nil {
		return nil
	}
	if _, start := event.(dag.Start); start {
		task.takeUp(ctx, e.Telemetry)
		if err := task.template.CheckContext(task.row.Context); err != nil {
			w.reject(task, &dag.Failure{Type: "invalid_context", Message: err.Error(), Permanent: true})
			return nil //nolint:nilerr // the error is the task's, and is stored with it
		}
	}
	plan, err := dag.Decide(task.snapshot(), event, task.now())
	if err != nil {
		return fmt.Errorf("task %s: %w", task.row.ID, err)
	}
	return w.add(task, &plan)
}

// findReplays tells outcomes that were counted before, by a transaction whose commit was in doubt, from stale ones.
func (e *Engine) findReplays(ctx context.Context, q *dbsqlc.Queries, items []Item, effects *Effects) error {
	var steps []uuid.UUID
	var claims []int32
	for i := range items {
		if items[i].Outcome != nil && effects.Verdicts[items[i].Dispatch] != VerdictAccepted {
			steps = append(steps, items[i].StepID)
			claims = append(claims, items[i].ClaimNo)
		}
	}
	if len(steps) == 0 {
		return nil
	}
	rows, err := q.StepAttempts(ctx, dbsqlc.StepAttemptsParams{StepIds: steps, ClaimNos: claims})
	if err != nil {
		return fmt.Errorf("look for replays: %w", err)
	}
	for _, row := range rows {
		effects.Verdicts[Dispatch{row.StepID, row.ClaimNo}] = VerdictReplayed
	}
	return e.findContinued(ctx, q, items, effects)
}

// findContinued finds the steps that replayed outcomes were continued with.
func (e *Engine) findContinued(ctx context.Context, q *dbsqlc.Queries, items []Item, effects *Effects) error {
	var p dbsqlc.StepContinuedParams
	offers := make(map[uuid.UUID]*Offer)
	for i := range items {
		if items[i].Offer != nil && effects.Verdicts[items[i].Dispatch] == VerdictReplayed {
			p.TaskIds = append(p.TaskIds, items[i].TaskID)
			p.Tokens = append(p.Tokens, items[i].Offer.Token)
			offers[items[i].Offer.Token] = items[i].Offer
		}
	}
	if len(p.Tokens) == 0 {
		return nil
	}
	rows, err := q.StepContinued(ctx, p)
	if err != nil {
		return fmt.Errorf("look for continued steps: %w", err)
	}
	for i := range rows {
		row, step := &rows[i], offers[rows[i].ClaimToken].Step
		effects.Next[step.Dispatch] = step.successor(Dispatch{row.ID, row.ClaimNo}, row.Name, int(row.Attempts), row.RiverJobID)
	}
	return nil
}
