package pgxtrace_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// Not parallel: allocations are counted for the whole process.
func TestAStatementCostsNoAllocation(t *testing.T) {
	for name, options := range map[string][]option{"app": {}, "river": {named("river")}, "verbs": {named("river"), verbs}} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, options...)
			conn := b.acquire(t).Conn()
			tag, begin, commit := pgconn.NewCommandTag("SELECT 1"), pgconn.NewCommandTag("BEGIN"), pgconn.NewCommandTag("COMMIT")
			for what, do := range map[string]func(context.Context){
				"named":   query(b, conn, "-- name: JobGetAvailable :many\nSELECT 1", tag),
				"unnamed": query(b, conn, "SELECT 1", tag),
				"unknown": query(b, conn, "no idea", tag),
				"copy": func(ctx context.Context) {
					ctx = b.tracer.TraceCopyFromStart(ctx, conn, pgx.TraceCopyFromStartData{TableName: table})
					b.tracer.TraceCopyFromEnd(ctx, conn, pgx.TraceCopyFromEndData{CommandTag: tag})
				},
				"batch with a transaction": func(ctx context.Context) {
					ctx = b.tracer.TraceBatchStart(ctx, conn, pgx.TraceBatchStartData{})
					for _, one := range []pgconn.CommandTag{begin, tag, commit} {
						b.tracer.TraceBatchQuery(ctx, conn, pgx.TraceBatchQueryData{
							SQL: "-- name: One :one\nSELECT 1", CommandTag: one, ReadStartTime: time.Now(),
						})
					}
					b.tracer.TraceBatchEnd(ctx, conn, pgx.TraceBatchEndData{})
				},
			} {
				ctx := t.Context()
				require.Zero(t, testing.AllocsPerRun(200, func() { do(ctx) }), what)
			}
		})
	}
}

var table = pgx.Identifier{"public", "note"}

func query(b *testBundle, conn *pgx.Conn, sql string, tag pgconn.CommandTag) func(context.Context) {
	return func(ctx context.Context) {
		ctx = b.tracer.TraceQueryStart(ctx, conn, pgx.TraceQueryStartData{SQL: sql})
		b.tracer.TraceQueryEnd(ctx, conn, pgx.TraceQueryEndData{CommandTag: tag})
	}
}

// Not parallel: allocations are counted for the whole process.
func TestACheckoutCostsOneAllocation(t *testing.T) {
	b := setup(t)
	conn := b.acquire(t).Conn()
	ctx := t.Context()
	require.InDelta(t, 1, testing.AllocsPerRun(200, func() {
		acquiring := b.tracer.TraceAcquireStart(ctx, b.pool, pgxpool.TraceAcquireStartData{})
		b.tracer.TraceAcquireEnd(acquiring, b.pool, pgxpool.TraceAcquireEndData{Conn: conn})
		b.tracer.TraceRelease(b.pool, pgxpool.TraceReleaseData{Conn: conn})
	}), 0)
}

func BenchmarkStatement(b *testing.B) {
	bundle := setup(b)
	conn, err := bundle.pool.Acquire(b.Context())
	require.NoError(b, err)
	defer conn.Release()
	do := query(bundle, conn.Conn(), "-- name: NoteCount :one\nSELECT count(*) FROM note", pgconn.NewCommandTag("SELECT 1"))
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		do(ctx)
	}
}
