package pgxtrace

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Results of a statement.
const (
	resultOK       = "ok"
	resultError    = "error"
	resultCanceled = "canceled"
)

// statement is one that runs.
type statement struct {
	label string
	began time.Time
}

// outcome is the server's answer.
type outcome struct {
	tag string
	err error
}

// statement labels a text. It takes the time.
func (t *Tracer) statement(sql string) statement {
	name := queryName(sql)
	st := statement{began: time.Now()}
	if name == "" || t.verb {
		st.label = labelOfVerb(t.verbs, firstWord(sql))
	} else {
		st.label = t.names.label(name)
	}
	return st
}

// copying labels a COPY.
func (t *Tracer) copying(table pgx.Identifier) statement {
	st := statement{began: time.Now()}
	if t.verb || len(table) == 0 {
		st.label = t.verbs[copyVerb]
	} else {
		st.label = t.tables.label(table[len(table)-1])
	}
	return st
}

// record measures a statement that ended.
func (t *Tracer) record(ctx context.Context, conn *pgx.Conn, ended statement, err error) {
	result := t.result(ctx, conn, err)
	t.database.Query(ctx, ended.label, result, time.Since(ended.began))
}

// result tells failures from what the caller gave up. A deadline is a failure: nobody changed his mind, the answer was late.
func (t *Tracer) result(ctx context.Context, conn *pgx.Conn, err error) string {
	switch {
	case err == nil:
		return resultOK
	case canceled(ctx, err):
		if conn.IsClosed() {
			t.state(conn).canceled = true
		}
		return resultCanceled
	case errors.Is(err, pgconn.ErrConnClosed) && t.state(conn).canceled:
		// Giving up closed the connection: the ROLLBACK that comes after is no failure of its own.
		return resultCanceled
	default:
		return resultError
	}
}

// canceled reports whether a caller gave up: pgx stopped waiting, or had the server stop.
func canceled(ctx context.Context, err error) bool {
	if errors.Is(err, context.Canceled) {
		return true
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		return false
	}
	stopped, ok := errors.AsType[*pgconn.PgError](err)
	return ok && stopped.Code == queryCanceled
}
