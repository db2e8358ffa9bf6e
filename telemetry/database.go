package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// Database records what a pgx tracer sees. [github.com/tasker-systems/tasker-go/telemetry/pgxtrace] drives it.
type Database struct {
	queries, checkouts, connectionErrors, lostTransactions *counter
	queryTime, transactionTime, checkoutTime               *histogram
	connections, maxConnections                            *gauge
	meter                                                  metric.Meter
}

func newDatabase(f *factory) *Database {
	return &Database{
		queries:          f.counter("tasker.sql.queries.total"),
		checkouts:        f.counter("tasker.db.pool.checkouts.total"),
		connectionErrors: f.counter("tasker.db.connection.errors.total"),
		lostTransactions: f.counter("tasker.db.transactions.lost.total"),
		queryTime:        f.histogram("tasker.sql.query.duration"),
		transactionTime:  f.histogram("tasker.db.transaction.duration"),
		checkoutTime:     f.histogram("tasker.db.pool.checkout.duration"),
		connections:      f.gauge("tasker.db.pool.connections"),
		maxConnections:   f.gauge("tasker.db.pool.max_connections"),
		meter:            f.meter,
	}
}

// Query records a statement. result is ok, error or canceled.
func (d *Database) Query(ctx context.Context, name, result string, took time.Duration) {
	v := values{name, result}
	d.queries.add(ctx, 1, v)
	d.queryTime.record(ctx, milliseconds(took), v)
}

// Transaction records a transaction that ended: with commit or rollback.
func (d *Database) Transaction(ctx context.Context, name, result string, took time.Duration) {
	d.transactionTime.record(ctx, milliseconds(took), values{name, result})
}

// TransactionLost counts a transaction that ended with its connection.
func (d *Database) TransactionLost(ctx context.Context, pool string) {
	d.lostTransactions.add(ctx, 1, values{pool})
}

// Checkout records a connection asked from a pool.
func (d *Database) Checkout(ctx context.Context, pool string, took time.Duration) {
	d.checkouts.add(ctx, 1, values{pool})
	d.checkoutTime.record(ctx, milliseconds(took), values{pool})
}

// ConnectionError counts a connection that was not made or not given.
func (d *Database) ConnectionError(ctx context.Context, errorType string) {
	d.connectionErrors.add(ctx, 1, values{errorType})
}

// PoolStat are the connections of a pool.
type PoolStat struct {
	Idle, Active, Constructing, Max int64
}

// ObservePool reports a pool's connections whenever metrics are collected, until stop is called.
func (d *Database) ObservePool(pool string, stat func() PoolStat) (stop func() error, err error) {
	registration, err := d.meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s := stat()
		d.connections.observe(o, s.Idle, values{pool, "idle"})
		d.connections.observe(o, s.Active, values{pool, "active"})
		d.connections.observe(o, s.Constructing, values{pool, "constructing"})
		d.maxConnections.observe(o, s.Max, values{pool})
		return nil
	}, d.connections.Int64ObservableGauge, d.maxConnections.Int64ObservableGauge)
	if err != nil {
		return nil, err //nolint:wrapcheck // the meter names the instrument
	}
	return registration.Unregister, nil
}

type transactionKey struct{}

// WithTransaction names the transactions that begin in a context, for their metrics.
func WithTransaction(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, transactionKey{}, name)
}

// Transaction is the name of the transactions that begin in a context; empty where none was given.
func Transaction(ctx context.Context) string {
	name, _ := ctx.Value(transactionKey{}).(string)
	return name
}
