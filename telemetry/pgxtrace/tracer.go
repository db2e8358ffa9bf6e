package pgxtrace

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// RiverPool is the name of the pool that River works with. Its statements bear it before their own name.
const RiverPool = "river"

// defaultPool is the name of a pool that has none.
const defaultPool = "default"

// Config says how a pool is measured. The zero value works.
type Config struct {
	// Pool is the pool's name, and that of its transactions that have none. Default "default". See [RiverPool].
	Pool string
	// Verb calls every statement by its first word, even one that has a name: select instead of TaskGetByID. It makes a few
	// hundred series of a few thousand.
	Verb bool
}

// Tracer measures one pool. Set it with [Attach].
type Tracer struct {
	database *telemetry.Database
	pool     string
	verb     bool

	names  *labels
	tables *labels
	verbs  map[string]string
	// key finds this tracer's state among a connection's custom data. A connection may have several tracers.
	key string
}

var (
	_ pgx.QueryTracer       = (*Tracer)(nil)
	_ pgx.BatchTracer       = (*Tracer)(nil)
	_ pgx.CopyFromTracer    = (*Tracer)(nil)
	_ pgx.ConnectTracer     = (*Tracer)(nil)
	_ pgxpool.AcquireTracer = (*Tracer)(nil)
	_ pgxpool.ReleaseTracer = (*Tracer)(nil)
)

// New makes the tracer of a pool. config may be nil.
func New(database *telemetry.Database, config *Config) *Tracer {
	if config == nil {
		config = &Config{}
	}
	t := &Tracer{database: database, pool: config.Pool, verb: config.Verb}
	if t.pool == "" {
		t.pool = defaultPool
	}
	prefix := ""
	if t.pool == RiverPool {
		prefix = RiverPool + "."
	}
	t.names = newLabels(prefix, maxNames)
	t.tables = newLabels(prefix+copyVerb+":", maxTables)
	t.verbs = prefixedVerbs(prefix)
	t.key = fmt.Sprintf("tasker pgxtrace %p", t)
	return t
}

// Watch makes the tracer of a pool for a program that wants nothing else of Tasker's telemetry. Two pools of one program are
// told apart by name.
func Watch(provider metric.MeterProvider, pool string) (*Tracer, error) {
	instruments, err := telemetry.New(&telemetry.Config{MeterProvider: provider})
	if err != nil {
		return nil, fmt.Errorf("watch pool %s: %w", pool, err)
	}
	return New(instruments.Database, &Config{Pool: pool}), nil
}

// Attach sets the tracer on the config of a pool that is about to be made. A tracer that is there already stays, and sees
// everything after this one.
func Attach(config *pgxpool.Config, tracer *Tracer) {
	if present := config.ConnConfig.Tracer; present != nil {
		config.ConnConfig.Tracer = multitracer.New(tracer, present)
		return
	}
	config.ConnConfig.Tracer = tracer
}

// AttachInstead is [Attach] for a config that was copied from that of another pool: the tracers of this package that came with
// it belong to the other pool, and go.
func AttachInstead(config *pgxpool.Config, tracer *Tracer) {
	switch present := config.ConnConfig.Tracer.(type) {
	case *Tracer:
		config.ConnConfig.Tracer = nil
	case *multitracer.Tracer:
		others := slices.DeleteFunc(slices.Clone(present.QueryTracers), func(t pgx.QueryTracer) bool {
			_, ours := t.(*Tracer)
			return ours
		})
		config.ConnConfig.Tracer = nil
		if len(others) > 0 {
			config.ConnConfig.Tracer = multitracer.New(others...)
		}
	}
	Attach(config, tracer)
}

// Observe reports the pool's connections whenever metrics are collected, until stop is called.
func (t *Tracer) Observe(pool *pgxpool.Pool) (stop func() error, err error) {
	stop, err = t.database.ObservePool(t.pool, func() telemetry.PoolStat {
		stat := pool.Stat()
		return telemetry.PoolStat{
			Idle: int64(stat.IdleConns()), Active: int64(stat.AcquiredConns()),
			Constructing: int64(stat.ConstructingConns()), Max: int64(stat.MaxConns()),
		}
	})
	if err != nil {
		return nil, fmt.Errorf("observe pool %s: %w", t.pool, err)
	}
	return stop, nil
}

// TraceQueryStart implements [pgx.QueryTracer].
func (t *Tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	t.state(conn).start(conn, t.statement(data.SQL))
	return ctx
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (t *Tracer) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	t.finish(ctx, conn, outcome{data.CommandTag.String(), data.Err})
}

// TraceCopyFromStart implements [pgx.CopyFromTracer].
func (t *Tracer) TraceCopyFromStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromStartData) context.Context {
	t.state(conn).start(conn, t.copying(data.TableName))
	return ctx
}

// TraceCopyFromEnd implements [pgx.CopyFromTracer].
func (t *Tracer) TraceCopyFromEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceCopyFromEndData) {
	t.finish(ctx, conn, outcome{data.CommandTag.String(), data.Err})
}

// finish records the statement that ends on a connection, and what its end means for the transaction.
func (t *Tracer) finish(ctx context.Context, conn *pgx.Conn, end outcome) {
	s := t.state(conn)
	ended := s.end()
	t.record(ctx, conn, ended, end.err)
	t.settle(ctx, conn, ended.began, end)
}
