package db_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/db"
)

// stub is a database whose transactions end with given errors.
type stub struct {
	pgx.Tx
	begin, commit error
	begun         int
}

func (s *stub) Begin(context.Context) (pgx.Tx, error) {
	s.begun++
	if s.begin != nil {
		return nil, s.begin
	}
	return s, nil
}
func (s *stub) Commit(context.Context) error   { return s.commit }
func (s *stub) Rollback(context.Context) error { return nil }

func sqlError(severity, code string) error { return &pgconn.PgError{Severity: severity, Code: code} }

// The table of what an error means, where it may come from, and whether the whole function is worth another try.
func TestEveryErrorIsTriedAgainOrNotByWhatItSaysAboutTheTransaction(t *testing.T) {
	t.Parallel()
	reset := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	tests := []struct {
		name                    string
		err                     error
		inBegin, inFn, atCommit bool
	}{
		{"cannot connect now", sqlError("FATAL", "57P03"), true, true, true},
		{"admin shutdown", sqlError("FATAL", "57P01"), true, true, true},
		{"connection reset", reset, true, true, true},
		{"connection closed under us", fmt.Errorf("query: %w", net.ErrClosed), true, true, true},
		{"conn closed", errors.New("conn closed"), true, true, true},
		{"deadlock", sqlError("ERROR", "40P01"), true, true, true},
		{"end of file", io.ErrUnexpectedEOF, true, true, true},
		{"foreign key", sqlError("ERROR", "23503"), false, false, false},
		{"a fatal error of an unknown code", sqlError("FATAL", "XX000"), false, false, true},
		{"lock timeout", sqlError("ERROR", "55P03"), true, true, true},
		{"read-only", sqlError("ERROR", "25006"), true, true, true},
		{"rolled back instead", pgx.ErrTxCommitRollback, true, true, true},
		{"serialization failure", sqlError("ERROR", "40001"), true, true, true},
		{"somebody's own error", errors.New("no such account"), false, false, true},
		{"statement timeout", sqlError("ERROR", "57014"), true, true, true},
		{"syntax error", sqlError("ERROR", "42601"), false, false, false},
		{"the caller's deadline", context.DeadlineExceeded, false, false, false},
		{"the caller's goodbye", fmt.Errorf("query: %w", context.Canceled), false, false, false},
		{"too many connections", sqlError("FATAL", "53300"), true, true, true},
		{"unique key", sqlError("ERROR", "23505"), false, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for where, expected := range map[string]bool{"begin": test.inBegin, "function": test.inFn, "commit": test.atCommit} {
				s, fnErr := &stub{}, error(nil)
				switch where {
				case "begin":
					s.begin = test.err
				case "function":
					fnErr = test.err
				default:
					s.commit = test.err
				}
				err := db.InTx(t.Context(), s, "try", func(context.Context, pgx.Tx) error { return fnErr })
				require.ErrorIs(t, err, test.err)
				require.Equal(t, expected, s.begun > 1, "%s: %d tries", where, s.begun)
				require.Equal(t, expected, db.Unavailable(err), where)
			}
		})
	}
}

func TestNoErrorIsNotUnavailable(t *testing.T) {
	t.Parallel()
	require.False(t, db.Unavailable(nil))
}

// A server that takes the connection and says nothing is as far away as one that refuses it.
func TestAServerThatCannotBeReachedIsUnavailable(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	deaf, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = deaf.Close() })
	gone, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	for name, listener := range map[string]net.Listener{"deaf": deaf, "gone": gone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, err := pgx.ParseConfig("postgres://tasker@" + listener.Addr().String() + "/tasker?sslmode=disable")
			require.NoError(t, err)
			config.ConnectTimeout = 100 * time.Millisecond
			_, err = pgx.ConnectConfig(t.Context(), config)
			require.Error(t, err)
			require.True(t, db.Unavailable(err), err)
		})
	}
}
