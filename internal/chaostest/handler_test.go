//go:build linux

package chaostest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tasker-systems/tasker-go"
)

// plan is what a step's handler is told to do, in handler.initialization.
type plan struct {
	Parents []string `json:"parents,omitempty"`
	// Square makes the result the square of the parent's, or of the context's n; otherwise it is a hash.
	Square bool `json:"square,omitempty"`
	// Fails is how many attempts fail, retryably, before one succeeds.
	Fails int `json:"fails,omitempty"`
	// Work is how long an execution takes.
	Work time.Duration `json:"work,omitempty"`
	// Tx makes the handler complete its step in a transaction of its own.
	Tx bool `json:"tx,omitempty"`
	// Script says more, by claim number; the last act repeats.
	Script []act `json:"script,omitempty"`
}

// act is what one execution does differently.
type act struct {
	// Gate makes the execution wait until the test opens it.
	Gate string `json:"gate,omitempty"`
	// Deaf executions ignore the end of their context while they wait.
	Deaf bool `json:"deaf,omitempty"`
	// Then ends the execution: "" succeeds (after the plan's failures), thenFail, thenKill.
	Then string `json:"then,omitempty"`
}

const (
	thenFail = "fail"
	thenKill = "kill" // the handler takes its whole process with it, as an out-of-memory kill does
)

// Events in the ledger.
const (
	eventStart     = "start"
	eventDone      = "done"
	eventFail      = "fail"
	eventCancelled = "cancelled" // the context ended
	eventViolation = "violation" // tx_effect had the step's row already
)

// gatePoll is how often a handler looks at its gate.
const gatePoll = 20 * time.Millisecond

// errPlanned is the failure that a plan asks for.
var errPlanned = errors.New("planned failure")

// handler runs every step of every workload.
type handler struct {
	pool, outside *pgxpool.Pool
	worker        string
}

func (h *handler) run(ctx context.Context, step *tasker.StepContext) (any, error) {
	var p plan
	if err := decodePlan(step.Config(), &p); err != nil {
		return nil, tasker.Permanent(err)
	}
	result, err := compute(step, &p)
	if err != nil {
		return nil, err
	}
	if err := h.record(ctx, step, eventStart); err != nil {
		return nil, err
	}
	a := p.act(step)
	if err := h.work(ctx, step, &p, a); err != nil {
		return nil, err
	}
	switch {
	case a.Then == thenKill:
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			return nil, err
		}
	case a.Then == thenFail || step.Attempt() <= p.Fails:
		if err := h.record(ctx, step, eventFail); err != nil {
			return nil, err
		}
		return nil, errPlanned
	}
	if err := h.record(ctx, step, eventDone); err != nil {
		return nil, err
	}
	if a.Deaf {
		ctx = context.WithoutCancel(ctx)
	}
	if p.Tx {
		return result, h.complete(ctx, step, result)
	}
	return result, nil
}

func decodePlan(config map[string]any, p *plan) error {
	text, err := json.Marshal(config["plan"])
	if err != nil {
		return err
	}
	return json.Unmarshal(text, p)
}

// act is the script's for this dispatch.
func (p *plan) act(step *tasker.StepContext) act {
	if len(p.Script) == 0 {
		return act{}
	}
	return p.Script[min(claimOf(step.ExecutionKey()), len(p.Script))-1]
}

func claimOf(executionKey string) int {
	claim, err := strconv.Atoi(executionKey[strings.LastIndexByte(executionKey, '/')+1:])
	if err != nil {
		panic("chaostest: execution key without a claim number: " + executionKey)
	}
	return claim
}

// work takes the plan's time, and waits for the act's gate.
func (h *handler) work(ctx context.Context, step *tasker.StepContext, p *plan, a act) error {
	timer := time.NewTimer(p.Work)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return h.cancelled(ctx, step)
	}
	ticker := time.NewTicker(gatePoll)
	defer ticker.Stop()
	patient := context.WithoutCancel(ctx)
	for a.Gate != "" {
		var open bool
		if err := h.outside.QueryRow(patient, "SELECT EXISTS (SELECT FROM gate WHERE name = $1)", a.Gate).Scan(&open); err != nil {
			return err
		}
		if open {
			break
		}
		deaf := ctx.Done()
		if a.Deaf {
			deaf = nil
		}
		select {
		case <-ticker.C:
		case <-deaf:
			return h.cancelled(ctx, step)
		}
	}
	return nil
}

func (h *handler) cancelled(ctx context.Context, step *tasker.StepContext) error {
	if err := h.record(ctx, step, eventCancelled); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// record writes to the ledger, the outside world. It does so even when the step is being taken away: the outside world does
// not know of leases.
func (h *handler) record(ctx context.Context, step *tasker.StepContext, event string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, err := h.outside.Exec(ctx, `INSERT INTO ledger (task_id, step, claim_no, attempt, worker, event) VALUES ($1, $2, $3, $4, $5, $6)`,
		step.TaskID(), step.Name(), claimOf(step.ExecutionKey()), step.Attempt(), h.worker, event)
	return err
}

// complete stores the step's effect and its result together. While the database is away it tries again, as a handler with a
// small retry budget would.
func (h *handler) complete(ctx context.Context, step *tasker.StepContext, result any) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := h.completeOnce(ctx, step, result)
		if err == nil || !tasker.IsUnavailable(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return h.cancelled(ctx, step)
		}
	}
}

func (h *handler) completeOnce(ctx context.Context, step *tasker.StepContext, result any) error {
	tx, err := h.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	// What the handler has written must not stay locked for hours when its process vanishes from the network.
	if _, err := tx.Exec(ctx, `SET LOCAL idle_in_transaction_session_timeout = '3s'`); err != nil {
		return err
	}
	// Its own row means that an earlier commit, whose answer was lost, did happen.
	var mine bool
	err = tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM chaos.tx_effect WHERE execution_key = $1)`, step.ExecutionKey()).Scan(&mine)
	if mine || err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO chaos.tx_effect (step_key, execution_key) VALUES ($1, $2)`, step.IdempotencyKey(), step.ExecutionKey())
	var violation *pgconn.PgError
	if errors.As(err, &violation) && violation.Code == "23505" {
		return errors.Join(err, h.record(ctx, step, eventViolation))
	}
	if err != nil {
		return err
	}
	if err := tasker.CompleteTx(ctx, tx, result); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// compute is the step's result, from what its parents returned.
func compute(step *tasker.StepContext, p *plan) (any, error) {
	var in input
	if err := step.Context(&in); err != nil {
		return nil, err
	}
	if p.Square {
		n := in.N
		if len(p.Parents) > 0 {
			if err := step.Result(p.Parents[0], &n); err != nil {
				return nil, err
			}
		}
		return square(n)
	}
	results := make([]string, len(p.Parents))
	for i, parent := range p.Parents {
		if err := step.Result(parent, &results[i]); err != nil {
			return nil, err
		}
	}
	return hash(in.Key, step.Name(), results), nil
}

func square(n json.Number) (json.Number, error) {
	value, ok := new(big.Int).SetString(n.String(), 10)
	if !ok {
		return "", fmt.Errorf("%q is not an integer", n)
	}
	return json.Number(value.Mul(value, value).String()), nil
}
