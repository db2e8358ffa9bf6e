package setup_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

// env is an environment.
func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

// write makes a folder with configuration files, by path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, text := range files {
		full := filepath.Join(dir, filepath.FromSlash(path))
		require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o700))
		require.NoError(t, os.WriteFile(full, []byte(text), 0o600))
	}
	return dir
}

func TestAFreshMachineRecordsMetricsAndExportsNothing(t *testing.T) {
	t.Parallel()
	c, err := setup.Load(t.TempDir(), "", env(nil))
	require.NoError(t, err)
	assert.True(t, c.Enabled)
	assert.True(t, c.Metrics.Prometheus)
	assert.False(t, c.Exports())
	assert.Equal(t, "tasker", c.ServiceName)
	assert.Equal(t, "development", c.Environment)
	assert.NotEmpty(t, c.ServiceVersion)
	assert.InDelta(t, 1, c.Traces.SampleRatio, 0)
	assert.Equal(t, time.Hour, c.Traces.MaxParentAge)
	assert.Equal(t, setup.Batch{Queue: 16384, Size: 2048, Delay: time.Second, Timeout: 30 * time.Second}, c.Traces.Batch)
	assert.Equal(t, time.Minute, c.Metrics.Interval)
	assert.Equal(t, 4000, c.Metrics.CorrelationBudget)

	other, err := setup.Load(t.TempDir(), "", env(nil))
	require.NoError(t, err)
	assert.NotEqual(t, c.InstanceID, other.InstanceID, "two processes must not write the same series")
}

func TestOnlyDevelopmentAndTestLabelMetricsWithTasks(t *testing.T) {
	t.Parallel()
	for environment, want := range map[string]telemetry.LabelMode{
		"": telemetry.LabelBounded, "development": telemetry.LabelBounded, "test": telemetry.LabelBounded,
		"production": telemetry.LabelOff, "staging": telemetry.LabelOff,
	} {
		c, err := setup.Load(t.TempDir(), environment, env(nil))
		require.NoError(t, err)
		assert.Equal(t, want, c.Metrics.CorrelationLabel, environment)
	}
}

