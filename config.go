package tasker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/tasker-systems/tasker-go/jobs"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// Config describes what a client takes part in. The zero value creates and inspects tasks and works on none.
type Config struct {
	// Templates are registered in the database when the client starts; those made by Define bring their handlers.
	Templates []Template
	// Handlers are the functions that YAML templates name in handler.callable.
	Handlers map[string]HandlerFunc
	// Wrap, if set, goes around every handler: for logging, tracing, or tests that stub steps.
	Wrap func(HandlerFunc) HandlerFunc
	// Namespaces are those whose steps this process runs.
	Namespaces map[string]NamespaceConfig
	// Orchestrate makes this process move tasks forward. Run at least one such process, better two. Where a worker
	// orchestrates too, results need no hop of their own.
	Orchestrate bool

	// ID names this process; unique among live ones. Default: host name and a random part.
	ID string
	// Logger gets what happens. Default: warnings and errors as text on standard error.
	Logger *slog.Logger
	// Telemetry says where metrics and spans go: see package telemetry, and telemetry/setup for providers. Default: nowhere.
	Telemetry *telemetry.Config
	// Environment selects the environments overrides of templates. Default: none.
	Environment string

	// Lease is how long a step stays with a worker that gives no sign of life; after that it runs elsewhere. Leases are
	// renewed three times in that time. Default 15 s, at least 1 s.
	Lease time.Duration
	// Tick is how often an orchestrator looks for lost work. Default 1 s.
	Tick time.Duration
	// ClaimGrace is how long a dispatched step may be without a live job before it gets a new one. Default 10 s.
	ClaimGrace time.Duration
	// StopGrace is how long Stop lets handlers finish; then their steps are handed back. Default 10 s.
	StopGrace time.Duration
	// MaxLosses is how often a step may lose its worker before it fails as poison. Default 3.
	MaxLosses int
	// PollInterval is how soon work is found whose notification was lost. Default: 400 ms for each queue, at least 1 s.
	PollInterval time.Duration
	// PollOnly does without LISTEN, NOTIFY and session settings, for PgBouncer in transaction mode. Set
	// default_query_exec_mode=exec in the pool's URL as well. Work is then found every PollInterval.
	PollOnly bool
	// LeaderElectionDisabled leaves River's maintenance to other River clients on the same tables: set it where your own
	// clients work other kinds of jobs there.
	LeaderElectionDisabled bool
}

// NamespaceConfig is how a process works a namespace.
type NamespaceConfig struct {
	// MaxWorkers is how many steps run at once. Default 50.
	MaxWorkers int
}

const (
	defaultLease      = 15 * time.Second
	defaultTick       = time.Second
	defaultClaimGrace = 10 * time.Second
	defaultStopGrace  = 10 * time.Second
	defaultMaxLosses  = 3
	defaultMaxWorkers = 50
	pollPerQueue      = 400 * time.Millisecond
	shortestLease     = time.Second
)

// withDefaults returns a copy with every default filled in.
func (c *Config) withDefaults() (*Config, error) {
	filled := Config{}
	if c != nil {
		filled = *c
	}
	if filled.ID == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "tasker"
		}
		filled.ID = host + "-" + uuid.NewString()[:8]
	}
	if filled.Logger == nil {
		filled.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	filled.Lease = cmp.Or(filled.Lease, defaultLease)
	filled.Tick = cmp.Or(filled.Tick, defaultTick)
	filled.ClaimGrace = cmp.Or(filled.ClaimGrace, defaultClaimGrace)
	filled.StopGrace = cmp.Or(filled.StopGrace, defaultStopGrace)
	filled.MaxLosses = cmp.Or(filled.MaxLosses, defaultMaxLosses)
	if filled.PollInterval == 0 {
		filled.PollInterval = max(time.Second, time.Duration(len(filled.Namespaces)+1)*pollPerQueue)
	}
	if filled.Lease < shortestLease {
		return nil, fmt.Errorf("config: Lease %v is shorter than %v", filled.Lease, shortestLease)
	}
	return &filled, nil
}

// adapt turns a function of the public API into a handler of the carriers.
func (c *Config) adapt(fn HandlerFunc) jobs.Handler {
	if c.Wrap != nil {
		fn = c.Wrap(fn)
	}
	return func(ctx context.Context, claimed *orchestration.Claimed) (json.RawMessage, error) {
		result, err := CallHandler(ctx, fn, claimed)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(result)
		if err != nil {
			return nil, &jobs.InvalidResultError{Err: err}
		}
		return text, nil
	}
}

// handlers gathers the functions of templates and configuration; two for one callable are an error.
func (c *Config) handlers() (map[string]jobs.Handler, error) {
	all := make(map[string]jobs.Handler)
	for name, fn := range c.Handlers {
		all[name] = c.adapt(fn)
	}
	var errs []error
	for _, t := range c.Templates {
		if err := t.problem(); err != nil {
			errs = append(errs, err)
			continue
		}
		for name, fn := range t.handlers() {
			if _, taken := c.Handlers[name]; taken {
				errs = append(errs, fmt.Errorf("config: handler %q comes with a template and stands in Handlers too", name))
			}
			all[name] = c.adapt(fn)
		}
	}
	return all, errors.Join(errs...)
}
