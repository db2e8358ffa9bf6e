package telemetry

import (
	"context"
	"slices"
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
	a := &account{Telemetry: t, pass: pass, committed: committed, sent: make(map[string]bool), tallies: make(map[tally]*sum)}
	for i := range pass.Progress {
		t.adopt(&pass.Progress[i].Task)
	}
	a.startCommit(ctx)
	for i := range pass.Progress {
		p := &pass.Progress[i]
		if p.Creation != nil {
			p.Creation.takenUp(ctx, p.Received, committed)
		}
		for _, arrival := range p.Received {
			t.Received(ctx, &p.Task, arrival.Queue, arrival.Kind, arrival.Waited)
		}
		a.results(ctx, p)
		a.dispatched(ctx, p)
		a.finalized(ctx, p)
		for j := 1; j < len(p.Path); j++ {
			a.count(ctx, t.taskTransitions, &p.Task, trace.SpanContext{}, values{p.Namespace, p.Path[j-1], p.Path[j]})
		}
	}
	for of, s := range a.tallies {
		of.counter.addFor(ctx, s.n, s.task, s.of, of.values)
	}
	a.commit.end(committed)
	took := milliseconds(committed.Sub(pass.Began))
	for queue := range a.sent {
		t.sendTime.record(ctx, took, values{queue})
	}
	for queue, n := range pass.Archived {
		t.archived.add(ctx, int64(n), values{queue})
		t.archiveTime.record(ctx, took, values{queue})
	}
}

// account is what is told of one pass.
type account struct {
	*Telemetry

	pass      *Pass
	committed time.Time
	// commit is the span of the transaction.
	commit opened
	// sent are the queues that jobs were inserted into.
	sent map[string]bool
	// tallies are the counts of what has no label of its own task: a batch counts once, not once a step.
	tallies map[tally]*sum
	// span is the one that is being told of.
	span Span
}

// tally is one combination of a counter.
type tally struct {
	counter *counter
	values  values
}

// sum is a tally's count, with the last task that it is of.
type sum struct {
	n    int64
	task *Task
	of   trace.SpanContext
}

// count counts one for what a span of a task did.
func (a *account) count(ctx context.Context, c *counter, task *Task, of trace.SpanContext, v values) {
	switch {
	case !a.counting:
		return
	case task.labelled && c.sets.correlates:
		c.countFor(ctx, task, of, v)
		return
	}
	s := a.tallies[tally{c, v}]
	if s == nil {
		s = &sum{}
		a.tallies[tally{c, v}] = s
	}
	s.n, s.task, s.of = s.n+1, task, of
}

// startCommit opens the span of a transaction that several tasks share, which is in none of their traces. There is none where
// none of the tasks is sampled; and that of a single task is told by the task's own spans.
func (a *account) startCommit(ctx context.Context) {
	sampled := func(p Progress) bool { return p.root.IsSampled() }
	if len(a.pass.Progress) < 2 || !a.tracing || !slices.ContainsFunc(a.pass.Progress, sampled) {
		return
	}
	a.commit.Span = Span{
		Name: spanCommit, Kind: trace.SpanKindClient, Began: a.pass.Began, Code: codes.Ok, Attributes: []attribute.KeyValue{
			attribute.String("committer", a.pass.Committer), attribute.Int("commit.tasks", len(a.pass.Progress)),
		},
	}
	a.open(ctx, &a.commit)
}

// maxItems bounds the links of a commit: the SDK's own limit.
const maxItems = 128

// item begins to tell of a span of an item of the pass, which ends at the commit. False means that it is not recorded.
func (a *account) item(p *Progress, name string, kind trace.SpanKind, began time.Time) bool {
	a.span = Span{
		Name: name, Kind: kind, Began: began, Ended: a.committed, Code: codes.Ok, Attributes: a.span.Attributes[:0], Links: a.span.Links[:0],
	}
	if !a.underRoot(&p.Task, &a.span) {
		return false
	}
	if a.commit.context.IsSampled() && !p.linked {
		p.linked = true
		a.span.Links = append(a.span.Links, trace.Link{SpanContext: a.commit.context})
	}
	a.span.Attributes = p.ids(a.span.Attributes)
	return true
}

// tell records the span of an item. It returns its context, and whether spans below it are recorded.
func (a *account) tell(ctx context.Context) (sc trace.SpanContext, recorded bool) {
	sc, recorded = a.record(ctx, &a.span)
	if a.commit.recording() && len(a.commit.Links) < maxItems {
		a.commit.Links = append(a.commit.Links, trace.Link{SpanContext: sc})
	}
	return sc, recorded
}

// stage is a part of a pass.
type stage struct {
	name         string
	began, ended time.Time
}

