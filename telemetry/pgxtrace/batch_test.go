package pgxtrace_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func batchOf(texts ...string) *pgx.Batch {
	batch := &pgx.Batch{}
	for _, text := range texts {
		batch.Queue(text)
	}
	return batch
}

func TestEachStatementOfABatchIsCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.pool.SendBatch(t.Context(), batchOf("-- name: One :one\nSELECT 1", "SELECT 2", "SELECT 3")).Close())
	want := points{"One ok": 1, "select ok": 2}
	require.Equal(t, want, b.meter.points(t, queries))
	require.Equal(t, want, b.meter.points(t, queryTime))
	require.Empty(t, b.meter.points(t, transactions))
}

func TestTheStatementThatFailsABatchIsTheOnlyError(t *testing.T) {
	t.Parallel()
	for _, m := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			b := setup(t, mode(m))
			require.Error(t, b.pool.SendBatch(t.Context(), batchOf("SELECT 1", "-- name: Bad :one\nSELECT 1/0", "SELECT 3")).Close())
			require.Equal(t, points{"select ok": 1, "Bad error": 1}, b.meter.points(t, queries))
		})
	}
}

func TestABatchThatCannotBeSentIsOneError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Error(t, b.pool.SendBatch(t.Context(), batchOf("SELECT 1", "SELECT nothing FROM nowhere")).Close())
	require.Equal(t, points{"batch error": 1}, b.meter.points(t, queries))
}

func TestABatchWhoseTransactionFailsAtItsEndIsOneError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Error(t, b.pool.SendBatch(t.Context(), batchOf("INSERT INTO note VALUES (1, '', 2)")).Close())
	require.Equal(t, points{"insert ok": 1, "batch error": 1}, b.meter.points(t, queries))
}

func TestWhatTheCallerDoesWithTheResultsOfABatchIsNoError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	batch := &pgx.Batch{}
	batch.Queue("SELECT 1")
	batch.Queue("SELECT 2").QueryRow(func(pgx.Row) error { return errors.New("not what I wanted") })
	require.Error(t, b.pool.SendBatch(t.Context(), batch).Close())
	require.Zero(t, b.meter.points(t, queries)["batch error"])
}

func TestATransactionWithinABatchIsSeen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		texts []string
		want  points
	}{
		"committed":   {[]string{"begin", "INSERT INTO note VALUES (1)", "commit"}, points{"commit app": 1}},
		"rolled back": {[]string{"begin", "INSERT INTO note VALUES (1)", "rollback"}, points{"rollback app": 1}},
		"two":         {[]string{"begin", "commit", "begin", "rollback"}, points{"commit app": 1, "rollback app": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.NoError(t, b.pool.SendBatch(t.Context(), batchOf(test.texts...)).Close())
			require.Equal(t, test.want, b.meter.points(t, transactions))
			require.Empty(t, b.meter.points(t, lostTransactions))
		})
	}
}

func TestATransactionThatABatchBeginsGoesOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.acquire(t)
	for _, end := range []func(pgx.Tx) error{
		func(tx pgx.Tx) error { return tx.Commit(t.Context()) },
		func(tx pgx.Tx) error { return tx.Rollback(t.Context()) },
	} {
		batch := &pgx.Batch{}
		batch.BeginTx(pgx.TxOptions{})
		batch.Queue("SELECT 1")
		results := conn.SendBatch(t.Context(), batch)
		require.NoError(t, results.Close())
		require.NoError(t, end(results.Tx()))
	}
	require.Equal(t, points{"commit app": 1, "rollback app": 1}, b.meter.points(t, transactions))
}

func TestATransactionThatABatchCommitsIsOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.acquire(t)
	exec(t, conn, "begin")
	require.NoError(t, conn.SendBatch(t.Context(), batchOf("SELECT 1", "commit")).Close())
	exec(t, conn, "SELECT 1")
	require.Equal(t, points{"commit app": 1}, b.meter.points(t, transactions))
}

func TestATransactionThatABatchBreaksIsRolledBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Error(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		return tx.SendBatch(t.Context(), batchOf("SELECT 1", "SELECT 1/0")).Close()
	}))
	require.Equal(t, points{"rollback app": 1}, b.meter.points(t, transactions))
	require.Equal(t, points{"begin ok": 1, "select ok": 1, "select error": 1, "rollback ok": 1}, b.meter.points(t, queries))
}
