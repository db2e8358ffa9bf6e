package verify

import (
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testVersion = "1.2.3"

// began is when the run of the fixture began.
var began = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// healthy is the evidence of a run in which everything is right: three tasks of the client and the others.
func healthy(t *testing.T) *evidence {
	t.Helper()
	b := &builder{evidence: &evidence{
		requested: 3, version: testVersion, folder: filepath.Join(t.TempDir(), "none"), metrics: make(map[string]otlpreceiver.Metric),
		output: "level=INFO msg=telemetry opentelemetry_enabled=true\n" +
			"level=ERROR msg=\"producer: Error fetching jobs\"\nlevel=DEBUG msg=\"until channel is closed\"\n",
		end: ending{took: time.Second}, outage: &outage{refused: creationsInOutage, took: time.Second},
	}}
	for i, w := range []*workflow{&failing, &retried, &sequence, &sequence, &sequence, &sequence, &succeeded} {
		made := task{id: uuid.New(), correlation: uuid.New(), workflow: w, by: byClient}
		if i == 5 {
			made.by = bySQL
		}
		b.tasks = append(b.tasks, made)
	}
	for i := range b.tasks {
		b.trace(&b.tasks[i])
	}
	for range creationsInOutage {
		root := b.span(spanCreate, nil, nil)
		root.Status, root.StatusMessage, root.Resource = codes.Error, "no database", resource(clientService)
	}
	commit := b.span(spanCommit, nil, nil)
	commit.Links = []otlpreceiver.Link{{TraceID: b.spans[0].TraceID, SpanID: b.spans[0].SpanID}}
	b.measure()
	return b.prepare()
}

// builder adds to evidence.
type builder struct {
	*evidence

	ids uint64
}

func resource(service string) map[string]any {
	return map[string]any{"service.name": service, "service.version": testVersion, "container": service}
}

// span adds one of a task, or of none. What is returned is valid until the next one is added.
func (b *builder) span(name string, t *task, parent *otlpreceiver.Span) *otlpreceiver.Span {
	b.ids++
	s := otlpreceiver.Span{
		Name: name, Start: began, End: began.Add(time.Millisecond), Status: codes.Ok, Resource: resource(serverService),
		Attributes: make(map[string]any), Scope: telemetry.Scope,
	}
	binary.BigEndian.PutUint64(s.SpanID[:], b.ids)
	binary.BigEndian.PutUint64(s.TraceID[:], b.ids)
	if t != nil {
		s.TraceID = telemetry.TraceID(t.id)
		s.Attributes = map[string]any{
			"correlation_id": t.correlation.String(), "task_uuid": t.id.String(), "namespace": t.workflow.namespace,
		}
		for _, key := range ownAttributes[name] {
			s.Attributes[key] = "some " + key
		}
	}
	if parent != nil {
		s.ParentID = parent.SpanID
	}
	b.spans = append(b.spans, s)
	return &b.spans[len(b.spans)-1]
}

// trace adds the spans and log lines of a task.
func (b *builder) trace(t *task) {
	w := t.workflow
	root := *b.span(spanCreate, t, nil)
	if t.by == byClient {
		b.spans[len(b.spans)-1].Resource = resource(clientService)
	}
	var before *otlpreceiver.Span
	for n := range w.executions {
		round := *b.span(spanEnqueue, t, &root)
		b.span(spanFilter, t, &round)
		b.span(spanDispatch, t, &round)
		before = b.execution(t, &root, before, n)
		result := b.span(spanResult, t, &root)
		result.Attributes["step_uuid"] = before.Attributes["step_uuid"]
		result.Links = []otlpreceiver.Link{{TraceID: before.TraceID, SpanID: before.SpanID}}
		b.span(spanMetadata, t, new(*result))
		b.logs = append(b.logs, otlpreceiver.Log{
			Severity: "DEBUG", Body: "step complete correlation_id=" + t.correlation.String(),
			Attributes: map[string]any{"correlation_id": t.correlation.String()}, TraceID: before.TraceID, SpanID: before.SpanID,
			Resource: resource(serverService),
		})
		if w.failures == 0 {
			before = nil // another step
		}
	}
	final := b.span(spanFinalize, t, &root)
	if w.fails {
		final.Status, final.StatusMessage = codes.Error, "a step failed"
	}
	b.span(spanDecision, t, new(*final))
}

// execution adds an attempt that follows another one of the same step, if any.
func (b *builder) execution(t *task, root, before *otlpreceiver.Span, n int) *otlpreceiver.Span {
	span := b.span(spanExecute, t, root)
	span.Attributes["attempt"], span.Attributes["step_uuid"] = int64(1), uuid.NewString()
	if before != nil {
		span.Attributes["attempt"], span.Attributes["step_uuid"] = int64(n+1), before.Attributes["step_uuid"]
		span.Links = []otlpreceiver.Link{{
			TraceID: before.TraceID, SpanID: before.SpanID, Attributes: map[string]any{"tasker.link": "previous_dispatch"},
		}}
	}
	failed := n < t.workflow.failures
	if failed {
		span.Status, span.StatusMessage = codes.Error, "handler_error"
	}
	made := *span
	b.span(spanClaim, t, &made)
	handler := b.span(spanHandler, t, &made)
	if failed {
		handler.Status, handler.StatusMessage = codes.Error, "it failed"
	}
	return &made
}

// point adds to a metric what a catalogue's entry needs.
func (b *builder) point(name string, n int, own labels) {
	if n == 0 {
		return
	}
	entry := entryOf(name)
	m, ok := b.metrics[name]
	if !ok {
		m = otlpreceiver.Metric{
			Name: name, Kind: otlpreceiver.Kind(entry.Kind), Unit: entry.Unit, Description: entry.Help, Scope: telemetry.Scope,
			Resources: []map[string]any{resource(serverService)},
		}
	}
	p := otlpreceiver.Point{Attributes: make(map[string]any), Value: float64(n)}
	for _, label := range entry.Labels {
		if value, given := own[label]; given {
			p.Attributes[label] = value
		} else if allowed := closedSet(name, label); allowed != nil {
			p.Attributes[label] = allowed[0]
		} else if label != correlationLabel {
			p.Attributes[label] = "some " + label
		}
	}
	if entry.Kind == telemetry.KindHistogram {
		p.Value, p.Count, p.Sum, p.Bounds = 0, uint64(n), float64(n), entry.Bounds
		p.Buckets = make([]uint64, len(entry.Bounds)+1)
		p.Buckets[2] = uint64(n)
		p.Exemplars = []otlpreceiver.Exemplar{{TraceID: b.spans[0].TraceID, SpanID: b.spans[0].SpanID}}
	}
	m.Points = append(m.Points, p)
	b.metrics[name] = m
}

func entryOf(name string) *telemetry.Metric {
	catalogue := telemetry.Catalogue()
	i := slices.IndexFunc(catalogue, func(m telemetry.Metric) bool { return m.Name == name })
	return &catalogue[i]
}

// measure adds the metrics of all tasks.
func (b *builder) measure() {
	for i := range b.tasks {
		t, w := &b.tasks[i], b.tasks[i].workflow
		of := labels{"correlation_id": t.correlation.String(), "namespace": w.namespace, "task_type": w.name}
		for _, station := range stations {
			b.point(station.metric, station.times(w), of)
		}
		b.point("tasker.tasks.failures.total", w.failed(), of)
		b.point("tasker.steps.failures.total", w.failures, of)
		b.point("tasker.steps.claimed.total", w.executions, of)
		b.point("tasker.task.initialization.duration", 1, of)
		b.point("tasker.task.finalization.duration", 1, of)
		for _, name := range []string{
			"tasker.step_result.processing.duration", "tasker.step.execution.duration", "tasker.step.claim.duration",
			"tasker.step_result.submission.duration",
		} {
			b.point(name, w.executions, of)
		}
		for _, name := range []string{"sent", "received", "archived"} {
			jobs := labels{"queue": w.namespace, "correlation_id": t.correlation.String()}
			b.point("tasker.messages."+name+".total", w.executions, jobs)
			jobs["queue"] = "orchestration"
			b.point("tasker.messages."+name+".total", w.executions+1, jobs)
		}
		b.point("tasker.message.latency", 1, labels{"correlation_id": t.correlation.String()})
	}
	b.point("tasker.tasks.requests.total", 1, labels{"namespace": succeeded.namespace, "task_type": succeeded.name})
	b.point("tasker.tasks.requests.total", 1, labels{"namespace": "unknown", "task_type": "unknown"})
	b.point("tasker.messages.send_failures.total", creationsInOutage, nil)
	b.measureSystem()
}

// measureSystem adds those of the process.
func (b *builder) measureSystem() {
	for _, pool := range []string{"orchestration", "worker", "river"} {
		b.point("tasker.db.pool.checkouts.total", 1, labels{"pool": pool})
		for _, state := range []string{"idle", "active"} {
			b.point("tasker.db.pool.connections", 1, labels{"pool": pool, "state": state})
		}
	}
	for _, name := range []string{"StepClaimMany", "TaskCreateMany", "begin", "commit", "river.JobGetAvailable"} {
		b.point("tasker.sql.queries.total", 1, labels{"query_type": name, "result": "ok"})
	}
	b.point("tasker.sql.queries.total", 1, labels{"query_type": "begin", "result": "error"})
	for _, queue := range []string{"orchestration", sequence.namespace} {
		b.point("tasker.queue.depth", 1, labels{"queue": queue, "namespace": queue})
		b.point("tasker.queue.oldest_message.age", 1, labels{"queue": queue})
	}
	of := labels{"namespace": sequence.namespace, "state": "steps_in_process", "handler_type": "linear.step_4"}
	for _, name := range []string{"tasker.worker.queue.depth", "tasker.steps.ready", "tasker.tasks.active"} {
		b.point(name, 1, of)
	}
	b.point("tasker.steps.active_executions", 1, of)
	b.metrics["tasker.steps.active_executions"].Points[0].Value = 0
	var page strings.Builder
	for _, m := range telemetry.Catalogue() {
		if _, there := b.metrics[m.Name]; m.Core && !there {
			b.point(m.Name, 1, nil)
		}
		suffixes := []string{""}
		if m.Kind == telemetry.KindHistogram {
			suffixes = []string{"_bucket", "_sum", "_count"}
		}
		for _, suffix := range suffixes {
			fmt.Fprintf(&page, "\n%s{job=\"x\"} 1", m.PrometheusName()+suffix)
		}
	}
	b.page = page.String()
}

// failed are the names of the checks that do not pass.
func failed(e *evidence) map[string][]string {
	out := make(map[string][]string)
	for _, c := range examine(e.prepare(), checks()) {
		if c.Status == Failed {
			out[c.Name] = c.Problems
		}
	}
	return out
}

func names(m map[string][]string) []string { return slices.Sorted(maps.Keys(m)) }

// first is the first span of a name in a task's trace.
func (e *evidence) first(name string, t *task) *otlpreceiver.Span {
	for i := range e.spans {
		if s := &e.spans[i]; s.Name == name && s.TraceID == telemetry.TraceID(t.id) {
			return s
		}
	}
	return nil
}

// oneOf is a task of a workflow.
func (e *evidence) oneOf(w *workflow) *task {
	for i := range e.tasks {
		if e.tasks[i].workflow == w {
			return &e.tasks[i]
		}
	}
	return nil
}

// change replaces a metric.
func (e *evidence) change(name string, fn func(m *otlpreceiver.Metric)) {
	m := e.metrics[name]
	m.Points = slices.Clone(m.Points)
	for i := range m.Points {
		m.Points[i].Attributes = maps.Clone(m.Points[i].Attributes)
	}
	fn(&m)
	e.metrics[name] = m
}

// elsewhere is a trace and span of nobody.
var elsewhere = struct {
	trace trace.TraceID
	span  trace.SpanID
}{trace.TraceID{1}, trace.SpanID{1}}
