package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Pass is what one transaction of the orchestrator did, with the times at which its stages ended.
type Pass struct {
	// Committer names the kind of transaction: advance or operate.
	Committer string
	// Began is when the transaction began, Loaded when it held its rows, Decided when the rules had been asked.
	Began, Loaded, Decided time.Time
	// Progress has an entry for each task that moved.
	Progress []Progress
	// Archived are the jobs settled, by queue.
	Archived map[string]int
}

// Progress is what a pass did to a task.
type Progress struct {
	Task
	// Creation is open where the pass took up a task that nobody has traced yet.
	Creation *Creation
	// Received are the jobs that brought the pass its news through the orchestrators' queue.
	Received []Arrival
	// Results are those that counted.
	Results []Result
	// Dispatched are the steps that became ready.
	Dispatched []Ready
	// Path are the states that the task went through, the first one it had before.
	Path []string
	// Life is how long ago the task was to start.
	Life time.Duration
	// Final is the state in which the task came to rest; empty where it goes on.
	Final  string
	linked bool
	// Failure says why a task that ended in error did.
	Failure string
}

// Arrival is a job that was fetched.
type Arrival struct {
	Queue, Kind string
	Waited      time.Duration
}

// Result is a step result that was processed.
type Result struct {
	Step
	// Type is success, error or timeout.
	Type string
	// Eager: the result came from the worker in this process, and its job was never in the queue.
	Eager bool
	// Queue is the orchestrators', Kind that of result jobs.
	Queue, Kind string
	// From is the span of the execution, where it ran in this process.
	From trace.SpanContext
}

// Ready is a step that a pass dispatched.
type Ready struct {
	Step
	// Queue and Kind are those of its job.
	Queue, Kind string
	// Continued: the worker that made it ready goes on with it.
	Continued bool
	// Retry: its back-off is over, or an operator gave it new attempts.
	Retry bool
}

// Passed records a pass after its commit.
func (t *Telemetry) Passed(ctx context.Context, pass *Pass, committed time.Time) {
	if t == nil || len(pass.Progress)+len(pass.Archived) == 0 {
		return
	}
	for i := range pass.Progress {
		t.adopt(&pass.Progress[i].Task)
	}
	sent := make(map[string]bool)
	var items []trace.Span
	commit := t.startCommit(ctx, pass)
	for i := range pass.Progress {
		p := &pass.Progress[i]
		if p.Creation != nil {
			p.Creation.Count()
			p.Creation.Stored(committed, "")
		}
		for _, a := range p.Received {
			t.Received(ctx, &p.Task, a.Queue, a.Kind, a.Waited)
		}
		items = append(items, t.results(ctx, p, pass, committed, commit, sent)...)
		items = append(items, t.dispatched(ctx, p, pass, committed, commit, sent)...)
		items = append(items, t.finalized(ctx, p, pass, committed, commit)...)
		for j := 1; j < len(p.Path); j++ {
			t.taskTransitions.add(ctx, 1, values{p.Namespace, p.Path[j-1], p.Path[j]})
		}
	}
	endCommit(commit, items, committed)
	took := milliseconds(committed.Sub(pass.Began))
	for queue := range sent {
		t.sendTime.record(ctx, took, values{queue})
	}
	for queue, n := range pass.Archived {
		t.archived.add(ctx, int64(n), values{queue})
		t.archiveTime.record(ctx, took, values{queue})
	}
}

// startCommit opens the span of a transaction that several tasks share, which is in none of their traces. There is none where
// none of the tasks is sampled; and that of a single task is told by the task's own spans.
func (t *Telemetry) startCommit(ctx context.Context, pass *Pass) trace.Span {
	if len(pass.Progress) < 2 {
		return noSpan
	}
	for i := range pass.Progress {
		if t.tracing && pass.Progress[i].root.IsSampled() {
			_, span := t.tracer.Start(ctx, spanCommit, //nolint:spancheck // endCommit ends it
				trace.WithNewRoot(), trace.WithTimestamp(pass.Began),
				trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("committer", pass.Committer),
					attribute.Int("commit.tasks", len(pass.Progress))))
			return span //nolint:spancheck // endCommit ends it
		}
	}
	return noSpan
}

// maxItems bounds the links of a commit: the SDK's own limit.
const maxItems = 128

func endCommit(commit trace.Span, items []trace.Span, committed time.Time) {
	if commit.IsRecording() {
		for _, item := range items[:min(len(items), maxItems)] {
			commit.AddLink(trace.Link{SpanContext: item.SpanContext()})
		}
		succeed(commit, committed)
	}
}

// open starts the span of an item of a pass, which ends at the commit.
func (t *Telemetry) open(ctx context.Context, p *Progress, commit trace.Span, of *spanOf) (context.Context, trace.Span) {
	if sc := commit.SpanContext(); sc.IsSampled() && !p.linked {
		p.linked = true
		of.links = append(of.links, trace.Link{SpanContext: sc})
	}
	return t.underRoot(ctx, &p.Task, of)
}

