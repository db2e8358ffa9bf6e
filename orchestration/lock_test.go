package orchestration_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// act is one side of a race, inside a transaction. won says that it changed what both wanted to change.
type act struct {
	name string
	do   func(ctx context.Context, tx pgx.Tx) (won bool, err error)
}

// race is two acts at once; each goes first in turn.
type race struct {
	a, b act
	// afterA and afterB say how the other one fares.
	afterA, afterB fate
}

// fate is how the second act of a race fares.
type fate int

const (
	// The zero fate: it waits for the first and then finds nothing left to do.
	_ fate = iota
	// yields: it does not wait; what the first holds is not for it.
	yields
	// follows: it waits, and then has its own thing to do.
	follows
)

// The lock order, tested with two real sessions: the second act begins while the first's transaction is open, and the database
// says whether it waits. Nothing deadlocks, and what both want only one gets.
func TestTwoSessionsNeverDeadlockAndOneWins(t *testing.T) {
	t.Parallel()
	tests := map[string]func(d *driver) race{
		"complete and cancel":          completeAndCancel,
		"complete and complete again":  completeTwice,
		"complete and reap":            completeAndReap,
		"claim and cancel":             claimAndCancel,
		"claim and reap":               claimAndReap,
		"finalize and finalize":        finalizeTwice,
		"finish two parents of a join": finishBothParents,
		"heartbeat and reap":           heartbeatAndReap,
		"promote and cancel":           promoteAndCancel,
		"promote and promote":          promoteTwice,
		"resolve and finish":           resolveAndFinish,
		"store and reap":               storeAndReap,
		"sweep and claim":              sweepAndClaim,
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, dbtest.Pool(t))
			d.register(shapes()...)
			d.register(twoSinks)
			for range rounds(1, 100) {
				r := prepare(d)
				contend(d, r.a, r.b, r.afterA)
				r = prepare(d)
				contend(d, r.b, r.a, r.afterB)
			}
		})
	}
}

var twoSinks = shape{"sinks", [][]string{{"a"}, {"b"}}}

// contend has first's transaction open while second begins.
func contend(d *driver, first, second act, expected fate) {
	d.t.Helper()
	ctx := d.t.Context()
	open, err := d.judge.Begin(ctx)
	require.NoError(d.t, err)
	defer func() { _ = open.Rollback(context.WithoutCancel(ctx)) }()
	firstWon, err := first.do(ctx, open)
	require.NoError(d.t, err, first.name)
	// Not of the pool, from which the one who looks at it would get this very session when it is done.
	session, err := pgx.ConnectConfig(ctx, d.judge.Config().ConnConfig)
	require.NoError(d.t, err)
	defer func() { require.NoError(d.t, session.Close(context.WithoutCancel(ctx))) }()
	late, err := session.Begin(ctx)
	require.NoError(d.t, err)
	defer func() { _ = late.Rollback(context.WithoutCancel(ctx)) }()
	pid := session.PgConn().PID()
	type end struct {
		won bool
		err error
	}
	ended := make(chan end, 1)
	go func() {
		won, err := second.do(ctx, late)
		if err == nil {
			err = late.Commit(ctx)
		}
		ended <- end{won, err}
	}()
	waited, e := d.blocked(pid), end{}
	if !waited {
		e = <-ended
	}
	require.Equal(d.t, expected != yields, waited, "%s waits for %s", second.name, first.name)
	require.NoError(d.t, open.Commit(ctx))
	if waited {
		e = <-ended
	}
	require.NoError(d.t, e.err, second.name)
	require.True(d.t, firstWon, "%s came first", first.name)
	require.Equal(d.t, expected == follows, e.won, "%s, then %s", first.name, second.name)
	d.sound(first.name + ", then " + second.name)
	d.settle()
	d.healthy(first.name + ", then " + second.name)
}

// blocked waits until a session either waits for a lock or has nothing left to do.
func (d *driver) blocked(pid uint32) bool {
	d.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		var waits, idle bool
		require.NoError(d.t, d.judge.QueryRow(d.t.Context(), `SELECT coalesce(bool_or(wait_event_type = 'Lock'), false),
		    coalesce(bool_and(state = 'idle' AND query ILIKE 'commit'), false) FROM pg_stat_activity WHERE pid = $1`, pid).Scan(&waits, &idle))
		if waits || idle {
			return waits
		}
	}
	require.Fail(d.t, "the second session neither waits nor ends")
	return false
}

// finishing delivers a claimed step's outcome.
func finishing(d *driver, step *orchestration.Claimed) act {
	item := d.outcome(step)
	item.Offer = nil
	return act{"finish " + step.Name, func(ctx context.Context, tx pgx.Tx) (bool, error) {
		effects, err := d.engine.Advance(ctx, tx, []orchestration.Item{item})
		return err == nil && effects.Verdicts[item.Dispatch] == orchestration.VerdictAccepted, err
	}}
}

func reaping(d *driver) act {
	return act{"reap", func(ctx context.Context, tx pgx.Tx) (bool, error) {
		n, _, err := d.engine.Reap(ctx, tx)
		return n > 0, err
	}}
}

// operating does something to a task; a conflict is a lost race.
func operating(d *driver, name string, task uuid.UUID, event dag.Event) act {
	op := orchestration.Operation{ID: uuid.New(), TaskID: task, Event: event, Actor: "tester", Reason: "a race"}
	if resolve, ok := event.(dag.Resolve); ok && resolve.HasResult {
		op.Result = json.RawMessage(`{}`)
	}
	return act{name, func(ctx context.Context, tx pgx.Tx) (bool, error) {
		_, err := d.engine.Operate(ctx, tx, op)
		if _, conflict := errors.AsType[*dag.ConflictError](err); conflict {
			return false, nil
		}
		return err == nil, err
	}}
}

func claiming(d *driver, claim orchestration.Claim) act {
	return act{"claim", func(ctx context.Context, tx pgx.Tx) (bool, error) {
		held, err := d.engine.Claim(ctx, tx, "driver", lease, []orchestration.Claim{claim})
		return held[claim.Dispatch] != nil, err
	}}
}

func (s *scene) dispatch() orchestration.Dispatch {
	return orchestration.Dispatch{StepID: *s.jobs[0].StepID, ClaimNo: *s.jobs[0].ClaimNo}
}
