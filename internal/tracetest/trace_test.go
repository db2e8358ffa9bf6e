package tracetest

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
)

const (
	root     = "create_and_enqueue_task_from_request"
	execute  = "execute_step"
	handler  = "handler_execution"
	finalize = "finalize_task"
	result   = "handle_step_execution_result"
)

// story is what arrived about one task.
type story struct {
	traces map[trace.TraceID]bool
	spans  map[trace.SpanID]otlpreceiver.Span
	names  map[string]int
}

// stories sorts the spans by task.
func stories(spans []otlpreceiver.Span) map[string]*story {
	all := make(map[string]*story)
	for _, span := range spans {
		id, ok := span.Attributes["task_uuid"].(string)
		if !ok {
			continue
		}
		s := all[id]
		if s == nil {
			s = &story{make(map[trace.TraceID]bool), make(map[trace.SpanID]otlpreceiver.Span), make(map[string]int)}
			all[id] = s
		}
		s.traces[span.TraceID] = true
		s.spans[span.SpanID] = span
		s.names[span.Name]++
	}
	return all
}

// whole checks that a task's story is one trace with every step in it, and that what stands under the root finds it there.
func (s *story) whole(t *testing.T, id string) {
	t.Helper()
	assert.Len(t, s.traces, 1, "task %s", id)
	assert.True(t, s.traces[telemetry.TraceID(uuid.MustParse(id))], "task %s: the trace's id does not follow from the task's", id)
	assert.Equal(t, 1, s.names[root], "task %s", id)
	assert.Equal(t, 1, s.names[finalize], "task %s", id)
	parents := telemetry.SpanNames()
	for _, span := range s.spans {
		parent, ours := parents[span.Name]
		switch above, found := s.spans[span.ParentID]; {
		case !ours:
			assert.Failf(t, "a span that nobody knows", "task %s: %s", id, span.Name)
		case parent == "":
			assert.False(t, span.ParentID.IsValid(), "task %s: the root has a parent", id)
		case found:
			assert.Equal(t, parent, above.Name, "task %s: parent of %s", id, span.Name)
		default:
			// Of an execution that was cut short by a kill, the inner spans may be all that got out.
			assert.Equal(t, execute, parent, "task %s: %s has lost its parent", id, span.Name)
		}
	}
}

func TestATaskIsOneTraceThroughKillsRetriesProcessesAndSQL(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	worker := processConfig{Work: true, Endpoint: r.receiver.Endpoint(), Ratio: 1, Pace: 20 * time.Millisecond}
	both := worker
	both.Orchestrate = true
	orchestrators := []*process{r.spawn(processConfig{Orchestrate: true, Endpoint: r.receiver.Endpoint(), Ratio: 1}), r.spawn(both)}
	victim := r.spawn(worker)
	traced, flush := r.client(true, 1)
	silent, _ := r.client(false, 1)
	var ids []uuid.UUID
	for range 5 {
		ids = append(ids, r.create(traced, 80)...)
		ids = append(ids, r.create(silent, 60)...)
		ids = append(ids, r.createBySQL(60)...)
		victim.kill()
		victim = r.spawn(worker)
	}
	require.Len(t, ids, 1000)
	r.drained(time.Minute)
	flush()
	victim.stop()
	for _, p := range orchestrators {
		p.stop()
	}
	snapshot := r.receiver.Snapshot()
	all := stories(snapshot.Spans)
	require.Len(t, all, 1000)
	for id, s := range all {
		s.whole(t, id)
	}
	require.Equal(t, 1000, int(snapshot.Total("tasker.tasks.requests.total", nil)))
	require.Zero(t, r.count("SELECT count(*) FROM tasker.tasks WHERE correlation_label IS NULL"), "the decision travels with the task")
	require.Equal(t, 1000, int(snapshot.Total("tasker.tasks.completions.total", nil)))
	t.Logf("%d spans, %d losses", len(snapshot.Spans), r.count("SELECT count(*) FROM tasker.step_attempts WHERE outcome = 'lost'"))
}

func TestATenthOfTheTasksIsSampledAndEachOfThemWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const ratio = 0.1
	process := r.spawn(processConfig{Orchestrate: true, Work: true, Endpoint: r.receiver.Endpoint(), Ratio: ratio})
	// Another process may be set to another ratio: the decision travels with the task.
	second := r.spawn(processConfig{Work: true, Endpoint: r.receiver.Endpoint(), Ratio: 0.9})
	traced, flush := r.client(true, ratio)
	r.create(traced, 500)
	r.createBySQL(500)
	r.drained(time.Minute)
	flush()
	second.stop()
	process.stop()
	all := stories(r.receiver.Spans())
	require.InDelta(t, 100, len(all), 35, "a tenth of a thousand, give or take three and a half standard deviations")
	for id, s := range all {
		s.whole(t, id)
		assert.Equal(t, 4, s.names[result], "task %s", id)
		assert.Equal(t, 4, s.names[execute], "task %s: three steps and a retry", id)
	}
	require.Equal(t, 1000, int(r.receiver.Snapshot().Total("tasker.tasks.requests.total", nil)), "metrics are not sampled")
}
