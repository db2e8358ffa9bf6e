package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// bench runs the workloads and prints a line for each.
type bench struct {
	settings
	pool  *pgxpool.Pool
	meter *meter
	// watched is what the clients of the running workload record with; nil is nothing.
	watched *telemetry.Config
}

func (b *bench) all(ctx context.Context) error {
	fmt.Printf(header, "round", "workload", "telemetry", "rate", "latency", "PG ms", "process ms", "commits", "WAL B")
	workloads := []struct {
		name    string
		run     func(context.Context) (line, error)
		watched bool
	}{
		{"R raw River jobs", b.river, false},
		{"W1 throughput", b.throughput, true},
		{"W2 latency", b.latency, true},
		{"W3 1-100-1", b.fan, false},
		{"W4 wide join", b.join, false},
	}
	var results summary
	for round := range b.rounds {
		for _, w := range workloads {
			if name, _, _ := strings.Cut(w.name, " "); !slices.Contains(b.workloads, name) {
				continue
			}
			for _, mode := range b.modes(round, w.watched) {
				l, err := b.measure(ctx, mode, w.run)
				if err != nil {
					return fmt.Errorf("%s: %w", w.name, err)
				}
				fmt.Printf(row, round+1, w.name, mode, l.rate, l.latency, l.postgres, l.process, l.commits, l.wal)
				results.add(w.name, mode, l)
			}
		}
	}
	if b.rounds > 1 {
		results.print(b.telemetry[0])
	}
	return nil
}

// measure runs a workload in a mode, after the database has done what it would else do in the middle of it.
func (b *bench) measure(ctx context.Context, mode string, run func(context.Context) (line, error)) (line, error) {
	if _, err := b.pool.Exec(ctx, "VACUUM (ANALYZE)"); err != nil {
		return line{}, fmt.Errorf("vacuum: %w", err)
	}
	return b.with(ctx, mode, run)
}

// modes are those that a workload is run in. Each round begins with another one: none always has the machine as its neighbour
// left it.
func (b *bench) modes(round int, watched bool) []string {
	if !watched {
		return b.telemetry[:1]
	}
	first := round % len(b.telemetry)
	return slices.Concat(b.telemetry[first:], b.telemetry[:first])
}

// The last four columns are for one unit: a step, or a job of River's.
const (
	header = "%-6s%-18s%-10s%-29s%-32s%8s%12s%9s%8s\n"
	row    = "%-6d%-18s%-10s%-29s%-32s%8.3f%12.3f%9.3f%8.0f\n"
)

// line is one result.
type line struct {
	cost

	rate, latency string
	// p99 is of tasks, in milliseconds; 0 where there are none.
	p99 float64
}

// cpu is that of Postgres and process together, in milliseconds for each unit.
func (l *line) cpu() float64 { return l.postgres + l.process }

// noop is the yardstick's job.
type noop struct {
	N int `json:"n"`
}

func (noop) Kind() string { return "taskerbench_noop" }

type noopWorker struct{ river.WorkerDefaults[noop] }

func (noopWorker) Work(context.Context, *river.Job[noop]) error { return nil }

// river measures River alone: the same database, no-op jobs, inserted by COPY and drained.
func (b *bench) river(ctx context.Context) (line, error) {
	schema, err := db.CheckSchema(ctx, b.pool)
	if err != nil {
		return line{}, err
	}
	config := b.pool.Config()
	config.MaxConns = 30
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return line{}, fmt.Errorf("connect: %w", err)
	}
	defer pool.Close()
	workers := river.NewWorkers()
	river.AddWorker(workers, noopWorker{})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Schema: string(schema), Logger: slog.Default(), Workers: workers,
		FetchCooldown: time.Millisecond, FetchPollInterval: 50 * time.Millisecond,
		Queues: map[string]river.QueueConfig{"taskerbench": {MaxWorkers: 2000}},
	})
	if err != nil {
		return line{}, fmt.Errorf("make client: %w", err)
	}
	before, err := b.meter.read(ctx)
	if err != nil {
		return line{}, err
	}
	began := time.Now()
	for start := 0; start < b.jobs; start += 1000 {
		batch := make([]river.InsertManyParams, min(1000, b.jobs-start))
		for i := range batch {
			batch[i] = river.InsertManyParams{Args: noop{start + i}, InsertOpts: &river.InsertOpts{Queue: "taskerbench"}}
		}
		if _, err := client.InsertManyFast(ctx, batch); err != nil { //nolint:forbidigo // the yardstick is River without Tasker
			return line{}, fmt.Errorf("insert: %w", err)
		}
	}
	inserted := time.Now()
	if err := client.Start(ctx); err != nil {
		return line{}, fmt.Errorf("start: %w", err)
	}
	drainedQuery := "SELECT count(*) = 0 FROM " + string(schema) + ".river_job WHERE kind = 'taskerbench_noop' AND state <> 'completed'"
	if err := b.until(ctx, drainedQuery); err != nil {
		return line{}, err
	}
	took, drained := time.Since(began), time.Since(inserted)
	spent, err := b.meter.since(ctx, before, b.jobs)
	if err != nil {
		return line{}, err
	}
	if err := client.Stop(ctx); err != nil {
		return line{}, fmt.Errorf("stop: %w", err)
	}
	if _, err := b.pool.Exec(ctx, "DELETE FROM "+string(schema)+".river_job WHERE kind = 'taskerbench_noop'"); err != nil {
		return line{}, fmt.Errorf("clean up: %w", err)
	}
	return line{rate: fmt.Sprintf("%.0f jobs/s (drain %.0f)", per(b.jobs, took), per(b.jobs, drained)), cost: spent}, nil
}