func TestEachVariableIsObeyed(t *testing.T) {
	t.Parallel()
	grpc := func(endpoint string) setup.Exporter {
		return setup.Exporter{Name: "otlp", Protocol: setup.ProtocolGRPC, Endpoint: endpoint}
	}
	http := func(endpoint string) setup.Exporter {
		return setup.Exporter{Name: "otlp", Protocol: setup.ProtocolHTTP, Endpoint: endpoint}
	}
	const local, collector = "http://localhost:4317", "https://collector:9999"
	for name, test := range map[string]struct {
		env   map[string]string
		check func(*testing.T, *setup.Config)
	}{
		"telemetry on is export on": {map[string]string{"TELEMETRY_ENABLED": "true"}, func(t *testing.T, c *setup.Config) {
			assert.Equal(t, grpc(local), c.Traces.Exporter)
			assert.Equal(t, grpc(local), c.Metrics.Exporter)
			assert.False(t, c.Logs.Enabled)
		}},
		"telemetry off is all off": {
			map[string]string{"TELEMETRY_ENABLED": "false", "OTEL_EXPORTER_OTLP_ENDPOINT": local},
			func(t *testing.T, c *setup.Config) { assert.False(t, c.Enabled); assert.False(t, c.Exports()) },
		},
		"the SDK's switch": {
			map[string]string{"TELEMETRY_ENABLED": "true", "OTEL_SDK_DISABLED": "TRUE"},
			func(t *testing.T, c *setup.Config) { assert.False(t, c.Enabled) },
		},
		"nothing is wrong while nothing is recorded": {
			map[string]string{"TELEMETRY_ENABLED": "false", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
			func(t *testing.T, c *setup.Config) { assert.False(t, c.Enabled) },
		},
		"service name": {map[string]string{"OTEL_SERVICE_NAME": "tasker-orchestration"}, func(t *testing.T, c *setup.Config) {
			assert.Equal(t, "tasker-orchestration", c.ServiceName)
		}},
		"service version": {map[string]string{"OTEL_SERVICE_VERSION": "0.1.0"}, func(t *testing.T, c *setup.Config) {
			assert.Equal(t, "0.1.0", c.ServiceVersion)
		}},
		"environment": {map[string]string{"DEPLOYMENT_ENVIRONMENT": "production"}, func(t *testing.T, c *setup.Config) {
			assert.Equal(t, "production", c.Environment)
			assert.Equal(t, telemetry.LabelOff, c.Metrics.CorrelationLabel)
		}},
		"environment of tasker": {map[string]string{"TASKER_ENV": "test"}, func(t *testing.T, c *setup.Config) {
			assert.Equal(t, "test", c.Environment)
		}},
		"a ratio alone": {map[string]string{"OTEL_TRACES_SAMPLER_ARG": "0.1"}, func(t *testing.T, c *setup.Config) {
			assert.InDelta(t, 0.1, c.Traces.SampleRatio, 0)
			assert.False(t, c.Traces.IgnoreParent)
		}},
		"a ratio above 1 is all": {map[string]string{"OTEL_TRACES_SAMPLER_ARG": "1.5"}, func(t *testing.T, c *setup.Config) {
			assert.InDelta(t, 1, c.Traces.SampleRatio, 0)
		}},
		"a ratio below 0 is none": {map[string]string{"OTEL_TRACES_SAMPLER_ARG": "-1"}, func(t *testing.T, c *setup.Config) {
			assert.InDelta(t, 0, c.Traces.SampleRatio, 0)
		}},
		"ratio without parents": {
			map[string]string{"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"},
			func(t *testing.T, c *setup.Config) {
				assert.InDelta(t, 0.5, c.Traces.SampleRatio, 0)
				assert.True(t, c.Traces.IgnoreParent)
			},
		},
		"never": {map[string]string{"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, func(t *testing.T, c *setup.Config) {
			assert.InDelta(t, 0, c.Traces.SampleRatio, 0)
			assert.False(t, c.Traces.IgnoreParent)
		}},
		"always": {
			map[string]string{"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
			func(t *testing.T, c *setup.Config) {
				assert.InDelta(t, 1, c.Traces.SampleRatio, 0)
				assert.True(t, c.Traces.IgnoreParent)
			},
		},
		"logs with the rest": {
			map[string]string{"OTEL_LOGS_ENABLED": "true", "TELEMETRY_ENABLED": "true"},
			func(t *testing.T, c *setup.Config) {
				assert.True(t, c.Logs.Enabled)
				assert.Equal(t, grpc(local), c.Logs.Exporter)
			},
		},
		"logs alone go nowhere": {map[string]string{"OTEL_LOGS_ENABLED": "true"}, func(t *testing.T, c *setup.Config) {
			assert.False(t, c.Exports())
		}},
		"an endpoint for logs switches them on": {
			map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": collector},
			func(t *testing.T, c *setup.Config) {
				assert.True(t, c.Logs.Enabled)
				assert.Equal(t, grpc(collector), c.Logs.Exporter)
				assert.Equal(t, "none", c.Traces.Exporter.Name)
			},
		},
		"an endpoint switches the export on": {
			map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector},
			func(t *testing.T, c *setup.Config) {
				assert.Equal(t, grpc(collector), c.Traces.Exporter)
				assert.Equal(t, grpc(collector), c.Metrics.Exporter)
			},
		},
		"HTTP adds paths": {
			map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector + "/otlp/", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
			func(t *testing.T, c *setup.Config) {
				assert.Equal(t, http(collector+"/otlp/v1/traces"), c.Traces.Exporter)
				assert.Equal(t, http(collector+"/otlp/v1/metrics"), c.Metrics.Exporter)
			},
		},
		"HTTP has its own port": {
			map[string]string{"TELEMETRY_ENABLED": "true", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
			func(t *testing.T, c *setup.Config) {
				assert.Equal(t, http("http://localhost:4318/v1/traces"), c.Traces.Exporter)
			},
		},
		"one signal elsewhere": {
			map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": local, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": collector + "/m",
				"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
			},
			func(t *testing.T, c *setup.Config) {
				assert.Equal(t, grpc(local), c.Traces.Exporter)
				assert.Equal(t, http(collector+"/m"), c.Metrics.Exporter)
			},
		},
		"one signal nowhere": {
			map[string]string{"TELEMETRY_ENABLED": "true", "OTEL_METRICS_EXPORTER": "none"},
			func(t *testing.T, c *setup.Config) {
				assert.Equal(t, "otlp", c.Traces.Exporter.Name)
				assert.Equal(t, "none", c.Metrics.Exporter.Name)
			},
		},
		"one signal on the console": {map[string]string{"OTEL_TRACES_EXPORTER": "console"}, func(t *testing.T, c *setup.Config) {
			assert.Equal(t, "console", c.Traces.Exporter.Name)
			assert.Equal(t, "none", c.Metrics.Exporter.Name)
		}},
		"batches": {
			map[string]string{
				"OTEL_BSP_MAX_QUEUE_SIZE": "1000", "OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_BSP_EXPORT_TIMEOUT": "3000",
				"OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "10", "OTEL_METRIC_EXPORT_INTERVAL": "15000", "OTEL_METRIC_EXPORT_TIMEOUT": "1000",
			},
			func(t *testing.T, c *setup.Config) {
				assert.Equal(t, setup.Batch{Queue: 1000, Size: 1000, Delay: 200 * time.Millisecond, Timeout: 3 * time.Second}, c.Traces.Batch)
				assert.Equal(t, 10, c.Logs.Batch.Size)
				assert.Equal(t, 15*time.Second, c.Metrics.Interval)
				assert.Equal(t, time.Second, c.Metrics.Timeout)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := setup.Load(t.TempDir(), "", env(test.env))
			require.NoError(t, err)
			test.check(t, c)
		})
	}
}

func TestWhatIsWrongWithAVariableIsSaid(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ value, want string }{
		"TELEMETRY_ENABLED":                                 {"maybe", `"maybe" is neither true nor false`},
		"OTEL_SDK_DISABLED":                                 {"2", `"2" is neither true nor false`},
		"OTEL_LOGS_ENABLED":                                 {"si", `"si" is neither true nor false`},
		"OTEL_TRACES_SAMPLER":                               {"jaeger_remote", `"jaeger_remote" is not one of always_on, always_off, traceidratio`},
		"OTEL_TRACES_SAMPLER_ARG":                           {"ten", `"ten" is not a number`},
		"OTEL_EXPORTER_OTLP_ENDPOINT":                       {"localhost:4317", `is not an http or https URL such as http://localhost:4317`},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":                {"ftp://host", `is not an http or https URL`},
		"OTEL_EXPORTER_OTLP_PROTOCOL":                       {"http/json", `"http/json" is not one of grpc, http/protobuf`},
		"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL":               {"udp", `"udp" is not one of grpc, http/protobuf`},
		"OTEL_TRACES_EXPORTER":                              {"zipkin", `"zipkin" is not one of otlp, console, none`},
		"OTEL_LOGS_EXPORTER":                                {"prometheus", `"prometheus" is not one of otlp, console, none`},
		"OTEL_EXPORTER_OTLP_TIMEOUT":                        {"10s", `"10s" is not a positive number`},
		"OTEL_EXPORTER_OTLP_HEADERS":                        {"a=b,secret", `entry 2 is not of the form key=value`},
		"OTEL_EXPORTER_OTLP_LOGS_COMPRESSION":               {"zstd", `"zstd" is not one of gzip, none`},
		"OTEL_EXPORTER_OTLP_CERTIFICATE":                    {"/not/there", `no such file or directory`},
		"OTEL_RESOURCE_ATTRIBUTES":                          {"region", `entry 1 is not of the form key=value`},
		"OTEL_BSP_MAX_QUEUE_SIZE":                           {"0", `"0" is not a positive number`},
		"OTEL_BLRP_SCHEDULE_DELAY":                          {"soon", `"soon" is not a positive number`},
		"OTEL_METRIC_EXPORT_INTERVAL":                       {"-5", `"-5" is not a positive number`},
		"OTEL_METRICS_EXEMPLAR_FILTER":                      {"some", `"some" is not one of trace_based, always_on, always_off`},
		"DEPLOYMENT_ENVIRONMENT":                            {"../secrets", `environment "../secrets" cannot be the name of a folder`},
		"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": {"both", `"both" is not one of cumulative, delta, lowmemory`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := setup.Load(t.TempDir(), "", env(map[string]string{name: test.value}))
			require.ErrorContains(t, err, test.want)
			if name != "DEPLOYMENT_ENVIRONMENT" {
				require.ErrorContains(t, err, name+": ")
			}
			assert.NotContains(t, err.Error(), "secret,", "headers are not to be shown")
		})
	}

	t.Run("all of it at once", func(t *testing.T) {
		t.Parallel()
		_, err := setup.Load(t.TempDir(), "", env(map[string]string{"OTEL_TRACES_SAMPLER_ARG": "x", "OTEL_BSP_SCHEDULE_DELAY": "y"}))
		require.ErrorContains(t, err, "OTEL_TRACES_SAMPLER_ARG")
		require.ErrorContains(t, err, "OTEL_BSP_SCHEDULE_DELAY")
	})
}

