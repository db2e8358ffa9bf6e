package pgxtrace

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

// batch is one that runs.
type batch struct {
	began time.Time
	// answered: pgx told of a statement.
	answered bool
	// err is the last error that was recorded.
	err error
}

// TraceBatchStart implements [pgx.BatchTracer].
func (t *Tracer) TraceBatchStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	t.state(conn).batch = batch{began: time.Now()}
	return ctx
}

// TraceBatchQuery implements [pgx.BatchTracer]. Statements after one that failed don't run; of these pgx tells nothing, or, where
// it does without preparing, the same error again.
func (t *Tracer) TraceBatchQuery(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchQueryData) {
	s := t.state(conn)
	s.batch.answered = true
	if s.batch.recorded(data.Err) {
		return
	}
	s.batch.err = data.Err
	ended := t.statement(data.SQL)
	ended.began = data.ReadStartTime
	t.record(ctx, conn, ended, data.Err)

	// The status is known when the whole batch has been answered, too late for a transaction that lies within it.
	switch data.CommandTag.String() {
	case tagBegin:
		if !s.transaction.open() {
			t.openTransaction(ctx, s, s.batch.began)
		}
	case tagCommit:
		if s.transaction.open() {
			t.closeTransaction(ctx, s, resultCommit)
		}
	}
}

// TraceBatchEnd implements [pgx.BatchTracer]. pgx calls it twice for a batch that could not be sent.
func (t *Tracer) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	s := t.state(conn)
	if s.batch.owns(data.Err) {
		s.batch.err = data.Err
		t.record(ctx, conn, statement{label: t.verbs[batchVerb], began: s.batch.began}, data.Err)
	}
	t.settle(ctx, conn, s.batch.began, outcome{tagRollback, data.Err})
}

// owns reports whether an error is the batch's own: one of its statements could not be prepared, or the transaction around all
// of them could not be committed. What a callback of the caller returned comes here too, and is none.
func (b *batch) owns(err error) bool {
	return err != nil && !b.recorded(err) && (!b.answered || ErrorType(err) != typeOther)
}

func (b *batch) recorded(err error) bool { return err != nil && errors.Is(err, b.err) }
