package pgxtrace_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/pgxtrace"
)

func TestEachMetricOfTheDatabaseIsRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t, dialing(nobody), ofSize(1))
	require.Error(t, b.pool.Ping(t.Context()))
	working := setup(t)
	require.NoError(t, pgx.BeginFunc(t.Context(), working.pool, func(pgx.Tx) error { return nil }))
	stop, err := working.tracer.Observe(working.pool)
	require.NoError(t, err)
	defer func() { require.NoError(t, stop()) }()

	found := working.meter.collect(t)
	found[connectionErrors] = b.meter.collect(t)[connectionErrors]
	for _, metric := range telemetry.Catalogue() {
		if metric.Group == "database" {
			require.NotNil(t, found[metric.Name], metric.Name)
		}
	}
}

func TestAStatementIsCountedUnderItsName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	exec(t, b.pool, "-- name: NoteCount :one\nSELECT count(*) FROM note")
	exec(t, b.pool, "-- name: NoteCount :one\nSELECT count(*) FROM note")
	exec(t, b.pool, "SELECT 1")
	exec(t, b.pool, "  /* a remark */ insert INTO note VALUES (1)")
	want := points{"NoteCount ok": 2, "select ok": 1, "insert ok": 1}
	require.Equal(t, want, b.meter.points(t, queries))
	require.Equal(t, want, b.meter.points(t, queryTime))
}

func TestDurationsAreMillisecondsAndHoldTheReadingOfRows(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(t.Context(), "SELECT pg_sleep(0.03) FROM generate_series(1, 2)")
		require.NoError(t, err)
		_, err = pgx.CollectRows(rows, func(pgx.CollectableRow) (int, error) { return 0, nil })
		return err
	}))
	spent := b.meter.total(t, queryTime, "select ok")
	require.GreaterOrEqual(t, spent, 60.0)
	require.Less(t, spent, 60_000.0)
	require.GreaterOrEqual(t, b.meter.total(t, transactions, "commit app"), spent)
}

func TestAStatementThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	exec(t, b.pool, "INSERT INTO note VALUES (1)")
	require.Error(t, run(t.Context(), b.pool, "-- name: Divide :exec\nSELECT 1/0"))
	require.Error(t, run(t.Context(), b.pool, "SELECT nothing FROM nowhere"))
	rows, err := b.pool.Query(t.Context(), "DELETE FROM note WHERE id = 1/length($1) RETURNING 1", "")
	require.NoError(t, err)
	rows.Close()
	require.Error(t, rows.Err())
	require.Equal(t, points{"insert ok": 1, "Divide error": 1, "select error": 1, "delete error": 1}, b.meter.points(t, queries))
}

func TestAQueryWithoutRowsIsNoError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var id int
	require.ErrorIs(t, b.pool.QueryRow(t.Context(), "SELECT id FROM note").Scan(&id), pgx.ErrNoRows)
	require.Equal(t, points{"select ok": 1}, b.meter.points(t, queries))
}

func TestAStatementThatTheCallerGivesUpIsCanceled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.cancelInFlight(t, b.pool)
	conn := b.acquire(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, run(ctx, conn, "SELECT 1"), context.Canceled, "given up before it began")
	require.Equal(t, points{"do canceled": 1, "select canceled": 1}, b.meter.points(t, queries))
}

func TestAStatementThatTheServerStopsForTheCallerIsCanceled(t *testing.T) {
	t.Parallel()
	b := setup(t, instead(func(c *pgx.ConnConfig) {
		c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
			return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Minute}
		}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	noticed := func() { cancel() }
	b.noticed.Store(&noticed)
	require.Error(t, run(ctx, b.pool, endless))
	require.Equal(t, points{"do canceled": 1}, b.meter.points(t, queries))
}

func TestAStatementThatRunsIntoADeadlineIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.acquire(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, run(ctx, conn, endless), context.DeadlineExceeded)
	require.Equal(t, points{"do error": 1}, b.meter.points(t, queries))
}

func TestAStatementOnABusyConnectionLeavesTheOneThatRunsAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.acquire(t)
	rows, err := conn.Query(t.Context(), "-- name: Outer :many\nSELECT * FROM generate_series(1, 3)")
	require.NoError(t, err)
	for rows.Next() {
		require.Error(t, run(t.Context(), conn, "-- name: Inner :exec\nSELECT 1"))
	}
	require.NoError(t, rows.Err())
	require.Equal(t, points{"Outer ok": 1, "Inner error": 3}, b.meter.points(t, queries))
}

