package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/tasker-systems/tasker-go/orchestration"
)

// leases are the steps that this process runs. One statement renews them all; a step that could not be renewed in time is
// given up by this process's own monotonic clock, before the database lets another worker have it.
type leases struct {
	length time.Duration
	renew  func(ctx context.Context, held []orchestration.Dispatch) (map[orchestration.Dispatch]bool, error)
	logger *slog.Logger

	mu   sync.Mutex
	held map[orchestration.Dispatch]*hold
}

// hold is one running step.
type hold struct {
	cancel context.CancelCauseFunc
	// until is when the lease is surely still ours.
	until time.Time
	// excused says that since the last renewal the database, or a transaction that holds the row, kept us from renewing, or
	// that there was none yet: the claim itself may have taken long. Then the end of the lease is not the step's doing.
	excused bool
}

func newLeases(length time.Duration, logger *slog.Logger) *leases {
	return &leases{length: length, logger: logger, held: make(map[orchestration.Dispatch]*hold)}
}

// take registers a claimed step. asked is the time before the claim was sent. The context ends when the lease is lost.
func (l *leases) take(ctx context.Context, step orchestration.Dispatch, asked time.Time) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	l.held[step] = &hold{cancel: cancel, until: asked.Add(l.length - l.margin()), excused: true}
	l.mu.Unlock()
	return ctx, func() {
		l.mu.Lock()
		delete(l.held, step)
		l.mu.Unlock()
		cancel(nil)
	}
}

// lose ends the context of a step that was closed elsewhere, if this process runs it.
func (l *leases) lose(step orchestration.Dispatch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.held[step]; h != nil {
		h.cancel(ErrLeaseLost)
	}
}

// margin keeps the local deadline before the database's.
func (l *leases) margin() time.Duration { return min(max(time.Second, l.length/10), l.length/4) }

// run renews three times in a lease, and looks at the local deadlines more often than that. A renewal that hangs must not
// delay the looks: it has a goroutine of its own.
func (l *leases) run(ctx context.Context) {
	var beats sync.WaitGroup
	defer beats.Wait()
	beats.Go(func() { l.beats(ctx) })
	every(ctx, l.length/looks, l.expire)
}

// looks is how often in a lease the local deadlines are looked at, and how often a renewal that failed is tried again.
const looks = 15

// beats renews, and after a failure soon again: the database may be back by then, and the leases still good.
func (l *leases) beats(ctx context.Context) {
	timer := time.NewTimer(l.length / 3)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if l.beat(ctx) {
			timer.Reset(l.length / 3)
		} else {
			timer.Reset(l.length / looks)
		}
	}
}

// every calls do at each tick until the context ends.
func every(ctx context.Context, tick time.Duration, do func()) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// beat renews once, and reports whether the database answered.
func (l *leases) beat(ctx context.Context) bool {
	l.mu.Lock()
	steps := make([]orchestration.Dispatch, 0, len(l.held))
	for step := range l.held {
		steps = append(steps, step)
	}
	l.mu.Unlock()
	if len(steps) == 0 {
		return true
	}
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, l.length/3)
	defer cancel()
	kept, err := l.renew(ctx, steps)
	if err != nil {
		l.logger.WarnContext(ctx, "renew leases", slog.Int("steps", len(steps)), slog.Any("error", err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, step := range steps {
		h := l.held[step]
		renewed, ours := kept[step]
		switch {
		case h == nil:
		case renewed:
			h.until, h.excused = asked.Add(l.length-l.margin()), false
		case err != nil || ours:
			h.excused = true
		default:
			h.cancel(ErrLeaseLost)
		}
	}
	return err == nil
}

// expire gives up what could not be renewed, without asking anyone. A process that did not even try was starved, perhaps by
// the step: that counts as a loss.
func (l *leases) expire() {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		switch {
		case !now.After(h.until):
		case h.excused:
			h.cancel(errLeaseOverdue)
		default:
			h.cancel(errLeaseExpired)
		}
	}
}
