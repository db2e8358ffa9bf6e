package verify

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAProcessIsStoppedPolitelyOrElseKilled(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script   string
		patience time.Duration
		want     ending
	}{
		"by itself": {`trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done`, time.Minute, ending{code: 3}},
		"by force":  {`trap '' TERM; echo ready; while :; do sleep 0.05; done`, 300 * time.Millisecond, ending{code: -1, killed: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := launch(t.Context(), "/bin/sh", t.TempDir(), os.Environ(), "-c", test.script)
			require.NoError(t, err)
			require.NoError(t, p.await(t.Context(), "ready"))
			end := p.stop(test.patience)
			require.Positive(t, end.took)
			end.took = 0
			require.Equal(t, test.want, end)
			require.Equal(t, "ready", p.tail())
			require.False(t, p.stop(time.Minute).killed, "a second time does nothing")
		})
	}
}

func TestAProcessThatEndsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	p, err := launch(t.Context(), "/bin/sh", t.TempDir(), nil, "-c", "echo no")
	require.NoError(t, err)
	require.ErrorContains(t, p.await(t.Context(), "ready"), `ended before it printed "ready"`)
	ctx, cancel := context.WithCancel(t.Context())
	slow, err := launch(ctx, "/bin/sh", t.TempDir(), nil, "-c", "exec sleep 600")
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, slow.await(ctx, "ready"), context.Canceled)
	slow.stop(time.Minute)
	_, err = launch(t.Context(), "/no/such/program", t.TempDir(), nil)
	require.ErrorContains(t, err, "start tasker serve")
}

func TestTheUsersSettingsDoNotLeadPastTheReceiver(t *testing.T) {
	t.Parallel()
	users := []string{
		"PATH=/bin", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://elsewhere:4317", "OTEL_METRICS_EXPORTER=none", "OTEL_SDK_DISABLED=true",
		"DEPLOYMENT_ENVIRONMENT=production", "DATABASE_URL=postgres://theirs", "OTEL_RESOURCE_ATTRIBUTES=team=a", "TELEMETRY_ENABLED=false",
	}
	ours := environmentOf(users, "http://127.0.0.1:1", "1.0")
	ours.instance("verify-1")
	require.Equal(t, environment{
		"PATH": "/bin", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "TELEMETRY_ENABLED": "true", "OTEL_LOGS_ENABLED": "true",
		"OTEL_TRACES_SAMPLER_ARG": "1.0", "OTEL_SERVICE_NAME": serverService, "OTEL_SERVICE_VERSION": "1.0",
		"DEPLOYMENT_ENVIRONMENT": "development", "OTEL_METRIC_EXPORT_INTERVAL": exportEvery, "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=verify-1",
	}, ours)
	require.Contains(t, ours.pairs(), "PATH=/bin")

	theirs := environmentOf(users, "", "1.0")
	theirs.instance("verify-1")
	require.Equal(t, "http://elsewhere:4317", theirs["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
	require.Equal(t, "team=a,service.instance.id=verify-1", theirs["OTEL_RESOURCE_ATTRIBUTES"])
	require.Equal(t, "true", theirs["TELEMETRY_ENABLED"])
	require.Empty(t, theirs["DATABASE_URL"])
}