func TestTheEnvironmentsFileLiesOverTheBaseAndVariablesOverBoth(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{
		"base/telemetry.toml": `
[telemetry]
service_name = "base"
sample_rate = 1
[telemetry.opentelemetry]
protocol = "http/protobuf"
endpoint = "http://base:1"
[telemetry.metrics]
correlation_id_budget = 1_000
prometheus = false`,
		"environments/blue/telemetry.toml": `
telemetry.service_name = "blue"
telemetry.opentelemetry.enabled = true
telemetry.metrics.correlation_id_label = "all"
telemetry.traces.max_parent_age = "30m"
telemetry.logs.enabled = true`,
	})

	c, err := setup.Load(dir, "blue", env(nil))
	require.NoError(t, err)
	assert.Equal(t, "blue", c.ServiceName)
	assert.Equal(t, "blue", c.Environment)
	assert.Equal(t, "http://base:1/v1/traces", c.Traces.Exporter.Endpoint)
	assert.Equal(t, "http://base:1/v1/logs", c.Logs.Exporter.Endpoint)
	assert.Equal(t, telemetry.LabelAll, c.Metrics.CorrelationLabel)
	assert.Equal(t, 1000, c.Metrics.CorrelationBudget)
	assert.False(t, c.Metrics.Prometheus)
	assert.Equal(t, 30*time.Minute, c.Traces.MaxParentAge)
	assert.True(t, c.Logs.Enabled)

	c, err = setup.Load(dir, "blue", env(map[string]string{
		"OTEL_SERVICE_NAME": "mine", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_LOGS_ENABLED": "false", "DEPLOYMENT_ENVIRONMENT": "eu-1",
		"OTEL_TRACES_SAMPLER_ARG": "0.25",
	}))
	require.NoError(t, err)
	assert.Equal(t, "mine", c.ServiceName)
	assert.Equal(t, "eu-1", c.Environment, "the deployment's name is not always that of its files")
	assert.Equal(t, setup.Exporter{Name: "otlp", Protocol: setup.ProtocolGRPC, Endpoint: "http://base:1"}, c.Traces.Exporter)
	assert.False(t, c.Logs.Enabled)
	assert.InDelta(t, 0.25, c.Traces.SampleRatio, 0)
}

