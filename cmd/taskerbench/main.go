// Command taskerbench loads Tasker on one machine and prints a table: throughput, latency, and what a step costs in CPU,
// transactions and write-ahead log, beside River's own speed in the same run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tasker-systems/tasker-go/db/migration"
	"github.com/tasker-systems/tasker-go/internal/embeddedpg"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "taskerbench:", err)
		os.Exit(1)
	}
}

// settings are the flags.
type settings struct {
	url     string
	tasks   int
	serial  int
	fans    int
	width   int
	jobs    int
	workers int
	rounds  int
	// workloads are those that are run, by the first word of their names.
	workloads []string
	// telemetry are the modes that W1 and W2 are run in, side by side.
	telemetry []string
	// labels says which tasks have their correlation_id on metrics.
	labels string
	sink   string
}

func run() error {
	var s settings
	flag.StringVar(&s.url, "database-url", os.Getenv("DATABASE_URL"), "database to use and fill; default: an embedded one, removed afterwards")
	flag.IntVar(&s.tasks, "tasks", 2000, "W1: four-step tasks")
	flag.IntVar(&s.serial, "serial", 200, "W2: four-step tasks, one after the other")
	flag.IntVar(&s.fans, "fans", 20, "W3: runs of 1 to 100 to 1")
	flag.IntVar(&s.width, "width", 2000, "W4: parents of one join")
	flag.IntVar(&s.jobs, "jobs", 20000, "no-op River jobs of the yardstick")
	flag.IntVar(&s.workers, "workers", 500, "steps at once")
	flag.IntVar(&s.rounds, "rounds", 3, "interleaved rounds; the table has each")
	modes := flag.String("telemetry", modeOff, "modes to run W1 and W2 in, separated by commas: off, metrics, traces (with metrics), "+
		"tenth (of the traces), "+
		"absent, hanging and refused (traces and metrics, and a collector that is not there, does not answer, or takes nothing)")
	flag.StringVar(&s.labels, "labels", "off", "telemetry.metrics.correlation_id_label: off, which is production's, bounded or all")
	workloads := flag.String("workloads", "R,W1,W2,W3,W4", "workloads to run, separated by commas")
	profile := flag.String("cpuprofile", "", "file to write a CPU profile of this process to, for go tool pprof")
	flag.StringVar(&s.sink, "sink", "", "be the collector that taskerbench starts for itself: one that works, hangs or refuses")
	flag.Parse()
	s.telemetry, s.workloads = strings.Split(*modes, ","), strings.Split(*workloads, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))

	if s.sink != "" {
		return sink(ctx, s.sink)
	}
	url, pid := s.url, 0
	if url == "" {
		server, remove, err := embedded(ctx)
		if err != nil {
			return err
		}
		defer remove()
		url, pid = server.URL(), server.PID()
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer pool.Close()
	if err := migration.Up(ctx, pool, nil); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var version string
	if err := pool.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	fmt.Printf("%s, %d cores, PostgreSQL %s, %s\n\n", runtime.Version(), runtime.NumCPU(), version, time.Now().UTC().Format("2006-01-02"))
	b := &bench{settings: s, pool: pool, meter: &meter{pool: pool, postmaster: pid}}
	return profiled(*profile, func() error { return b.all(ctx) })
}

// profiled runs f, and writes what its CPU time went into to a file if one is named.
func profiled(name string, f func() error) error {
	if name == "" {
		return f()
	}
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(fmt.Errorf("start profile: %w", err), file.Close())
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, file.Close())
}

// embedded starts a server for this run, durable as a real one, and removes it afterwards.
func embedded(ctx context.Context) (*embeddedpg.Server, func(), error) {
	dir, err := os.MkdirTemp("", "taskerbench")
	if err != nil {
		return nil, nil, fmt.Errorf("make folder: %w", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the server runs as another user and must get in
		return nil, nil, fmt.Errorf("open folder: %w", err)
	}
	server, err := embeddedpg.Start(ctx, embeddedpg.Config{
		Dir: dir, Parameters: map[string]string{"shared_buffers": "1GB", "max_wal_size": "4GB"}, MaxConnections: 300,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("start Postgres: %w", err)
	}
	return server, func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := server.Stop(stop); err != nil {
			slog.WarnContext(ctx, "stop Postgres", slog.Any("error", err)) //nolint:sloglint // a program's own logger
		}
		_ = os.RemoveAll(dir)
	}, nil
}
