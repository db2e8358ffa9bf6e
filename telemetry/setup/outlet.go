package setup

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// quiet is how long a signal's failures are not warned of again.
const quiet = time.Minute

// health is how the last export went.
type health int

const (
	unknown health = iota
	working
	failing
)

// outlet stands between the SDK and the exporter of a signal. Errors end here: the SDK would give them to its global handler,
// which writes each of them to standard error.
type outlet struct {
	signal string
	logger *slog.Logger
	// failed is called for each failure.
	failed func()
	// end ends the provider; nil where there is none.
	end func(context.Context) error
	// aborted is closed when nothing is to be sent any more: the SDK leaves an export that hangs to itself.
	aborted chan struct{}
	// made and sent count items, of signals whose queue drops in silence what it has no room for.
	made, sent atomic.Int64

	mu     sync.Mutex
	health health
	warned time.Time
	// unsaid are the failures since the last warning, last is the last of them.
	unsaid int
	last   error
}

// send exports some items. It returns nil whatever comes of it.
func (o *outlet) send(sdk context.Context, items int, export func(context.Context) error) error {
	ctx, cancel := context.WithCancel(sdk)
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-o.aborted:
		case <-ctx.Done():
		}
	}()
	err := export(ctx)
	if errors.Is(sdk.Err(), context.Canceled) {
		return nil // at shutdown the SDK drops a report of metrics for its last one, which has everything
	}
	if err == nil {
		o.sent.Add(int64(items))
	} else {
		o.failed()
	}
	o.note(ctx, err)
	return nil
}

// note keeps how an export went, and warns of a failure unless it has just warned of one.
func (o *outlet) note(ctx context.Context, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = err
	if err == nil {
		o.health = working
		return
	}
	o.health = failing
	o.unsaid++
	if now := time.Now(); o.warned.IsZero() || now.Sub(o.warned) >= quiet {
		o.logger.WarnContext(ctx, "telemetry is not exported",
			slog.String("signal", o.signal), slog.Int("failures", o.unsaid), slog.Any("error", err))
		o.warned, o.unsaid = now, 0
	}
}

func (o *outlet) state() health {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.health
}

// close ends the provider and says what it leaves behind.
func (o *outlet) close(ctx context.Context, patience time.Duration) {
	if o.end == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := o.end(ctx)
	lost := o.made.Load() - o.sent.Load()
	close(o.aborted)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		err = o.last
	}
	if err != nil || lost > 0 {
		o.logger.WarnContext(ctx, "telemetry is lost at shutdown",
			slog.String("signal", o.signal), slog.Int64("lost", lost), slog.Any("error", err))
	}
}
