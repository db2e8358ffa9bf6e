package tracetest

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
)

func TestAProcessThatStopsUnderLoadHasToldAllThatItFinished(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	config := processConfig{Orchestrate: true, Work: true, Endpoint: r.receiver.Endpoint(), Ratio: 1, Pace: 5 * time.Millisecond}
	p := r.spawn(config)
	silent, _ := r.client(false, 1)
	r.create(silent, 600)
	require.Eventually(t, func() bool {
		return r.count("SELECT count(*) FROM tasker.step_attempts WHERE outcome = 'complete'") > 300
	}, 30*time.Second, 10*time.Millisecond)
	require.Less(t, p.stop(), 12*time.Second)
	done := r.count("SELECT count(*) FROM tasker.step_attempts WHERE outcome = 'complete' AND worker_id = $1", p.id)
	failed := r.count("SELECT count(*) FROM tasker.step_attempts WHERE outcome = 'error' AND worker_id = $1", p.id)
	ended := r.count("SELECT count(*) FROM tasker.tasks WHERE finished_at IS NOT NULL")
	require.Positive(t, r.count("SELECT count(*) FROM tasker.tasks WHERE finished_at IS NULL"), "it was stopped under load")
	snapshot := r.receiver.Snapshot()
	names := make(map[string]int)
	for _, span := range snapshot.Spans {
		names[span.Name]++
	}
	require.Equal(t, done+failed, names[handler])
	require.Equal(t, done+failed, names[result])
	require.Equal(t, ended, names[finalize])
	require.Equal(t, done, int(snapshot.Total("tasker.steps.successes.total", nil)))
	require.Equal(t, failed, int(snapshot.Total("tasker.steps.failures.total", nil)))
	require.Equal(t, done+failed, int(snapshot.Total("tasker.steps.results_submitted.total", nil)))
	require.Equal(t, ended, int(snapshot.Total("tasker.tasks.completions.total", nil)))
	require.NotContains(t, p.said(), "closed", "nothing is recorded after the end")
	require.NotContains(t, p.said(), "export")
}

func TestACollectorThatFailsHoldsNothingUp(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]otlpreceiver.Fault{
		"absent":    nil,
		"hanging":   otlpreceiver.Hang(),
		"refusing":  otlpreceiver.Refuse(codes.Unavailable, 0),
		"throttled": otlpreceiver.Refuse(codes.ResourceExhausted, time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			config := processConfig{Orchestrate: true, Work: true, Endpoint: r.receiver.Endpoint(), Ratio: 1}
			if fault == nil {
				config.Endpoint = "http://" + nobody(t)
			} else {
				r.receiver.SetFault(fault)
			}
			p := r.spawn(config)
			silent, _ := r.client(false, 1)
			r.create(silent, 300)
			r.drained(30 * time.Second)
			require.Less(t, p.stop(), 9*time.Second, "5 s for traces and metrics, 2 for logs")
			require.NotContains(t, p.said(), "panic")
		})
	}
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	return listener.Addr().String()
}
