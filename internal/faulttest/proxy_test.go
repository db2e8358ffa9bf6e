package faulttest_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/internal/faulttest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// bundle is a database, a proxy in front of it, a connection through the proxy, and one past it.
type bundle struct {
	proxy  *faulttest.Proxy
	direct *pgx.Conn
	broken *pgx.Conn
	url    string
}

func setup(t *testing.T) bundle {
	t.Helper()
	url := dbtest.EmptyURL(t)
	proxy := faulttest.NewProxy(t, url)
	b := bundle{proxy: proxy, direct: connect(t, url), broken: connect(t, proxy.URL(url)), url: proxy.URL(url)}
	_, err := b.direct.Exec(t.Context(), "CREATE TABLE note (body text)")
	require.NoError(t, err)
	return b
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // it may be broken, as intended
	return conn
}

func (b bundle) notes(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, b.direct.QueryRow(t.Context(), "SELECT count(*) FROM note").Scan(&n))
	return n
}

// writeNote inserts a row in a transaction through the proxy and returns the commit's error.
func (b bundle) writeNote(t *testing.T) error {
	t.Helper()
	tx, err := b.broken.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "INSERT INTO note VALUES ($1)", "hello")
	require.NoError(t, err)
	return tx.Commit(t.Context())
}

func TestACommitCutBeforeItArrivesDidNotHappen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.proxy.Arm(faulttest.Rule{Contains: "commit", Mode: faulttest.CutBefore})
	require.Error(t, b.writeNote(t))
	require.Equal(t, 1, b.proxy.Hits())
	require.Zero(t, b.notes(t))
}

func TestACommitCutAfterwardsDidHappen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.proxy.Arm(faulttest.Rule{Contains: "commit", Mode: faulttest.CutAfter})
	require.Error(t, b.writeNote(t))
	require.Equal(t, 1, b.proxy.Hits())
	require.Equal(t, 1, b.notes(t))
}

func TestPreparedStatementsMatchWhenTheyAreExecuted(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		mode  faulttest.Mode
		notes int
	}{
		{"cut after", faulttest.CutAfter, 2},
		{"cut before", faulttest.CutBefore, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.proxy.Arm(faulttest.Rule{Contains: "insert into NOTE", Mode: test.mode, Skip: 1})
			insert := func() error {
				_, err := b.broken.Exec(t.Context(), "INSERT INTO note VALUES ($1)", "hello")
				return err
			}
			require.NoError(t, insert())
			require.Error(t, insert(), "the second execution, by which time nothing is parsed any more")
			require.Equal(t, test.notes, b.notes(t))
			require.Equal(t, 1, b.proxy.Hits())
		})
	}
}

func TestAPipelinedBatchStopsAtTheCut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.proxy.Arm(faulttest.Rule{Contains: "'second'", Mode: faulttest.CutAfter})
	pipeline := b.broken.PgConn().StartPipeline(t.Context())
	for _, body := range []string{"first", "second", "third"} {
		pipeline.SendQueryParams("INSERT INTO note VALUES ('"+body+"')", nil, nil, nil, nil)
		pipeline.SendPipelineSync()
	}
	require.NoError(t, pipeline.Flush(), "all at once: after the cut nothing could be sent")
	results, err := pipeline.GetResults()
	require.NoError(t, err)
	reader, ok := results.(*pgconn.ResultReader)
	require.True(t, ok)
	_, err = reader.Close()
	require.NoError(t, err, "the answer to the first was not dropped")
	require.Error(t, pipeline.Close())
	require.Equal(t, 2, b.notes(t), "the third never reached the server")
}

func TestARuleWithAProbabilityIsRepeatable(t *testing.T) {
	t.Parallel()
	pattern := func() (cuts []bool) {
		b := setup(t)
		b.proxy.Arm(faulttest.Rule{Contains: "select 7", Count: -1, Probability: 0.5, Seed: 3})
		for range 12 {
			conn := connect(t, b.url)
			_, err := conn.Exec(t.Context(), "select 7")
			cuts = append(cuts, err != nil)
		}
		return cuts
	}
	first := pattern()
	require.Equal(t, first, pattern())
	require.Contains(t, first, true)
	require.Contains(t, first, false)
}

func TestAStalledConnectionGoesOnAfterResume(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.proxy.Stall()
	answer := make(chan error, 1)
	go func() {
		_, err := b.broken.Exec(context.WithoutCancel(t.Context()), "INSERT INTO note VALUES ('late')")
		answer <- err
	}()
	fresh := connect(t, b.url)
	require.NoError(t, fresh.Ping(t.Context()), "new connections are not stalled")
	select {
	case err := <-answer:
		t.Fatalf("the stalled connection answered: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	require.Zero(t, b.notes(t))

	b.proxy.Resume()

	require.NoError(t, <-answer)
	require.Equal(t, 1, b.notes(t))
}

func TestCutAllBreaksEveryConnection(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.proxy.Stall()
	b.proxy.CutAll()
	require.Error(t, b.broken.Ping(t.Context()))
	require.NoError(t, connect(t, b.url).Ping(t.Context()))
}

// trickle writes one byte a packet, so that every message straddles reads.
type trickle struct{ net.Conn }

func (c trickle) Write(data []byte) (int, error) {
	for i := range data {
		if _, err := c.Conn.Write(data[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(data), nil
}

func TestAStatementThatStraddlesPacketsMatches(t *testing.T) {
	t.Parallel()
	b := setup(t)
	config, err := pgx.ParseConfig(b.url)
	require.NoError(t, err)
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, network, address)
		return trickle{conn}, err
	}
	b.broken, err = pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.broken.Close(context.WithoutCancel(t.Context())) })
	b.proxy.Arm(faulttest.Rule{Match: func(statement string) bool { return statement == "commit" }, Mode: faulttest.CutAfter})
	require.Error(t, b.writeNote(t))
	require.Equal(t, 1, b.notes(t))
}
