package promtest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// node is a YAML mapping.
type node = map[string]any

// readYAML reads a file whose keys at the top are among those known.
func readYAML(t *testing.T, path string, known ...string) node {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return parseYAML(t, path, text, known...)
}

func parseYAML(t *testing.T, name string, text []byte, known ...string) node {
	t.Helper()
	var out node
	require.NoError(t, yaml.Unmarshal(text, &out), name)
	for key := range out {
		require.True(t, slices.Contains(known, key) || strings.HasPrefix(key, "x-"), "%s: what is %s?", name, key)
	}
	return out
}

// at follows keys into mappings.
func at(t *testing.T, in any, keys ...string) any {
	t.Helper()
	for i, key := range keys {
		mapping, ok := in.(node)
		require.True(t, ok, "%s is no mapping", strings.Join(keys[:i], "."))
		require.Contains(t, mapping, key, strings.Join(keys[:i+1], "."))
		in = mapping[key]
	}
	return in
}

func TestPrometheusUnderstandsItsConfiguration(t *testing.T) {
	t.Parallel()
	c, err := config.LoadFile(root+"/deploy/prometheus/prometheus.yaml", false, promslog.NewNopLogger())
	require.NoError(t, err)
	var files []string
	for _, path := range c.RuleFiles {
		files = append(files, filepath.Base(path))
		_, err := os.Stat(path)
		require.NoError(t, err)
	}
	require.ElementsMatch(t, []string{"alerts.yaml", "recording.yaml"}, files)
	// What is promoted to a label must be one that queries may use.
	for _, attribute := range c.OTLPConfig.PromoteResourceAttributes {
		require.Contains(t, targetLabels, strings.ReplaceAll(attribute, ".", "_"))
	}
}

func TestTheCollectorsPipelinesUseWhatIsThere(t *testing.T) {
	t.Parallel()
	c := readYAML(t, root+"/deploy/otel/collector.yaml", "receivers", "processors", "exporters", "connectors", "extensions", "service")
	used := make(map[string]bool)
	pipelines := at(t, c, "service", "pipelines").(node)
	require.ElementsMatch(t, []string{"traces", "metrics", "logs"}, slices.Collect(maps.Keys(pipelines)))
	for name := range pipelines {
		for _, part := range []string{"receivers", "processors", "exporters"} {
			for _, component := range at(t, pipelines, name, part).([]any) {
				at(t, c, part, component.(string))
				used[part+" "+component.(string)] = true
			}
		}
		processors := at(t, pipelines, name, "processors").([]any)
		require.Equal(t, "memory_limiter", processors[0], "before anything is held in memory")
		require.Equal(t, "batch", processors[len(processors)-1])
	}
	for _, part := range []string{"receivers", "processors", "exporters"} {
		for component := range at(t, c, part).(node) {
			require.True(t, used[part+" "+component], "%s %s is in no pipeline", part, component)
		}
	}
}

func TestTheCollectorKeepsTracesWithErrors(t *testing.T) {
	t.Parallel()
	c := readYAML(t, root+"/deploy/otel/collector.yaml", "receivers", "processors", "exporters", "extensions", "service")
	kinds := make(map[string]node)
	for _, policy := range at(t, c, "processors", "tail_sampling", "policies").([]any) {
		kind := at(t, policy, "type").(string)
		kinds[kind] = at(t, policy, kind).(node) // each has its settings under its type's name
	}
	require.Equal(t, []any{"ERROR"}, kinds["status_code"]["status_codes"])
	require.Contains(t, kinds, "probabilistic", "without it nothing else is kept")
	require.Contains(t, at(t, c, "service", "pipelines", "traces", "processors"), "tail_sampling")
}

func TestLokiMakesContainerALabel(t *testing.T) {
	t.Parallel()
	c := readYAML(t, root+"/deploy/loki/loki-config.yaml",
		"auth_enabled", "server", "common", "schema_config", "limits_config", "ingester")
	require.Equal(t, true, at(t, c, "limits_config", "allow_structured_metadata"))
	rules := at(t, c, "limits_config", "otlp_config", "resource_attributes", "attributes_config").([]any)
	require.Contains(t, rules, node{"action": "index_label", "attributes": []any{"container"}})
}

func TestGrafanaFindsTheDashboardsAndItsDataSources(t *testing.T) {
	t.Parallel()
	c := readYAML(t, root+"/deploy/grafana/provisioning/dashboards/tasker.yaml", "apiVersion", "providers")
	provider := at(t, c, "providers").([]any)[0]
	require.Equal(t, false, at(t, provider, "allowUiUpdates"))
	require.Equal(t, "/otel-lgtm/tasker-dashboards", at(t, provider, "options", "path"), "deploy/README.md mounts them there")

	c = readYAML(t, root+"/deploy/grafana/provisioning/datasources/tasker.yaml", "apiVersion", "datasources")
	uids := make(map[string]any)
	for _, source := range at(t, c, "datasources").([]any) {
		uids[at(t, source, "uid").(string)] = at(t, source, "jsonData")
	}
	require.Equal(t, "60s", at(t, uids["prometheus"], "timeInterval"))
	exemplars := at(t, uids["prometheus"], "exemplarTraceIdDestinations").([]any)
	require.Equal(t, node{"name": "trace_id", "datasourceUid": "tempo"}, exemplars[0])
	require.Contains(t, uids, "tempo")
	require.Contains(t, uids, "loki")
}

// composeKeys may stand at the top of a compose file.
var composeKeys = []string{"name", "services", "volumes", "networks", "configs", "secrets", "include"}

func TestComposeFilesMountWhatIsThere(t *testing.T) {
	t.Parallel()
	found, err := blocks(root+"/deploy/README.md", "yaml")
	require.NoError(t, err)
	require.Len(t, found, 1)
	example := parseYAML(t, "deploy/README.md", []byte(found[0].text), composeKeys...)
	mounts(t, example)
	require.Contains(t, at(t, example, "services", "observability", "environment", "PROMETHEUS_EXTRA_ARGS"), "created-timestamp-zero-ingestion")

	mounts(t, readYAML(t, root+"/compose.yaml", composeKeys...))
}

// mounts checks the files of the repository that services see.
func mounts(t *testing.T, compose node) {
	t.Helper()
	for name, service := range at(t, compose, "services").(node) {
		volumes, _ := service.(node)["volumes"].([]any)
		for _, volume := range volumes {
			source, _, _ := strings.Cut(fmt.Sprint(volume), ":")
			if strings.HasPrefix(source, "./") {
				_, err := os.Stat(filepath.Join(root, source))
				require.NoError(t, err, "%s mounts it", name)
			}
		}
	}
}
