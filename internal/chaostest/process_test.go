//go:build linux

package chaostest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tasker-systems/tasker-go"
)

const (
	roleVariable   = "TASKER_CHAOS_ROLE"
	configVariable = "TASKER_CHAOS_CONFIG"
	namespace      = "chaos"
	callable       = "chaos.step"
	// readyLine is what a process prints once it takes part.
	readyLine = "chaos: ready"
	// raceExit is how the race detector's exit shows.
	raceExit = 66
)

// The profile "fast": everything that the engine waits for, as short as it may be.
const (
	lease      = 2 * time.Second
	tick       = 250 * time.Millisecond
	claimGrace = time.Second
)

// The roles of processes.
const (
	orchestrator = "orchestrator"
	worker       = "worker"
	both         = "both"
)

// processConfig is what the test tells a process.
type processConfig struct {
	ID        string        `json:"id"`
	Role      string        `json:"role"`
	URL       string        `json:"url"`
	Ledger    string        `json:"ledger"`
	MaxLosses int           `json:"max_losses"`
	Slots     int           `json:"slots"`
	StopGrace time.Duration `json:"stop_grace"`
	Lease     time.Duration `json:"lease"`
	// Mortal processes may end by themselves.
	Mortal bool `json:"-"`
}

// runProcess is the process under test: a client as users run it, until SIGTERM.
func runProcess(text string) error {
	var config processConfig
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return fmt.Errorf("decode %s: %w", configVariable, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	pool, err := pgxpool.New(ctx, config.URL)
	if err != nil {
		return err
	}
	defer pool.Close()
	outside, err := pgxpool.New(ctx, config.Ledger)
	if err != nil {
		return err
	}
	defer outside.Close()
	client, err := tasker.NewClient(pool, config.client(&handler{pool: pool, outside: outside, worker: config.ID}))
	if err != nil {
		return err
	}
	// As a service does: the database may be on its way.
	for err = client.Start(ctx); err != nil; err = client.Start(ctx) {
		if !tasker.IsUnavailable(err) || !rest(ctx, 100*time.Millisecond) {
			return err
		}
	}
	fmt.Fprintln(os.Stdout, readyLine)
	<-ctx.Done()
	return client.Stop(context.WithoutCancel(ctx))
}

func (c *processConfig) client(h *handler) *tasker.Config {
	config := &tasker.Config{
		ID: c.ID, Orchestrate: c.Role != worker, Handlers: map[string]tasker.HandlerFunc{callable: h.run},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Lease:  c.Lease, Tick: tick, ClaimGrace: claimGrace, StopGrace: c.StopGrace, MaxLosses: c.MaxLosses,
	}
	if c.Role != orchestrator {
		config.Namespaces = map[string]tasker.NamespaceConfig{namespace: {MaxWorkers: c.Slots}}
	}
	return config
}
