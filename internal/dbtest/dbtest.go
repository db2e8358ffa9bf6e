// Package dbtest gives every test a database of its own, on a server that only this test process uses.
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
//
//	func TestX(t *testing.T) {
//		t.Parallel()
//		pool := dbtest.Pool(t)
//		…
//	}
//
// The server is started on first use and migrated once, into a template that each test's database is copied from. When
// TASKER_TEST_DATABASE_URL is set, that server is used instead; its user needs CREATEDB.
//
// A database is dropped only after checking that its name starts with tasker_test_, that the connected user owns it, and that it
// bears this process's mark: a harness pointed at somebody else's server by mistake must not be able to harm it.
package dbtest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/goleak"

	"github.com/tasker-systems/tasker-go/internal/embeddedpg"
)

const (
	urlVariable = "TASKER_TEST_DATABASE_URL"
	// poolConns limits the pool of one test: a package's tests run in parallel on one server.
	poolConns = 16
	// closeTimeout is how long a test's pool may wait for connections that the test has not given back.
	closeTimeout = 10 * time.Second
	stopTimeout  = 30 * time.Second
)

// Option changes what Main does.
type Option func(*options)

type options struct {
	server embeddedpg.Config
	leaks  []goleak.Option
}

// WithListenTCP makes the server listen on 127.0.0.1 too; see embeddedpg.Server.TCPURL.
func WithListenTCP() Option { return func(o *options) { o.server.ListenTCP = true } }

// WithParameters adds server settings, as for postgres -c.
func WithParameters(parameters map[string]string) Option {
	return func(o *options) { o.server.Parameters = parameters }
}

// WithMaxConnections sets the server's max_connections. Default 300.
func WithMaxConnections(n int) Option { return func(o *options) { o.server.MaxConnections = n } }

// WithLeakOptions passes options to the goroutine leak check, such as goleak.IgnoreTopFunction.
func WithLeakOptions(leaks ...goleak.Option) Option {
	return func(o *options) { o.leaks = append(o.leaks, leaks...) }
}

// Main runs the package's tests, stops the server, fails the run if a goroutine was left behind, and ends the process. The
// options apply to the whole package.
func Main(m *testing.M, opts ...Option) {
	chosen := options{server: embeddedpg.Config{Ephemeral: true}}
	for _, opt := range opts {
		opt(&chosen)
	}
	shared.config = chosen.server
	code := m.Run()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	if err := shared.stop(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "dbtest:", err)
		code = max(code, 1)
	}
	cancel()
	if code == 0 { // a failed test often leaks too, which would only hide its own message
		if err := goleak.Find(chosen.leaks...); err != nil {
			fmt.Fprintln(os.Stderr, "dbtest:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Server returns the package's server, starting it if need be, for tests that crash it or look at it. A test that does so
// disturbs every other one of the package. The test is skipped when TASKER_TEST_DATABASE_URL is set.
func Server(t testing.TB) *embeddedpg.Server {
	t.Helper()
	started := ready(t)
	if started.server == nil {
		t.Skip(urlVariable + " is set: there is no server of our own")
	}
	return started.server
}

// URL returns the URL of a fresh migrated database, for tests that start processes. It is dropped when the test ends, cutting
// whatever connections are left.
func URL(t testing.TB) string {
	t.Helper()
	started := ready(t)
	return fresh(t, started, started.template)
}

// EmptyURL is like URL, but the database is as CREATE DATABASE makes it.
func EmptyURL(t testing.TB) string {
	t.Helper()
	return fresh(t, ready(t), "")
}

// Pool returns a pool of at most 16 connections on a fresh migrated database. Both are gone when the test ends; a test that
// leaves a connection acquired fails.
func Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(URL(t))
	if err != nil {
		t.Fatalf("dbtest: parse the database's URL: %v", err)
	}
	config.MaxConns = poolConns
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("dbtest: make a pool: %v", err)
	}
	t.Cleanup(func() { closePool(t, pool) })
	return pool
}

func closePool(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close()
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
		t.Errorf("dbtest: %d connections of the pool were never released", pool.Stat().AcquiredConns())
	}
}

// ready starts the package's server if need be.
func ready(t testing.TB) *backend {
	t.Helper()
	started, err := shared.get(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	return started
}

// fresh makes a database and drops it when the test ends. template "" means an empty one.
func fresh(t testing.TB, on *backend, template string) string {
	t.Helper()
	name := newName()
	url, err := on.create(t.Context(), name, template)
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stopTimeout)
		defer cancel()
		if err := on.drop(ctx, name); err != nil {
			t.Errorf("dbtest: %v", err)
		}
	})
	return url
}
