package telemetry

import (
	"slices"
	"strings"
)

// Kind is the kind of an instrument.
type Kind string

// The kinds.
const (
	// KindCounter only grows.
	KindCounter Kind = "counter"
	// KindHistogram holds a distribution.
	KindHistogram Kind = "histogram"
	// KindGauge is observed when metrics are collected.
	KindGauge Kind = "gauge"
)

// Metric is an entry of the catalogue: what one instrument is called and means. Instruments, reference page, dashboards and
// alert rules are all made from it, or checked against it.
type Metric struct {
	// Name is the instrument's name.
	Name string
	Kind Kind
	// Unit is a UCUM unit. One in braces is a word for people, and no part of the name in Prometheus.
	Unit string
	// Group is the meter's part of the system: orchestration, worker, database, messaging or engine.
	Group string
	// Labels are all that a point may have. Of them correlation_id is there only for tasks that were admitted; see [LabelMode].
	Labels []string
	// Bounds are the upper limits of a histogram's buckets, in its unit.
	Bounds []float64
	// Help says what is counted, and when.
	Help string
	// Core marks the 39 metrics that Tasker promises by name; the others may change.
	Core bool
}

// PrometheusName is the metric's name after Prometheus' default translation of OTLP, without the _bucket, _sum or _count of
// histograms.
func (m *Metric) PrometheusName() string {
	name := strings.ReplaceAll(m.Name, ".", "_")
	if m.Unit == unitMS {
		name += "_milliseconds"
	}
	if m.Kind == KindCounter && !strings.HasSuffix(name, "_total") {
		name += "_total"
	}
	return name
}

// unitMS is the unit of every duration: the metrics were named by it before there were seconds in the conventions.
const unitMS = "ms"

// The labels. One word means the same thing on every metric.
const (
	labelCorrelation = "correlation_id"
	labelNamespace   = "namespace"
	labelTaskType    = "task_type"
	labelStepName    = "step_name"
	labelHandler     = "handler_type"
	labelResult      = "result"
	labelResultType  = "result_type"
	labelErrorType   = "error_type"
	labelClaim       = "claim_method"
	labelState       = "state"
	labelFinalState  = "final_state"
	labelFrom        = "from_state"
	labelTo          = "to_state"
	labelQueue       = "queue"
	labelMessage     = "message_type"
	labelQuery       = "query_type"
	labelTransaction = "transaction_type"
	labelPool        = "pool"
	labelDecision    = "decision"
	labelCommitter   = "committer"
	labelReason      = "reason"
	labelEntity      = "entity"
	labelSignal      = "signal"
)

var (
	// durationBounds fit work: handlers, passes, hops.
	durationBounds = []float64{0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000, 60_000}
	// statementBounds fit the database.
	statementBounds = []float64{0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000}
	// lifeBounds fit whole tasks, up to a day.
	lifeBounds  = []float64{10, 25, 50, 100, 250, 1000, 5000, 15_000, 60_000, 300_000, 1_800_000, 7_200_000, 21_600_000, 86_400_000}
	batchBounds = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}
)

const (
	groupOrchestration = "orchestration"
	groupWorker        = "worker"
	groupDatabase      = "database"
	groupMessaging     = "messaging"
	groupEngine        = "engine"
)

// Catalogue returns every metric, in the order of the reference page.
func Catalogue() []Metric {
	return slices.Concat(
		group(groupOrchestration, true, orchestrationMetrics), group(groupWorker, true, workerMetrics),
		group(groupDatabase, true, databaseMetrics), group(groupMessaging, true, messagingMetrics),
		group(groupEngine, false, engineMetrics),
	)
}

func group(name string, core bool, metrics []Metric) []Metric {
	out := slices.Clone(metrics)
	for i := range out {
		out[i].Group, out[i].Core = name, core
	}
	return out
}

