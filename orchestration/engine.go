package orchestration

import (
	"encoding/json"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// Queue is the River queue of the orchestrators.
const Queue = "orchestration"

// Engine is the orchestration layer, bound to a database's layout. It has no state but caches.
type Engine struct {
	// River is where River's tables are.
	River db.RiverSchema
	// Templates are the compiled templates.
	Templates *Templates
	// MaxLosses is how often a step's worker may be lost before the step fails.
	MaxLosses int
	// Holder is this process as a worker; used by offers.
	Holder Holder
	// Telemetry takes up the traces of tasks that were created without; nil leaves them.
	Telemetry *telemetry.Telemetry
	// Jitter returns a number uniform in [-1, 1) for the delay of a retry; nil is math/rand.
	Jitter func() float64
}

func (e *Engine) queries(tx pgx.Tx) *dbsqlc.Queries { return e.River.Queries(tx) }

func (e *Engine) jitter() float64 {
	if e.Jitter != nil {
		return e.Jitter()
	}
	return rand.Float64()*2 - 1
}

// Dispatch names one dispatch of a step: the step and its claim number.
type Dispatch struct {
	StepID  uuid.UUID
	ClaimNo int32
}

// Item is one thing to advance.
type Item struct {
	// Dispatch is set for ItemResult; ItemRetryDue needs its step alone.
	Dispatch

	Kind   ItemKind
	TaskID uuid.UUID
	// Outcome is set where the result comes straight from the handler; nil reads the stored one.
	Outcome *Outcome
	// JobID is the River job that is settled in the same transaction; 0 for none.
	JobID int64
	// Span is that of the execution that Outcome comes from.
	Span trace.SpanContext
	// Waited is how long the job was in its queue.
	Waited time.Duration
	// Offer is set where the worker would go on with a step that this result makes ready.
	Offer *Offer
}

// Offer is a worker's to continue: it saves the next step its way through the queue.
type Offer struct {
	// Token is fresh, as that of a Claim.
	Token uuid.UUID
	// Runs reports whether the worker has a handler.
	Runs func(handler string) bool
	// Step is the step that the worker has just run.
	Step *Claimed
}

// Holder names the worker that continues steps, and for how long they are its own.
type Holder struct {
	Worker string
	Lease  time.Duration
}

// ItemKind says what an Item is.
type ItemKind int

// The kinds of items.
const (
	// ItemEnqueue expands a pending task.
	ItemEnqueue ItemKind = iota + 1
	// ItemResult closes a step.
	ItemResult
	// ItemRetryDue dispatches a step whose back-off is over.
	ItemRetryDue
)

// Outcome is how an execution ended: a result, or a failure.
type Outcome struct {
	// Result is JSON; it counts when Failure is nil.
	Result  json.RawMessage
	Failure *dag.Failure
}

// Verdict says what became of a worker's outcome.
type Verdict int

// The verdicts.
const (
	// VerdictStale: the step was dispatched again, cancelled or resolved since; nothing was changed.
	VerdictStale Verdict = iota
	// VerdictAccepted: this outcome counts.
	VerdictAccepted
	// VerdictReplayed: this very outcome counted before; nothing was changed.
	VerdictReplayed
)

// Effects is what must happen after the commit. Nothing of it is needed for correctness: whatever is lost here, polling and
// the sweep find.
type Effects struct {
	// Verdicts has an entry for each outcome that counts or counted before; the others are stale.
	Verdicts map[Dispatch]Verdict
	// Queues got new jobs.
	Queues map[string]bool
	// Ended tasks reached a terminal state.
	Ended []uuid.UUID
	// Retry is the time until the earliest retry that was arranged, by the database's clock; 0 for none.
	Retry time.Duration
	// Next are the steps that workers go on with, by the dispatch they have just finished.
	Next map[Dispatch]*Claimed
	// Pass is what telemetry has to tell of the batch once it is committed.
	Pass telemetry.Pass
	// Interrupt are dispatches that were closed over the head of their worker.
	Interrupt []Dispatch
}

func newEffects() *Effects {
	return &Effects{Verdicts: make(map[Dispatch]Verdict), Queues: make(map[string]bool), Next: make(map[Dispatch]*Claimed)}
}
