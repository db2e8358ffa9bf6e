package setup

import (
	"fmt"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// Config says what a process records and where it sends it. The zero value records nothing; [Default] and [Load] make useful
// ones.
type Config struct {
	// Enabled is false to record nothing at all, whatever the rest says. Default true.
	Enabled bool
	// ServiceName is what the process is, to backends: tasker-orchestration, say. Default tasker.
	ServiceName string
	// ServiceVersion is the release that runs. Default: the version that the main module was built as.
	ServiceVersion string
	// InstanceID tells the processes of a service apart. Two with the same id would write the same series. Default random.
	InstanceID string
	// Environment is the deployment: development, test, production or another word. Default development.
	Environment string

	Traces  TraceConfig
	Metrics MetricConfig
	Logs    LogConfig
}

// TraceConfig says which traces are recorded.
type TraceConfig struct {
	// Exporter is the way out. Default none: then there are no spans.
	Exporter Exporter
	// SampleRatio is the share of traces that are recorded: all from 1 on, none up to 0. Default 1.
	SampleRatio float64
	// IgnoreParent asks the ratio also for a span that continues the trace of another process; otherwise it follows that
	// process's decision. Default false.
	IgnoreParent bool
	// MaxParentAge is how old a task may be for its spans to stand in the trace it began with. Default one hour.
	MaxParentAge time.Duration
	// Batch says how spans are collected before they are sent. Default 16,384 in the queue, 2,048 at once, every second: a
	// thousand tasks at once are 11,000 spans.
	Batch Batch
}

// MetricConfig says how metrics are reported.
type MetricConfig struct {
	// Exporter is the way out. Default none.
	Exporter Exporter
	// Interval is the time between exports. Default one minute.
	Interval time.Duration
	// Timeout bounds one export. Default 30 s.
	Timeout time.Duration
	// Prometheus has metrics read at [Providers.MetricsHandler]. With an exporter beside it, every measurement is paid for
	// twice. Default true.
	Prometheus bool
	// CorrelationLabel says which tasks have correlation_id as a label. Off keeps it on exemplars. Default bounded in
	// development and test, off anywhere else.
	CorrelationLabel telemetry.LabelMode
	// EveryExemplar offers all measurements as exemplars. Default: where OTEL_METRICS_EXEMPLAR_FILTER is always_on, as read by
	// [Load].
	EveryExemplar bool
	// CorrelationBudget is how many label sets that may add to an instrument in the life of the process. Default 4,000.
	CorrelationBudget int
}

// LogConfig says whether log records are exported.
type LogConfig struct {
	// Enabled sends log records where Exporter says, beside what the command writes itself. Default false.
	Enabled bool
	// Exporter is the way out. Default none.
	Exporter Exporter
	// Batch says how records are collected before they are sent. Default as for spans.
	Batch Batch
}

// Exporter is the way out of one signal. The headers, certificates, timeout and compression of OTLP come from the standard
// OTEL_EXPORTER_OTLP_* variables.
type Exporter struct {
	// Name is otlp, or another value of OTEL_TRACES_EXPORTER and its like: console, and prometheus for metrics. Empty or
	// none: the signal is not exported.
	Name string
	// Protocol is that of OTLP. Default grpc.
	Protocol Protocol
	// Endpoint is the URL that OTLP is sent to; for http/protobuf with the signal's path. Default http://localhost:4317, or
	// http://localhost:4318/v1/ and the signal.
	Endpoint string
}

// Batch is the size of a queue and how it is emptied. Zero and negative values are OpenTelemetry's own defaults. [Load] reads the
// variables OTEL_BSP_* and OTEL_BLRP_*; nothing else does.
type Batch struct {
	// Queue is how many items may wait; what comes when it is full is dropped.
	Queue int
	// Size is how many are sent at once, at most.
	Size int
	// Delay is how long an item waits for others.
	Delay time.Duration
	// Timeout bounds one export.
	Timeout time.Duration
}

// Protocol is a transport of OTLP.
type Protocol string

// The protocols.
const (
	// ProtocolGRPC is protobuf over gRPC.
	ProtocolGRPC Protocol = "grpc"
	// ProtocolHTTP is protobuf over HTTP.
	ProtocolHTTP Protocol = "http/protobuf"
)

// UnmarshalText reads a protocol by its name.
func (p *Protocol) UnmarshalText(text []byte) error {
	switch protocol := Protocol(text); protocol {
	case ProtocolGRPC, ProtocolHTTP:
		*p = protocol
		return nil
	}
	return fmt.Errorf("%q is not one of %s, %s", text, ProtocolGRPC, ProtocolHTTP)
}

// The values of Exporter.Name that are not left to the autoexport package.
const (
	exporterOTLP = "otlp"
	exporterNone = "none"
)

const (
	development = "development"
	test        = "test"

	defaultService = "tasker"
	defaultBudget  = 4000
)

// Default is what a process does that is told nothing: it records metrics for whoever reads them, and exports nothing.
func Default(environment string) *Config {
	batch := Batch{Queue: 16_384, Size: 2048, Delay: time.Second, Timeout: 30 * time.Second}
	c := &Config{
		Enabled: true, ServiceName: defaultService, ServiceVersion: builtVersion(), InstanceID: uuid.NewString(), Environment: environment,
		Traces: TraceConfig{SampleRatio: 1, MaxParentAge: time.Hour, Batch: batch},
		Metrics: MetricConfig{
			Interval: time.Minute, Timeout: 30 * time.Second, Prometheus: true,
			CorrelationLabel: telemetry.LabelOff, CorrelationBudget: defaultBudget,
		},
		Logs: LogConfig{Batch: batch},
	}
	if environment == development || environment == test {
		c.Metrics.CorrelationLabel = telemetry.LabelBounded
	}
	return c
}

func builtVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return strings.Trim(info.Main.Version, "()")
	}
	return "unknown"
}

// ExportTo sends all signals to one endpoint, without the paths that HTTP has for them; logs only if they are enabled.
func (c *Config) ExportTo(protocol Protocol, endpoint string) {
	for signal, exporter := range c.exporters() {
		*exporter = Exporter{Name: exporterOTLP, Protocol: protocol, Endpoint: signalEndpoint(protocol, endpoint, signal)}
	}
}

// Exports tells whether anything is sent anywhere.
func (c *Config) Exports() bool {
	return c.Enabled && (c.Traces.Exporter.on() || c.Metrics.Exporter.on() || c.Logs.on())
}

func (c *Config) exporters() map[string]*Exporter {
	return map[string]*Exporter{signalTraces: &c.Traces.Exporter, signalMetrics: &c.Metrics.Exporter, signalLogs: &c.Logs.Exporter}
}

func (e *Exporter) on() bool { return e.Name != "" && e.Name != exporterNone }

func (l *LogConfig) on() bool { return l.Enabled && l.Exporter.on() }

// signalEndpoint is where a signal goes at an endpoint for all of them.
func signalEndpoint(protocol Protocol, endpoint, signal string) string {
	switch {
	case endpoint == "" && protocol == ProtocolHTTP:
		endpoint = "http://localhost:4318"
	case endpoint == "":
		endpoint = "http://localhost:4317"
	}
	if protocol == ProtocolHTTP {
		return strings.TrimSuffix(endpoint, "/") + "/v1/" + signal
	}
	return endpoint
}

// checkEndpoint says what is wrong with a URL.
func checkEndpoint(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https"}, u.Scheme) {
		return fmt.Errorf("%q is not an http or https URL such as http://localhost:4317", text)
	}
	return nil
}
