package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/db/migration"
	"github.com/tasker-systems/tasker-go/examples/reference"
	"github.com/tasker-systems/tasker-go/internal/embeddedpg"
	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/pgxtrace"
	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

// serveFlags are what `tasker serve` can be told.
type serveFlags struct {
	*globals
	role        string
	namespaces  []string
	workers     int
	listen      string
	binDir      string
	riverSchema string
	leanRiver   bool
	leanSet     bool
	configDir   string
	tracer      *pgxtrace.Tracer
	migrate     bool
	templates   string
	environment string
	profile     string
	logFormat   string
	logLevel    string
	id          string
	pollOnly    bool
	stopGrace   time.Duration
}

func newServe(g *globals) *cobra.Command {
	f := &serveFlags{globals: g}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run orchestrator and worker, with River UI",
		Example: `  tasker serve
  tasker serve --role worker --namespace rust_e2e_linear --namespace rust_e2e_tree`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.role, "role", env("TASKER_ROLE", "all"), "what this process does: orchestrator, worker or all")
	flags.StringSliceVar(&f.namespaces, "namespace", nil, "namespaces to work; default: all of the reference workflows")
	flags.IntVar(&f.workers, "workers", 50, "steps to run at once in each namespace")
	flags.StringVar(&f.listen, "listen", env("TASKER_LISTEN", "127.0.0.1:8484"), "address of health checks and River UI; empty: none")
	flags.StringVar(&f.binDir, "pg-bin", "", "folder of the Postgres binaries for the embedded server")
	flags.StringVar(&f.riverSchema, "river-schema", env("RIVER_SCHEMA", ""),
		"schema of River's tables; default: where they are, else the first of the search path")
	flags.BoolVar(&f.leanRiver, "lean-river", false,
		"drop River's two GIN indexes, which nobody reads (default where tasker makes River's tables)")
	flags.BoolVar(&f.migrate, "migrate", true, "bring the schemas up to date first")
	flags.StringVar(&f.templates, "templates", env("TASKER_TEMPLATES", "config/tasks"), "folder of YAML templates, read with its subfolders")
	flags.StringVar(&f.environment, "environment", env("TASKER_ENV", ""), "which environments overrides of the templates apply")
	flags.StringVar(&f.profile, "profile", env("TASKER_PROFILE", "default"), "recovery times: default (15 s leases) or fast (2 s)")
	flags.StringVar(&f.logFormat, "log-format", env("TASKER_LOG_FORMAT", "text"), "text or json")
	flags.StringVar(&f.logLevel, "log-level", env("TASKER_LOG_LEVEL", "info"), "debug, info, warn or error")
	flags.StringVar(&f.configDir, "config", env("TASKER_CONFIG", "config/tasker"),
		"folder of the configuration: base/telemetry.toml and environments/NAME/telemetry.toml")
	flags.BoolVar(&f.pollOnly, "poll-only", false,
		"do without LISTEN and NOTIFY, for PgBouncer in transaction mode (with default_query_exec_mode=exec in the URL)")
	flags.DurationVar(&f.stopGrace, "stop-grace", 8*time.Second, "how long running steps may take to finish when the process stops")
	flags.StringVar(&f.id, "id", "", "name of this process; default: host name and a random part")
	return cmd
}

