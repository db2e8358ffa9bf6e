package telemetry

import (
	"context"
	"time"
)

// The reasons for which a step is taken from its worker.
const (
	// LostReaped: its lease ended, and an orchestrator took it back.
	LostReaped = "reaped"
	// LostExpired: its worker could not renew the lease, and gave it up.
	LostExpired = "expired"
	// LostHandedBack: its worker stopped.
	LostHandedBack = "handed_back"
	// LostWithdrawn: it was cancelled, resolved or taken back elsewhere, and its worker was told.
	LostWithdrawn = "withdrawn"
)

// Batch records a group commit when it begins: how many items it has, and how long its first one waited.
func (t *Telemetry) Batch(ctx context.Context, committer string, items int, waited time.Duration) {
	t.batchSize.record(ctx, float64(items), values{committer})
	t.batchWait.record(ctx, milliseconds(waited), values{committer})
}

// Reaped counts steps taken back from lost workers.
func (t *Telemetry) Reaped(ctx context.Context, steps int) {
	t.lost.add(ctx, int64(steps), values{LostReaped})
}

// Repaired counts what a sweep mended.
func (t *Telemetry) Repaired(ctx context.Context, steps, tasks, jobs int) {
	t.repairs.add(ctx, int64(steps), values{"step"})
	t.repairs.add(ctx, int64(tasks), values{"task"})
	t.repairs.add(ctx, int64(jobs), values{"job"})
}

// Notified counts wake-ups.
func (t *Telemetry) Notified(ctx context.Context, wakeups int, err error) {
	t.notifications.add(ctx, int64(wakeups), values{outcome(err)})
}

// ExportFailed counts an export that failed.
func (t *Telemetry) ExportFailed(ctx context.Context, signal string) {
	t.exportFailures.add(ctx, 1, values{signal})
}

// SpansDropped counts spans that were lost, for a reason that telemetry/setup names.
func (t *Telemetry) SpansDropped(ctx context.Context, reason string, spans int) {
	t.spansDropped.add(ctx, int64(spans), values{reason})
}

func outcome(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}
