package tracetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

// processVariable holds the configuration of a process under test.
const processVariable = "TASKER_TRACETEST_PROCESS"

const readyLine = "tracetest: ready"

// processConfig is what a process under test is told.
type processConfig struct {
	URL         string `json:"url"`
	ID          string `json:"id"`
	Orchestrate bool   `json:"orchestrate"`
	// Work makes it a worker too.
	Work bool `json:"work"`
	// Endpoint is the collector's; empty records nothing.
	Endpoint string  `json:"endpoint"`
	Ratio    float64 `json:"ratio"`
	// Pace is how long a step takes.
	Pace time.Duration `json:"pace"`
}

func TestMain(m *testing.M) {
	text := os.Getenv(processVariable)
	if text == "" {
		dbtest.Main(m, dbtest.WithMaxConnections(200))
		return
	}
	if err := runProcess(text); err != nil {
		fmt.Fprintln(os.Stderr, "tracetest: "+err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

// runProcess is a process as users run it, until SIGTERM: it ends in the order of cmd/tasker.
func runProcess(text string) error {
	var config processConfig
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return fmt.Errorf("decode configuration: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	pool, err := pgxpool.New(ctx, config.URL)
	if err != nil {
		return err
	}
	defer pool.Close()
	providers, err := watch(ctx, &config)
	if err != nil {
		return err
	}
	defer providers.Shutdown(context.WithoutCancel(ctx))
	client, err := tasker.NewClient(pool, config.client(providers.TelemetryConfig()))
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, readyLine)
	<-ctx.Done()
	return client.Stop(context.WithoutCancel(ctx))
}

func watch(ctx context.Context, config *processConfig) (*setup.Providers, error) {
	settings := setup.Default("test")
	settings.InstanceID = config.ID
	settings.ServiceName = "tasker-orchestration"
	settings.Metrics.Interval = time.Second
	settings.Metrics.Prometheus = false
	settings.Metrics.CorrelationLabel = telemetry.LabelOff // thousands of series a second are another test's subject
	settings.Traces.SampleRatio = config.Ratio
	settings.Enabled = config.Endpoint != ""
	settings.ExportTo(setup.ProtocolGRPC, config.Endpoint)
	return setup.Start(ctx, settings, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

func (c *processConfig) client(to *telemetry.Config) *tasker.Config {
	config := &tasker.Config{
		ID: c.ID, Orchestrate: c.Orchestrate, Telemetry: to, Templates: []tasker.Template{chain},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Lease:  2 * time.Second, Tick: 250 * time.Millisecond, ClaimGrace: time.Second, StopGrace: 5 * time.Second,
		Wrap: func(next tasker.HandlerFunc) tasker.HandlerFunc {
			return func(ctx context.Context, step *tasker.StepContext) (any, error) {
				pause(ctx, c.Pace)
				return next(ctx, step)
			}
		},
	}
	if c.Work {
		config.Namespaces = map[string]tasker.NamespaceConfig{"traced": {MaxWorkers: 50}}
	}
	return config
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

type input struct {
	N int `json:"n"`
}

var errFirst = errors.New("the first attempt fails")

// chain is three steps, of which the second one fails once.
var chain = tasker.Define("traced/chain", "1.0.0", func(f *tasker.Flow[input]) {
	one := tasker.Step(f, "one", func(_ context.Context, in input) (int, error) { return in.N, nil })
	two := tasker.Step1(f, "two", func(ctx context.Context, _ input, n int) (int, error) {
		if tasker.Attempt(ctx) == 1 {
			return 0, errFirst
		}
		return n + 1, nil
	}, one, tasker.Retry(20, 10*time.Millisecond))
	tasker.Step1(f, "three", func(_ context.Context, _ input, n int) (int, error) { return n + 1, nil }, two)
}, tasker.WithIdentity(tasker.IdentityAlwaysUnique))