func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// run starts everything in order, and ends it in the reverse one.
func (f *serveFlags) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	f.leanSet = cmd.Flags().Changed("lean-river")
	config, err := f.config()
	if err != nil {
		return err
	}
	watch, err := f.watch(ctx, config)
	if err != nil {
		return err
	}
	// Where the start fails. Else the end comes earlier: after the work, and before the connections are closed.
	defer watch.Shutdown(context.WithoutCancel(ctx))
	slog.SetDefault(config.Logger)
	status := &status{metrics: watch.MetricsHandler()}
	stopHTTP, address, err := f.serveHTTP(ctx, status)
	if err != nil {
		return err
	}
	defer stopHTTP()
	url, stopPostgres, err := f.postgres(ctx, cmd, config.Logger)
	if err != nil || url == "" {
		return started(ctx, err)
	}
	defer stopPostgres()
	pool, err := f.open(ctx, url, config.Logger)
	if err != nil {
		return started(ctx, err)
	}
	defer pool.Close()
	defer watch.Shutdown(context.WithoutCancel(ctx))
	if _, err := f.tracer.Observe(pool); err != nil { // until the end
		return err
	}
	client, err := tasker.NewClient(pool, config)
	if err != nil {
		return usageError{err}
	}
	if err := client.Start(ctx); err != nil {
		return started(ctx, fmt.Errorf("start: %w", err))
	}
	if err := status.up(pool, client, config.Logger); err != nil {
		return errors.Join(err, client.Stop(context.WithoutCancel(ctx)))
	}
	f.welcome(cmd, config, address, f.shown(url))
	<-ctx.Done()
	status.down()
	fmt.Fprintln(cmd.ErrOrStderr(), "stopping: running steps get", config.StopGrace, "to finish; a second signal exits at once")
	if err := client.Stop(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// watch starts metrics, traces and logs as the telemetry configuration says, and has the client use them.
func (f *serveFlags) watch(ctx context.Context, config *tasker.Config) (*setup.Providers, error) {
	settings, err := setup.Load(f.configDir, f.environment, os.Getenv)
	if err != nil {
		return nil, usageError{fmt.Errorf("telemetry: %w", err)}
	}
	providers, err := setup.Start(ctx, settings, config.Logger)
	if err != nil {
		return nil, usageError{fmt.Errorf("telemetry: %w", err)}
	}
	config.Logger = slog.New(providers.LogHandler(config.Logger.Handler()))
	config.Telemetry = providers.TelemetryConfig()
	own, err := telemetry.New(config.Telemetry)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	providers.OnExportFailure(func(signal string) { own.ExportFailed(context.WithoutCancel(ctx), signal) })
	providers.OnSpansDropped(func(reason string, spans int) { own.SpansDropped(context.WithoutCancel(ctx), reason, spans) })
	f.tracer = pgxtrace.New(own.Database, &pgxtrace.Config{Pool: "client"})
	level := slog.LevelDebug
	if settings.Exports() {
		level = slog.LevelInfo
	}
	config.Logger.Log(ctx, level, "telemetry", slog.Bool("opentelemetry_enabled", settings.Exports()),
		slog.String("service_name", settings.ServiceName), slog.String("environment", settings.Environment))
	return providers, nil
}

// started makes an end that was asked for during the start a success, as it is later on.
func started(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// handlers are what the templates call. It is a variable for the tests, which add steps that take time.
var handlers = reference.Handlers

// config translates the flags.
func (f *serveFlags) config() (*tasker.Config, error) {
	logger, err := f.logger()
	if err != nil {
		return nil, err
	}
	config := &tasker.Config{
		ID: f.id, Logger: logger, Environment: f.environment, Handlers: handlers(),
		StopGrace: f.stopGrace, PollOnly: f.pollOnly, Namespaces: make(map[string]tasker.NamespaceConfig),
	}
	switch f.profile {
	case "default":
	case "fast":
		config.Lease, config.Tick, config.ClaimGrace = 2*time.Second, 250*time.Millisecond, time.Second
	default:
		return nil, usageError{fmt.Errorf("--profile %q is not one of default, fast", f.profile)}
	}
	if config.Templates, err = f.loadTemplates(); err != nil {
		return nil, err
	}
	if err := f.setRole(config); err != nil {
		return nil, err
	}
	return config, nil
}

func (f *serveFlags) setRole(config *tasker.Config) error {
	switch f.role {
	case "all":
		config.Orchestrate = true
	case "orchestrator":
		config.Orchestrate = true
		return nil
	case "worker":
	default:
		return usageError{fmt.Errorf("--role %q is not one of orchestrator, worker, all", f.role)}
	}
	namespaces := f.namespaces
	if len(namespaces) == 0 {
		for _, t := range config.Templates {
			namespaces = append(namespaces, t.Definition().Namespace)
		}
	}
	for _, name := range namespaces {
		config.Namespaces[name] = tasker.NamespaceConfig{MaxWorkers: f.workers}
	}
	return nil
}

func (f *serveFlags) loadTemplates() ([]tasker.Template, error) {
	templates, err := reference.Templates()
	if err != nil {
		return nil, fmt.Errorf("read the reference workflows: %w", err)
	}
	own, err := tasker.LoadTemplates(f.templates)
	if err != nil {
		return nil, usageError{fmt.Errorf("read templates: %w", err)}
	}
	return append(templates, own...), nil
}

func (f *serveFlags) logger() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level: %w", err)}
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format %q is not one of text, json", f.logFormat)}
}

// postgres returns the database to use, starting the embedded one where none is given. An empty URL says that this folder's
// tasker is running already.
func (f *serveFlags) postgres(ctx context.Context, cmd *cobra.Command, logger *slog.Logger) (string, func(), error) {
	if f.databaseURL != "" {
		return f.databaseURL, func() {}, nil
	}
	began := time.Now()
	server, err := embeddedpg.Start(ctx, embeddedpg.Config{Dir: f.dir, BinDir: f.binDir, Logger: logger})
	if running, ok := errors.AsType[*embeddedpg.AlreadyRunningError](err); ok {
		fmt.Fprintf(cmd.ErrOrStderr(), "tasker is already running in this folder (process %d)\n", running.OwnerPID)
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("start the embedded Postgres: %w", err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "✓ PostgreSQL %s   ready in %.1fs, data in %s\n",
		server.Version(), time.Since(began).Seconds(), server.DataDir())
	return server.URL(), func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			logger.WarnContext(ctx, "stop the embedded Postgres", slog.Any("error", err))
		}
	}, nil
}

