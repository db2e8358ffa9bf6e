package pgxtrace

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// TraceConnectStart implements [pgx.ConnectTracer].
func (t *Tracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

// TraceConnectEnd implements [pgx.ConnectTracer].
func (t *Tracer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	if data.Err != nil {
		t.connectionError(ctx, connectionErrorType(data.Err))
		return
	}
	t.state(data.Conn) // made here, so that no statement has to
}

// acquisition is a context that knows since when a connection is asked for, and by which tracer: there is no connection yet to
// keep it on. Being the context itself, it is one allocation instead of two.
type acquisition struct {
	context.Context //nolint:containedctx // it is a context

	tracer *Tracer
	began  time.Time
}

// Value implements [context.Context].
func (a *acquisition) Value(key any) any {
	if key == any(a.tracer) {
		return a
	}
	return a.Context.Value(key)
}

// TraceAcquireStart implements [pgxpool.AcquireTracer].
func (t *Tracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return &acquisition{Context: ctx, tracer: t, began: time.Now()}
}

// TraceAcquireEnd implements [pgxpool.AcquireTracer].
func (t *Tracer) TraceAcquireEnd(ctx context.Context, pool *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	if a, ok := ctx.Value(t).(*acquisition); ok {
		t.database.Checkout(ctx, t.pool, time.Since(a.began))
	}
	if data.Err == nil {
		return
	}
	if _, counted := errors.AsType[*pgconn.ConnectError](data.Err); counted {
		return // where it was made: at the end of connecting
	}
	errorType := connectionErrorType(data.Err)
	if stat := pool.Stat(); errorType == typeTimeout && stat.AcquiredConns() >= stat.MaxConns() {
		errorType = typePoolExhausted
	}
	t.connectionError(ctx, errorType)
}

// connectionError counts an error, unless the caller gave up.
func (t *Tracer) connectionError(ctx context.Context, errorType string) {
	if errorType != typeCanceled && !errors.Is(ctx.Err(), context.Canceled) {
		t.database.ConnectionError(ctx, errorType)
	}
}

// TraceRelease implements [pgxpool.ReleaseTracer]. The pool destroys a connection that is given back with a transaction.
func (t *Tracer) TraceRelease(_ *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	s := t.state(data.Conn)
	switch {
	case !s.transaction.open():
	case data.Conn.IsClosed() || data.Conn.PgConn().TxStatus() != idle:
		t.lose(context.Background(), s) // pgx has none here
	default:
		s.transaction = transaction{} // it ended unseen, nobody knows how
	}
}
