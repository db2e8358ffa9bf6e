package pgxtrace_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/telemetry/pgxtrace"
)

func TestEachErrorHasAType(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{context.Canceled, "canceled"},
		{&net.OpError{Op: "dial", Err: context.Canceled}, "canceled"},
		{context.DeadlineExceeded, "timeout"},
		{&net.DNSError{Err: "i/o timeout", IsTimeout: true}, "dns"},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "connection_refused"},
		{&net.OpError{Op: "dial", Err: syscall.ENOENT}, "connection_refused"},
		{syscall.ENOENT, "other"},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, "connection_lost"},
		{io.ErrUnexpectedEOF, "connection_lost"},
		{pgconn.ErrConnClosed, "connection_lost"},
		{pgx.ErrTxCommitRollback, "transaction_aborted"},
		{pgx.ErrNoRows, "other"},
		{errors.New("tls error: of somebody else"), "other"},
		{code("08006"), "connection_lost"},
		{code("22012"), "data"},
		{code("23505"), "constraint"},
		{code("25006"), "read_only"},
		{code("25P02"), "transaction_aborted"},
		{code("25P03"), "connection_lost"},
		{code("28000"), "auth"},
		{code("28P01"), "auth"},
		{code("3D000"), "other"},
		{code("40001"), "serialization"},
		{code("40P01"), "deadlock"},
		{code("42501"), "permission"},
		{code("42P01"), "invalid_statement"},
		{code("53100"), "resources"},
		{code("53300"), "too_many"},
		{code("55P03"), "lock_timeout"},
		{code("57014"), "statement_timeout"},
		{code("57P01"), "admin_shutdown"},
		{code("57P03"), "admin_shutdown"},
		{code("XX000"), "internal"},
		{code(""), "other"},
		{code("2"), "other"},
	} {
		require.Equal(t, test.want, pgxtrace.ErrorType(test.err), "%v", test.err)
		if test.err != nil {
			require.Equal(t, test.want, pgxtrace.ErrorType(fmt.Errorf("advance task 7: %w", test.err)), "%v", test.err)
		}
	}
}

func code(state string) error { return &pgconn.PgError{Code: state} }

func TestErrorsOfARealServerHaveTheirTypes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.acquire(t)
	for _, test := range []struct{ before, sql, want string }{
		{"begin", "SELECT nothing FROM nowhere", "invalid_statement"},
		{"begin", "SELECT 1/0", "data"},
		{"begin", "INSERT INTO note VALUES (1), (1)", "constraint"},
		{"begin read only", "INSERT INTO note VALUES (1)", "read_only"},
		{"begin; SET LOCAL statement_timeout = 1", "SELECT pg_sleep(600)", "statement_timeout"},
		{"begin; DO $$ BEGIN RAISE 'no' USING ERRCODE = '40001'; END $$", "SELECT 1", "serialization"},
	} {
		_, err := conn.Conn().PgConn().Exec(t.Context(), test.before+";"+test.sql).ReadAll()
		require.Equal(t, test.want, pgxtrace.ErrorType(err), test.sql)
		exec(t, conn, "rollback")
	}
	require.Equal(t, "admin_shutdown", pgxtrace.ErrorType(run(t.Context(), conn, "SELECT pg_terminate_backend(pg_backend_pid())")))
	require.Equal(t, "connection_lost", pgxtrace.ErrorType(run(t.Context(), conn, "SELECT 1")))
}
