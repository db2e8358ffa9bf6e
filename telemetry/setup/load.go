package setup

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Load reads the configuration: what the files say, then what the environment says, which wins.
//
// The files are base/telemetry.toml and environments/<environment>/telemetry.toml in dir; those that are not there say
// nothing. An empty environment is that of DEPLOYMENT_ENVIRONMENT, else of TASKER_ENV, else development without a file of its
// own: who says nothing has no collector. getenv is [os.Getenv]:
// what the OpenTelemetry SDK reads by itself, it reads there.
//
// The variables are TELEMETRY_ENABLED, OTEL_SDK_DISABLED, DEPLOYMENT_ENVIRONMENT, OTEL_SERVICE_NAME, OTEL_SERVICE_VERSION,
// OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG, which alone implies parentbased_traceidratio,
// OTEL_LOGS_ENABLED, OTEL_{TRACES,METRICS,LOGS}_EXPORTER, and the standard OTEL_EXPORTER_OTLP_*, OTEL_BSP_*, OTEL_BLRP_* and
// OTEL_METRIC_EXPORT_*. TELEMETRY_ENABLED=true and an endpoint switch the export on.
func Load(dir, environment string, getenv func(string) string) (*Config, error) {
	v := &variables{getenv: getenv}
	named := cmp.Or(environment, v.text("DEPLOYMENT_ENVIRONMENT"), v.text("TASKER_ENV"))
	environment = cmp.Or(named, development)
	if !filepath.IsLocal(environment) || strings.ContainsAny(environment, `/\`) {
		return nil, fmt.Errorf("environment %q cannot be the name of a folder", environment)
	}
	c := Default(environment)
	f := newFile(c)
	folders := []string{"base"}
	if named != "" {
		folders = append(folders, filepath.Join("environments", named))
	}
	for _, folder := range folders {
		if err := f.read(filepath.Join(dir, folder, "telemetry.toml")); err != nil {
			return nil, err
		}
	}
	f.apply(c)
	asked := v.flag("TELEMETRY_ENABLED", &c.Enabled)
	disabled := false
	v.flag("OTEL_SDK_DISABLED", &disabled)
	c.Enabled = c.Enabled && !disabled
	if c.Enabled {
		// What is wrong with the variables of other people's SDKs is none of a process's business that records nothing.
		v.identity(c)
		v.sampler(c)
		v.exports(c, &f.Telemetry.OpenTelemetry, asked || f.Telemetry.OpenTelemetry.Enabled)
		v.batches(c)
		c.Metrics.EveryExemplar = v.text("OTEL_METRICS_EXEMPLAR_FILTER") == "always_on"
		v.check()
	}
	return c, errors.Join(v.problems...)
}

// identity reads what the process is called.
func (v *variables) identity(c *Config) {
	c.ServiceName = cmp.Or(v.text("OTEL_SERVICE_NAME"), c.ServiceName)
	c.ServiceVersion = cmp.Or(v.text("OTEL_SERVICE_VERSION"), c.ServiceVersion)
	c.Environment = cmp.Or(v.text("DEPLOYMENT_ENVIRONMENT"), c.Environment)
}

// The variables of the sampler.
const (
	samplerVariable  = "OTEL_TRACES_SAMPLER"
	samplerArgument  = "OTEL_TRACES_SAMPLER_ARG"
	parentBased      = "parentbased_"
	samplerOn        = "always_on"
	samplerOff       = "always_off"
	samplerTraceID   = "traceidratio"
	samplersExpected = "always_on, always_off, traceidratio or one of these after parentbased_"
)

func (v *variables) sampler(c *Config) {
	name, argument := strings.ToLower(v.text(samplerVariable)), v.text(samplerArgument)
	if name == "" && argument != "" {
		name = parentBased + samplerTraceID
	}
	if name == "" {
		return
	}
	kind, parent := strings.CutPrefix(name, parentBased)
	c.Traces.IgnoreParent = !parent
	switch kind {
	case samplerOn:
		c.Traces.SampleRatio = 1
	case samplerOff:
		c.Traces.SampleRatio = 0
	case samplerTraceID:
		r := ratio(1)
		if argument != "" {
			v.expect(samplerArgument, r.UnmarshalText([]byte(argument)))
		}
		c.Traces.SampleRatio = float64(r)
	default:
		v.expect(samplerVariable, fmt.Errorf("%q is not one of %s", name, samplersExpected))
	}
}

// exports reads where the signals go. on tells that they are to go anywhere.
func (v *variables) exports(c *Config, f *fileExport, on bool) {
	on = on || v.text("OTEL_EXPORTER_OTLP_ENDPOINT") != ""
	for signal, exporter := range c.exporters() {
		*exporter = v.exporter(f, signal, on)
	}
	// Who says where logs go wants them to go there.
	if v.text("OTEL_LOGS_EXPORTER") != "" || v.text("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") != "" {
		c.Logs.Enabled = c.Logs.Exporter.on()
	}
	v.flag("OTEL_LOGS_ENABLED", &c.Logs.Enabled)
}

func (v *variables) exporter(f *fileExport, signal string, on bool) Exporter {
	upper := strings.ToUpper(signal)
	endpoint := "OTEL_EXPORTER_OTLP_" + upper + "_ENDPOINT"
	own := v.text(endpoint)
	e := Exporter{Name: strings.ToLower(v.text("OTEL_" + upper + "_EXPORTER")), Protocol: cmp.Or(Protocol(f.Protocol), ProtocolGRPC)}
	switch {
	case e.Name == "" && (on || own != ""):
		e.Name = exporterOTLP
	case e.Name == "":
		e.Name = exporterNone
	case e.Name == "prometheus" && signal == signalMetrics, e.Name == "console", e.Name == exporterNone, e.Name == exporterOTLP:
	default:
		v.expect("OTEL_"+upper+"_EXPORTER", fmt.Errorf("%q is not one of otlp, console, none", e.Name))
	}
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_" + upper + "_PROTOCOL"} {
		if name := v.text(variable); name != "" {
			v.expect(variable, e.Protocol.UnmarshalText([]byte(name)))
		}
	}
	// The endpoint of all signals gets each one's path, the endpoint of one is taken as it is.
	general := v.text("OTEL_EXPORTER_OTLP_ENDPOINT")
	e.Endpoint = cmp.Or(own, signalEndpoint(e.Protocol, cmp.Or(general, string(f.Endpoint)), signal))
	if own != "" {
		v.expect(endpoint, checkEndpoint(own))
	}
	if general != "" {
		v.expect("OTEL_EXPORTER_OTLP_ENDPOINT", checkEndpoint(general))
	}
	return e
}

// batches reads how signals are collected. A batch is no larger than its queue.
func (v *variables) batches(c *Config) {
	for prefix, batch := range map[string]*Batch{"OTEL_BSP_": &c.Traces.Batch, "OTEL_BLRP_": &c.Logs.Batch} {
		v.number(prefix+"MAX_QUEUE_SIZE", &batch.Queue)
		v.number(prefix+"MAX_EXPORT_BATCH_SIZE", &batch.Size)
		v.milliseconds(prefix+"SCHEDULE_DELAY", &batch.Delay)
		v.milliseconds(prefix+"EXPORT_TIMEOUT", &batch.Timeout)
		batch.Size = min(batch.Size, batch.Queue)
	}
	v.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", &c.Metrics.Interval)
	v.milliseconds("OTEL_METRIC_EXPORT_TIMEOUT", &c.Metrics.Timeout)
}

func (v *variables) milliseconds(name string, into *time.Duration) {
	n := int(*into / time.Millisecond)
	v.number(name, &n)
	*into = time.Duration(n) * time.Millisecond
}
