package pgxtrace

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The types of errors.
const (
	typeCanceled          = "canceled"
	typeTimeout           = "timeout"
	typeConnectionRefused = "connection_refused"
	typePoolExhausted     = "pool_exhausted"
	typeAuth              = "auth"
	typeTooMany           = "too_many"
	typeAdminShutdown     = "admin_shutdown"
	typeDNS               = "dns"
	typeTLS               = "tls"
	typeConnectionLost    = "connection_lost"
	typeDeadlock          = "deadlock"
	typeSerialization     = "serialization"
	typeLockTimeout       = "lock_timeout"
	typeStatementTimeout  = "statement_timeout"
	typeAborted           = "transaction_aborted"
	typeReadOnly          = "read_only"
	typeConstraint        = "constraint"
	typeData              = "data"
	typePermission        = "permission"
	typeInvalidStatement  = "invalid_statement"
	typeResources         = "resources"
	typeInternal          = "internal"
	typeOther             = "other"
)

// queryCanceled is the SQLSTATE of a statement that the server stopped.
const queryCanceled = "57014"

// ErrorType names an error of pgx for a label. The names are a closed set:
//
//   - canceled: the caller gave up
//   - timeout: a deadline of the caller or of connecting
//   - connection_refused, dns, tls, auth, too_many: there is no connection
//   - connection_lost, admin_shutdown: there was one
//   - deadlock, serialization, lock_timeout, statement_timeout, transaction_aborted, read_only: another try may do better
//   - constraint, data, permission, invalid_statement: it will not
//   - resources, internal: the server is unwell
//   - other
//
// Of no error it is empty.
func ErrorType(err error) string {
	if err == nil {
		return ""
	}
	if reported, ok := errors.AsType[*pgconn.PgError](err); ok {
		return typeOfState(reported.Code)
	}
	for _, rule := range rules {
		if rule.matches(err) {
			return rule.name
		}
	}
	return typeOther
}

// connectionErrorType names an error of connecting or of the pool, with the names that its metric has. pool_exhausted can't be
// seen from an error.
func connectionErrorType(err error) string {
	switch name := ErrorType(err); name {
	case typeCanceled, typeTimeout, typeConnectionRefused, typeAuth, typeTooMany, typeAdminShutdown, typeDNS, typeTLS:
		return name
	default:
		return typeOther
	}
}

func typeOfState(code string) string {
	if name, ok := states[code]; ok {
		return name
	}
	if len(code) == 5 {
		if name, ok := classes[code[:2]]; ok {
			return name
		}
	}
	return typeOther
}

var states = map[string]string{
	"25006":       typeReadOnly, // read_only_sql_transaction: a demoted primary
	"25P02":       typeAborted,  // in_failed_sql_transaction
	"25P03":       typeConnectionLost,
	"25P04":       typeStatementTimeout, // transaction_timeout
	"40001":       typeSerialization,
	"40002":       typeConstraint,
	"40P01":       typeDeadlock,
	"42501":       typePermission,
	"53300":       typeTooMany,
	"55P03":       typeLockTimeout,
	queryCanceled: typeStatementTimeout, // or pg_cancel_backend: only the message tells, in the server's language
	"57P01":       typeAdminShutdown,
	"57P02":       typeAdminShutdown, // crash_shutdown
	"57P03":       typeAdminShutdown, // cannot_connect_now
	"57P04":       typeConnectionLost,
	"57P05":       typeConnectionLost, // idle_session_timeout
}

// classes are the first two characters of a SQLSTATE.
var classes = map[string]string{
	"08": typeConnectionLost,
	"22": typeData,
	"23": typeConstraint,
	"28": typeAuth,
	"40": typeAborted,
	"42": typeInvalidStatement,
	"53": typeResources,
	"54": typeResources,
	"58": typeInternal,
	"XX": typeInternal,
}

// rules recognise what the server did not report. The first one that matches decides: giving up looks like a time-out, and so
// may a name that is not found; each of them breaks a connection.
var rules = []struct {
	name    string
	matches func(error) bool
}{
	{typeCanceled, func(err error) bool { return errors.Is(err, context.Canceled) }},
	{typeDNS, is[*net.DNSError]},
	{typeConnectionRefused, refused},
	{typeTimeout, timeout},
	// pgx says so of all that goes wrong in the handshake, a server without TLS included, and has no type for it.
	{typeTLS, func(err error) bool {
		return is[*pgconn.ConnectError](err) && strings.Contains(err.Error(), "tls error: ")
	}},
	{typeAborted, func(err error) bool { return errors.Is(err, pgx.ErrTxCommitRollback) }},
	{typeConnectionLost, lost},
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// refused: nobody listens. A unix socket's file is missing then.
func refused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || (errors.Is(err, syscall.ENOENT) && is[*net.OpError](err))
}

func timeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err) {
		return true
	}
	network, ok := errors.AsType[net.Error](err)
	return ok && network.Timeout()
}

func lost(err error) bool {
	return errors.Is(err, pgconn.ErrConnClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || is[*net.OpError](err)
}
