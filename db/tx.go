package db

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tasker-systems/tasker-go/telemetry"
)

const (
	maxTries     = 5
	firstBackoff = 5 * time.Millisecond
)

// Beginner opens transactions: a pool or a connection.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// InTx runs fn in a transaction. It is the only way that Tasker opens one.
//
// The whole of fn runs again, five times at most, when the database asked for it (serialization failure, deadlock, lock or
// statement time-out, shutdown) and when the fate of a commit is unknown. So fn must be re-runnable as a whole: identifiers
// are made outside, nothing in Go changes inside but results that it assigns, and it begins with a compare-and-set that
// recognises its own earlier success. name appears in errors and metrics.
func InTx(ctx context.Context, pool Beginner, name string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	ctx = telemetry.WithTransaction(ctx, name)
	var err error
	for try := range maxTries {
		if err = attempt(ctx, pool, fn); err == nil || !again(err) {
			break
		}
		if waitErr := pause(ctx, try); waitErr != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// InSnapshot runs fn once in a read-only transaction whose statements all see the same state of the database.
func InSnapshot(ctx context.Context, pool *pgxpool.Pool, name string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	ctx = telemetry.WithTransaction(ctx, name)
	tx, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("%s: begin: %w", name, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := fn(ctx, tx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := tx.Commit(ctx); err != nil { // there is nothing to keep, but a rollback would look like a failure
		return fmt.Errorf("%s: end: %w", name, err)
	}
	return nil
}

// commitError marks an error that came from COMMIT: unless the server itself said ERROR, nobody knows what happened.
type commitError struct{ err error }

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

func attempt(ctx context.Context, pool Beginner, fn func(ctx context.Context, tx pgx.Tx) error) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// A cancelled context must not leave the connection in a transaction; pgx closes it then.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := fn(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return &commitError{err}
	}
	return nil
}

// again reports whether the function should run once more. pgconn.SafeToRetry is not asked: it calls a cut COMMIT safe.
func again(err error) bool {
	var commit *commitError
	inCommit := errors.As(err, &commit)
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		// Severity alone is in the language of the server.
		if inCommit && cmp.Or(pgErr.SeverityUnlocalized, pgErr.Severity) != "ERROR" {
			return true
		}
		return retryable[pgErr.Code]
	}
	if errors.Is(err, context.Canceled) {
		return false
	}
	// A server that does not answer within connect_timeout looks like the caller's own deadline.
	if errors.Is(err, context.DeadlineExceeded) && !isConnectError(err) {
		return false
	}
	return inCommit || connectionLost(err)
}

// retryable are the SQLSTATEs that promise that nothing was applied and that another try may do better.
var retryable = map[string]bool{
	"40001": true, // serialization_failure
	"40P01": true, // deadlock_detected
	"40003": true, // statement_completion_unknown
	"55P03": true, // lock_not_available
	"57014": true, // query_canceled: a time-out of the role
	"53300": true, // too_many_connections
	"57P01": true, // admin_shutdown
	"57P02": true, // crash_shutdown
	"57P03": true, // cannot_connect_now
	"25006": true, // read_only_sql_transaction: a demoted primary
	"25P03": true, // idle_in_transaction_session_timeout: this process was frozen
	"08007": true, // transaction_resolution_unknown
}

// connectionLost: before COMMIT a broken connection means that nothing was applied.
func connectionLost(err error) bool {
	return isConnectError(err) || pgconn.Timeout(err) || errors.Is(err, errConnClosed) || isNetError(err)
}

func isConnectError(err error) bool {
	_, ok := errors.AsType[*pgconn.ConnectError](err)
	return ok
}

// pause waits with full jitter, doubling from firstBackoff.
func pause(ctx context.Context, try int) error {
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(firstBackoff<<try) + 1)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait to try again: %w", ctx.Err())
	case <-timer.C:
		return nil
	}
}
