package orchestration_test

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func completeTwice(d *driver) race {
	s := &scene{shape: shapes()[1]}
	s.held(d)
	return race{a: finishing(d, s.claimed[0]), b: finishing(d, s.claimed[0])}
}

func completeAndCancel(d *driver) race {
	s := &scene{shape: shapes()[0]}
	s.held(d)
	return race{a: finishing(d, s.claimed[0]), b: operating(d, "cancel", s.task, dag.Cancel{})}
}

func completeAndReap(d *driver) race {
	s := &scene{shape: shapes()[1]}
	s.held(d)
	d.pass(time.Hour)
	return race{a: finishing(d, s.claimed[0]), b: reaping(d), afterA: yields}
}

func storeAndReap(d *driver) race {
	s := &scene{shape: shapes()[1]}
	s.held(d)
	d.pass(time.Hour)
	item := d.outcome(s.claimed[0])
	store := act{"store", func(ctx context.Context, tx pgx.Tx) (bool, error) {
		effects, err := d.engine.StoreResults(ctx, tx, []orchestration.Item{item})
		return err == nil && effects.Verdicts[item.Dispatch] == orchestration.VerdictAccepted, err
	}}
	return race{a: store, b: reaping(d), afterA: yields}
}

// claimAndReap: a claim whose COMMIT was in doubt asks again when its lease has already ended.
func claimAndReap(d *driver) race {
	s := &scene{shape: shapes()[1]}
	s.fetched(d)
	claim := claiming(d, orchestration.Claim{Dispatch: s.dispatch(), Token: uuid.New()})
	require.NoError(d.t, d.tx("claim", func(ctx context.Context, tx pgx.Tx) error {
		_, err := claim.do(ctx, tx)
		return err
	}))
	d.pass(time.Hour)
	return race{a: claim, b: reaping(d), afterA: yields}
}

// claimAndCancel: a task can be cancelled right after a step of it was claimed; the worker loses it then.
func claimAndCancel(d *driver) race {
	s := &scene{shape: shapes()[1]}
	s.fetched(d)
	claim := claiming(d, orchestration.Claim{Dispatch: s.dispatch(), Token: uuid.New()})
	return race{a: claim, b: operating(d, "cancel", s.task, dag.Cancel{}), afterA: follows}
}

func heartbeatAndReap(d *driver) race {
	s := &scene{shape: shapes()[1]}
	s.held(d)
	d.pass(time.Hour)
	beat := act{"heartbeat", func(ctx context.Context, tx pgx.Tx) (bool, error) {
		kept, err := d.engine.Heartbeat(ctx, tx, lease, []orchestration.Dispatch{s.claimed[0].Dispatch})
		return kept[s.claimed[0].StepID], err
	}}
	return race{a: beat, b: reaping(d), afterA: yields, afterB: yields}
}

// both claims two steps of one task.
func both(d *driver, s *scene) []*orchestration.Claimed {
	claimed, err := d.claim(d.fetchOf(s.task, 2, "tasker_execute"))
	require.NoError(d.t, err)
	require.Len(d.t, claimed, 2)
	return claimed
}

// finalizeTwice: whoever finishes the task's last step ends the task, once; the other has only its own step.
func finalizeTwice(d *driver) race {
	s := &scene{shape: twoSinks}
	s.expanded(d)
	claimed := both(d, s)
	return race{a: finishing(d, claimed[0]), b: finishing(d, claimed[1]), afterA: follows, afterB: follows}
}

func finishBothParents(d *driver) race {
	s := &scene{shape: shapes()[4]}
	s.expanded(d)
	claimed := both(d, s)
	return race{a: finishing(d, claimed[0]), b: finishing(d, claimed[1]), afterA: follows, afterB: follows}
}

func promoting(d *driver) act {
	return act{"promote", func(ctx context.Context, tx pgx.Tx) (bool, error) {
		_, effects, err := d.engine.Promote(ctx, tx)
		return err == nil && effects.Queues["toy"], err
	}}
}

func promoteTwice(d *driver) race {
	s := &scene{shape: shapes()[1], wish: wish{Fail: 1}}
	s.finished(d, false)
	d.pass(time.Hour)
	return race{a: promoting(d), b: promoting(d), afterA: yields, afterB: yields}
}

// promoteAndCancel: a cancellation finds the step wherever it is.
func promoteAndCancel(d *driver) race {
	s := &scene{shape: shapes()[1], wish: wish{Fail: 1}}
	s.finished(d, false)
	d.pass(time.Hour)
	return race{a: promoting(d), b: operating(d, "cancel", s.task, dag.Cancel{}), afterA: follows, afterB: yields}
}

func resolveAndFinish(d *driver) race {
	s := &scene{shape: shapes()[0]}
	s.held(d)
	return race{a: operating(d, "resolve", s.task, dag.Resolve{Step: "a", HasResult: true}), b: finishing(d, s.claimed[0])}
}

func sweepAndClaim(d *driver) race {
	s := &scene{shape: shapes()[1]}
	s.fetched(d)
	d.pass(time.Hour)
	sweep := act{"sweep", func(ctx context.Context, tx pgx.Tx) (bool, error) {
		done, _, err := d.engine.Sweep(ctx, tx, grace, &orchestration.SweepCursor{})
		return done.Steps > 0, err
	}}
	return race{a: sweep, b: claiming(d, orchestration.Claim{Dispatch: s.dispatch(), Token: uuid.New()}), afterB: yields}
}
