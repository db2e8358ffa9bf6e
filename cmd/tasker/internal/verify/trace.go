package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// The spans that checks name.
const (
	spanCreate   = "create_and_enqueue_task_from_request"
	spanEnqueue  = "enqueue_ready_steps"
	spanFilter   = "filter_and_prepare_enqueuable_steps"
	spanDispatch = "enqueue_steps_to_worker_queue"
	spanExecute  = "execute_step"
	spanClaim    = "try_claim_step"
	spanHandler  = "handler_execution"
	spanResult   = "handle_step_execution_result"
	spanMetadata = "process_orchestration_metadata"
	spanFinalize = "finalize_task"
	spanDecision = "make_finalization_decision"
	spanCommit   = "commit_batch"
)

// traceChecks are about spans.
var traceChecks = []check{
	{groupTraces, "one trace for each task, its id known from the task's", oneTrace},
	{groupTraces, "the whole flow is in it: eleven names, the right number of each", wholeTrace},
	{groupTraces, "each span stands under its parent", parents},
	{groupTraces, "no span lacks its parent", orphans},
	{groupTraces, "attributes: correlation_id, task_uuid, namespace, step_uuid and more", spanAttributes},
	{groupTraces, "status: ok, or error where something failed", statuses},
	{groupTraces, "an error says what went wrong", messages},
	{groupTraces, "no span ends before it begins, or outlives the one it is part of", durations},
	{groupTraces, "links: retries to the attempt before, results to their execution", links},
	{groupTraces, "service names", services},
	{groupTraces, "nothing else but shared commits and refused requests", otherTraces},
}

// oneTrace: a trace is found by the task's id alone.
func oneTrace(e *evidence, f *finding) {
	n := 0
	for i := range e.tasks {
		t := &e.tasks[i]
		found := make(map[trace.TraceID]bool)
		for _, span := range e.index.byTask[t.id] {
			found[span.TraceID] = true
		}
		switch {
		case len(found) == 0:
			f.problemf("task %s (%s) has no trace", t.id, t.workflow.name)
		case len(found) > 1:
			f.problemf("task %s (%s) has %d traces", t.id, t.workflow.name, len(found))
		case !found[telemetry.TraceID(t.id)]:
			f.problemf("task %s (%s) is in trace %v, not in %s", t.id, t.workflow.name, slices.Collect(maps.Keys(found))[0], telemetry.TraceID(t.id))
		default:
			n++
		}
	}
	f.seenf("%d of %d tasks, also the one created by SQL", n, len(e.tasks))
	if len(e.tasks) == 0 {
		f.problemf("there are no tasks")
	}
}

// wants is how many spans of each name a task of the workflow has: each execution is dispatched in a round of its own.
func (w *workflow) wants() map[string]int {
	wants := map[string]int{spanCreate: 1, spanFinalize: 1, spanDecision: 1}
	for name := range telemetry.SpanNames() {
		if wants[name] == 0 {
			wants[name] = w.executions
		}
	}
	return wants
}

func sum(counts map[string]int) (total int) {
	for _, n := range counts {
		total += n
	}
	return total
}

func wholeTrace(e *evidence, f *finding) {
	shapes := make(map[int]int)
	for i := range e.tasks {
		t := &e.tasks[i]
		wants, got := t.workflow.wants(), make(map[string]int)
		for _, span := range e.index.byTask[t.id] {
			got[span.Name]++
		}
		for name := range telemetry.SpanNames() {
			if got[name] != wants[name] {
				f.problemf("task %s (%s) has %d spans %s, not %d", t.id, t.workflow.name, got[name], name, wants[name])
			}
		}
		shapes[sum(got)]++
	}
	parts := make([]string, 0, len(shapes))
	for _, size := range slices.Backward(slices.Sorted(maps.Keys(shapes))) {
		parts = append(parts, fmt.Sprintf("%d × %d spans", shapes[size], size))
	}
	f.seenf("%s", strings.Join(parts, ", "))
}

// parents: the tree that is documented.
func parents(e *evidence, f *finding) {
	names, n := telemetry.SpanNames(), 0
	for i := range e.spans {
		span := &e.spans[i]
		if e.index.owner[span.TraceID] == nil {
			continue
		}
		n++
		want, known := names[span.Name]
		parent := e.index.byID[span.ParentID]
		switch {
		case !known:
			f.problemf("%s is none of the eleven", span.Name)
		case want == "" && span.ParentID.IsValid():
			f.problemf("%s is not the root of its trace", span.Name)
		case want != "" && !span.ParentID.IsValid():
			f.problemf("%s is a root, and should stand under %s", span.Name, want)
		case parent != nil && parent.TraceID != span.TraceID:
			f.problemf("%s is in another trace than its parent", span.Name)
		case parent != nil && parent.Name != want:
			f.problemf("%s stands under %s, not under %s", span.Name, parent.Name, want)
		}
	}
	f.seenf("%d spans", n)
}

func orphans(e *evidence, f *finding) {
	for i := range e.spans {
		if span := &e.spans[i]; span.ParentID.IsValid() && e.index.byID[span.ParentID] == nil {
			f.problemf("%s of trace %s: its parent %s did not arrive", span.Name, span.TraceID, span.ParentID)
		}
	}
	f.seenf("%d spans", len(e.spans))
}

// services: what created a task is another process than what ran it, and both say who they are.
func services(e *evidence, f *finding) {
	found := make(map[string]int)
	for i := range e.spans {
		span := &e.spans[i]
		service, t := text(span.Resource, "service.name"), e.index.owner[span.TraceID]
		found[service]++
		want := serverService
		if span.Name == spanCreate && (t == nil || t.by == byClient) {
			want = clientService
		}
		if service != want {
			f.problemf("%s is of service %q, not %s", span.Name, service, want)
		}
		if got := text(span.Resource, "service.version"); got != e.version {
			f.problemf("%s is of version %q, not %s", span.Name, got, e.version)
		}
	}
	f.seenf("%s", join(found))
}

// otherTraces: what is in no task's trace is a transaction that several tasks share, or a request that was refused.
func otherTraces(e *evidence, f *finding) {
	commits, refused := 0, 0
	for i := range e.spans {
		span := &e.spans[i]
		switch {
		case e.index.owner[span.TraceID] != nil:
		case span.Name == spanCommit && !span.ParentID.IsValid() && len(span.Links) > 0:
			commits++
		case refusedSpan(span):
			refused++
		default:
			f.problemf("%s of trace %s belongs to no task", span.Name, span.TraceID)
		}
	}
	f.seenf("%d %s, %d refused", commits, spanCommit, refused)
}
