package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/embeddedpg"
	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/pgxtrace"
	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

const (
	// patience bounds each wait for something that happens in a moment on an idle machine.
	patience = time.Minute
	// exportPatience is what an export may take to arrive, if OTEL_METRIC_EXPORT_INTERVAL is the minute that it is elsewhere.
	exportPatience = 90 * time.Second
	// stopPatience is what a server may take to stop, and stopLimit what it should: it has nothing left to finish.
	stopPatience = 30 * time.Second
	stopLimit    = 10 * time.Second
)

// stage is everything that a run needs: a database, a server, and a client that creates tasks.
type stage struct {
	options *Options
	// dir is a temporary folder.
	dir string
	// instance is in the instance ids of both processes.
	instance string
	receiver *otlpreceiver.Receiver // nil where telemetry goes elsewhere

	postgres       *embeddedpg.Server // nil where the database was given
	postgresConfig embeddedpg.Config
	url            string
	version        string // the server's

	server    *process
	providers *setup.Providers
	warnings  *transcript
	pool      *pgxpool.Pool
	client    *tasker.Client

	tasks  []task
	outage *outage
	page   string
	end    ending

	closers []func(context.Context) error
}

// later has something undone at the end, in reverse order.
func (s *stage) later(undo func(context.Context) error) { s.closers = append(s.closers, undo) }

func (s *stage) close(ctx context.Context) error {
	var errs []error
	for _, undo := range slices.Backward(s.closers) {
		errs = append(errs, undo(context.WithoutCancel(ctx)))
	}
	return errors.Join(errs...)
}

// open starts everything. What was started is undone by close, also after an error.
func (s *stage) open(ctx context.Context) error {
	for _, start := range []func(context.Context) error{
		s.openFolder, s.openReceiver, s.openPostgres, s.openServer, s.openClient,
	} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) openFolder(context.Context) error {
	dir, err := os.MkdirTemp("", "tasker-verify-")
	if err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	s.dir = dir
	s.later(func(context.Context) error { return os.RemoveAll(dir) })
	// Root's Postgres runs as another user, and has to get there.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // what is secret in it is closed by itself
		return fmt.Errorf("open the temporary folder: %w", err)
	}
	return nil
}

func (s *stage) openReceiver(ctx context.Context) error {
	if s.options.backends() {
		return nil
	}
	receiver, err := otlpreceiver.Start(ctx, "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("start the receiver: %w", err)
	}
	s.receiver = receiver
	s.later(func(context.Context) error {
		receiver.Stop()
		return nil
	})
	return nil
}

func (s *stage) openPostgres(ctx context.Context) error {
	if s.options.DatabaseURL != "" {
		s.url = s.options.DatabaseURL
		return s.ping(ctx)
	}
	// Not an ephemeral server: this one is stopped and started again. Nobody will miss its data.
	s.postgresConfig = embeddedpg.Config{Dir: s.dir, Parameters: map[string]string{"fsync": "off", "full_page_writes": "off"}}
	if err := s.startPostgres(ctx); err != nil {
		return err
	}
	s.url = s.postgres.URL()
	s.later(func(ctx context.Context) error { return s.postgres.Stop(ctx) })
	return nil
}

// ping wants the database to be there: a server would wait for it.
func (s *stage) ping(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	return conn.Close(ctx) //nolint:wrapcheck // it was reached
}

func (s *stage) startPostgres(ctx context.Context) error {
	server, err := embeddedpg.Start(ctx, s.postgresConfig)
	if err != nil {
		return fmt.Errorf("start the embedded Postgres: %w", err)
	}
	s.postgres = server
	return nil
}

// endpoint is where telemetry goes; empty where the user's environment says it.
func (s *stage) endpoint() string {
	if s.receiver == nil {
		return ""
	}
	return s.receiver.Endpoint()
}

func (s *stage) openServer(ctx context.Context) error {
	env := environmentOf(s.options.Environ, s.endpoint(), s.options.Version)
	env["DATABASE_URL"] = s.url
	env.instance(s.instance + "-server")
	server, err := launch(ctx, s.options.Executable, s.dir, env.pairs(), "serve", "--role", "all", "--listen", "127.0.0.1:0",
		"--id", serverService, "--log-level", "debug", "--environment", "", "--config", s.dir, "--templates", s.dir+"/tasks",
		"--profile", "default", "--log-format", "text")
	if err != nil {
		return err
	}
	s.server = server
	s.later(func(context.Context) error {
		server.stop(stopPatience)
		return nil
	})
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := server.await(ctx, "Press Ctrl-C to stop."); err != nil {
		return fmt.Errorf("%w; its output ends with\n%s", err, server.tail())
	}
	return nil
}

