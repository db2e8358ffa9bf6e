package verify

import (
	"strings"
	"time"

	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

// configurationChecks are about what variables mean.
var configurationChecks = []check{
	{groupConfiguration, "metrics are exported every 60 seconds, unless told otherwise", interval},
	{groupConfiguration, "OTLP over gRPC to localhost:4317, unless told otherwise", endpoint},
	{groupConfiguration, "OTEL_TRACES_SAMPLER_ARG alone sets the ratio", sampler},
	{groupConfiguration, "TELEMETRY_ENABLED=false records nothing", disabled},
	{groupConfiguration, "correlation_id is a label in development, not in production", labelModes},
	{groupConfiguration, "the server says opentelemetry_enabled=true", announced},
}

// settings are what a process makes of variables, without files.
func (e *evidence) settings(f *finding, variables environment) *setup.Config {
	config, err := setup.Load(e.folder, "", variables.get)
	if err != nil {
		f.problemf("%v", err)
		return setup.Default("")
	}
	return config
}

func interval(e *evidence, f *finding) {
	config := e.settings(f, environment{"TELEMETRY_ENABLED": "true"})
	f.seenf("%v", config.Metrics.Interval)
	if config.Metrics.Interval != time.Minute {
		f.problemf("the interval is %v", config.Metrics.Interval)
	}
}

func endpoint(e *evidence, f *finding) {
	config := e.settings(f, environment{"TELEMETRY_ENABLED": "true"})
	for signal, exporter := range map[string]setup.Exporter{"traces": config.Traces.Exporter, "metrics": config.Metrics.Exporter} {
		if exporter.Name != "otlp" || exporter.Protocol != setup.ProtocolGRPC || exporter.Endpoint != "http://localhost:4317" {
			f.problemf("%s go by %s over %s to %s", signal, exporter.Name, exporter.Protocol, exporter.Endpoint)
		}
	}
	f.seenf("%s", config.Traces.Exporter.Endpoint)
}

func sampler(e *evidence, f *finding) {
	for argument, want := range map[string]float64{"1.0": 1, "0.1": 0.1, "0": 0} {
		config := e.settings(f, environment{"TELEMETRY_ENABLED": "true", "OTEL_TRACES_SAMPLER_ARG": argument})
		if config.Traces.SampleRatio != want || config.Traces.IgnoreParent {
			f.problemf("%s: ratio %g, parent ignored: %v", argument, config.Traces.SampleRatio, config.Traces.IgnoreParent)
		}
	}
	f.seenf("parent-based, 1.0 and 0.1 and 0")
}

func disabled(e *evidence, f *finding) {
	config := e.settings(f, environment{"TELEMETRY_ENABLED": "false", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317"})
	f.seenf("also with an endpoint")
	if config.Enabled || config.Exports() {
		f.problemf("it is enabled")
	}
}

func labelModes(_ *evidence, f *finding) {
	for environment, want := range map[string]telemetry.LabelMode{
		"development": telemetry.LabelBounded, "test": telemetry.LabelBounded, "production": telemetry.LabelOff,
	} {
		if got := setup.Default(environment).Metrics.CorrelationLabel; got != want {
			f.problemf("%s: %s", environment, got)
		}
	}
	f.seenf("bounded and off")
}

func announced(e *evidence, f *finding) {
	f.seenf("at its start")
	if !strings.Contains(e.output, "opentelemetry_enabled=true") {
		f.problemf("it does not")
	}
}
