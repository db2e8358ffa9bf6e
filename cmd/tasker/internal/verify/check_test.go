package verify

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
)

func TestAHealthyRunPassesEveryCheck(t *testing.T) {
	t.Parallel()
	e := healthy(t)
	core := 0
	for _, c := range examine(e, checks()) {
		require.Equal(t, Passed, c.Status, "%s, %s: %v", c.Group, c.Name, c.Problems)
		require.NotEmpty(t, c.Value, c.Name)
		require.Contains(t, groups, c.Group)
		if isMetric(c.Name) {
			core++
		}
	}
	require.Equal(t, 39, core)
}

func TestWithoutAnOutageNothingIsAskedThatNeedsOne(t *testing.T) {
	t.Parallel()
	e := healthy(t)
	e.outage = nil
	for _, name := range needOutage {
		delete(e.metrics, name)
	}
	skipped := 0
	for _, c := range examine(e, checks()) {
		require.NotEqual(t, Failed, c.Status, "%s, %s: %v", c.Group, c.Name, c.Problems)
		if c.Status == Skipped {
			skipped++
			require.Equal(t, noOutage, c.Value)
		}
	}
	require.Equal(t, len(needOutage)+2, skipped)
}

// Each kind of fault has to be seen, and by the check that is about it.
func TestEachCheckCanFail(t *testing.T) {
	t.Parallel()
	const enqueued, execution = "tasker.steps.enqueued.total", "tasker.step.execution.duration"
	spoiled := func(name string, fn func(p *otlpreceiver.Point)) func(*evidence) {
		return func(e *evidence) { e.change(name, func(m *otlpreceiver.Metric) { fn(&m.Points[0]) }) }
	}
	without := func(name string, w *workflow) func(*evidence) {
		return func(e *evidence) {
			gone := e.first(name, e.oneOf(w))
			e.spans = slices.DeleteFunc(e.spans, func(s otlpreceiver.Span) bool { return s.SpanID == gone.SpanID })
		}
	}
	span := func(name string, w *workflow, fn func(s *otlpreceiver.Span)) func(*evidence) {
		return func(e *evidence) { fn(e.first(name, e.oneOf(w))) }
	}
	for name, test := range map[string]struct {
		spoil func(*evidence)
		// wants are checks that have to fail, with a part of what they say; others may fail with them.
		wants map[string]string
		// alone: no other check fails.
		alone bool
	}{
		"missing metric": {func(e *evidence) { delete(e.metrics, "tasker.message.latency") }, map[string]string{
			"tasker_message_latency_milliseconds": "was not exported",
		}, true},
		"wrong unit": {func(e *evidence) { e.change(enqueued, func(m *otlpreceiver.Metric) { m.Unit = "1" }) }, map[string]string{
			"tasker_steps_enqueued_total": `unit is "1", not "{step}"`,
		}, true},
		"wrong kind": {func(e *evidence) {
			e.change(enqueued, func(m *otlpreceiver.Metric) { m.Kind = otlpreceiver.KindUpDownCounter })
		}, map[string]string{
			"tasker_steps_enqueued_total": "kind is",
		}, true},
		"no description": {func(e *evidence) { e.change(enqueued, func(m *otlpreceiver.Metric) { m.Description = "" }) }, map[string]string{
			"tasker_steps_enqueued_total": "description is",
		}, true},
		"undeclared label": {spoiled(enqueued, func(p *otlpreceiver.Point) { p.Attributes["host"] = "a" }), map[string]string{
			"tasker_steps_enqueued_total": "label that is not declared: host",
		}, true},
		"missing label": {spoiled(enqueued, func(p *otlpreceiver.Point) { delete(p.Attributes, "step_name") }), map[string]string{
			"tasker_steps_enqueued_total": "label missing on some points: step_name",
		}, true},
		"value outside of a closed set": {spoiled("tasker.steps.claimed.total", func(p *otlpreceiver.Point) { p.Attributes["claim_method"] = "luck" }), map[string]string{
			"tasker_steps_claimed_total": "claim_method=luck",
		}, true},
		"no correlation ids": {func(e *evidence) {
			for name := range e.metrics {
				e.change(name, func(m *otlpreceiver.Metric) {
					for i := range m.Points {
						delete(m.Points[i].Attributes, correlationLabel)
					}
				})
			}
		}, map[string]string{
			"tasks have correlation_id on their metrics":           "only 0 of 7",
			"filtering by correlation_id gives one task's numbers": "no task has",
			"tasker_tasks_requests_total":                          "no point has correlation_id",
		}, false},
		"counter that counts nothing": {spoiled("tasker.messages.receive_failures.total", func(p *otlpreceiver.Point) { p.Value = 0 }), map[string]string{
			"tasker_messages_receive_failures_total": "nothing was counted", "every failed fetch is counted": "1 fetches that they failed, 0 are",
		}, true},
		"empty histogram": {func(e *evidence) {
			e.change("tasker.message.latency", func(m *otlpreceiver.Metric) {
				for i := range m.Points {
					m.Points[i].Count = 0
				}
			})
		}, map[string]string{"tasker_message_latency_milliseconds": "nothing was measured"}, true},
		"other buckets": {func(e *evidence) {
			e.change("tasker.message.latency", func(m *otlpreceiver.Metric) { m.Points[0].Bounds = []float64{1, 2} })
		}, map[string]string{"tasker_message_latency_milliseconds": "buckets end at"}, true},
		"buckets that do not add up": {spoiled("tasker.message.latency", func(p *otlpreceiver.Point) { p.Count++ }), map[string]string{
			"tasker_message_latency_milliseconds": "in the buckets",
		}, true},
		"negative gauge": {func(e *evidence) {
			e.change("tasker.steps.ready", func(m *otlpreceiver.Metric) { m.Points[0].Value = -1 })
		}, map[string]string{"tasker_steps_ready": "it is negative"}, true},
		"an execution that never ends": {spoiled("tasker.steps.active_executions", func(p *otlpreceiver.Point) { p.Value = 1 }), map[string]string{
			"every execution ended": "1 executions of linear.step_4 never ended",
		}, true},
		"queue that is not shown": {func(e *evidence) {
			e.change("tasker.queue.depth", func(m *otlpreceiver.Metric) { m.Points = m.Points[:1] })
		}, map[string]string{"each worked namespace and queue is shown": "tasker.queue.depth has no series"}, true},
		"overflow": {spoiled("tasker.message.latency", func(p *otlpreceiver.Point) { p.Attributes[overflowLabel] = true }), map[string]string{
			"no series overflowed (otel.metric.overflow)": "tasker.message.latency did", "tasker_message_latency_milliseconds": "not declared",
		}, true},
		"metric that nobody knows": {func(e *evidence) {
			e.metrics["tasker.surprise"] = otlpreceiver.Metric{Name: "tasker.surprise", Scope: telemetry.Scope}
		}, map[string]string{"nothing is exported that is not declared": "tasker.surprise is not in the catalogue"}, true},
		"undeclared label on an engine metric": {func(e *evidence) {
			b := &builder{evidence: e}
			b.point("tasker.commit.batch_size", 1, nil)
			e.change("tasker.commit.batch_size", func(m *otlpreceiver.Metric) { m.Points[0].Attributes["host"] = "a" })
		}, map[string]string{"nothing is exported that is not declared": "tasker.commit.batch_size: label that is not declared: host"}, true},
		"other name at /metrics": {func(e *evidence) { e.page = strings.ReplaceAll(e.page, "_milliseconds_sum", "_sum") }, map[string]string{
			"the same names at /metrics": "there is no tasker_message_latency_milliseconds_sum",
		}, true},
		"no claim by notification": {func(e *evidence) {
			e.change("tasker.steps.claimed.total", func(m *otlpreceiver.Metric) {
				for i := range m.Points {
					m.Points[i].Attributes["claim_method"] = "poll"
				}
			})
		}, map[string]string{"claims won by notification (claim_method event)": "no claim was brought"}, true},
		"pool without checkouts": {func(e *evidence) {
			e.change("tasker.db.pool.checkouts.total", func(m *otlpreceiver.Metric) { m.Points = m.Points[:2] })
		}, map[string]string{"pools orchestration, worker and river": "no checkout of pool river"}, true},
		"statements without names": {func(e *evidence) {
			e.change("tasker.sql.queries.total", func(m *otlpreceiver.Metric) { m.Points = m.Points[2:] })
		}, map[string]string{"statements by name": "no statement is called StepClaimMany"}, true},
		"message that is never archived": {spoiled("tasker.messages.archived.total", func(p *otlpreceiver.Point) { p.Value-- }), map[string]string{
			"sent = received = archived": "queue test_errors: 2 sent, 2 received, 1 archived",
		}, false},
		"refused request that is not counted": {func(e *evidence) {
			e.change("tasker.tasks.requests.total", func(m *otlpreceiver.Metric) { m.Points = m.Points[:len(m.Points)-1] })
		}, map[string]string{"a request that the database refuses is counted": "2 creations were refused, 1 are counted as requests"}, true},
		"measurement that was forgotten": {func(e *evidence) {
			e.change(execution, func(m *otlpreceiver.Metric) {
				i := slices.IndexFunc(m.Points, func(p otlpreceiver.Point) bool { return p.Attributes["namespace"] == sequence.namespace })
				m.Points[i].Count--
				m.Points[i].Buckets = slices.Clone(m.Points[i].Buckets)
				m.Points[i].Buckets[2]--
			})
		}, map[string]string{"one measurement for each event": execution}, true},
		"exemplar that leads nowhere": {spoiled(execution, func(p *otlpreceiver.Point) {
			p.Exemplars = []otlpreceiver.Exemplar{{TraceID: elsewhere.trace, SpanID: elsewhere.span}}
		}), map[string]string{"exemplars lead to traces": "which did not arrive"}, true},

		"wrong flow": {func(e *evidence) {
			e.change("tasker.step_results.processed.total", func(m *otlpreceiver.Metric) { m.Points[2].Value = 5 })
		}, map[string]string{
			"6. results processed": "is 13 for the client's tasks, not 3 × 4", "filtering by correlation_id gives one task's numbers": "is 5, not 4",
		}, false},
		"task of SQL that is not counted": {func(e *evidence) {
			e.change("tasker.tasks.completions.total", func(m *otlpreceiver.Metric) {
				m.Points = slices.DeleteFunc(m.Points, func(p otlpreceiver.Point) bool {
					return p.Attributes[correlationLabel] == e.tasks[5].correlation.String()
				})
			})
		}, map[string]string{"7. tasks completed": "is 0 for the task created by SQL, not 1"}, false},
		"failure that counts as a success": {func(e *evidence) {
			e.change("tasker.tasks.failures.total", func(m *otlpreceiver.Metric) { m.Points[0].Value = 2 })
		}, map[string]string{"failures are counted apart": "is 2, not 1"}, true},

		"missing span": {without(spanFilter, &sequence), map[string]string{
			"the whole flow is in it: eleven names, the right number of each": "has 3 spans filter_and_prepare_enqueuable_steps, not 4",
		}, true},
		"task without a trace": {func(e *evidence) {
			e.spans = slices.DeleteFunc(e.spans, func(s otlpreceiver.Span) bool { return s.TraceID == telemetry.TraceID(e.tasks[2].id) })
		}, map[string]string{"one trace for each task, its id known from the task's": "has no trace"}, false},
		"two traces of a task": {span(spanDecision, &sequence, func(s *otlpreceiver.Span) { s.TraceID = elsewhere.trace }), map[string]string{
			"one trace for each task, its id known from the task's": "has 2 traces",
			"nothing else but shared commits and refused requests":  "belongs to no task",
		}, false},
		"another trace": {func(e *evidence) {
			own := telemetry.TraceID(e.tasks[2].id)
			for i := range e.spans {
				if e.spans[i].TraceID == own {
					e.spans[i].TraceID = elsewhere.trace
				}
			}
		}, map[string]string{"one trace for each task, its id known from the task's": "not in "}, false},
		"wrong parent": {func(e *evidence) {
			t := e.oneOf(&sequence)
			e.first(spanHandler, t).ParentID = e.first(spanCreate, t).SpanID
		}, map[string]string{"each span stands under its parent": "handler_execution stands under create_and_enqueue_task_from_request, not under execute_step"}, true},
		"root under a root": {func(e *evidence) {
			t := e.oneOf(&sequence)
			e.first(spanCreate, t).ParentID = e.first(spanHandler, t).SpanID
		}, map[string]string{"each span stands under its parent": "is not the root"}, false},
		"part that is a root": {span(spanResult, &sequence, func(s *otlpreceiver.Span) { s.ParentID = [8]byte{} }), map[string]string{
			"each span stands under its parent": "handle_step_execution_result is a root",
		}, true},
		"span of another name": {span(spanDecision, &sequence, func(s *otlpreceiver.Span) { s.Name = "decide" }), map[string]string{
			"each span stands under its parent": "decide is none of the eleven",
		}, false},
		"orphan": {span(spanClaim, &sequence, func(s *otlpreceiver.Span) { s.ParentID = elsewhere.span }), map[string]string{
			"no span lacks its parent": "try_claim_step",
		}, true},
		"attribute of another task": {span(spanClaim, &sequence, func(s *otlpreceiver.Span) { s.Attributes["correlation_id"] = "x" }), map[string]string{
			"attributes: correlation_id, task_uuid, namespace, step_uuid and more": `try_claim_step has correlation_id "x"`,
		}, true},
		"span without its step": {span(spanClaim, &sequence, func(s *otlpreceiver.Span) { delete(s.Attributes, "step_uuid") }), map[string]string{
			"attributes: correlation_id, task_uuid, namespace, step_uuid and more": "try_claim_step has no step_uuid",
		}, true},
		"no status": {span(spanClaim, &sequence, func(s *otlpreceiver.Span) { s.Status = codes.Unset }), map[string]string{
			"status: ok, or error where something failed": "try_claim_step has no status",
		}, true},
		"failure that is green": {span(spanFinalize, &failing, func(s *otlpreceiver.Span) { s.Status = codes.Ok }), map[string]string{
			"status: ok, or error where something failed": "permanent_error_only: 0 spans finalize_task are errors, not 1",
		}, true},
		"success that is red": {span(spanCreate, &sequence, func(s *otlpreceiver.Span) { s.Status, s.StatusMessage = codes.Error, "x" }), map[string]string{
			"status: ok, or error where something failed": "1 spans create_and_enqueue_task_from_request are errors, not 0",
		}, true},
		"error without a word": {span(spanFinalize, &failing, func(s *otlpreceiver.Span) { s.StatusMessage = "" }), map[string]string{
			"an error says what went wrong": "finalize_task in trace",
		}, true},
		"end before the begin": {span(spanCreate, &sequence, func(s *otlpreceiver.Span) { s.End = s.Start.Add(-1) }), map[string]string{
			"no span ends before it begins, or outlives the one it is part of": "lasts from",
		}, true},
		"part that outlives the whole": {span(spanHandler, &sequence, func(s *otlpreceiver.Span) { s.End = s.End.Add(time.Second) }), map[string]string{
			"no span ends before it begins, or outlives the one it is part of": "handler_execution begins",
		}, true},
		"link to nothing": {span(spanResult, &sequence, func(s *otlpreceiver.Span) { s.Links[0].SpanID = elsewhere.span }), map[string]string{
			"links: retries to the attempt before, results to their execution": "which did not arrive",
		}, true},
		"retry without a link": {func(e *evidence) {
			for i := range e.spans {
				if e.spans[i].Attributes["attempt"] == int64(3) {
					e.spans[i].Links = nil
				}
			}
		}, map[string]string{"links: retries to the attempt before, results to their execution": "attempt 3 does not link"}, true},
		"result without a link": {span(spanResult, &sequence, func(s *otlpreceiver.Span) { s.Links = nil }), map[string]string{
			"links: retries to the attempt before, results to their execution": "handle_step_execution_result does not link",
		}, true},
		"wrong service": {span(spanCreate, &sequence, func(s *otlpreceiver.Span) { s.Resource = resource(serverService) }), map[string]string{
			"service names": `create_and_enqueue_task_from_request is of service "tasker-orchestration", not tasker-client`,
		}, true},
		"wrong version": {span(spanClaim, &sequence, func(s *otlpreceiver.Span) { s.Resource = map[string]any{"service.name": serverService} }), map[string]string{
			"service names": `of version ""`,
		}, true},
		"trace of nobody": {func(e *evidence) { (&builder{evidence: e, ids: 1 << 40}).span(spanExecute, nil, nil) }, map[string]string{
			"nothing else but shared commits and refused requests": "execute_step of trace",
		}, true},

		"task without log lines": {func(e *evidence) { e.logs = e.logs[1:] }, map[string]string{"each task has lines": "has 0 lines for 1 executions"}, true},
		"line without its id": {func(e *evidence) { e.logs[0].Body = "step failed" }, map[string]string{
			"the body has the correlation_id": `"step failed" does not have it`,
		}, true},
		"line without a trace": {func(e *evidence) { e.logs[0].TraceID = [16]byte{} }, map[string]string{
			"trace_id and span_id are those of the task's trace": "has no trace",
		}, true},
		"line in another trace": {func(e *evidence) { e.logs[0].TraceID = telemetry.TraceID(e.tasks[3].id) }, map[string]string{
			"trace_id and span_id are those of the task's trace": "which is not its task's",
		}, true},
		"line of a lost span": {func(e *evidence) { e.logs[0].SpanID = elsewhere.span }, map[string]string{
			"trace_id and span_id are those of the task's trace": "which did not arrive",
		}, true},
		"line without container": {func(e *evidence) { e.logs[0].Resource = map[string]any{"service.name": serverService} }, map[string]string{
			"service.name and container": `container ""`,
		}, true},

		"bad exit":  {func(e *evidence) { e.end.code = 1 }, map[string]string{"SIGTERM: exit code 0, in time": "exit code 1"}, true},
		"kill":      {func(e *evidence) { e.end.killed = true }, map[string]string{"SIGTERM: exit code 0, in time": "was killed"}, true},
		"slow exit": {func(e *evidence) { e.end.took = time.Minute }, map[string]string{"SIGTERM: exit code 0, in time": "longer than"}, true},
		"closed channel": {func(e *evidence) {
			e.output += "2026/11/22 09:00:00 cannot send message to batch processor as the channel is closed\n"
		}, map[string]string{"nothing on standard error about telemetry that is lost": "batch processor"}, true},
		"telemetry that is lost": {func(e *evidence) { e.warnings = `level=WARN msg="telemetry is lost at shutdown" signal=traces` }, map[string]string{
			"nothing on standard error about telemetry that is lost": "signal=traces",
		}, true},
		"export that failed": {func(e *evidence) {
			(&builder{evidence: e}).point("tasker.telemetry.export_failures.total", 2, nil)
		}, map[string]string{"no export failed": "2 exports failed"}, true},
		"last task that is not flushed": {func(e *evidence) {
			last := telemetry.TraceID(e.tasks[len(e.tasks)-1].id)
			e.spans = slices.DeleteFunc(e.spans, func(s otlpreceiver.Span) bool { return s.TraceID == last })
		}, map[string]string{"what was finished last is there: spans, metrics, log lines": "0 of its 11 spans arrived"}, false},
		"export that is not announced": {func(e *evidence) { e.output = "" }, map[string]string{
			"the server says opentelemetry_enabled=true": "it does not",
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := healthy(t)
			test.spoil(e)
			got := failed(e)
			for check, part := range test.wants {
				require.Contains(t, got, check)
				require.Contains(t, strings.Join(got[check], "\n"), part, check)
			}
			if test.alone {
				require.Len(t, got, len(test.wants), names(got))
			}
		})
	}
}

func TestQuantilesAreThoseOfPrometheus(t *testing.T) {
	t.Parallel()
	bounds := []float64{1, 2, 4}
	for name, test := range map[string]struct {
		buckets []uint64
		want    float64
	}{
		"even within a bucket":   {[]uint64{0, 10, 0, 0}, 1.95},
		"from zero in the first": {[]uint64{10, 0, 0, 0}, 0.95},
		"across buckets":         {[]uint64{90, 5, 5, 0}, 2},
		"above the last bound":   {[]uint64{0, 0, 0, 10}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := otlpreceiver.Point{Bounds: bounds, Buckets: test.buckets}
			for _, n := range test.buckets {
				p.Count += n
			}
			require.InDelta(t, test.want, quantile(0.95, &p), 1e-9)
		})
	}
}
