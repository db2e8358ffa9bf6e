package pgxtrace_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/telemetry/pgxtrace"
)

// diary is a tracer that writes down what it sees, and looks for what it put into contexts.
type diary struct {
	mu      sync.Mutex
	entries []string
}

type diaryKey struct{}

func (d *diary) write(entry string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, entry)
}

func (d *diary) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, diaryKey{}, data.SQL)
}

func (d *diary) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	d.write("query " + ctx.Value(diaryKey{}).(string))
}

func (d *diary) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return context.WithValue(ctx, diaryKey{}, "acquire")
}

func (d *diary) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	d.write(ctx.Value(diaryKey{}).(string))
}

func (d *diary) TraceRelease(*pgxpool.Pool, pgxpool.TraceReleaseData) { d.write("release") }

func TestATracerThatIsThereAlreadyStays(t *testing.T) {
	t.Parallel()
	other := &diary{}
	b := setup(t, instead(func(c *pgx.ConnConfig) { c.Tracer = other }))
	exec(t, b.pool, "SELECT 1")
	require.Equal(t, []string{"acquire", "query SELECT 1", "release"}, other.entries)
	require.Equal(t, points{"select ok": 1}, b.meter.points(t, queries))
	require.Equal(t, points{"app": 1}, b.meter.points(t, checkouts))
}

func TestThePoolThatAConfigWasCopiedFromKeepsItsTracerToItself(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]*diary{"alone": nil, "beside another": {}} {
		mine := newMeter(t)
		first, err := pgxtrace.Watch(mine.provider, "first")
		require.NoError(t, err)
		theirs := newMeter(t)
		second, err := pgxtrace.Watch(theirs.provider, "second")
		require.NoError(t, err)
		config, err := pgxpool.ParseConfig(dbtest.URL(t))
		require.NoError(t, err)
		if other != nil {
			config.ConnConfig.Tracer = other
		}
		pgxtrace.Attach(config, first)
		pgxtrace.AttachInstead(config, second)
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		exec(t, pool, "SELECT 1")
		pool.Close()
		require.Empty(t, mine.points(t, queries), name)
		require.Equal(t, points{"select ok": 1}, theirs.points(t, queries), name)
		if other != nil {
			require.Equal(t, []string{"acquire", "query SELECT 1", "release"}, other.entries)
		}
	}
}

func TestTwoTracersOfOnePoolDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	mine := newMeter(t)
	second, err := pgxtrace.Watch(mine.provider, "mine")
	require.NoError(t, err)
	b := setup(t, with(func(c *pgxpool.Config) { pgxtrace.Attach(c, second) }))
	require.NoError(t, pgx.BeginFunc(t.Context(), b.pool, func(pgx.Tx) error { return nil }))
	for _, seen := range []struct {
		meter *meter
		pool  string
	}{{b.meter, "app"}, {mine, "mine"}} {
		require.Equal(t, points{"begin ok": 1, "commit ok": 1}, seen.meter.points(t, queries))
		require.Equal(t, points{"commit " + seen.pool: 1}, seen.meter.points(t, transactions))
		require.Equal(t, points{seen.pool: 1}, seen.meter.points(t, checkoutTime))
	}
}

func TestAPoolWithoutANameIsTheDefaultOne(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	b := setup(t)
	config := b.pool.Config()
	config.ConnConfig.Tracer = nil
	pgxtrace.Attach(config, pgxtrace.New(m.database(t), nil))
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(pgx.Tx) error { return nil }))
	require.Equal(t, points{"commit default": 1}, m.points(t, transactions))
	require.Equal(t, points{"default": 1}, m.points(t, checkouts))
}
