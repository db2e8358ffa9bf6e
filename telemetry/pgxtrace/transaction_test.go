package pgxtrace_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/faulttest"
	"github.com/tasker-systems/tasker-go/telemetry"
)

func TestATransactionThatCommitsBearsItsName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, ctx := range []context.Context{t.Context(), telemetry.WithTransaction(t.Context(), "advance")} {
		tx, err := b.pool.Begin(ctx)
		require.NoError(t, err)
		exec(t, tx, "SELECT 1")
		require.NoError(t, tx.Commit(t.Context()), "the name is that of the context of Begin")
	}
	require.Equal(t, points{"commit app": 1, "commit advance": 1}, b.meter.points(t, transactions))
	require.Equal(t, points{"begin ok": 2, "select ok": 2, "commit ok": 2}, b.meter.points(t, queries))
	require.Empty(t, b.meter.points(t, lostTransactions))
}

func TestATransactionThatRollsBackIsARollback(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Equal(t, points{"rollback app": 1}, b.meter.points(t, transactions))
}

func TestACommitOfAFailedTransactionIsARollback(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	require.Error(t, run(t.Context(), tx, "SELECT 1/0"))
	require.ErrorIs(t, tx.Commit(t.Context()), pgx.ErrTxCommitRollback)
	require.Equal(t, points{"rollback app": 1}, b.meter.points(t, transactions))
	require.Equal(t, points{"begin ok": 1, "select error": 1, "commit ok": 1}, b.meter.points(t, queries))
}

func TestACommitThatTheServerRefusesIsARollback(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	exec(t, tx, "INSERT INTO note VALUES (1, '', 2)")
	require.Error(t, tx.Commit(t.Context()), "the row it points to is missing")
	require.Equal(t, points{"rollback app": 1}, b.meter.points(t, transactions))
	require.Equal(t, points{"begin ok": 1, "insert ok": 1, "commit error": 1}, b.meter.points(t, queries))
}

func TestSavepointsAreNoTransactions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	for _, end := range []func(pgx.Tx) error{
		func(nested pgx.Tx) error { return nested.Commit(t.Context()) },
		func(nested pgx.Tx) error { return nested.Rollback(t.Context()) },
	} {
		nested, err := tx.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, end(nested))
	}
	require.Empty(t, b.meter.points(t, transactions))
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, points{"commit app": 1}, b.meter.points(t, transactions))
}

func TestATransactionGivenUpWithinAStatementIsLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	b.cancelInFlight(t, tx)
	require.Equal(t, points{"rollback app": 1}, b.meter.points(t, transactions))
	require.Equal(t, points{"app": 1}, b.meter.points(t, lostTransactions))

	require.Error(t, tx.Rollback(t.Context()), "the connection is closed")
	require.Equal(t, points{"rollback app": 1}, b.meter.points(t, transactions), "once")
	require.Equal(t, points{"app": 1}, b.meter.points(t, lostTransactions), "once")
	require.Equal(t, points{"begin ok": 1, "do canceled": 1, "rollback canceled": 1}, b.meter.points(t, queries),
		"giving up is no error, nor is what follows from it")
}

func TestATransactionWhoseConnectionBreaksIsLost(t *testing.T) {
	t.Parallel()
	var proxy *faulttest.Proxy
	b := setup(t, through(func(url string) string {
		proxy = faulttest.NewProxy(t, url)
		return proxy.URL(url)
	}))
	proxy.Arm(faulttest.Rule{Match: func(sql string) bool { return sql == "commit" }, Mode: faulttest.CutAfter})
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	require.Error(t, tx.Commit(t.Context()))
	require.Equal(t, points{"rollback app": 1}, b.meter.points(t, transactions))
	require.Equal(t, points{"app": 1}, b.meter.points(t, lostTransactions))
	require.Equal(t, points{"begin ok": 1, "commit error": 1}, b.meter.points(t, queries))
}

func TestAConnectionGivenBackWithATransactionLosesIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.acquire(t)
	exec(t, conn, "begin")
	conn.Release()
	require.Equal(t, points{"rollback app": 1}, b.meter.points(t, transactions))
	require.Equal(t, points{"app": 1}, b.meter.points(t, lostTransactions))
}

func TestATransactionThatEndsUnseenIsNotMadeUp(t *testing.T) {
	t.Parallel()
	b := setup(t, ofSize(1))
	conn := b.acquire(t)
	exec(t, conn, "begin")
	require.NoError(t, conn.Conn().PgConn().Exec(t.Context(), "commit").Close())
	conn.Release()
	require.Empty(t, b.meter.points(t, transactions))

	require.NoError(t, pgx.BeginFunc(t.Context(), b.pool, func(pgx.Tx) error { return nil }), "on the same connection")
	require.Equal(t, points{"commit app": 1}, b.meter.points(t, transactions))
	require.Empty(t, b.meter.points(t, lostTransactions))
}

func TestATransactionWithoutAPoolIsMeasuredToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn, err := pgx.ConnectConfig(t.Context(), b.pool.Config().ConnConfig)
	require.NoError(t, err)
	require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(pgx.Tx) error { return nil }))
	require.NoError(t, conn.Close(t.Context()))
	require.Equal(t, points{"commit app": 1}, b.meter.points(t, transactions))
	require.Empty(t, b.meter.points(t, checkouts))
}
