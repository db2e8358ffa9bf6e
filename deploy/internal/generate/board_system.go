package main

func fillWorker(b *board) {
	b.note("The first sign of too few workers is **the wait in the queue**: a step that could run, and does not. Then come the depth of "+
		"the queues and the handlers that run.", "", "A handler's failure is a result, and no failure of the worker.")
	b.row("Is there enough of them?")
	b.chart("Wait of steps in their queue, p95", "below 200 ms. Above 1 s workers are short.",
		b.quantile(0.95, "tasker.message.latency", by("queue"), `message_type="tasker_execute"`)).upTo(1000)
	b.chart("Handlers that run", "below what --workers allows for each process.", b.gauge("tasker.steps.active_executions", by("instance")))
	b.chart("Jobs that wait for the workers", "near zero, and back to it after a burst.",
		b.gauge("tasker.worker.queue.depth", by("namespace")))
	b.row("Executions")
	b.chart("Executions", "as many as steps are enqueued.", b.rate("tasker.steps.executions.total", by("namespace")))
	b.chart("Successes", "near the executions.", b.rate("tasker.steps.successes.total", by("namespace")))
	b.chart("Failures by type", "few. handler_not_found and claim_failed: none.", b.rate("tasker.steps.failures.total", by("error_type")))
	b.chart("Share of executions that failed", "below 20 %; TaskerStepFailureRatioHigh fires above.",
		b.rate("tasker.steps.failures.total", by("namespace")).
			per(b.rate("tasker.steps.executions.total", by("namespace")), unitShare)).upTo(0.2)
	b.chart("Time of handlers, p95", "what your handlers are known to take.",
		b.quantile(0.95, "tasker.step.execution.duration", by("namespace")))
	b.heatmap("Time of handlers", "the same bands as ever. A second band is a second kind of work, or a time-out.",
		b.heat("tasker.step.execution.duration"))
	b.row("Claims and results")
	b.chart("Claim, p95", "some milliseconds.", b.quantile(0.95, "tasker.step.claim.duration", by("claim_method")))
	b.chart("Share of claims by polling", "near zero: notifications bring steps. Near 1, notifications do not arrive.",
		b.rate("tasker.steps.claimed.total", by("namespace"), `claim_method="poll"`).
			per(b.rate("tasker.steps.claimed.total", by("namespace")), unitShare))
	b.chart("Storing a result, p95", "some milliseconds.", b.quantile(0.95, "tasker.step_result.submission.duration", by("result_type")))
}

func fillDatabase(b *board) {
	b.note("Times are the client's: they hold the network, and reading the rows. Compare with pg_stat_statements, which holds neither.",
		"", "Connections belong to processes, and are added up; each process has the pools orchestration, worker, river and perhaps client.")
	b.row("Statements")
	b.chart("Statements, the ten most frequent", "in proportion to steps.", b.rate("tasker.sql.queries.total", by("query_type")).top(10))
	b.chart("Statements that failed", "none. TaskerSQLErrorRatioHigh fires at 1 %.",
		b.rate("tasker.sql.queries.total", by("query_type"), `result="error"`).top(10))
	b.chart("Time of statements, p95, the ten slowest", "below 25 ms.",
		b.quantile(0.95, "tasker.sql.query.duration", by("query_type")).top(10))
	b.row("Transactions")
	b.chart("Transactions, p99", "below 100 ms. TaskerTransactionsLong fires at 1 s.",
		b.quantile(0.99, "tasker.db.transaction.duration", by("transaction_type"))).upTo(1000)
	b.chart("Share rolled back", "near zero. What only reads the gauges always rolls back, and is left out.",
		b.observed("tasker.db.transaction.duration", by("transaction_type"), `result="rollback"`, `transaction_type!="read gauges"`).
			per(b.observed("tasker.db.transaction.duration", by("transaction_type")), unitShare))
	b.chart("Transactions that ended with their connection", "none.", b.events("tasker.db.transactions.lost.total", by("pool"))).bars()
	b.row("Connections")
	b.chart("Wait for a connection, p95", "below a millisecond. TaskerDBCheckoutSlow fires at 100 ms.",
		b.quantile(0.95, "tasker.db.pool.checkout.duration", by("pool"))).upTo(100)
	b.chart("Connections asked for", "in proportion to steps.", b.rate("tasker.db.pool.checkouts.total", by("pool")))
	b.chart("Connections by state", "active well below idle and active together.", b.gauge("tasker.db.pool.connections", by("pool", "state")))
	b.chart("Share of a pool in use", "below 90 %; TaskerDBPoolSaturated pages above.",
		b.gauge("tasker.db.pool.connections", by("instance", "pool"), `state="active"`).
			per(b.gauge("tasker.db.pool.max_connections", by("instance", "pool")), unitShare)).upTo(0.9)
	b.chart("Largest size of the pools", "all processes together below max_connections of the server.",
		b.gauge("tasker.db.pool.max_connections", by("pool")))
	b.chart("Connections that failed", "none.", b.events("tasker.db.connection.errors.total", by("error_type"))).bars()
}

