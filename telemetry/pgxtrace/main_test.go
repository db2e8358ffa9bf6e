package pgxtrace_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/pgxtrace"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// Names of metrics.
const (
	queries          = "tasker.sql.queries.total"
	queryTime        = "tasker.sql.query.duration"
	transactions     = "tasker.db.transaction.duration"
	lostTransactions = "tasker.db.transactions.lost.total"
	checkouts        = "tasker.db.pool.checkouts.total"
	checkoutTime     = "tasker.db.pool.checkout.duration"
	connectionErrors = "tasker.db.connection.errors.total"
	connections      = "tasker.db.pool.connections"
	maxConnections   = "tasker.db.pool.max_connections"
)

// testBundle is a pool that is measured, on a database that has nothing but table note.
type testBundle struct {
	pool   *pgxpool.Pool
	tracer *pgxtrace.Tracer
	meter  *meter
	// noticed is called when the server says something.
	noticed atomic.Pointer[func()]
}

type option func(*setting)

type setting struct {
	tracer pgxtrace.Config
	pool   []func(*pgxpool.Config)
	url    func(string) string
}

func named(pool string) option               { return func(s *setting) { s.tracer.Pool = pool } }
func verbs(s *setting)                       { s.tracer.Verb = true }
func through(url func(string) string) option { return func(s *setting) { s.url = url } }
func with(change func(*pgxpool.Config)) option {
	return func(s *setting) { s.pool = append(s.pool, change) }
}

func instead(conn func(*pgx.ConnConfig)) option {
	return with(func(c *pgxpool.Config) { conn(c.ConnConfig) })
}

func ofSize(n int32) option { return with(func(c *pgxpool.Config) { c.MaxConns = n }) }

func mode(m pgx.QueryExecMode) option {
	return instead(func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = m })
}

func dialing(dial pgconn.DialFunc) option {
	return instead(func(c *pgx.ConnConfig) { c.DialFunc = dial })
}
func keep(url string) func(_ string) string { return func(string) string { return url } }
func exec(t testing.TB, on execer, sql string) {
	t.Helper()
	require.NoError(t, run(t.Context(), on, sql))
}

func run(ctx context.Context, on execer, sql string) error {
	_, err := on.Exec(ctx, sql)
	return err
}

type execer interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
}

func setup(t testing.TB, options ...option) *testBundle {
	t.Helper()
	s := &setting{tracer: pgxtrace.Config{Pool: "app"}, url: func(url string) string { return url }}
	for _, opt := range options {
		opt(s)
	}
	url := dbtest.EmptyURL(t)
	prepare(t, url)
	config, err := pgxpool.ParseConfig(s.url(url))
	require.NoError(t, err)
	b := &testBundle{meter: newMeter(t)}
	config.ConnConfig.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {
		if noticed := b.noticed.Load(); noticed != nil {
			(*noticed)()
		}
	}
	for _, change := range s.pool {
		change(config)
	}
	b.tracer = pgxtrace.New(b.meter.database(t), &s.tracer)
	pgxtrace.Attach(config, b.tracer)
	b.pool, err = pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() { // it may have kept a connection, which closing waits for
			go b.pool.Close()
			return
		}
		b.pool.Close()
	})
	return b
}

func prepare(t testing.TB, url string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	exec(t, conn, `CREATE TABLE note (id int PRIMARY KEY, body text, peer int REFERENCES note (id) DEFERRABLE INITIALLY DEFERRED)`)
}

// acquire takes a connection that goes back when the test ends.
func (b *testBundle) acquire(t *testing.T) *pgxpool.Conn {
	t.Helper()
	conn, err := b.pool.Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(conn.Release)
	return conn
}

// endless runs on the server until it is stopped, and says so when it has begun.
const endless = `DO $$ BEGIN RAISE NOTICE 'running'; PERFORM pg_sleep(600); END $$`

// cancelInFlight runs an endless statement and gives it up as soon as it runs.
func (b *testBundle) cancelInFlight(t *testing.T, on execer) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	noticed := func() { cancel() }
	b.noticed.Store(&noticed)
	require.ErrorIs(t, run(ctx, on, endless), context.Canceled)
}

// meter collects what is measured.
type meter struct {
	reader   *sdkmetric.ManualReader
	provider *sdkmetric.MeterProvider
}

func newMeter(t testing.TB) *meter {
	t.Helper()
	reader := sdkmetric.NewManualReader()
	m := &meter{reader, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}
	t.Cleanup(func() { require.NoError(t, m.provider.Shutdown(context.WithoutCancel(t.Context()))) })
	return m
}

func (m *meter) database(t testing.TB) *telemetry.Database {
	t.Helper()
	instruments, err := telemetry.New(&telemetry.Config{MeterProvider: m.provider})
	require.NoError(t, err)
	return instruments.Database
}

func (m *meter) collect(t testing.TB) map[string]metricdata.Aggregation {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, m.reader.Collect(context.WithoutCancel(t.Context()), &all))
	found := map[string]metricdata.Aggregation{}
	for _, scope := range all.ScopeMetrics {
		for _, one := range scope.Metrics {
			found[one.Name] = one.Data
		}
	}
	return found
}

// points are those of a metric by their labels' values: of a counter or gauge what it shows, of a histogram how much is in it.
type points map[string]int64

func (m *meter) points(t testing.TB, name string) points {
	t.Helper()
	found := points{}
	switch data := m.collect(t)[name].(type) {
	case metricdata.Sum[int64]:
		for _, point := range data.DataPoints {
			found[valuesOf(point.Attributes)] = point.Value
		}
	case metricdata.Gauge[int64]:
		for _, point := range data.DataPoints {
			found[valuesOf(point.Attributes)] = point.Value
		}
	case metricdata.Histogram[float64]:
		for _, point := range data.DataPoints {
			found[valuesOf(point.Attributes)] = int64(point.Count)
		}
	}
	return found
}

// total is the sum of a histogram, in milliseconds.
func (m *meter) total(t testing.TB, name, values string) float64 {
	t.Helper()
	histogram, ok := m.collect(t)[name].(metricdata.Histogram[float64])
	require.True(t, ok, "%s has no points", name)
	for _, point := range histogram.DataPoints {
		if valuesOf(point.Attributes) == values {
			return point.Sum
		}
	}
	t.Fatalf("%s has no point %s", name, values)
	return 0
}

// valuesOf joins the values of labels, in the order of the labels' names: what a query is called comes before its result, as
// does error_type before queue.
func valuesOf(set attribute.Set) string {
	var values []string
	for _, label := range set.ToSlice() {
		values = append(values, label.Value.String())
	}
	return strings.Join(values, " ")
}