func (t *Telemetry) results(
	ctx context.Context, p *Progress, pass *Pass, committed time.Time, commit trace.Span, sent map[string]bool,
) []trace.Span {
	spans := make([]trace.Span, 0, len(p.Results))
	for i := range p.Results {
		r := &p.Results[i]
		of := &spanOf{name: spanResult, kind: trace.SpanKindConsumer, began: pass.Began}
		if r.From.IsValid() {
			of.links = []trace.Link{{SpanContext: r.From}}
		} else {
			of.links = t.linkTo(&p.Task, executionSpanID(r.ID, r.Claim), "execution")
		}
		ctx, span := t.open(ctx, p, commit, of)
		if span.IsRecording() {
			span.SetAttributes(append(append(p.ids(), r.attributes()...), attribute.String("result_type", r.Type))...)
			t.within(ctx, spanMetadata, pass.Loaded, pass.Decided, func() []attribute.KeyValue { return p.stepIDs(&r.Step) })
		}
		v := values{p.Namespace, r.Type}
		t.resultsProcessed.countFor(ctx, &p.Task, v)
		t.processing.recordFor(ctx, &p.Task, committed.Sub(pass.Began), v)
		if r.Eager {
			job := values{r.Queue, r.Kind}
			t.sent.countFor(ctx, &p.Task, job)
			t.received.countFor(ctx, &p.Task, job)
			t.archived.add(ctx, 1, values{r.Queue})
			sent[r.Queue] = true
		}
		succeed(span, committed)
		spans = append(spans, span)
	}
	return spans
}

func (t *Telemetry) dispatched(
	ctx context.Context, p *Progress, pass *Pass, committed time.Time, commit trace.Span, sent map[string]bool,
) []trace.Span {
	if len(p.Dispatched) == 0 {
		return nil
	}
	ctx, span := t.open(ctx, p, commit, &spanOf{name: spanEnqueue, kind: trace.SpanKindProducer, began: pass.Loaded})
	if span.IsRecording() {
		span.SetAttributes(p.dispatches()...)
		ids := p.ids
		if len(p.Dispatched) == 1 {
			ids = func() []attribute.KeyValue { return p.stepIDs(&p.Dispatched[0].Step) }
		}
		t.within(ctx, spanFilter, pass.Loaded, pass.Decided, ids)
		t.within(ctx, spanDispatch, pass.Decided, committed, ids)
	}
	for i := range p.Dispatched {
		d := &p.Dispatched[i]
		job := values{d.Queue, d.Kind}
		t.stepsEnqueued.countFor(ctx, &p.Task, values{p.Namespace, d.Name})
		t.sent.countFor(ctx, &p.Task, job)
		if d.Retry {
			t.retries.add(ctx, 1, values{})
		}
		if d.Continued {
			t.received.countFor(ctx, &p.Task, job)
		}
		sent[d.Queue] = true
	}
	succeed(span, committed)
	return []trace.Span{span}
}

// dispatches are the attributes of a round: its steps by name, or the one step.
func (p *Progress) dispatches() []attribute.KeyValue {
	if len(p.Dispatched) == 1 {
		return append(p.ids(), p.Dispatched[0].attributes()...)
	}
	names := make([]string, 0, maxLinks)
	for i := range p.Dispatched[:min(len(p.Dispatched), maxLinks)] {
		names = append(names, p.Dispatched[i].Name)
	}
	return append(p.ids(), attribute.Int("steps", len(p.Dispatched)), attribute.StringSlice("step_names", names))
}

// The states of a task that count as an outcome.
const (
	finalComplete = "complete"
	finalError    = "error"
)

func (t *Telemetry) finalized(ctx context.Context, p *Progress, pass *Pass, committed time.Time, commit trace.Span) []trace.Span {
	if p.Final == "" {
		return nil
	}
	ctx, span := t.open(ctx, p, commit, &spanOf{name: spanFinalize, kind: trace.SpanKindInternal, began: pass.Loaded})
	if span.IsRecording() {
		span.SetAttributes(append(p.attributes(),
			attribute.String("final_state", p.Final), attribute.Int64("task.age_ms", p.Age.Milliseconds()))...)
		t.within(ctx, spanDecision, pass.Loaded, pass.Decided, p.ids)
	}
	v := values{p.Namespace, p.Name}
	switch p.Final {
	case finalComplete:
		t.taskCompletions.countFor(ctx, &p.Task, v)
	case finalError:
		t.taskFailures.countFor(ctx, &p.Task, v)
	}
	t.finalization.recordFor(ctx, &p.Task, committed.Sub(pass.Loaded), values{p.Namespace, p.Final})
	t.taskDuration.record(ctx, milliseconds(p.Life+committed.Sub(pass.Loaded)), values{p.Namespace, p.Name, p.Final})
	if p.Final == finalError {
		span.SetStatus(codes.Error, p.Failure)
		span.End(trace.WithTimestamp(committed))
	} else {
		succeed(span, committed)
	}
	return []trace.Span{span}
}