var orchestrationMetrics = []Metric{
	{
		Name: "tasker.tasks.requests.total", Kind: KindCounter, Unit: "{task}",
		Labels: []string{labelCorrelation, labelNamespace, labelTaskType},
		Help:   "Requests to create a task, duplicates and refused ones included. A task created by SQL is counted when it is first taken up.",
	},
	{
		Name: "tasker.tasks.completions.total", Kind: KindCounter, Unit: "{task}",
		Labels: []string{labelCorrelation, labelNamespace, labelTaskType},
		Help:   "Tasks that ended complete.",
	},
	{
		Name: "tasker.tasks.failures.total", Kind: KindCounter, Unit: "{task}",
		Labels: []string{labelCorrelation, labelNamespace, labelTaskType},
		Help:   "Tasks that ended in error.",
	},
	{
		Name: "tasker.steps.enqueued.total", Kind: KindCounter, Unit: "{step}",
		Labels: []string{labelCorrelation, labelNamespace, labelStepName},
		Help: "Steps dispatched to workers, retries included. What is dispatched again because its worker or its job was lost is in " +
			"tasker.steps.lost.total and tasker.sweep.repairs.total.",
	},
	{
		Name: "tasker.step_results.processed.total", Kind: KindCounter, Unit: "{result}",
		Labels: []string{labelCorrelation, labelNamespace, labelResultType},
		Help:   "Step results that changed their task, by result: success, error or timeout.",
	},
	{
		Name: "tasker.task.initialization.duration", Kind: KindHistogram, Unit: unitMS, Bounds: durationBounds,
		Labels: []string{labelCorrelation, labelNamespace, labelTaskType},
		Help:   "Time to create a task, from the request to the commit; for one created by SQL, from its creation until it is taken up.",
	},
	{
		Name: "tasker.task.finalization.duration", Kind: KindHistogram, Unit: unitMS, Bounds: durationBounds,
		Labels: []string{labelCorrelation, labelNamespace, labelFinalState},
		Help:   "Time of the pass that ends a task, from its decision to its commit, by the state that the task came to.",
	},
	{
		Name: "tasker.step_result.processing.duration", Kind: KindHistogram, Unit: unitMS, Bounds: durationBounds,
		Labels: []string{labelCorrelation, labelNamespace, labelResultType},
		Help:   "Time to process a step result, from its batch's begin to its commit.",
	},
	{
		Name: "tasker.tasks.active", Kind: KindGauge, Unit: "{task}", Labels: []string{labelState, labelNamespace},
		Help: "Tasks that have not ended; up to 100,000 are counted. Every process reports the same: use max, not sum.",
	},
	{
		Name: "tasker.steps.ready", Kind: KindGauge, Unit: "{step}", Labels: []string{labelNamespace},
		Help: "Steps that are dispatched and wait for a worker. Every process reports the same: use max, not sum.",
	},
	{
		Name: "tasker.task.state_transitions.total", Kind: KindCounter, Unit: "{transition}",
		Labels: []string{labelNamespace, labelFrom, labelTo},
		Help:   "State changes of tasks.",
	},
}

var workerMetrics = []Metric{
	{
		Name: "tasker.steps.executions.total", Kind: KindCounter, Unit: "{execution}",
		Labels: []string{labelCorrelation, labelNamespace, labelStepName, labelHandler},
		Help:   "Executions of steps, counted when the step is claimed.",
	},
	{
		Name: "tasker.steps.successes.total", Kind: KindCounter, Unit: "{execution}", Labels: []string{labelCorrelation, labelNamespace},
		Help: "Executions whose handler returned a result.",
	},
	{
		Name: "tasker.steps.failures.total", Kind: KindCounter, Unit: "{execution}",
		Labels: []string{labelCorrelation, labelNamespace, labelErrorType},
		Help: "Executions whose handler failed (handler_error, handler_panic, handler_timeout, invalid_result, handler_not_found), " +
			"whose claim failed (claim_failed), or whose result could not be stored (database_error).",
	},
	{
		Name: "tasker.steps.claimed.total", Kind: KindCounter, Unit: "{step}", Labels: []string{labelNamespace, labelClaim},
		Help: "Claims won, by what brought the step: event (a notification, or the step before it in the same worker) or poll.",
	},
	{
		Name: "tasker.steps.results_submitted.total", Kind: KindCounter, Unit: "{result}",
		Labels: []string{labelCorrelation, labelNamespace, labelResultType},
		Help:   "Results stored by workers.",
	},
	{
		Name: "tasker.step.execution.duration", Kind: KindHistogram, Unit: unitMS, Bounds: durationBounds,
		Labels: []string{labelCorrelation, labelNamespace, labelResult},
		Help:   "Time of the handler's whole run, by its outcome: success or error.",
	},
	{
		Name: "tasker.step.claim.duration", Kind: KindHistogram, Unit: unitMS, Bounds: durationBounds,
		Labels: []string{labelNamespace, labelClaim},
		Help:   "Time from asking for a step to holding it, claims won only.",
	},
	{
		Name: "tasker.step_result.submission.duration", Kind: KindHistogram, Unit: unitMS, Bounds: durationBounds,
		Labels: []string{labelCorrelation, labelNamespace, labelResultType},
		Help:   "Time to store a result, from the handler's end to the commit.",
	},
	{
		Name: "tasker.steps.active_executions", Kind: KindGauge, Unit: "{execution}", Labels: []string{labelNamespace, labelHandler},
		Help: "Handlers that run now in this process: sum them.",
	},
	{
		Name: "tasker.worker.queue.depth", Kind: KindGauge, Unit: "{message}", Labels: []string{labelNamespace},
		Help: "Jobs that wait in the queues that this process works. Every such process reports the same: use max, not sum.",
	},
}