// within records the span of a stage below another one of the task, which may be about one step.
func (a *account) within(ctx context.Context, of trace.SpanContext, p *Progress, step *Step, s stage) {
	a.span = Span{
		Name: s.name, Parent: of, Began: s.began, Ended: s.ended, Code: codes.Ok,
		Attributes: p.ids(a.span.Attributes[:0]), Links: a.span.Links[:0],
	}
	if step != nil {
		a.span.Attributes = append(a.span.Attributes, step.id())
	}
	a.record(ctx, &a.span)
}

func (a *account) results(ctx context.Context, p *Progress) {
	for i := range p.Results {
		r := &p.Results[i]
		var of trace.SpanContext
		if a.item(p, spanResult, trace.SpanKindConsumer, a.pass.Began) {
			if r.From.IsValid() {
				a.span.Links = append(a.span.Links, trace.Link{SpanContext: r.From})
			} else {
				a.span.Links = append(a.span.Links, a.linkTo(&p.Task, executionSpanID(r.ID, r.Claim), "execution")...)
			}
			a.span.Attributes = append(r.attributes(a.span.Attributes), attribute.String("result_type", r.Type))
			var recorded bool
			if of, recorded = a.tell(ctx); recorded {
				a.within(ctx, of, p, &r.Step, stage{spanMetadata, a.pass.Loaded, a.pass.Decided})
			}
		}
		v := values{p.Namespace, r.Type}
		a.count(ctx, a.resultsProcessed, &p.Task, of, v)
		a.processing.recordFor(ctx, &p.Task, of, a.committed.Sub(a.pass.Began), v)
		if r.Eager {
			job := values{r.Queue, r.Kind}
			a.count(ctx, a.Telemetry.sent, &p.Task, of, job)
			a.count(ctx, a.received, &p.Task, of, job)
			a.count(ctx, a.archived, &p.Task, of, values{r.Queue})
			a.sent[r.Queue] = true
		}
	}
}

func (a *account) dispatched(ctx context.Context, p *Progress) {
	if len(p.Dispatched) == 0 {
		return
	}
	var of trace.SpanContext
	if a.item(p, spanEnqueue, trace.SpanKindProducer, a.pass.Loaded) {
		var one *Step
		if len(p.Dispatched) == 1 {
			one = &p.Dispatched[0].Step
			a.span.Attributes = one.attributes(a.span.Attributes)
		} else {
			a.span.Attributes = p.round(a.span.Attributes)
		}
		var recorded bool
		if of, recorded = a.tell(ctx); recorded {
			a.within(ctx, of, p, one, stage{spanFilter, a.pass.Loaded, a.pass.Decided})
			a.within(ctx, of, p, one, stage{spanDispatch, a.pass.Decided, a.committed})
		}
	}
	for i := range p.Dispatched {
		d := &p.Dispatched[i]
		job := values{d.Queue, d.Kind}
		a.count(ctx, a.stepsEnqueued, &p.Task, of, values{p.Namespace, d.Name})
		a.count(ctx, a.Telemetry.sent, &p.Task, of, job)
		if d.Retry {
			a.count(ctx, a.retries, &p.Task, of, values{})
		}
		if d.Continued {
			a.count(ctx, a.received, &p.Task, of, job)
		}
		a.sent[d.Queue] = true
	}
}

// round appends the attributes of a round of several steps: their number, and their names as far as there is room.
func (p *Progress) round(to []attribute.KeyValue) []attribute.KeyValue {
	names := make([]string, 0, maxLinks)
	for i := range p.Dispatched[:min(len(p.Dispatched), maxLinks)] {
		names = append(names, p.Dispatched[i].Name)
	}
	return append(to, attribute.Int("steps", len(p.Dispatched)), attribute.StringSlice("step_names", names))
}

// The states of a task that count as an outcome.
const (
	finalComplete = "complete"
	finalError    = "error"
)

func (a *account) finalized(ctx context.Context, p *Progress) {
	if p.Final == "" {
		return
	}
	var of trace.SpanContext
	if a.item(p, spanFinalize, trace.SpanKindInternal, a.pass.Loaded) {
		if p.Final == finalError {
			a.span.Code, a.span.Message = codes.Error, p.Failure
		}
		a.span.Attributes = append(a.span.Attributes, attribute.String("task_name", p.Name),
			attribute.String("final_state", p.Final), attribute.Int64("task.age_ms", p.Age.Milliseconds()))
		var recorded bool
		if of, recorded = a.tell(ctx); recorded {
			a.within(ctx, of, p, nil, stage{spanDecision, a.pass.Loaded, a.pass.Decided})
		}
	}
	v := values{p.Namespace, p.Name}
	switch p.Final {
	case finalComplete:
		a.count(ctx, a.taskCompletions, &p.Task, of, v)
	case finalError:
		a.count(ctx, a.taskFailures, &p.Task, of, v)
	}
	took := a.committed.Sub(a.pass.Loaded)
	a.finalization.recordFor(ctx, &p.Task, of, took, values{p.Namespace, p.Final})
	a.taskDuration.recordFor(ctx, &p.Task, of, p.Life+took, values{p.Namespace, p.Name, p.Final})
}