func TestACopyBearsTheNameOfItsTable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	rows := func() pgx.CopyFromSource { return pgx.CopyFromRows([][]any{{1}, {2}}) }
	_, err := b.pool.CopyFrom(t.Context(), pgx.Identifier{"public", "note"}, []string{"id"}, rows())
	require.NoError(t, err)
	_, err = b.pool.CopyFrom(t.Context(), pgx.Identifier{"note"}, []string{"id"}, rows())
	require.Error(t, err, "the same again")
	exec(t, b.pool, `CREATE TABLE "anything; at all" (id int)`)
	_, err = b.pool.CopyFrom(t.Context(), pgx.Identifier{"anything; at all"}, []string{"id"}, rows())
	require.NoError(t, err)
	require.Equal(t, points{"copy:note ok": 1, "copy:note error": 1, "copy:other ok": 1, "create ok": 1}, b.meter.points(t, queries))
}

func TestTextsOfUsersDoNotMakeLabelsWithoutLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.acquire(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing has to reach the server
	for i := range 1000 {
		for _, text := range []string{
			"-- name: Generated%d :one\nSELECT 1", "fetch_me_%d", "word%[1]c%[1]d", "-- name: \xff%d\nSELECT", "-- name:\n%d", "%d",
		} {
			require.Error(t, run(ctx, conn, fmt.Sprintf(text, i)))
		}
		copying := pgx.TraceCopyFromStartData{TableName: pgx.Identifier{fmt.Sprintf("staging_%d", i)}}
		b.tracer.TraceCopyFromEnd(b.tracer.TraceCopyFromStart(ctx, conn.Conn(), copying), conn.Conn(), pgx.TraceCopyFromEndData{})
	}
	found := b.meter.points(t, queries)
	require.LessOrEqual(t, len(found), 330)
	var sum int64
	for labels, count := range found {
		require.NotContains(t, labels, "\xff")
		sum += count
	}
	require.Equal(t, int64(7000), sum, "none is left out")
	require.NotZero(t, found["other canceled"])
}

func TestStatementsCanBeCalledByTheirFirstWordAlone(t *testing.T) {
	t.Parallel()
	b := setup(t, verbs)
	exec(t, b.pool, "-- name: NoteCount :one\nSELECT count(*) FROM note")
	exec(t, b.pool, "(VALUES (1))")
	_, err := b.pool.CopyFrom(t.Context(), pgx.Identifier{"note"}, []string{"id"}, pgx.CopyFromRows(nil))
	require.NoError(t, err)
	require.Equal(t, points{"select ok": 1, "values ok": 1, "copy ok": 1}, b.meter.points(t, queries))
}

func TestStatementsOfRiversPoolBearItsName(t *testing.T) {
	t.Parallel()
	b := setup(t, named(pgxtrace.RiverPool))
	exec(t, b.pool, "-- name: NoteCount :one\nSELECT count(*) FROM note")
	exec(t, b.pool, "Select 1")
	require.Error(t, run(t.Context(), b.pool, "hello"))
	_, err := b.pool.CopyFrom(t.Context(), pgx.Identifier{"note"}, []string{"id"}, pgx.CopyFromRows(nil))
	require.NoError(t, err)
	require.Equal(t, points{"river.NoteCount ok": 1, "river.select ok": 1, "river.other error": 1, "river.copy:note ok": 1},
		b.meter.points(t, queries))
}

// A River that renames its statements must not go unnoticed.
func TestRiversOwnStatementsHaveNames(t *testing.T) {
	t.Parallel()
	b := setup(t, named("river"), through(keep(dbtest.URL(t))))
	schema, err := db.CheckSchema(t.Context(), b.pool)
	require.NoError(t, err)
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[noArgs]) error { return nil }))
	client, err := river.NewClient(riverpgxv5.New(b.pool), &river.Config{
		Schema: string(schema), Queues: map[string]river.QueueConfig{"default": {MaxWorkers: 1}}, Workers: workers,
	})
	require.NoError(t, err)
	require.NoError(t, client.Start(t.Context()))
	require.Eventually(t, func() bool {
		return b.meter.points(t, queries)["river.JobGetAvailable ok"] > 0
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, client.Stop(t.Context()))
	for labels := range b.meter.points(t, queries) {
		require.True(t, strings.HasPrefix(labels, "river."), labels)
	}
}

type noArgs struct{}

func (noArgs) Kind() string { return "none" }
