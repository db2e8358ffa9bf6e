package pgxtrace

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// How transactions end, and the command tags that say so.
const (
	resultCommit   = "commit"
	resultRollback = "rollback"

	tagBegin    = "BEGIN"
	tagCommit   = "COMMIT"
	tagRollback = "ROLLBACK"
)

// idle is the status of a connection without a transaction.
const idle = 'I'

// state is what a tracer knows of a connection. It lies on the connection and is used by whoever uses that.
type state struct {
	// running are the statement that runs and, beside it, one that came while the connection was busy. pgx refuses that one
	// at once, so its end is the next.
	running [2]statement
	current int

	batch       batch
	transaction transaction
	// canceled: the connection is closed because a caller gave up.
	canceled bool
}

// transaction is one that is open, or the zero value.
type transaction struct {
	name  string
	began time.Time
}

func (x *transaction) open() bool { return !x.began.IsZero() }

// state is made at the first event of a connection.
func (t *Tracer) state(conn *pgx.Conn) *state {
	data := conn.PgConn().CustomData()
	if s, ok := data[t.key].(*state); ok {
		return s
	}
	s := &state{}
	data[t.key] = s
	return s
}

func (s *state) start(conn *pgx.Conn, st statement) {
	s.current = 0
	if conn.PgConn().IsBusy() {
		s.current = 1
	}
	s.running[s.current] = st
}

func (s *state) end() statement {
	ended := s.running[s.current]
	s.current = 0
	return ended
}

// settle brings the transaction up to date with the connection when a statement, or a whole batch, has ended. Savepoints
// don't show: the status stays as it is.
func (t *Tracer) settle(ctx context.Context, conn *pgx.Conn, began time.Time, end outcome) {
	s := t.state(conn)
	open := s.transaction.open()
	switch {
	case conn.IsClosed(): // the status is stale
		if open {
			t.lose(ctx, s)
		}
	case open && conn.PgConn().TxStatus() == idle:
		result := resultCommit
		if end.err != nil || end.tag == tagRollback { // COMMIT of a failed transaction has this tag too, and no error
			result = resultRollback
		}
		t.closeTransaction(ctx, s, result)
	case !open && conn.PgConn().TxStatus() != idle:
		t.openTransaction(ctx, s, began)
	}
}

func (t *Tracer) openTransaction(ctx context.Context, s *state, began time.Time) {
	name := telemetry.Transaction(ctx)
	if name == "" {
		name = t.pool
	}
	s.transaction = transaction{name: name, began: began}
}

func (t *Tracer) closeTransaction(ctx context.Context, s *state, result string) {
	t.database.Transaction(ctx, s.transaction.name, result, time.Since(s.transaction.began))
	s.transaction = transaction{}
}

// lose ends a transaction that ends with its connection. If that broke at COMMIT, nobody knows what the server did.
func (t *Tracer) lose(ctx context.Context, s *state) {
	t.closeTransaction(ctx, s, resultRollback)
	t.database.TransactionLost(ctx, t.pool)
}
