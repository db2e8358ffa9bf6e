package setup

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// The signals, as failures are counted by.
const (
	signalTraces  = "traces"
	signalMetrics = "metrics"
	signalLogs    = "logs"
)

const (
	// flushTimeout is what traces and metrics have to get out at the end, each; logsTimeout what logs have after them.
	flushTimeout = 5 * time.Second
	logsTimeout  = 2 * time.Second
	// failingTimeout is what a signal has whose exports fail: enough for a collector that is back, and nobody waits long for
	// one that isn't.
	failingTimeout = time.Second
)

// Providers are the running providers of a process. None of them is global: a command whose handlers use otel.Tracer passes
// them to otel.SetTracerProvider and its like.
type Providers struct {
	config                *Config
	logger                *slog.Logger
	tracers               trace.TracerProvider
	meters                *sdkmetric.MeterProvider
	loggers               *sdklog.LoggerProvider
	metricsHandler        http.Handler
	traces, metrics, logs *outlet

	failed   atomic.Pointer[func(signal string)]
	dropped  atomic.Pointer[func(reason string, spans int)]
	shutdown sync.Once
}

// Start makes the providers that a configuration asks for. No collector has to be there: what cannot be exported is warned of
// on logger, once a minute for each signal. Logger must not be one of [Providers.LogHandler].
func Start(ctx context.Context, config *Config, logger *slog.Logger) (*Providers, error) {
	p := &Providers{config: config, logger: logger}
	p.traces, p.metrics, p.logs = p.outlet(signalTraces), p.outlet(signalMetrics), p.outlet(signalLogs)
	if !config.Enabled {
		return p, nil
	}
	about, err := newResource(ctx, config)
	if err != nil {
		return nil, err
	}
	for _, start := range []func(context.Context, *resource.Resource) error{p.startTraces, p.startMetrics, p.startLogs} {
		if err := start(ctx, about); err != nil {
			p.Shutdown(ctx)
			return nil, err
		}
	}
	return p, nil
}

// TracerProvider makes tracers; ones that do nothing where traces are not exported.
func (p *Providers) TracerProvider() trace.TracerProvider {
	if p.tracers == nil {
		return tracenoop.NewTracerProvider()
	}
	return p.tracers
}

// MeterProvider makes meters; ones that do nothing where nobody reads metrics.
func (p *Providers) MeterProvider() metric.MeterProvider {
	if p.meters == nil {
		return metricnoop.NewMeterProvider()
	}
	return p.meters
}

// MetricsHandler serves the metrics to Prometheus; it is nil where that is off.
func (p *Providers) MetricsHandler() http.Handler { return p.metricsHandler }

// TelemetryConfig is what [telemetry.New] needs to record with these providers.
func (p *Providers) TelemetryConfig() *telemetry.Config {
	c := &telemetry.Config{
		CorrelationLabel: p.config.Metrics.CorrelationLabel, CorrelationBudget: p.config.Metrics.CorrelationBudget,
		EveryExemplar: p.config.Metrics.EveryExemplar, MaxParentAge: p.config.Traces.MaxParentAge, Logger: p.logger,
	}
	if p.meters != nil {
		c.MeterProvider = p.meters
	}
	if p.tracers != nil {
		c.TracerProvider = p.tracers
	}
	if !labels(c.CorrelationLabel) {
		c.CorrelationLabel = telemetry.LabelExemplars
	}
	return c
}

// OnExportFailure has f called for each export that fails, with its signal: traces, metrics or logs.
func (p *Providers) OnExportFailure(f func(signal string)) { p.failed.Store(&f) }

// OnSpansDropped has f called when spans are lost, with the reason, queue_full or export_failed, and their number.
func (p *Providers) OnSpansDropped(f func(reason string, spans int)) { p.dropped.Store(&f) }

func (p *Providers) drop(reason string, spans int) {
	if f := p.dropped.Load(); f != nil {
		(*f)(reason, spans)
	}
}

func (p *Providers) outlet(signal string) *outlet {
	return &outlet{signal: signal, logger: p.logger, aborted: make(chan struct{}), failed: func() {
		if f := p.failed.Load(); f != nil {
			(*f)(signal)
		}
	}}
}

// Shutdown sends what has not been sent, and ends the providers: traces and metrics at once, with 5 seconds for each, then logs
// with 2, so that none of them starves another. It only warns of what it could not send. End all spans before; what is
// recorded later is lost. Further calls do nothing.
func (p *Providers) Shutdown(ctx context.Context) {
	p.shutdown.Do(func() {
		var flushing sync.WaitGroup
		flushing.Go(func() { p.traces.close(ctx, p.patience(p.traces, flushTimeout)) })
		flushing.Go(func() { p.metrics.close(ctx, p.patience(p.metrics, flushTimeout)) })
		flushing.Wait()
		p.logs.close(ctx, p.patience(p.logs, logsTimeout))
	})
}

// patience is how long an outlet may take to close. One that has not sent anything yet knows no better than the others.
func (p *Providers) patience(o *outlet, most time.Duration) time.Duration {
	state := o.state()
	for _, other := range []*outlet{p.traces, p.metrics, p.logs} {
		if state == unknown {
			state = other.state()
		}
	}
	if state == failing {
		return failingTimeout
	}
	return most
}
