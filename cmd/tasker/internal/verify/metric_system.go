package verify

import (
	"maps"
	"slices"
	"strings"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// refusedRequests: whatever the database refused was asked for, has a trace, and is a job that was not sent.
func refusedRequests(e *evidence, f *finding) {
	if e.outage == nil {
		f.skip(noOutage)
		return
	}
	made, refused := 0, e.outage.refused
	for i := range e.tasks {
		if e.tasks[i].workflow == &succeeded {
			made++
		}
	}
	// Where the database was away before the template could be found, its names are not taken for granted.
	requests := e.total("tasker.tasks.requests.total", labels{"namespace": succeeded.namespace, "task_type": succeeded.name}) +
		e.total("tasker.tasks.requests.total", labels{"namespace": "unknown"}) - made
	failures, spans := e.total("tasker.messages.send_failures.total", nil), 0
	for i := range e.spans {
		if span := &e.spans[i]; e.index.owner[span.TraceID] == nil && refusedSpan(span) {
			spans++
		}
	}
	f.seenf("%d refused: %d counted as requests, %d as failures to send, %d traced", refused, requests, failures, spans)
	if refused != creationsInOutage {
		f.problemf("the database was away, and only %d of %d creations failed", refused, creationsInOutage)
	}
	for what, n := range map[string]int{"counted as requests": requests, "traced": spans} {
		if n != refused {
			f.problemf("%d creations were refused, %d are %s", refused, n, what)
		}
	}
	if failures < refused { // the server may have had others
		f.problemf("%d creations were refused, %d are counted as failures to send", refused, failures)
	}
}

// alwaysLabelled is how many tasks at once are admitted in any case.
const alwaysLabelled = 150

func admitted(e *evidence, f *finding) {
	n := 0
	for i := range e.tasks {
		if e.labelled(&e.tasks[i]) {
			n++
		}
	}
	f.seenf("%d of %d", n, len(e.tasks))
	if n < min(len(e.tasks), alwaysLabelled) {
		f.problemf("only %d of %d tasks have it", n, len(e.tasks))
	}
}

func claimMethods(e *evidence, f *finding) {
	methods := e.values("tasker.steps.claimed.total", "claim_method")
	f.seenf("%s", join(methods))
	if methods["event"] == 0 {
		f.problemf("no claim was brought by a notification")
	}
}

func nothingRuns(e *evidence, f *finding) {
	handlers := e.values("tasker.steps.active_executions", "handler_type")
	f.seenf("%d handlers", len(handlers))
	for handler, n := range handlers {
		if n != 0 {
			f.problemf("%d executions of %s never ended", n, handler)
		}
	}
	if len(handlers) == 0 {
		f.problemf("no handler is shown")
	}
}

// shownQueues: also an empty queue has a depth.
func shownQueues(e *evidence, f *finding) {
	for metric, wants := range map[string]labels{
		"tasker.queue.depth":              {"queue": sequence.namespace, "namespace": sequence.namespace},
		"tasker.queue.oldest_message.age": {"queue": "orchestration"},
		"tasker.worker.queue.depth":       {"namespace": sequence.namespace},
		"tasker.steps.ready":              {"namespace": sequence.namespace},
		"tasker.tasks.active":             {"namespace": sequence.namespace, "state": "steps_in_process"},
		"tasker.steps.active_executions":  {"namespace": sequence.namespace, "handler_type": "linear.step_4"},
	} {
		m := e.metrics[metric]
		if !slices.ContainsFunc(m.Points, func(p otlpreceiver.Point) bool { return wants.match(&p) }) {
			f.problemf("%s has no series with %s", metric, join(wants))
		}
	}
	f.seenf("%d queues", len(e.values("tasker.queue.depth", "queue")))
}

func pools(e *evidence, f *finding) {
	checkouts := e.values("tasker.db.pool.checkouts.total", "pool")
	f.seenf("checkouts: %s", join(checkouts))
	for _, pool := range []string{"orchestration", "worker", "river"} {
		if checkouts[pool] == 0 {
			f.problemf("no checkout of pool %s", pool)
		}
		m := e.metrics["tasker.db.pool.connections"]
		for _, state := range []string{"idle", "active"} {
			wants := labels{"pool": pool, "state": state}
			if !slices.ContainsFunc(m.Points, func(p otlpreceiver.Point) bool { return wants.match(&p) }) {
				f.problemf("pool %s shows no connections that are %s", pool, state)
			}
		}
	}
}

// statements: sqlc's names, River's under its own prefix, failures apart.
func statements(e *evidence, f *finding) {
	names, results := e.values("tasker.sql.queries.total", "query_type"), e.values("tasker.sql.queries.total", "result")
	f.seenf("%d names; %s", len(names), join(results))
	for _, name := range []string{"StepClaimMany", "TaskCreateMany", "begin", "commit", "river.JobGetAvailable"} {
		if names[name] == 0 {
			f.problemf("no statement is called %s", name)
		}
	}
	if e.outage != nil && results["error"] == 0 {
		f.problemf("the database was away, and no statement failed")
	}
}

// balance: nothing is under way any more, and what SQL has sent is counted too.
func balance(e *evidence, f *finding) {
	sent, received := e.values("tasker.messages.sent.total", "queue"), e.values("tasker.messages.received.total", "queue")
	archived := e.values("tasker.messages.archived.total", "queue")
	all := 0
	for _, queue := range slices.Sorted(maps.Keys(received)) {
		all += received[queue]
		if sent[queue] != received[queue] || received[queue] != archived[queue] {
			f.problemf("queue %s: %d sent, %d received, %d archived", queue, sent[queue], received[queue], archived[queue])
		}
	}
	f.seenf("%d", all)
	if len(received) < 2 || len(sent) != len(received) || len(archived) != len(received) {
		f.problemf("queues: sent to %s; received from %s; archived in %s", join(sent), join(received), join(archived))
	}
}

// failedFetches: River writes a line about each.
func failedFetches(e *evidence, f *finding) {
	if e.outage == nil {
		f.skip(noOutage)
		return
	}
	lines := strings.Count(e.output, "producer: Error fetching jobs")
	counted := e.total("tasker.messages.receive_failures.total", nil)
	f.seenf("%d counted, %d logged by River", counted, lines)
	if counted < lines {
		f.problemf("River says of %d fetches that they failed, %d are counted", lines, counted)
	}
}

// measurements: a histogram counts as often as the counter beside it.
func measurements(e *evidence, f *finding) {
	of := labels{"namespace": sequence.namespace}
	for histogram, counter := range map[string]string{
		"tasker.task.initialization.duration":    "tasker.tasks.requests.total",
		"tasker.task.finalization.duration":      "tasker.tasks.completions.total",
		"tasker.step_result.processing.duration": "tasker.step_results.processed.total",
		"tasker.step.execution.duration":         "tasker.steps.executions.total",
		"tasker.step.claim.duration":             "tasker.steps.claimed.total",
		"tasker.step_result.submission.duration": "tasker.steps.results_submitted.total",
	} {
		if measured, counted := e.total(histogram, of), e.total(counter, of); measured != counted {
			f.problemf("%s has %d measurements, %s is %d", histogram, measured, counter, counted)
		}
	}
	f.seenf("6 pairs in %s", sequence.namespace)
}

// exemplars: from a bucket one click leads to a task.
func exemplars(e *evidence, f *finding) {
	n := 0
	for _, name := range []string{"tasker.step.execution.duration", "tasker.step.claim.duration", "tasker.task.initialization.duration"} {
		m, own := e.metrics[name], 0
		for i := range m.Points {
			for _, exemplar := range m.Points[i].Exemplars {
				own++
				if e.index.byID[exemplar.SpanID] == nil {
					f.problemf("%s: an exemplar points to span %s of trace %s, which did not arrive", name, exemplar.SpanID, exemplar.TraceID)
				}
			}
		}
		if own == 0 {
			f.problemf("%s has no exemplar", name)
		}
		n += own
	}
	f.seenf("%d", n)
}

func undeclared(e *evidence, f *finding) {
	catalogue, declared := telemetry.Catalogue(), make(map[string]*telemetry.Metric)
	for i := range catalogue {
		declared[catalogue[i].Name] = &catalogue[i]
	}
	n := 0
	for _, name := range slices.Sorted(maps.Keys(e.metrics)) {
		m := e.metrics[name]
		if m.Scope != telemetry.Scope && !strings.HasPrefix(name, "tasker.") {
			continue // the runtime's
		}
		n++
		entry := declared[name]
		if entry == nil {
			f.problemf("%s is not in the catalogue", name)
			continue
		}
		if !entry.Core { // the others are checked one by one
			var own finding
			examineLabels(&m, entry, &own)
			for _, problem := range own.problems {
				f.problemf("%s: %s", name, problem)
			}
		}
	}
	f.seenf("%d metrics of %d in the catalogue", n, len(catalogue))
}

func overflow(e *evidence, f *finding) {
	series := 0
	for _, name := range slices.Sorted(maps.Keys(e.metrics)) {
		m := e.metrics[name]
		series += len(m.Points)
		for i := range m.Points {
			if m.Points[i].Attributes[overflowLabel] != nil {
				f.problemf("%s did", name)
			}
		}
	}
	f.seenf("%d series", series)
}

// pageNames: the pull way has the names that Prometheus makes of OTLP's.
func pageNames(e *evidence, f *finding) {
	n, catalogue := 0, telemetry.Catalogue()
	for i := range catalogue {
		m := &catalogue[i]
		if !m.Core || slices.Contains(needOutage, m.Name) || !e.reportedBy(m.Name, serverService) {
			continue // the page is from before the outage
		}
		suffixes := []string{""}
		if m.Kind == telemetry.KindHistogram {
			suffixes = []string{"_bucket", "_sum", "_count"}
		}
		for _, suffix := range suffixes {
			n++
			if name := m.PrometheusName() + suffix; !strings.Contains(e.page, "\n"+name+"{") {
				f.problemf("there is no %s", name)
			}
		}
	}
	f.seenf("%d names, histograms as …_milliseconds_{bucket,sum,count}", n)
	if n == 0 {
		f.problemf("the server reported nothing")
	}
}

func (e *evidence) reportedBy(metric, service string) bool {
	return slices.ContainsFunc(e.metrics[metric].Resources, func(resource map[string]any) bool {
		return text(resource, "service.name") == service
	})
}
