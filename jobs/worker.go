package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// enqueueWorker expands pending tasks.
type enqueueWorker struct {
	river.WorkerDefaults[enqueueArgs]
	runner *Runner
}

func (w *enqueueWorker) Work(ctx context.Context, job *river.Job[enqueueArgs]) error {
	waited, _ := w.runner.received(job.JobRow)
	_, err := w.runner.advances.do(ctx, orchestration.Item{
		Kind: orchestration.ItemEnqueue, TaskID: job.Args.TaskID, JobID: job.ID, Waited: waited,
	})
	return err
}

// NextRetry is soon: only a database that was away fails here.
func (*enqueueWorker) NextRetry(*river.Job[enqueueArgs]) time.Time {
	return time.Now().Add(orchestrationRetry)
}

// orchestrationRetry keeps tasks from waiting for River's growing delays after an outage.
const orchestrationRetry = time.Second

// resultWorker closes steps whose result another process stored.
type resultWorker struct {
	river.WorkerDefaults[resultArgs]
	runner *Runner
}

func (w *resultWorker) Work(ctx context.Context, job *river.Job[resultArgs]) error {
	waited, _ := w.runner.received(job.JobRow)
	_, err := w.runner.advances.do(ctx, orchestration.Item{
		Kind: orchestration.ItemResult, TaskID: job.Args.TaskID, JobID: job.ID, Waited: waited,
		Dispatch: orchestration.Dispatch{StepID: job.Args.StepID, ClaimNo: job.Args.ClaimNo},
	})
	return err
}

// NextRetry is soon; see enqueueWorker.
func (*resultWorker) NextRetry(*river.Job[resultArgs]) time.Time {
	return time.Now().Add(orchestrationRetry)
}

// executeWorker runs steps.
type executeWorker struct {
	river.WorkerDefaults[executeArgs]
	runner *Runner
}

// elsewhereDelay is how long a step waits for a process that has its handler, when this one fetched it and has not.
const elsewhereDelay = 250 * time.Millisecond

// turnDelay is how long a step on its last chance waits for another one's turn to end.
const turnDelay = 2 * time.Second

// Work claims the step, runs its handler, and stores the outcome. A River error from here means that infrastructure failed:
// the handler's failures are results.
func (w *executeWorker) Work(ctx context.Context, job *river.Job[executeArgs]) error {
	r := w.runner
	handler := r.config.Handlers[job.Args.Handler]
	if handler == nil && r.servedElsewhere(ctx, job) {
		return river.JobSnooze(elsewhereDelay) //nolint:wrapcheck // River knows it by its type
	}
	pass, turn := r.awaitTurn(ctx, job.Args.Losses)
	if !turn {
		return river.JobSnooze(turnDelay) //nolint:wrapcheck // River knows it by its type
	}
	defer pass()
	dispatch := orchestration.Dispatch{StepID: job.Args.StepID, ClaimNo: job.Args.ClaimNo}
	waited, method := r.received(job.JobRow)
	step, asked, err := r.claim(ctx, dispatch)
	if err != nil {
		r.telemetry.ClaimFailed(ctx, job.Queue)
		return err
	}
	if step == nil {
		r.telemetry.Received(ctx, nil, job.Queue, job.Kind, waited)
		r.logger.DebugContext(ctx, "stale job", slog.Int64("job_id", job.ID), slog.String("step_uuid", dispatch.StepID.String()))
		return nil
	}
	r.telemetry.Received(ctx, &step.Trace, job.Queue, job.Kind, waited)
	step.JobID = job.ID
	for step != nil {
		asked, step, err = r.execute(ctx, step, r.config.Handlers[handlerName(step)], &telemetry.Claim{
			Asked: asked, Held: time.Now(), Method: method, Parents: step.Parents,
		})
		method = telemetry.ClaimEvent
		pass()
	}
	return err
}

// received tells how long a job was in its queue, and what brought it.
func (r *Runner) received(job *rivertype.JobRow) (waited time.Duration, method string) {
	if job.AttemptedAt != nil {
		available := job.CreatedAt
		if job.ScheduledAt.After(available) {
			available = job.ScheduledAt
		}
		waited = max(0, job.AttemptedAt.Sub(available))
	}
	return waited, r.heard.method(job.Queue, waited)
}

// claim takes a step. A claim that was sent must be known, or its step would wait for the end of its lease: it is not given up
// with the job's context, and a database that was away is asked again, with the same token, unless the process stops. asked
// is the time before the claim that was answered, from which the lease counts.
func (r *Runner) claim(ctx context.Context, dispatch orchestration.Dispatch) (step *orchestration.Claimed, asked time.Time, err error) {
	claim := orchestration.Claim{Dispatch: dispatch, Token: uuid.New()}
	err = r.persist(r.config.Lease, r.draining.Load, func() error {
		asked = time.Now()
		step, err = r.claims.do(context.WithoutCancel(ctx), claim)
		return err
	})
	return step, asked, err
}

