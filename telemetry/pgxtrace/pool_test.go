package pgxtrace_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/faulttest"
)

// nobody is a server that is away.
func nobody(context.Context, string, string) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
}

func TestACheckoutIsCountedWhetherItSucceedsOrNot(t *testing.T) {
	t.Parallel()
	b := setup(t, ofSize(1))
	conn := b.acquire(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := b.pool.Acquire(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, points{"app": 2}, b.meter.points(t, checkouts))
	require.Equal(t, points{"app": 2}, b.meter.points(t, checkoutTime))
	require.GreaterOrEqual(t, b.meter.total(t, checkoutTime, "app"), 15.0, "the wait is in it")
	require.Equal(t, points{"pool_exhausted": 1}, b.meter.points(t, connectionErrors))

	conn.Release()
	exec(t, b.pool, "SELECT 1")
	require.Equal(t, points{"app": 3}, b.meter.points(t, checkouts))
}

func TestACallerThatNoLongerWaitsForAConnectionIsNoError(t *testing.T) {
	t.Parallel()
	b := setup(t, ofSize(1))
	b.acquire(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	_, err := b.pool.Acquire(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, points{"app": 2}, b.meter.points(t, checkouts))
	require.Empty(t, b.meter.points(t, connectionErrors))
}

func TestAConnectionThatIsNotMadeIsCountedOnceByItsCause(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		option option
		want   points
	}{
		"nobody listens": {through(unheard(t)), points{"connection_refused": 1}},
		"no socket":      {through(elsewhere("host", "/nowhere")), points{"connection_refused": 1}},
		"no such role":   {through(elsewhere("user", "tasker_nobody")), points{"auth": 1}},
		"no such database": {through(func(s string) string {
			u, err := url.Parse(s)
			require.NoError(t, err)
			u.Path = "/tasker_nothing"
			return u.String()
		}), points{"other": 1}},
		"no such host": {instead(func(c *pgx.ConnConfig) {
			c.Host, c.Fallbacks = "db.invalid", nil
			c.LookupFunc = func(context.Context, string) ([]string, error) {
				return nil, &net.DNSError{Err: "no such host", Name: "db.invalid", IsNotFound: true}
			}
		}), points{"dns": 1}},
		"no TLS": {through(func(s string) string {
			return elsewhere("sslmode", "require")(faulttest.NewProxy(t, s).URL(s))
		}), points{"tls": 1}},
		"no answer": {through(func(string) string { return silent(t) }), points{"timeout": 1}},
		"a hook that refuses it": {with(func(c *pgxpool.Config) {
			c.AfterConnect = func(context.Context, *pgx.Conn) error { return errors.New("not this one") }
		}), points{"other": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, test.option)
			require.Error(t, run(t.Context(), b.pool, "SELECT 1"))
			require.Equal(t, test.want, b.meter.points(t, connectionErrors))
			require.Equal(t, points{"app": 1}, b.meter.points(t, checkouts))
			require.Empty(t, b.meter.points(t, queries), "there was nothing to run it on")
		})
	}
}

// elsewhere changes a parameter of a URL.
func elsewhere(key, value string) func(string) string {
	return func(s string) string {
		u, err := url.Parse(s)
		if err != nil {
			panic("elsewhere: " + err.Error())
		}
		query := u.Query()
		query.Set(key, value)
		u.RawQuery = query.Encode()
		return u.String()
	}
}

// unheard is a port that nobody listens on.
func unheard(t *testing.T) func(string) string {
	t.Helper()
	listener := listen(t)
	require.NoError(t, listener.Close())
	return keep("postgres://nobody@" + listener.Addr().String() + "/nothing?sslmode=disable")
}

// silent is a server that never answers.
func silent(t *testing.T) string {
	t.Helper()
	listener := listen(t)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	return "postgres://nobody@" + listener.Addr().String() + "/nothing?sslmode=disable&connect_timeout=1"
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	return listener
}

func TestGivingUpWhileAConnectionIsMadeIsNoError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	config := b.pool.Config().ConnConfig
	ctx, cancel := context.WithCancel(t.Context())
	config.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	_, err := pgx.ConnectConfig(ctx, config)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, b.meter.points(t, connectionErrors))
}

func TestTheConnectionsOfAPoolAreObservedUntilStopped(t *testing.T) {
	t.Parallel()
	b := setup(t, ofSize(3))
	stop, err := b.tracer.Observe(b.pool)
	require.NoError(t, err)
	first, second := b.acquire(t), b.acquire(t)
	require.NotNil(t, second)
	first.Release()
	require.Eventually(t, func() bool { return b.pool.Stat().IdleConns() == 1 }, time.Minute, time.Millisecond)
	require.Equal(t, points{"app idle": 1, "app active": 1, "app constructing": 0}, b.meter.points(t, connections))
	require.Equal(t, points{"app": 3}, b.meter.points(t, maxConnections))
	require.NoError(t, stop())
	require.Empty(t, b.meter.points(t, connections))
}