func fillQueues(b *board) {
	b.note("A queue is River's: one for each namespace, and `orchestration` for the orchestrators. A job carries ids, "+
		"and is one dispatch of a step.",
		"", "Look at **age** before depth: a deep queue that drains is fine, a shallow one that does not is not.")
	b.row("Are they drained?")
	b.chart("Age of the oldest job", "below a second. TaskerQueueOldestMessageOld pages at a minute.",
		b.gauge("tasker.queue.oldest_message.age", by("queue"))).upTo(60_000)
	b.chart("Depth", "near zero, and back to it after a burst.", b.gauge("tasker.queue.depth", by("queue")))
	b.chart("Time to drain", "seconds. It is the depth by what was settled in a second; without a value nothing was.",
		b.gauge("tasker.queue.depth", by("queue")).per(b.rate("tasker.messages.archived.total", by("queue")).positive(), unitSeconds))
	b.row("Jobs")
	b.chart("Sent", "as many as received. Those that SQL inserted are not in it.",
		b.rate("tasker.messages.sent.total", by("queue", "message_type")))
	b.chart("Received", "as many as sent, and those that SQL inserted.", b.rate("tasker.messages.received.total", by("queue", "message_type")))
	b.chart("Settled", "as many as received.", b.rate("tasker.messages.archived.total", by("queue")))
	b.chart("Sends that failed", "none; TaskerMessageSendFailures fires at the first.",
		b.events("tasker.messages.send_failures.total", by("queue", "error_type"))).bars().wide(12)
	b.chart("Fetches that failed", "none.", b.events("tasker.messages.receive_failures.total", by("error_type"))).bars().wide(12)
	b.row("Times")
	b.chart("Wait in the queue, p95", "below 200 ms.",
		b.quantile(0.95, "tasker.message.latency", by("queue", "message_type"))).upTo(1000).wide(12)
	b.heatmap("Wait in the queue", "a band at the bottom.", b.heat("tasker.message.latency")).wide(12)
	b.chart("Sending, p95", "some tens of milliseconds.", b.quantile(0.95, "tasker.message.send.duration", by("queue")))
	b.chart("Fetching, p95", "some tens of milliseconds.", b.quantile(0.95, "tasker.message.receive.duration", by("queue")))
	b.chart("Settling, p95", "some tens of milliseconds.", b.quantile(0.95, "tasker.message.archive.duration", by("queue")))
}

func fillReliability(b *board) {
	b.note("What is here is rare. A worker that dies leaves steps that are **reaped**, and perhaps jobs that the sweep **repairs**: that is "+
		"Tasker doing its work, and a reason to ask why the worker died.", "", "`tasker doctor` proves that nothing is broken now.")
	b.row("Lost and mended")
	b.chart("Steps taken from their worker", "none, or handed_back while processes are replaced. reaped and expired: a worker died or hung.",
		b.events("tasker.steps.lost.total", by("reason"))).bars()
	b.chart("Results that came too late", "none. They are refused: each belongs to a step that was taken away.",
		b.events("tasker.step_results.stale.total", by("namespace"))).bars()
	b.chart("Repairs of the sweep", "none.", b.events("tasker.sweep.repairs.total", by("entity"))).bars()
	b.chart("Retries dispatched", "as many as attempts failed, later by their back-off.",
		b.rate("tasker.retries.dispatched.total", nil).named("retries"))
	b.chart("Wake-ups", "ok. With errors steps are found by polling, a second later.", b.rate("tasker.notifications.total", by("result")))
	b.chart("Gauges that could not be read", "none. After two in a row the gauges have a gap. TaskerGaugesFailing fires when it goes on.",
		b.events("tasker.gauges.failures.total", nil).named("failures")).bars()
	b.row("Group commits")
	b.chart("Items in a commit, p95", "1 when idle, more under load: that is what makes it fast. 256 is the most.",
		b.quantile(0.95, "tasker.commit.batch_size", by("committer"))).wide(12)
	b.chart("Wait for a commit, p95", "below 25 ms.", b.quantile(0.95, "tasker.commit.wait.duration", by("committer"))).wide(12)
	b.telemetry()
	b.runtime()
}

// telemetry is about the telemetry itself.
func (b *board) telemetry() {
	b.row("Telemetry itself")
	b.chart("Exports that failed", "none. TaskerTelemetryExportFailures fires when they go on.",
		b.events("tasker.telemetry.export_failures.total", by("signal"))).bars()
	b.chart("Tasks with correlation_id as a label", "admitted; refused ones are counted without the label. In production nothing.",
		b.rate("tasker.telemetry.correlation_labels.total", by("decision")))
	b.chart("Metrics past their cardinality limit", "0. What comes after the limit loses all its labels.", query{
		expr: `count(count by (__name__) ` +
			`({__name__=~"tasker_.+", otel_metric_overflow="true", job=~"$job", instance=~"$instance"})) or vector(0)`,
		unit: unitCount, legend: "metrics", help: "Metrics with a series that holds what had no room.",
	}).upTo(1)
	b.chart("Spans that were lost", "none. TaskerSpansDropped fires when it goes on: with queue_full the collector is too slow, or away.",
		b.events("tasker.telemetry.spans_dropped.total", by("reason"))).bars()
}

func (b *board) runtime() {
	b.row("Go runtime")
	b.chart("Goroutines", "a level that comes back after a burst.", b.other("go_goroutine_count", "%s", by("instance")))
	b.chart("Memory", "a level that comes back after a burst.", b.other("go_memory_used_bytes", "%s", by("instance")))
	b.chart("Goal of the garbage collector", "a level.", b.other("go_memory_gc_goal_bytes", "%s", by("instance")))
	b.chart("Memory allocated", "in proportion to steps.",
		b.other("go_memory_allocated_bytes_total", "rate(%s["+window+"])", by("instance")))
}