// persist tries again for as long as the database is away, up to a limit or until giveUp.
func (*Runner) persist(limit time.Duration, giveUp func() bool, try func() error) error {
	deadline := time.Now().Add(limit)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := try()
		if err == nil || giveUp() || time.Now().After(deadline) || (!db.Unavailable(err) && !errors.Is(err, errNoAnswer)) {
			return err
		}
		timer := time.NewTimer(wait)
		<-timer.C
	}
}

// awaitTurn lets the steps on their last chance run one at a time in a process. One that kills its worker takes all that runs
// beside it along; those would be given up with it, as often as they are dispatched together. The wait is before the claim:
// who waits is not lost. pass ends the turn, which is over after one lease anyway: what has not killed by then may run beside
// others. False means that the turn did not come soon.
func (r *Runner) awaitTurn(ctx context.Context, losses int) (pass func(), turn bool) {
	if losses == 0 || losses < r.engine.MaxLosses-1 {
		return func() {}, true
	}
	patience := time.NewTimer(elsewhereDelay)
	defer patience.Stop()
	select {
	case r.lastChance <- struct{}{}:
		pass := sync.OnceFunc(func() { <-r.lastChance })
		over := time.AfterFunc(r.config.Lease, pass)
		return func() { over.Stop(); pass() }, true
	case <-patience.C:
	case <-ctx.Done():
	}
	return nil, false
}

func handlerName(step *orchestration.Claimed) string {
	if definition := step.Template.Graph.Step(step.Name); definition != nil {
		return definition.Handler.Callable
	}
	return ""
}

// execute runs a claimed step to its end, whichever it is, and returns the step that this worker goes on with, if any, with
// the time before it was asked for.
func (r *Runner) execute(
	ctx context.Context, step *orchestration.Claimed, handler Handler, claim *telemetry.Claim,
) (time.Time, *orchestration.Claimed, error) {
	inside, execution := r.telemetry.StartExecution(ctx, &step.Trace, &telemetry.Step{
		ID: step.StepID, Name: step.Name, Claim: step.ClaimNo, Attempt: step.Attempt, Handler: handlerName(step),
	}, claim)
	ctx = execution.Within(ctx)
	held, release := r.leases.take(inside, step.Dispatch, claim.Asked)
	defer release()
	started := time.Now()
	outcome := r.call(held, handler, step)
	// A failure after the context was taken away is not the handler's: it uses up no attempt. If the step has gone to another
	// worker, or was cancelled, the hand-back changes nothing.
	if outcome.Failure != nil && held.Err() != nil && (r.stopping.Load() || errors.Is(context.Cause(held), ErrLeaseLost)) {
		execution.Taken(ctx, r.taken(held))
		return started, nil, r.handBack(ctx, step, errors.Is(context.Cause(held), errLeaseExpired))
	}
	if f := outcome.Failure; f != nil {
		execution.Failed(ctx, f.Type, f.Message)
	} else {
		execution.Succeeded(ctx)
	}
	asked := time.Now()
	done, err := r.store(ctx, step, outcome)
	if err != nil {
		execution.NotSubmitted(ctx, err)
		return asked, nil, fmt.Errorf("store result of step %s (claim %d): %w", step.StepID, step.ClaimNo, err)
	}
	r.submitted(ctx, execution, done.verdict, time.Since(asked))
	r.report(ctx, step, outcome, done.verdict, asked.Sub(started))
	return asked, done.next, nil
}

// taken says why a step is taken from its worker.
func (r *Runner) taken(held context.Context) string {
	switch {
	case errors.Is(context.Cause(held), errLeaseExpired), errors.Is(context.Cause(held), errLeaseOverdue):
		return telemetry.LostExpired
	case errors.Is(context.Cause(held), ErrLeaseLost):
		return telemetry.LostWithdrawn
	}
	return telemetry.LostHandedBack
}

// submitted tells telemetry what became of a result. Without an orchestrator in this process a job takes it to one.
func (r *Runner) submitted(ctx context.Context, execution *telemetry.Execution, verdict orchestration.Verdict, took time.Duration) {
	if verdict == orchestration.VerdictStale {
		execution.Stale(ctx)
		return
	}
	if !r.config.Orchestrate || verdict == orchestration.VerdictReplayed {
		execution.Handed(ctx, orchestration.Queue, orchestration.KindResult, took, !r.config.Orchestrate)
	}
	execution.Submitted(ctx, took)
}

// staleResult is the log line of a result that came too late.
const staleResult = "stale_result: the step was dispatched again, cancelled or resolved; this result does not count"

