package orchestration_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// A worker was frozen for longer than its lease. Its step runs elsewhere by now, and whatever it says changes nothing: the
// fence is the claim number, for the state alone looks as the zombie left it.
func TestNothingThatAZombieSaysCounts(t *testing.T) {
	t.Parallel()
	tests := map[string]func(d *driver, zombie *orchestration.Claimed) orchestration.Verdict{
		"a result": func(d *driver, zombie *orchestration.Claimed) orchestration.Verdict {
			effects, err := d.advance([]orchestration.Item{d.outcome(zombie)})
			require.NoError(d.t, err)
			require.Empty(d.t, effects.Next)
			return effects.Verdicts[zombie.Dispatch]
		},
		"a failure": func(d *driver, zombie *orchestration.Claimed) orchestration.Verdict {
			item := d.outcome(zombie)
			item.Outcome = &orchestration.Outcome{Failure: &dag.Failure{Type: "handler_error", Message: "late", Permanent: true}}
			effects, err := d.advance([]orchestration.Item{item})
			require.NoError(d.t, err)
			return effects.Verdicts[zombie.Dispatch]
		},
		"a stored result": func(d *driver, zombie *orchestration.Claimed) orchestration.Verdict {
			effects, err := d.store([]orchestration.Item{d.outcome(zombie)})
			require.NoError(d.t, err)
			return effects.Verdicts[zombie.Dispatch]
		},
		"a heartbeat": func(d *driver, zombie *orchestration.Claimed) orchestration.Verdict {
			require.NoError(d.t, d.tx("heartbeat", func(ctx context.Context, tx pgx.Tx) error {
				kept, err := d.engine.Heartbeat(ctx, tx, lease, []orchestration.Dispatch{zombie.Dispatch})
				require.NotContains(d.t, kept, zombie.StepID)
				return err
			}))
			return orchestration.VerdictStale
		},
		"a release": func(d *driver, zombie *orchestration.Claimed) orchestration.Verdict {
			require.NoError(d.t, d.release(zombie))
			return orchestration.VerdictStale
		},
		"its claim": func(d *driver, zombie *orchestration.Claimed) orchestration.Verdict {
			held, err := d.claim([]carrier{{ID: zombie.JobID, StepID: &zombie.StepID, ClaimNo: &zombie.ClaimNo}})
			require.NoError(d.t, err)
			require.Empty(d.t, held)
			return orchestration.VerdictStale
		},
	}
	for name, say := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, dbtest.Pool(t))
			s := shapes()[1]
			d.register(s)
			scene := &scene{shape: s}
			scene.held(d)
			zombie := scene.claimed[0]
			d.pass(time.Hour)
			reaped, err := d.reap()
			require.NoError(t, err)
			require.Equal(t, 1, reaped)
			living, err := d.claim(d.fetchOf(scene.task, 1, "tasker_execute"))
			require.NoError(t, err)
			require.Len(t, living, 1)

			before := d.digest()
			require.Equal(t, orchestration.VerdictStale, say(d, zombie))
			require.Equal(t, before, d.digest(), "not a row is changed")

			require.NoError(t, d.finish(living))
			d.settle()
			require.Equal(t, s.reference(), d.results(scene.task))
			d.healthy("at rest")
		})
	}
}

// What nobody fetched is withdrawn from the queue; what runs is named, so that its worker hears of it.
func TestACancellationWithdrawsWaitingJobsAndNamesRunningOnes(t *testing.T) {
	t.Parallel()
	d := newDriver(t, dbtest.Pool(t))
	s := shapes()[4]
	d.register(s)
	scene := &scene{shape: s}
	scene.held(d)
	effects, err := d.operate(orchestration.Operation{TaskID: scene.task, Event: dag.Cancel{}})
	require.NoError(t, err)
	require.Equal(t, []orchestration.Dispatch{scene.claimed[0].Dispatch}, effects.Interrupt)
	require.Equal(t, []uuid.UUID{scene.task}, effects.Ended)
	var cancelled int
	require.NoError(t, d.judge.QueryRow(t.Context(),
		"SELECT count(*) FROM river_job WHERE kind = 'tasker_execute' AND state = 'cancelled'").Scan(&cancelled))
	require.Equal(t, 1, cancelled)
	require.Empty(t, d.fetch(10))
	d.settle()
	d.healthy("at rest")
}

// The answer to a claim may be lost with its connection. Asked again with the same token it is held; with another it is not.
func TestAClaimThatWasAnsweredToNobodyRecognisesItself(t *testing.T) {
	t.Parallel()
	d := newDriver(t, dbtest.Pool(t))
	s := &scene{shape: shapes()[1]}
	d.register(s.shape)
	s.fetched(d)
	dispatch, token := s.dispatch(), uuid.New()
	claim := func(token uuid.UUID) (held map[orchestration.Dispatch]*orchestration.Claimed) {
		require.NoError(t, d.tx("claim", func(ctx context.Context, tx pgx.Tx) (err error) {
			held, err = d.engine.Claim(ctx, tx, "driver", lease, []orchestration.Claim{{Dispatch: dispatch, Token: token}})
			return err
		}))
		return held
	}
	require.Equal(t, 1, claim(token)[dispatch].Attempt)
	require.Empty(t, claim(uuid.New()), "another execution holds it")
	require.Equal(t, 1, claim(token)[dispatch].Attempt, "no attempt is used up twice")
}
