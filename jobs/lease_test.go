package jobs

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration"
)

// leaseBundle is a worker's leases with a renewal that the test plays.
type leaseBundle struct {
	*leases
	step  orchestration.Dispatch
	asked atomic.Int64
	// renewal answers; by default everything is kept.
	renewal func(ctx context.Context, held []orchestration.Dispatch) (map[orchestration.Dispatch]bool, error)
}

const leaseLength = 15 * time.Second

// withLeases runs a test in a bubble where time passes by itself.
func withLeases(t *testing.T, test func(t *testing.T, b *leaseBundle)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &leaseBundle{
			leases: newLeases(leaseLength, slog.New(slog.DiscardHandler)),
			step:   orchestration.Dispatch{StepID: uuid.New(), ClaimNo: 3},
		}
		b.renew = func(ctx context.Context, held []orchestration.Dispatch) (map[orchestration.Dispatch]bool, error) {
			b.asked.Add(1)
			if b.renewal != nil {
				return b.renewal(ctx, held)
			}
			kept := make(map[orchestration.Dispatch]bool)
			for _, step := range held {
				kept[step] = true
			}
			return kept, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { b.run(ctx); close(done) }()
		test(t, b)
		cancel()
		<-done
	})
}

// lost waits for the end of a step's context and says how long that took.
func lost(t *testing.T, ctx context.Context) time.Duration {
	t.Helper()
	start := time.Now()
	<-ctx.Done()
	require.ErrorIs(t, context.Cause(ctx), ErrLeaseLost)
	return time.Since(start)
}

func TestALeaseIsRenewedThreeTimesInItsLength(t *testing.T) {
	t.Parallel()
	withLeases(t, func(t *testing.T, b *leaseBundle) {
		ctx, release := b.take(t.Context(), b.step, time.Now())
		timer := time.NewTimer(100 * leaseLength)
		select {
		case <-ctx.Done():
			t.Error("a lease that is renewed was lost")
		case <-timer.C:
		}
		require.InDelta(t, 300, b.asked.Load(), 2)
		release()
		require.ErrorIs(t, ctx.Err(), context.Canceled)
		require.NotErrorIs(t, context.Cause(ctx), ErrLeaseLost)
		before := b.asked.Load()
		<-time.After(10 * leaseLength)
		require.Equal(t, before, b.asked.Load(), "nobody is asked for nothing")
	})
}

func TestALeaseThatCannotBeRenewedIsGivenUpBeforeItsEnd(t *testing.T) {
	t.Parallel()
	renewals := map[string]func(ctx context.Context, held []orchestration.Dispatch) (map[orchestration.Dispatch]bool, error){
		"the database is away": func(context.Context, []orchestration.Dispatch) (map[orchestration.Dispatch]bool, error) {
			return nil, errors.New("connection refused")
		},
		"the database hangs": func(ctx context.Context, _ []orchestration.Dispatch) (map[orchestration.Dispatch]bool, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	for name, renewal := range renewals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withLeases(t, func(t *testing.T, b *leaseBundle) {
				b.renewal = renewal
				ctx, release := b.take(t.Context(), b.step, time.Now())
				defer release()
				after := lost(t, ctx)
				require.Less(t, after, leaseLength)
				require.Greater(t, after, leaseLength/2)
			})
		})
	}
}

// The answer to a claim may come late: the lease began when it was asked for.
func TestALeaseCountsFromBeforeItWasAskedFor(t *testing.T) {
	t.Parallel()
	withLeases(t, func(t *testing.T, b *leaseBundle) {
		b.renewal = func(context.Context, []orchestration.Dispatch) (map[orchestration.Dispatch]bool, error) {
			return nil, errors.New("away")
		}
		ctx, release := b.take(t.Context(), b.step, time.Now().Add(-10*time.Second))
		defer release()
		require.Less(t, lost(t, ctx), leaseLength-10*time.Second)
	})
}

func TestAStepThatTheDatabaseGaveAwayIsLostAtTheNextRenewal(t *testing.T) {
	t.Parallel()
	withLeases(t, func(t *testing.T, b *leaseBundle) {
		other := orchestration.Dispatch{StepID: uuid.New(), ClaimNo: 1}
		b.renewal = func(context.Context, []orchestration.Dispatch) (map[orchestration.Dispatch]bool, error) {
			return map[orchestration.Dispatch]bool{other: true}, nil
		}
		kept, releaseKept := b.take(t.Context(), other, time.Now())
		defer releaseKept()
		ctx, release := b.take(t.Context(), b.step, time.Now())
		defer release()
		require.LessOrEqual(t, lost(t, ctx), leaseLength/3)
		require.NoError(t, kept.Err())
	})
}

func TestAnInterruptEndsExactlyTheDispatchItNames(t *testing.T) {
	t.Parallel()
	withLeases(t, func(t *testing.T, b *leaseBundle) {
		ctx, release := b.take(t.Context(), b.step, time.Now())
		defer release()
		b.lose(orchestration.Dispatch{StepID: b.step.StepID, ClaimNo: b.step.ClaimNo - 1})
		b.lose(orchestration.Dispatch{StepID: uuid.New(), ClaimNo: b.step.ClaimNo})
		require.NoError(t, ctx.Err())
		b.lose(b.step)
		require.Zero(t, lost(t, ctx))
	})
}