// openClient makes a client in this process, with providers of its own.
func (s *stage) openClient(ctx context.Context) error {
	env := maps.Clone(environmentOf(s.options.Environ, s.endpoint(), s.options.Version))
	env["OTEL_SERVICE_NAME"] = clientService
	config, err := setup.Load(s.dir, "", env.get)
	if err != nil {
		return fmt.Errorf("read the telemetry configuration: %w", err)
	}
	config.InstanceID = s.instance + "-client"
	s.warnings = &transcript{}
	if s.providers, err = setup.Start(ctx, config, slog.New(slog.NewTextHandler(s.warnings, nil))); err != nil {
		return fmt.Errorf("start telemetry: %w", err)
	}
	s.later(s.shutdownProviders)
	settings := s.providers.TelemetryConfig()
	own, err := telemetry.New(settings)
	if err != nil {
		return fmt.Errorf("start telemetry: %w", err)
	}
	poolConfig, err := pgxpool.ParseConfig(s.url)
	if err != nil {
		return fmt.Errorf("read the database's URL: %w", err)
	}
	poolConfig.ConnConfig.RuntimeParams["application_name"] = clientApplication
	pgxtrace.Attach(poolConfig, pgxtrace.New(own.Database, &pgxtrace.Config{Pool: "client"}))
	if s.pool, err = pgxpool.NewWithConfig(ctx, poolConfig); err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	s.later(func(context.Context) error {
		s.pool.Close()
		return nil
	})
	if err := s.pool.QueryRow(ctx, "SHOW server_version").Scan(&s.version); err != nil { //nolint:forbidigo // of no table
		return fmt.Errorf("ask the database for its version: %w", err)
	}
	s.client, err = tasker.NewClient(s.pool, &tasker.Config{ID: clientService, Logger: slog.New(slog.DiscardHandler), Telemetry: settings})
	if err != nil {
		return fmt.Errorf("open client: %w", err)
	}
	s.later(s.client.Stop)
	return nil
}

// clientApplication is the client in pg_stat_activity.
const clientApplication = "tasker verify"

// shutdownProviders sends what this process has not sent.
func (s *stage) shutdownProviders(ctx context.Context) error {
	s.providers.Shutdown(ctx)
	return nil
}

var pagePattern = regexp.MustCompile(`http://\S+/metrics`)

// scrape reads what the server shows to Prometheus, once that has the gauges that are read from the database now and then.
func (s *stage) scrape(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	output, _ := s.server.read()
	for {
		page, err := get(ctx, pagePattern.FindString(output))
		if err != nil {
			return fmt.Errorf("read the server's metrics: %w", err)
		}
		if s.page = string(page); strings.Contains(s.page, "\ntasker_queue_depth{") {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("wait for gauges: %w", err)
		}
	}
}

// exported waits until Prometheus has the gauges: a process that stops takes its own along, and the last export is without
// them. Where they do not come the checks say so.
func (s *stage) exported(ctx context.Context) error {
	if s.receiver != nil {
		return s.received(ctx)
	}
	if s.options.Prometheus == "" {
		return nil
	}
	limit, cancel := context.WithTimeout(ctx, exportPatience)
	defer cancel()
	server := &prometheus{s.options.Prometheus}
	for {
		found, err := server.ask(limit, "tasker_queue_depth{"+subjectOf(s).selector+"}")
		if err == nil && found.n > 0 {
			return nil
		}
		if err := pause(limit, 250*time.Millisecond); err != nil {
			return ctx.Err()
		}
	}
}

// received waits until the receiver has the gauge of the sequence's last handler.
func (s *stage) received(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := s.receiver.Wait(limit, func(snapshot *otlpreceiver.Snapshot) bool {
		return slices.ContainsFunc(snapshot.Metrics()["tasker.steps.active_executions"].Points, func(p otlpreceiver.Point) bool {
			return p.Attributes["handler_type"] == "linear.step_4"
		})
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return nil // the checks say what is missing
}

// transcript collects lines.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

var _ io.Writer = (*transcript)(nil)

// Write adds to the text.
func (t *transcript) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(text) //nolint:wrapcheck // it never fails
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