func per(n int, d time.Duration) float64 { return float64(n) / d.Seconds() }

// until asks every 25 ms.
func (b *bench) until(ctx context.Context, query string) error {
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	for {
		var done bool
		if err := b.pool.QueryRow(ctx, query).Scan(&done); err != nil {
			return fmt.Errorf("ask whether it is done: %w", err)
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// client is a process's worth of Tasker with its default settings but for the number of workers.
func (b *bench) client(workers int) (*tasker.Client, error) {
	return tasker.NewClient(b.pool, &tasker.Config{
		Templates: []tasker.Template{linear, fan, wide(b.width)}, Orchestrate: true, Telemetry: b.watched,
		Namespaces: map[string]tasker.NamespaceConfig{"bench": {MaxWorkers: workers}},
	})
}

const allEnded = "SELECT count(*) = 0 FROM tasker.tasks WHERE finished_at IS NULL"

// throughput is W1: everything enqueued up front, then drained.
func (b *bench) throughput(ctx context.Context) (line, error) {
	client, err := b.client(b.workers)
	if err != nil {
		return line{}, err
	}
	if err := client.Register(ctx); err != nil {
		return line{}, err
	}
	before, err := b.meter.read(ctx)
	if err != nil {
		return line{}, err
	}
	began := time.Now()
	for start := 0; start < b.tasks; start += 500 {
		if _, err := tasker.CreateMany(ctx, client, linear, make([]input, min(500, b.tasks-start))); err != nil {
			return line{}, err
		}
	}
	created := time.Now()
	if err := client.Start(ctx); err != nil {
		return line{}, err
	}
	if err := b.until(ctx, allEnded); err != nil {
		return line{}, err
	}
	took, drained := time.Since(began), time.Since(created)
	spent, err := b.meter.since(ctx, before, 4*b.tasks)
	if err != nil {
		return line{}, err
	}
	rate := fmt.Sprintf("%.0f steps/s (drain %.0f)", per(4*b.tasks, took), per(4*b.tasks, drained))
	return line{rate: rate, cost: spent}, client.Stop(ctx)
}

// latency is W2: one task after the other, default settings.
func (b *bench) latency(ctx context.Context) (line, error) {
	return b.serially(ctx, b.serial, 4, func(ctx context.Context, client *tasker.Client) (*tasker.Run, error) {
		return tasker.Create(ctx, client, linear, input{})
	})
}

// fan is W3: one step, a hundred after it, one after those.
func (b *bench) fan(ctx context.Context) (line, error) {
	return b.serially(ctx, b.fans, 102, func(ctx context.Context, client *tasker.Client) (*tasker.Run, error) {
		return tasker.Create(ctx, client, fan, input{})
	})
}

// join is W4: very many parents of one step.
func (b *bench) join(ctx context.Context) (line, error) {
	return b.serially(ctx, 1, b.width+1, func(ctx context.Context, client *tasker.Client) (*tasker.Run, error) {
		return client.Create(ctx, tasker.Request{Namespace: "bench", Name: "wide"})
	})
}

// creator starts one task.
type creator func(context.Context, *tasker.Client) (*tasker.Run, error)

// serially runs tasks one after the other and measures each.
func (b *bench) serially(ctx context.Context, runs, steps int, create creator) (line, error) {
	client, err := b.client(b.workers)
	if err != nil {
		return line{}, err
	}
	if err := client.Start(ctx); err != nil {
		return line{}, err
	}
	defer func() {
		if err := client.Stop(context.WithoutCancel(ctx)); err != nil {
			slog.WarnContext(ctx, "stop", slog.Any("error", err)) //nolint:sloglint // a program's own logger
		}
	}()
	if runs > 1 {
		if err := b.once(ctx, client, create); err != nil { // the first pays for caches and connections
			return line{}, err
		}
	}
	before, err := b.meter.read(ctx)
	if err != nil {
		return line{}, err
	}
	times := make([]time.Duration, runs)
	var total time.Duration
	for i := range times {
		began := time.Now()
		if err := b.once(ctx, client, create); err != nil {
			return line{}, err
		}
		times[i] = time.Since(began)
		total += times[i]
	}
	spent, err := b.meter.since(ctx, before, runs*steps)
	if err != nil {
		return line{}, err
	}
	slices.Sort(times)
	at := func(q float64) float64 { return float64(times[int(q*float64(runs-1))].Microseconds()) / 1000 }
	return line{
		rate:    fmt.Sprintf("%.0f steps/s", per(runs*steps, total)),
		latency: fmt.Sprintf("p50 %.1f p95 %.1f p99 %.1f ms", at(0.5), at(0.95), at(0.99)), p99: at(0.99), cost: spent,
	}, nil
}

func (b *bench) once(ctx context.Context, client *tasker.Client, create creator) error {
	run, err := create(ctx, client)
	if err != nil {
		return err
	}
	_, err = run.Wait(ctx)
	return err
}