// open waits for the database, as long as it takes: a service may come up before its database. What waiting cannot mend is an
// error at once.
func (f *serveFlags) open(ctx context.Context, url string, logger *slog.Logger) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, usageError{fmt.Errorf("read DATABASE_URL: %w", err)}
	}
	pgxtrace.Attach(config, f.tracer)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDatabase, err)
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		if err = f.prepare(ctx, pool); err == nil {
			return pool, nil
		}
		if ctx.Err() != nil || !tasker.IsUnavailable(err) || hopeless(err) {
			pool.Close()
			return nil, err
		}
		logger.WarnContext(ctx, "waiting for the database", slog.Any("error", err))
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// hopeless tells refusals that will not change by waiting: wrong password, unknown database or role.
func hopeless(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code[:2] == "28" || pgErr.Code == "3D000")
}

func (f *serveFlags) prepare(ctx context.Context, pool *pgxpool.Pool) error {
	if err := pool.Ping(ctx); err != nil {
		return fmt.Errorf("%w: %w", errDatabase, err)
	}
	if !f.migrate {
		return nil
	}
	config := &migration.Config{RiverSchema: f.riverSchema}
	if f.leanSet {
		config.LeanRiver = &f.leanRiver
	}
	if err := migration.Up(ctx, pool, config); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// shown is how a person reaches the database: a URL that was given may hold a password.
func (f *serveFlags) shown(url string) string {
	if f.databaseURL != "" {
		return "$DATABASE_URL"
	}
	return url
}

// invocation is how this program was started.
func invocation() string {
	if path, err := os.Executable(); err == nil && strings.Contains(path, "go-build") {
		return "go run ./cmd/tasker"
	}
	return os.Args[0]
}

func (f *serveFlags) welcome(cmd *cobra.Command, config *tasker.Config, address, database string) {
	w := cmd.ErrOrStderr()
	fmt.Fprintf(w, "✓ tasker %s   role %s, %d templates\n", version, f.role, len(config.Templates))
	if len(config.Namespaces) > 0 {
		fmt.Fprintf(w, "✓ worker         %d slots each in %v\n", f.workers, slices.Sorted(maps.Keys(config.Namespaces)))
	}
	if address != "" {
		fmt.Fprintf(w, "\n  River UI   http://%[1]s/riverui/\n  Health     http://%[1]s/health/ready\n"+
			"  Metrics    http://%[1]s/metrics\n", address)
	}
	fmt.Fprintf(w, `
  Next, in another terminal of this folder:
    %s task create rust_e2e_linear/mathematical_sequence --input '{"even_number":6}' --wait

  Or in SQL (psql "%s"):
    SELECT tasker.create_task('rust_e2e_linear', 'mathematical_sequence', '{"even_number":6}');

  Press Ctrl-C to stop.
`, invocation(), database)
}

// serveHTTP listens before anything else is up, so that probes get an answer from the beginning.
func (f *serveFlags) serveHTTP(ctx context.Context, status *status) (func(), string, error) {
	if f.listen == "" {
		return func() {}, "", nil
	}
	listener, err := listen(ctx, f.listen)
	if err != nil {
		return nil, "", err
	}
	server := &http.Server{Handler: status.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			slog.ErrorContext(ctx, "serve HTTP", slog.Any("error", err)) //nolint:sloglint // set from the flags by now
		}
	}()
	return func() {
		shut, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if server.Shutdown(shut) != nil {
			_ = server.Close()
		}
		<-done
	}, listener.Addr().String(), nil
}

// listen takes the next free port where the default one is taken.
func listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err == nil {
		return listener, nil
	}
	host, _, splitErr := net.SplitHostPort(address)
	if splitErr != nil {
		return nil, usageError{fmt.Errorf("--listen: %w", err)}
	}
	other, otherErr := config.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
	if otherErr != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	slog.WarnContext(ctx, "address is taken, using another", //nolint:sloglint // set from the flags by now
		slog.String("wanted", address), slog.String("address", other.Addr().String()))
	return other, nil
}
