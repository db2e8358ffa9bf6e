package jobs

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/orchestration"
)

// promoter is the clockwork of an orchestrator: it dispatches retries when they are due, reaps expired leases, and sweeps up
// what lost its carrier. Every orchestrator runs one; they meet in the database and skip what another holds.
type promoter struct {
	runner *Runner

	mu    sync.Mutex
	due   time.Time // the earliest time that this process knows something to be due; zero for none
	armed chan struct{}

	// lookedAt is when the database last answered; patience is until when no lease is reaped after a gap.
	lookedAt, patience, sweptAt time.Time
	cursor                      orchestration.SweepCursor
}

func newPromoter(r *Runner) *promoter { return &promoter{runner: r, armed: make(chan struct{}, 1)} }

// arm asks for a look after the given time.
func (p *promoter) arm(after time.Duration) {
	at := time.Now().Add(after)
	p.mu.Lock()
	earlier := p.due.IsZero() || at.Before(p.due)
	if earlier {
		p.due = at
	}
	p.mu.Unlock()
	if earlier {
		select {
		case p.armed <- struct{}{}:
		default:
		}
	}
}

// run looks at each tick, which is jittered so that orchestrators spread, and when something is due.
func (p *promoter) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	p.lookedAt, p.sweptAt = time.Now(), time.Now()
	// Workers that live renew in this time what ended while the database, and perhaps this process, was away.
	p.patience = time.Now().Add(p.runner.config.Lease / 2)
	tickAt := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.armed:
		case <-timer.C:
			p.look(ctx)
			tick := p.runner.config.Tick
			tickAt = time.Now().Add(tick - tick/10 + rand.N(tick/5+1))
		}
		timer.Reset(p.untilNext(tickAt))
	}
}

// untilNext is the time until the next tick or what is due before it.
func (p *promoter) untilNext(tickAt time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := time.Until(tickAt)
	if !p.due.IsZero() {
		wait = min(wait, time.Until(p.due))
	}
	return max(wait, 0)
}

func (p *promoter) look(ctx context.Context) {
	r := p.runner
	p.mu.Lock()
	p.due = time.Time{}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	due, err := r.engine.NextDue(ctx, r.pool)
	if err != nil {
		p.patience = time.Now().Add(r.config.Lease)
		p.warn(ctx, "promoter: database does not answer", slog.Any("error", err))
		return
	}
	p.notice(time.Now())
	defer func() { p.lookedAt = time.Now() }() // the look itself is no gap, however long it takes
	if due.Next <= 0 {
		p.promote(ctx)
	} else if due.Next < r.config.Tick {
		p.arm(due.Next)
	}
	if due.Starts {
		p.startDelayed(ctx)
	}
	if due.Expired && time.Now().After(p.patience) {
		p.reap(ctx)
	}
	if time.Since(p.sweptAt) > r.config.ClaimGrace/2 {
		p.sweptAt = time.Now()
		p.sweep(ctx)
	}
}

// notice applies the gap rule when the database has answered: after a stall, its own or the database's, the reaper gives
// every worker a full lease to report. A database that was away, or slow to answer, must not look like the death of all workers.
func (p *promoter) notice(now time.Time) {
	if gap := now.Sub(p.lookedAt); gap > p.runner.config.Tick+p.runner.config.Lease/2 {
		p.patience = now.Add(p.runner.config.Lease)
	}
}

// promote hands due retries to the committer, which halves what fails: one task that cannot be advanced must not keep the
// others.
func (p *promoter) promote(ctx context.Context) {
	r := p.runner
	items, err := r.engine.DueRetries(ctx, r.pool)
	if err != nil {
		p.warn(ctx, "promote", slog.Any("error", err))
		return
	}
	if len(items) == 0 {
		return
	}
	if err := r.advances.doAll(ctx, items); err != nil {
		p.warn(ctx, "promote", slog.Int("steps", len(items)), slog.Any("error", err))
		return
	}
	p.arm(time.Millisecond) // there may be more, or something due in a moment
	r.logger.DebugContext(ctx, "retries dispatched", slog.Int("steps", len(items)))
}

// startDelayed makes River's jobs of delayed tasks available, and wakes those that wait for them.
func (p *promoter) startDelayed(ctx context.Context) {
	effects, err := p.runner.engine.StartDelayed(ctx, p.runner.pool)
	if err != nil {
		p.warn(ctx, "start delayed tasks", slog.Any("error", err))
		return
	}
	p.runner.After(ctx, effects)
}

func (p *promoter) reap(ctx context.Context) {
	r := p.runner
	var effects *orchestration.Effects
	var n int
	err := db.InTx(ctx, r.pool, "reap", func(ctx context.Context, tx pgx.Tx) (err error) {
		n, effects, err = r.engine.Reap(ctx, tx)
		return err
	})
	if err != nil {
		p.warn(ctx, "reap", slog.Any("error", err))
		return
	}
	r.After(ctx, effects)
	if n > 0 {
		r.telemetry.Reaped(ctx, n)
		r.logger.InfoContext(ctx, "reaped steps of lost workers", slog.Int("steps", n))
	}
}

// sweep takes slice after slice until it has seen what there is, or enough for one look.
func (p *promoter) sweep(ctx context.Context) {
	const slices = 20
	for range slices {
		if !p.sweepSlice(ctx) || p.cursor == (orchestration.SweepCursor{}) {
			return
		}
	}
}

func (p *promoter) sweepSlice(ctx context.Context) (ok bool) {
	r := p.runner
	var effects *orchestration.Effects
	var done orchestration.Repaired
	var cursor orchestration.SweepCursor
	err := db.InTx(ctx, r.pool, "sweep", func(ctx context.Context, tx pgx.Tx) (err error) {
		cursor = p.cursor // the function may run again
		done, effects, err = r.engine.Sweep(ctx, tx, r.config.ClaimGrace, &cursor)
		return err
	})
	if err != nil {
		p.warn(ctx, "sweep", slog.Any("error", err))
		return false
	}
	p.cursor = cursor
	r.After(ctx, effects)
	if done.Any() {
		r.telemetry.Repaired(ctx, done.Steps, done.Tasks, done.Jobs)
		r.logger.InfoContext(ctx, "repaired", slog.Int("steps", done.Steps), slog.Int("tasks", done.Tasks), slog.Int("jobs", done.Jobs))
	}
	return true
}

// warn says what went wrong, unless it is only that the process stops.
func (p *promoter) warn(ctx context.Context, what string, attrs ...slog.Attr) {
	if !errors.Is(ctx.Err(), context.Canceled) {
		p.runner.logger.LogAttrs(ctx, slog.LevelWarn, what, attrs...) //nolint:sloglint // literals, all of them
	}
}