// report says how an execution ended.
func (r *Runner) report(
	ctx context.Context, step *orchestration.Claimed, outcome orchestration.Outcome, verdict orchestration.Verdict, took time.Duration,
) {
	attrs := append(identity(step), slog.Float64("duration_ms", float64(took)/float64(time.Millisecond)))
	switch {
	case verdict == orchestration.VerdictReplayed:
		// The handler stored the result in its own transaction, without waking anyone.
		r.notifier.wake(&orchestration.Effects{Queues: map[string]bool{orchestration.Queue: true}})
	case verdict == orchestration.VerdictStale:
		r.logger.LogAttrs(ctx, slog.LevelWarn, staleResult, attrs...)
	case outcome.Failure != nil:
		attrs = append(attrs, slog.String("error", outcome.Failure.Message), slog.String("error_type", outcome.Failure.Type))
		r.logger.LogAttrs(ctx, slog.LevelInfo, "step failed", attrs...)
	default:
		r.logger.LogAttrs(ctx, slog.LevelDebug, "step complete", attrs...)
	}
}

// identity says which execution a log line is about.
func identity(step *orchestration.Claimed) []slog.Attr {
	return []slog.Attr{
		slog.String("correlation_id", step.CorrelationID.String()), slog.String("task_uuid", step.TaskID.String()),
		slog.String("step_uuid", step.StepID.String()), slog.String("namespace", step.Trace.Namespace),
		slog.String("step_name", step.Name), slog.Int("attempt", step.Attempt),
	}
}

// call runs the handler, or says why there is none to run.
func (r *Runner) call(ctx context.Context, handler Handler, step *orchestration.Claimed) orchestration.Outcome {
	definition := step.Template.Graph.Step(step.Name)
	if handler == nil || definition == nil {
		return orchestration.Outcome{Failure: &dag.Failure{
			Type: "handler_not_found", Permanent: true,
			Message: fmt.Sprintf("no live worker has a handler for step %q of %s: register it, deploy, and retry the step",
				step.Name, step.Template.Graph.Template.ID()),
		}}
	}
	return run(ctx, handler, step, definition.Timeout())
}

func (r *Runner) runs(handler string) bool { return r.config.Handlers[handler] != nil }

// storePatience is how long a finished result is offered to a database that does not take it. By then the lease is long over.
const storePatience = 3

// store commits the outcome. While the lease may still be ours, a database that is away is asked again: the work is done.
func (r *Runner) store(ctx context.Context, step *orchestration.Claimed, outcome orchestration.Outcome) (done stored, err error) {
	item := orchestration.Item{
		Kind: orchestration.ItemResult, TaskID: step.TaskID, Dispatch: step.Dispatch, JobID: step.JobID, Outcome: &outcome,
	}
	item.Span = trace.SpanContextFromContext(ctx)
	if r.config.Orchestrate && !r.draining.Load() && ctx.Err() == nil {
		item.Offer = &orchestration.Offer{Token: uuid.New(), Step: step, Runs: r.runs}
	}
	insist := func() bool { return false }
	err = r.persist(storePatience*r.config.Lease, insist, func() error {
		done, err = r.stores.do(context.WithoutCancel(ctx), item)
		return err
	})
	return done, err
}

// handBack returns a step that this process will not finish, so that another can start it at once. One whose lease could not
// be renewed counts as lost: what starves its own worker must not do so for ever.
func (r *Runner) handBack(ctx context.Context, step *orchestration.Claimed, lost bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	release := r.engine.Release
	if lost {
		release = r.engine.Lose
	}
	var effects *orchestration.Effects
	err := db.InTx(ctx, r.pool, "release", func(ctx context.Context, tx pgx.Tx) (err error) {
		effects, err = release(ctx, tx, []orchestration.Dispatch{step.Dispatch})
		return err
	})
	if err != nil {
		return fmt.Errorf("hand back step %s: %w", step.StepID, err)
	}
	r.After(ctx, effects)
	attrs := identity(step)
	if len(effects.Queues) == 0 {
		// Its handler may have stored the result in its own transaction, without waking anyone.
		r.notifier.wake(&orchestration.Effects{Queues: map[string]bool{orchestration.Queue: true}})
		r.logger.LogAttrs(ctx, slog.LevelWarn, staleResult, attrs...)
		return nil
	}
	r.logger.LogAttrs(ctx, slog.LevelInfo, "step handed back", attrs...)
	return nil
}

// handlerGrace, in leases, is how long a step may be without any live worker for it before it fails: in a rolling deploy the
// right one is on its way.
const handlerGrace = 2

// servedElsewhere asks whether another live process has the handler, or may soon have it. If that is not known, it is assumed.
func (r *Runner) servedElsewhere(ctx context.Context, job *river.Job[executeArgs]) bool {
	row, err := r.engine.River.Queries(r.pool).HandlerServed(ctx, dbsqlc.HandlerServedParams{
		AliveSeconds: processAlive.Seconds(), Self: r.config.ID, Queue: job.Queue, Handler: job.Args.Handler, JobID: job.ID,
	})
	return err != nil || row.Served || row.AgeSeconds < (handlerGrace*r.config.Lease).Seconds()
}
