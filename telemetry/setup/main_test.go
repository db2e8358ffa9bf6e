package setup_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

// childVariable makes this binary a process that exports, as its environment says, instead of one that tests. Its value is the
// id of the task that it records.
const childVariable = "SETUP_TEST_CHILD"

func TestMain(m *testing.M) {
	if task := os.Getenv(childVariable); task != "" {
		if err := child(uuid.MustParse(task)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// child does what a command does.
func child(id uuid.UUID) error {
	ctx := context.Background()
	config, err := setup.Load("testdata/none", "", os.Getenv)
	if err != nil {
		return err
	}
	plain := slog.NewTextHandler(os.Stderr, nil)
	providers, err := setup.Start(ctx, config, slog.New(plain))
	if err != nil {
		return err
	}
	defer providers.Shutdown(ctx)
	recorder, err := telemetry.New(providers.TelemetryConfig())
	if err != nil {
		return err
	}
	record(ctx, recorder, newTask(id), func(ctx context.Context) {
		slog.New(providers.LogHandler(plain)).InfoContext(ctx, "step done")
	})
	return nil
}

func newTask(id uuid.UUID) *telemetry.Task {
	return &telemetry.Task{ID: id, CorrelationID: uuid.NewSHA1(id, nil), Namespace: "orders", Name: "fulfil", Steps: 1}
}

var step = telemetry.Step{ID: uuid.MustParse("01900000-0000-7000-8000-000000000001"), Name: "ship", Claim: 1, Attempt: 1, Handler: "ship"}

// record creates a task, works its step, and submits the result.
func record(ctx context.Context, recorder *telemetry.Telemetry, task *telemetry.Task, handler func(context.Context)) {
	now := time.Now()
	creation := recorder.StartCreation(ctx, task, telemetry.Carrier{}, now, false)
	creation.Count(ctx)
	creation.Stored(ctx, now.Add(time.Millisecond), "")
	work(ctx, recorder, &creation.Task, handler)
}

func work(ctx context.Context, recorder *telemetry.Telemetry, task *telemetry.Task, handler func(context.Context)) {
	now := time.Now()
	step := step
	ctx, execution := recorder.StartExecution(ctx, task, &step, &telemetry.Claim{Asked: now, Held: now, Method: telemetry.ClaimEvent})
	handler(ctx)
	execution.Succeeded(ctx)
	execution.Submitted(ctx, time.Millisecond)
}

// testBundle is a process with a collector beside it.
type testBundle struct {
	config    *setup.Config
	receiver  *otlpreceiver.Receiver
	providers *setup.Providers
	recorder  *telemetry.Telemetry
	// warnings is what the plain logger has written.
	warnings *lines
}

// start makes a bundle that exports all signals. Its Shutdown comes before the receiver's.
func start(t *testing.T, change func(*setup.Config)) *testBundle {
	t.Helper()
	b := &testBundle{config: setup.Default("test"), receiver: receive(t), warnings: &lines{}}
	b.config.Logs.Enabled = true
	b.config.ExportTo(setup.ProtocolGRPC, b.receiver.Endpoint())
	if change != nil {
		change(b.config)
	}
	b.run(t)
	return b
}

func (b *testBundle) run(t *testing.T) {
	t.Helper()
	var err error
	b.providers, err = setup.Start(t.Context(), b.config, slog.New(slog.NewTextHandler(b.warnings, nil)))
	require.NoError(t, err)
	t.Cleanup(func() { b.providers.Shutdown(context.Background()) })
	b.recorder, err = telemetry.New(b.providers.TelemetryConfig())
	require.NoError(t, err)
}

func receive(t *testing.T) *otlpreceiver.Receiver {
	t.Helper()
	receiver, err := otlpreceiver.Start(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(receiver.Stop)
	return receiver
}