func TestWhatIsWrongWithAFileIsSaidWithItsLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"a misspelt key": {
			"[telemetry]\n\n[telemetry.metrics]\ncorelation_id_lable = \"off\"\n",
			"telemetry.toml:4: there is no key telemetry.metrics.corelation_id_lable; the nearest is telemetry.metrics.correlation_id_label",
		},
		"a misspelt table": {
			"[telemetry.open_telemetry]\nenabled = true\n",
			"telemetry.toml:1: there is no key telemetry.open_telemetry; the nearest is telemetry.opentelemetry",
		},
		"a key in the wrong place": {
			"telemetry.max_parent_age = \"1h\"\n", "the nearest is telemetry.traces.max_parent_age",
		},
		"a wrong type":     {"[telemetry]\nenabled = \"yes\"\n", "telemetry.toml:2: "},
		"a wrong mode":     {"telemetry.metrics.correlation_id_label = \"some\"", `telemetry.toml:1: "some" is not one of off, bounded, all`},
		"a wrong number":   {"\ntelemetry.metrics.correlation_id_budget = -4", `telemetry.toml:2: "-4" is not a positive number`},
		"a wrong share":    {"telemetry.sample_rate = \"much\"", `telemetry.toml:1: "much" is not a number`},
		"no number at all": {"telemetry.sample_rate = nan", `telemetry.toml:1: "nan" is not a number`},
		"a wrong duration": {"telemetry.traces.max_parent_age = \"1 hour\"", `"1 hour" is not a duration such as 1h or 90s`},
		"a wrong endpoint": {"telemetry.opentelemetry.endpoint = \"collector:4317\"", `telemetry.toml:1: "collector:4317" is not an http`},
		"a wrong protocol": {"telemetry.opentelemetry.protocol = \"thrift\"", `telemetry.toml:1: "thrift" is not one of grpc, http/protobuf`},
		"no TOML":          {"[telemetry]\nenabled: true\n", "telemetry.toml:2: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := write(t, map[string]string{"base/telemetry.toml": test.text})
			_, err := setup.Load(dir, "", env(nil))
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, dir)
		})
	}
}

func TestTheFilesOfThisRepositoryAreSound(t *testing.T) {
	t.Parallel()
	exports := map[string]bool{"development": true, "test": false, "production": false}
	for _, environment := range slices.Sorted(maps.Keys(exports)) {
		c, err := setup.Load("../../config/tasker", environment, env(nil))
		require.NoError(t, err)
		assert.True(t, c.Enabled)
		assert.True(t, c.Metrics.Prometheus)
		assert.Equal(t, exports[environment], c.Exports(), environment)
		assert.Equal(t, setup.Default(environment).Metrics.CorrelationLabel, c.Metrics.CorrelationLabel)
	}
}
