package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// EndedChannel is the notification channel that carries the ids of tasks that ended, separated by commas.
const EndedChannel = "tasker_task_ended"

// InterruptChannel is the notification channel that carries dispatches whose handlers must stop: step ids with their claim
// numbers, separated by commas.
const InterruptChannel = "tasker_interrupt"

const (
	// notifyGap is the least time between two notifications: the first goes out at once, the rest gathers.
	notifyGap = 2 * time.Millisecond
	// notifyIDs keeps a payload below Postgres' limit of 8000 bytes.
	notifyIDs     = 150
	notifyTimeout = 5 * time.Second
)

// notifier wakes processes after commits, on a connection of its own: a NOTIFY inside a step's transaction would make all
// commits of the cluster queue up. It has a trailing edge, so that no wake-up is swallowed; one that is lost with its process
// is made up for by polling.
type notifier struct {
	pool      *pgxpool.Pool
	river     db.RiverSchema
	logger    *slog.Logger
	telemetry *telemetry.Telemetry

	mu        sync.Mutex
	queues    map[string]bool
	ended     []string
	interrupt []string
	kick      chan struct{}
}

func newNotifier(pool *pgxpool.Pool, engine *orchestration.Engine, logger *slog.Logger) *notifier {
	return &notifier{
		pool: pool, river: engine.River, logger: logger, telemetry: engine.Telemetry,
		queues: make(map[string]bool), kick: make(chan struct{}, 1),
	}
}

// wake asks for notifications; it never blocks.
func (n *notifier) wake(effects *orchestration.Effects) {
	if len(effects.Queues)+len(effects.Ended)+len(effects.Interrupt) == 0 {
		return
	}
	n.mu.Lock()
	for queue := range effects.Queues {
		n.queues[queue] = true
	}
	for _, id := range effects.Ended {
		n.ended = append(n.ended, id.String())
	}
	for _, d := range effects.Interrupt {
		n.interrupt = append(n.interrupt, fmt.Sprintf("%s:%d", d.StepID, d.ClaimNo))
	}
	n.mu.Unlock()
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// run sends until the context ends, and then what is left.
func (n *notifier) run(ctx context.Context) {
	gap := time.NewTimer(notifyGap)
	defer gap.Stop()
	for {
		select {
		case <-ctx.Done():
			n.send(context.WithoutCancel(ctx))
			return
		case <-n.kick:
		}
		n.send(context.WithoutCancel(ctx)) // what was taken must go out
		gap.Reset(notifyGap)
		select {
		case <-ctx.Done():
		case <-gap.C:
		}
	}
}

func (n *notifier) send(ctx context.Context) {
	p := n.take()
	if len(p.Channels) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, notifyTimeout)
	defer cancel()
	err := n.river.Queries(n.pool).NotifyMany(ctx, p)
	n.telemetry.Notified(ctx, len(p.Channels), err)
	if err != nil {
		n.logger.WarnContext(ctx, "notify: polling will find the work", slog.Any("error", err))
	}
}

func (n *notifier) take() dbsqlc.NotifyManyParams {
	n.mu.Lock()
	defer n.mu.Unlock()
	var p dbsqlc.NotifyManyParams
	for queue := range n.queues {
		p.Channels = append(p.Channels, string(n.river)+".river_insert")
		p.Payloads = append(p.Payloads, fmt.Sprintf(`{"queue":%q}`, queue))
	}
	for channel, all := range map[string][]string{EndedChannel: n.ended, InterruptChannel: n.interrupt} {
		for some := range slices.Chunk(all, notifyIDs) {
			p.Channels = append(p.Channels, channel)
			p.Payloads = append(p.Payloads, strings.Join(some, ","))
		}
	}
	clear(n.queues)
	n.ended, n.interrupt = nil, nil
	return p
}
