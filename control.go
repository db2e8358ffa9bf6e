package tasker

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// By says who does something to a task, and why. Both are kept with the task; Reason is required.
type By struct {
	Actor  string
	Reason string
}

// errNoReason says that an operator action came without its reason.
var errNoReason = errors.New("give a reason: it is kept with the task")

// Cancel ends a task that has not ended: what runs gets its context cancelled, what waits never starts. A *ConflictError
// says that the task has ended already.
func (c *Client) Cancel(ctx context.Context, task uuid.UUID, by By) error {
	return c.operate(ctx, orchestration.Operation{TaskID: task, Event: dag.Cancel{}}, by)
}

// Retry gives every failed step of a task fresh attempts, and the task goes on. One that ended before it had steps, because
// its context did not fit, is expanded anew.
func (c *Client) Retry(ctx context.Context, task uuid.UUID, by By) error {
	return c.operate(ctx, orchestration.Operation{TaskID: task, Event: dag.Rerun{}}, by)
}

// RetryStep gives one step that failed, or waits to be retried, fresh attempts and starts it now.
func (c *Client) RetryStep(ctx context.Context, task uuid.UUID, step string, by By) error {
	return c.operate(ctx, orchestration.Operation{TaskID: task, Event: dag.Rerun{Steps: []string{step}}}, by)
}

// ResolveStep closes a step by hand, so that its dependents go on. With a result (anything that encodes as JSON) it counts as
// complete; with nil it is resolved_manually, and dependents read a zero value. A handler that still runs is interrupted.
func (c *Client) ResolveStep(ctx context.Context, task uuid.UUID, step string, result any, by By) error {
	op := orchestration.Operation{TaskID: task, Event: dag.Resolve{Step: step, HasResult: result != nil}}
	if result != nil {
		text, err := encodeContext(result)
		if err != nil {
			return &RequestError{Reason: fmt.Sprintf("result cannot be encoded as JSON: %v", err)}
		}
		if err := orchestration.CheckJSON("result", text, orchestration.MaxResultBytes); err != nil {
			return wrapRequest(err)
		}
		op.Result = text
	}
	return c.operate(ctx, op, by)
}

func (c *Client) operate(ctx context.Context, op orchestration.Operation, by By) error {
	if by.Reason == "" {
		return &RequestError{Reason: errNoReason.Error(), err: errNoReason}
	}
	op.ID, op.Actor, op.Reason = uuid.New(), by.Actor, by.Reason
	if op.Actor == "" {
		op.Actor = c.config.ID
	}
	engine, err := c.open(ctx)
	if err != nil {
		return err
	}
	var effects *orchestration.Effects
	err = db.InTx(ctx, c.pool, "operate", func(ctx context.Context, tx pgx.Tx) (err error) {
		effects, err = engine.Operate(ctx, tx, op)
		return err
	})
	if err != nil {
		return wrapRequest(err)
	}
	c.after(ctx, engine, effects)
	return nil
}
