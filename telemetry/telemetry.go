package telemetry

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// Scope is the name of Tasker's meter and tracer.
const Scope = "github.com/tasker-systems/tasker-go"

// Config says where measurements and spans go. The zero value is nowhere.
type Config struct {
	// MeterProvider gets the metrics. Nil: none.
	MeterProvider metric.MeterProvider
	// TracerProvider gets the spans. Nil: none. One that was made with [IDs] gives each task a trace id that is known from
	// the task's id, and links between its spans. One that is a [SpanRecorder] does so at less cost.
	TracerProvider trace.TracerProvider
	// CorrelationLabel says which tasks have correlation_id as a label of their metrics. Default: none.
	CorrelationLabel LabelMode
	// CorrelationBudget is how many label sets LabelBounded may add to one instrument in the life of this process; a task
	// takes three and one for each of its steps. Default 4000. The provider's cardinality limit must lie above it.
	CorrelationBudget int
	// EveryExemplar offers all measurements as exemplars, for a provider that takes also those of no span. Default: one a second
	// for each bucket of each series, of what sampled spans did.
	EveryExemplar bool
	// Logger is told when the budget is spent. Nil: nobody is.
	Logger *slog.Logger
	// MaxParentAge is how old a task may be for its spans to stand in the trace it began with. Later ones stand in a trace of
	// their own, linked to the first: backends neither keep traces for ever nor show long ones well. Default one hour.
	MaxParentAge time.Duration
}

const (
	defaultBudget    = 4000
	defaultParentAge = time.Hour
)

// Telemetry records what happens. A nil one records nothing.
type Telemetry struct {
	*instruments

	// Database records for pgx tracers.
	Database *Database
	// Gauges are read from the database now and then.
	Gauges *Gauges

	tracers trace.TracerProvider
	tracer  trace.Tracer
	// recorder is the provider, where it is one; else nil.
	recorder          SpanRecorder
	tracing, counting bool
	// derived tells that the provider gives spans the ids that are wanted, as one with [IDs] does.
	derived atomic.Bool
	gate    *gate
	maxAge  time.Duration
}

// New makes the instruments. The error names one that the provider refused.
func New(config *Config) (*Telemetry, error) {
	if config == nil {
		config = &Config{}
	}
	meters, tracers := config.MeterProvider, config.TracerProvider
	if meters == nil {
		meters = metricnoop.NewMeterProvider()
	}
	if tracers == nil {
		tracers = tracenoop.NewTracerProvider()
	}
	_, untraced := tracers.(tracenoop.TracerProvider)
	_, uncounted := meters.(metricnoop.MeterProvider)
	t := &Telemetry{tracers: tracers, tracer: tracers.Tracer(Scope), tracing: !untraced, counting: !uncounted, maxAge: config.MaxParentAge}
	if recorder, ok := tracers.(SpanRecorder); ok {
		t.recorder = recorder
		t.derived.Store(true)
	}
	if t.maxAge <= 0 {
		t.maxAge = defaultParentAge
	}
	f := newFactory(meters, config.EveryExemplar)
	t.instruments = newInstruments(f)
	t.Database = newDatabase(f)
	t.Gauges = newGauges(f)
	if f.err != nil {
		return nil, fmt.Errorf("make instruments: %w", f.err)
	}
	if unused := f.unused(); len(unused) > 0 {
		return nil, fmt.Errorf("make instruments: nothing records %s", strings.Join(unused, ", "))
	}
	t.gate = newGate(config, t.correlationLabels)
	return t, nil
}

// instruments are those that are recorded here; see the catalogue for what each means.
type instruments struct {
	taskRequests, taskCompletions, taskFailures, stepsEnqueued, resultsProcessed, taskTransitions *counter
	initialization, finalization, processing, taskDuration                                        *histogram

	executions, successes, failures, claimed, submitted *counter
	execution, claim, submission                        *histogram

	sent, received, archived                     *counter
	sendFailures, receiveFailures                *counter
	latency, sendTime, receiveTime, archiveTime  *histogram
	lost, stale, retries, repairs, notifications *counter
	batchSize, batchWait                         *histogram
	correlationLabels                            *counter
	exportFailures, spansDropped                 *counter
}

func newInstruments(f *factory) *instruments {
	return &instruments{
		taskRequests:     f.counter("tasker.tasks.requests.total"),
		taskCompletions:  f.counter("tasker.tasks.completions.total"),
		taskFailures:     f.counter("tasker.tasks.failures.total"),
		stepsEnqueued:    f.counter("tasker.steps.enqueued.total"),
		resultsProcessed: f.counter("tasker.step_results.processed.total"),
		taskTransitions:  f.counter("tasker.task.state_transitions.total"),
		initialization:   f.histogram("tasker.task.initialization.duration"),
		finalization:     f.histogram("tasker.task.finalization.duration"),
		processing:       f.histogram("tasker.step_result.processing.duration"),
		taskDuration:     f.histogram("tasker.task.duration"),

		executions: f.counter("tasker.steps.executions.total"),
		successes:  f.counter("tasker.steps.successes.total"),
		failures:   f.counter("tasker.steps.failures.total"),
		claimed:    f.counter("tasker.steps.claimed.total"),
		submitted:  f.counter("tasker.steps.results_submitted.total"),
		execution:  f.histogram("tasker.step.execution.duration"),
		claim:      f.histogram("tasker.step.claim.duration"),
		submission: f.histogram("tasker.step_result.submission.duration"),

		sent:            f.counter("tasker.messages.sent.total"),
		received:        f.counter("tasker.messages.received.total"),
		archived:        f.counter("tasker.messages.archived.total"),
		sendFailures:    f.counter("tasker.messages.send_failures.total"),
		receiveFailures: f.counter("tasker.messages.receive_failures.total"),
		latency:         f.histogram("tasker.message.latency"),
		sendTime:        f.histogram("tasker.message.send.duration"),
		receiveTime:     f.histogram("tasker.message.receive.duration"),
		archiveTime:     f.histogram("tasker.message.archive.duration"),

		lost:              f.counter("tasker.steps.lost.total"),
		stale:             f.counter("tasker.step_results.stale.total"),
		retries:           f.counter("tasker.retries.dispatched.total"),
		repairs:           f.counter("tasker.sweep.repairs.total"),
		notifications:     f.counter("tasker.notifications.total"),
		batchSize:         f.histogram("tasker.commit.batch_size"),
		batchWait:         f.histogram("tasker.commit.wait.duration"),
		correlationLabels: f.counter("tasker.telemetry.correlation_labels.total"),
		exportFailures:    f.counter("tasker.telemetry.export_failures.total"),
		spansDropped:      f.counter("tasker.telemetry.spans_dropped.total"),
	}
}
