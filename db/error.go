package db

import (
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// errConnClosed stands for pgx's unexported "conn closed"; see isNetError.
var errConnClosed = net.ErrClosed

// isNetError recognises a connection that broke. pgx reports the later uses of such a connection by message only.
func isNetError(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "unexpected EOF") ||
		strings.Contains(err.Error(), "connection reset")
}

// Unreachable reports whether the database itself is away, whatever it was asked: the connection broke, or it is shutting
// down, starting up or full.
func Unreachable(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pgErr.Code {
		case "57P01", "57P02", "57P03", "53300", "08006", "08001", "08003":
			return true
		}
		return false
	}
	return err != nil && connectionLost(err)
}

// Unavailable reports whether an error means that the database could not be reached or asked to come back later: the same
// work may succeed in a moment.
func Unavailable(err error) bool { return err != nil && again(err) }
