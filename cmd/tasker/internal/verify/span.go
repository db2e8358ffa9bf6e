package verify

import (
	"slices"

	"go.opentelemetry.io/otel/codes"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// ownAttributes are those that spans have beside the three of every span. A round of the workflows here is always of one step.
var ownAttributes = map[string][]string{
	spanCreate:   {"task_name"},
	spanEnqueue:  {"step_uuid", "step_name"},
	spanFilter:   {"step_uuid"},
	spanDispatch: {"step_uuid"},
	spanExecute:  {"step_uuid", "step_name", "attempt"},
	spanClaim:    {"step_uuid", "claim_method"},
	spanHandler:  {"step_uuid", "handler"},
	spanResult:   {"step_uuid", "step_name", "result_type"},
	spanMetadata: {"step_uuid"},
	spanFinalize: {"task_name", "final_state"},
	spanDecision: nil,
}

// taskSpans calls fn with each of the eleven spans of the tasks.
func (e *evidence) taskSpans(fn func(t *task, span *otlpreceiver.Span)) {
	for i := range e.spans {
		span := &e.spans[i]
		if t := e.index.owner[span.TraceID]; t != nil {
			fn(t, span)
		}
	}
}

func spanAttributes(e *evidence, f *finding) {
	n := 0
	e.taskSpans(func(t *task, span *otlpreceiver.Span) {
		for key, want := range map[string]string{
			"correlation_id": t.correlation.String(), "task_uuid": t.id.String(), "namespace": t.workflow.namespace,
		} {
			n++
			if got := text(span.Attributes, key); got != want {
				f.problemf("%s has %s %q, not %s", span.Name, key, got, want)
			}
		}
		for _, key := range ownAttributes[span.Name] {
			n++
			if value := span.Attributes[key]; value == nil || value == "" {
				f.problemf("%s has no %s", span.Name, key)
			}
		}
	})
	f.seenf("%d values", n)
}

// statuses: attempts that failed are errors on 5 and 7, a task that failed is one on 10; nothing else is.
func statuses(e *evidence, f *finding) {
	bad := make(map[*task]map[string]int)
	ok := 0
	e.taskSpans(func(t *task, span *otlpreceiver.Span) {
		switch span.Status {
		case codes.Ok:
			ok++
		case codes.Error:
			if bad[t] == nil {
				bad[t] = make(map[string]int)
			}
			bad[t][span.Name]++
		case codes.Unset:
			f.problemf("%s has no status", span.Name)
		}
	})
	wrong := 0
	for i := range e.tasks {
		t := &e.tasks[i]
		wrong += sum(bad[t])
		wants := map[string]int{spanExecute: t.workflow.failures, spanHandler: t.workflow.failures, spanFinalize: t.workflow.failed()}
		for name := range telemetry.SpanNames() {
			if got := bad[t][name]; got != wants[name] {
				f.problemf("%s: %d spans %s are errors, not %d", t.workflow.name, got, name, wants[name])
			}
		}
	}
	f.seenf("%d ok, %d error", ok, wrong)
}

// refusedSpan tells the root of a request that was refused.
func refusedSpan(span *otlpreceiver.Span) bool {
	return span.Name == spanCreate && !span.ParentID.IsValid() && span.Status == codes.Error
}

func messages(e *evidence, f *finding) {
	n := 0
	for i := range e.spans {
		span := &e.spans[i]
		if span.Status != codes.Error {
			continue
		}
		n++
		if span.StatusMessage == "" {
			f.problemf("%s in trace %s is an error without a description", span.Name, span.TraceID)
		}
	}
	f.seenf("%d errors", n)
	if n == 0 {
		f.problemf("steps failed, and no span is an error")
	}
}

// inProcess are the spans whose children are parts of them. The root is not among them: it ends when the task is stored.
var inProcess = []string{spanEnqueue, spanExecute, spanResult, spanFinalize}

func durations(e *evidence, f *finding) {
	for i := range e.spans {
		span := &e.spans[i]
		if span.End.Before(span.Start) || span.Start.IsZero() {
			f.problemf("%s lasts from %v to %v", span.Name, span.Start, span.End)
		}
		parent := e.index.byID[span.ParentID]
		if parent == nil || !slices.Contains(inProcess, parent.Name) {
			continue
		}
		if span.Start.Before(parent.Start) || span.End.After(parent.End) {
			f.problemf("%s begins %v before %s, or ends %v after it", span.Name, parent.Start.Sub(span.Start), parent.Name, span.End.Sub(parent.End))
		}
	}
	f.seenf("%d spans", len(e.spans))
}

// links tell what followed what.
func links(e *evidence, f *finding) {
	retries, results := 0, 0
	for i := range e.spans {
		span := &e.spans[i]
		e.examineTargets(span, f)
		if attempt, _ := span.Attributes["attempt"].(int64); span.Name == spanExecute && attempt > 1 {
			retries++
			e.examineRetry(span, attempt, f)
		}
		if span.Name == spanResult {
			results++
			if e.linked(span, "") == nil {
				f.problemf("%s does not link to its execution", span.Name)
			}
		}
	}
	f.seenf("%d retries, %d results", retries, results)
	if retries == 0 {
		f.problemf("a step was tried again, and no execution links to another")
	}
}

// examineTargets wants what a span links to.
func (e *evidence) examineTargets(span *otlpreceiver.Span, f *finding) {
	for _, link := range span.Links {
		if target := e.index.byID[link.SpanID]; target == nil || target.TraceID != link.TraceID {
			f.problemf("%s links to span %s, which did not arrive", span.Name, link.SpanID)
		}
	}
}

func (e *evidence) examineRetry(span *otlpreceiver.Span, attempt int64, f *finding) {
	if before := e.linked(span, "previous_dispatch"); before == nil || before.Attributes["attempt"] != attempt-1 {
		f.problemf("attempt %d does not link to the one before", attempt)
	}
}

// linked is the execution of the same step that a span links to, in a relation if one is given.
func (e *evidence) linked(span *otlpreceiver.Span, relation string) *otlpreceiver.Span {
	for _, link := range span.Links {
		target := e.index.byID[link.SpanID]
		if target == nil || target.Name != spanExecute || target.Attributes["step_uuid"] != span.Attributes["step_uuid"] {
			continue
		}
		if relation == "" || text(link.Attributes, "tasker.link") == relation {
			return target
		}
	}
	return nil
}