var databaseMetrics = []Metric{
	{
		Name: "tasker.sql.queries.total", Kind: KindCounter, Unit: "{query}", Labels: []string{labelQuery, labelResult},
		Help: "Statements, by name and result: ok, error or canceled.",
	},
	{
		Name: "tasker.sql.query.duration", Kind: KindHistogram, Unit: unitMS, Bounds: statementBounds,
		Labels: []string{labelQuery, labelResult},
		Help:   "Time of statements as the client sees it, reading the rows included.",
	},
	{
		Name: "tasker.db.pool.checkouts.total", Kind: KindCounter, Unit: "{checkout}", Labels: []string{labelPool},
		Help: "Connections asked from a pool, those that were not given included.",
	},
	{
		Name: "tasker.db.connection.errors.total", Kind: KindCounter, Unit: "{error}", Labels: []string{labelErrorType},
		Help: "Connections that were not made or not given: timeout, connection_refused, pool_exhausted, auth, too_many, " +
			"admin_shutdown, dns, tls or other.",
	},
	{
		Name: "tasker.db.transaction.duration", Kind: KindHistogram, Unit: unitMS, Bounds: statementBounds,
		Labels: []string{labelTransaction, labelResult},
		Help:   "Time of transactions from BEGIN to their end, by name and result: commit or rollback.",
	},
	{
		Name: "tasker.db.pool.checkout.duration", Kind: KindHistogram, Unit: unitMS, Bounds: statementBounds, Labels: []string{labelPool},
		Help: "Time to get a connection from a pool, making a new one included.",
	},
	{
		Name: "tasker.db.pool.connections", Kind: KindGauge, Unit: "{connection}", Labels: []string{labelPool, labelState},
		Help: "Connections of a pool: idle, active or constructing.",
	},
}

var messagingMetrics = []Metric{
	{
		Name: "tasker.messages.sent.total", Kind: KindCounter, Unit: "{message}",
		Labels: []string{labelCorrelation, labelQueue, labelMessage},
		Help: "River jobs inserted, by queue and kind. That of a task created by SQL is counted when it is taken up; one that replaces " +
			"a lost job is in tasker.sweep.repairs.total instead.",
	},
	{
		Name: "tasker.messages.received.total", Kind: KindCounter, Unit: "{message}",
		Labels: []string{labelCorrelation, labelQueue, labelMessage},
		Help:   "River jobs taken up: fetched, or inserted as running by the process that goes on with them.",
	},
	{
		Name: "tasker.messages.archived.total", Kind: KindCounter, Unit: "{message}", Labels: []string{labelQueue},
		Help: "River jobs settled: completed or discarded.",
	},
	{
		Name: "tasker.messages.send_failures.total", Kind: KindCounter, Unit: "{failure}", Labels: []string{labelQueue, labelErrorType},
		Help: "Inserts of jobs that failed with their transaction.",
	},
	{
		Name: "tasker.messages.receive_failures.total", Kind: KindCounter, Unit: "{failure}", Labels: []string{labelQueue, labelErrorType},
		Help: "Fetches of jobs that failed.",
	},
	{
		Name: "tasker.message.latency", Kind: KindHistogram, Unit: unitMS, Bounds: durationBounds,
		Labels: []string{labelCorrelation, labelQueue, labelMessage},
		Help:   "Time of a job in its queue, from when it could be fetched until it was. Jobs that skip the queue are not in it.",
	},
	{
		Name: "tasker.message.send.duration", Kind: KindHistogram, Unit: unitMS, Bounds: statementBounds, Labels: []string{labelQueue},
		Help: "Time of the transaction that inserted jobs, once for each queue in it.",
	},
	{
		Name: "tasker.message.receive.duration", Kind: KindHistogram, Unit: unitMS, Bounds: statementBounds, Labels: []string{labelQueue},
		Help: "Time of a fetch.",
	},
	{
		Name: "tasker.message.archive.duration", Kind: KindHistogram, Unit: unitMS, Bounds: statementBounds, Labels: []string{labelQueue},
		Help: "Time of the transaction that settled jobs, once for each queue in it.",
	},
	{
		Name: "tasker.queue.depth", Kind: KindGauge, Unit: "{message}", Labels: []string{labelQueue, labelNamespace},
		Help: "Jobs that could be fetched now; up to 100,000 are counted. Every process reports the same: use max, not sum.",
	},
	{
		Name: "tasker.queue.oldest_message.age", Kind: KindGauge, Unit: unitMS, Labels: []string{labelQueue},
		Help: "How long the oldest of them waits. Every process reports the same: use max, not sum.",
	},
}

var engineMetrics = []Metric{
	{
		Name: "tasker.task.duration", Kind: KindHistogram, Unit: unitMS, Bounds: lifeBounds,
		Labels: []string{labelNamespace, labelTaskType, labelFinalState},
		Help:   "Life of a task, from its creation, or from its run_at, to its end.",
	},
	{
		Name: "tasker.steps.lost.total", Kind: KindCounter, Unit: "{step}", Labels: []string{labelReason},
		Help: "Steps taken from their worker: reaped (its lease ended), expired (it could not renew the lease in time), " +
			"handed_back (it stopped) or withdrawn (it was told: cancelled, resolved or reaped).",
	},
	{
		Name: "tasker.step_results.stale.total", Kind: KindCounter, Unit: "{result}", Labels: []string{labelNamespace},
		Help: "Results that came too late: the step was dispatched again, cancelled or resolved.",
	},
	{
		Name: "tasker.retries.dispatched.total", Kind: KindCounter, Unit: "{step}", Labels: []string{},
		Help: "Steps dispatched again when their back-off was over, or when an operator gave them new attempts.",
	},
	{
		Name: "tasker.sweep.repairs.total", Kind: KindCounter, Unit: "{repair}", Labels: []string{labelEntity},
		Help: "What the sweep mended, by entity: step, task or job. In a healthy system nothing.",
	},
	{
		Name: "tasker.commit.batch_size", Kind: KindHistogram, Unit: "{item}", Bounds: batchBounds, Labels: []string{labelCommitter},
		Help: "Items in a group commit, by committer: claim, advance or result.",
	},
	{
		Name: "tasker.commit.wait.duration", Kind: KindHistogram, Unit: unitMS, Bounds: statementBounds, Labels: []string{labelCommitter},
		Help: "Time that the first item of a group commit waited for its batch to begin.",
	},
	{
		Name: "tasker.notifications.total", Kind: KindCounter, Unit: "{notification}", Labels: []string{labelResult},
		Help: "Wake-ups sent to other processes, by result: ok or error.",
	},
	{
		Name: "tasker.db.pool.max_connections", Kind: KindGauge, Unit: "{connection}", Labels: []string{labelPool},
		Help: "How many connections a pool may have.",
	},
	{
		Name: "tasker.db.transactions.lost.total", Kind: KindCounter, Unit: "{transaction}", Labels: []string{labelPool},
		Help: "Transactions that ended with their connection.",
	},
	{
		Name: "tasker.gauges.failures.total", Kind: KindCounter, Unit: "{failure}", Labels: []string{},
		Help: "Times that the gauges could not be read from the database; what could not be read twice in a row is not shown.",
	},
	{
		Name: "tasker.telemetry.correlation_labels.total", Kind: KindCounter, Unit: "{task}", Labels: []string{labelDecision},
		Help: "Tasks whose correlation_id was admitted as a label, or refused.",
	},
	{
		Name: "tasker.telemetry.export_failures.total", Kind: KindCounter, Unit: "{failure}", Labels: []string{labelSignal},
		Help: "Exports that failed, by signal: traces, metrics or logs.",
	},
	{
		Name: "tasker.telemetry.spans_dropped.total", Kind: KindCounter, Unit: "{span}", Labels: []string{labelReason},
		Help: "Spans that were lost: queue_full (the collector is too slow, or away) or export_failed (all of a batch that it did " +
			"not take, or not all of).",
	},
}
