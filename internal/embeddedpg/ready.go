package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	readyTimeout   = 30 * time.Second
	connectTimeout = 5 * time.Second
	pollShortest   = 10 * time.Millisecond
	pollLongest    = 250 * time.Millisecond
)

var errExited = errors.New("the server ended while starting")

func tcpURL(user, password string, port int, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password), Path: "/" + database, RawQuery: "sslmode=disable",
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
	}
	if password == "" {
		u.User = url.User(user)
	}
	return u.String()
}

func socketURL(user, dir string, port int, database string) string {
	query := url.Values{"host": {dir}, "port": {strconv.Itoa(port)}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.User(user), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// withDatabase returns rawURL with another database name.
func withDatabase(rawURL, database string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", errors.New("parse the server's URL") // the parser's own message would show the password
	}
	u.Path = "/" + database
	return u.String(), nil
}

// waitReady polls until the server accepts connections, has ended, or time is up, and notes its version.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	// "tasker" does not exist before the first start; "postgres" always does.
	probe, err := withDatabase(s.state.URL, maintenanceDatabase)
	if err != nil {
		return err
	}
	for pause := pollShortest; ; pause = min(2*pause, pollLongest) {
		s.version, err = identify(ctx, probe, s.data)
		if err == nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-s.proc.exited():
			timer.Stop()
			return errExited
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for Postgres to accept connections: %w", err)
		case <-timer.C:
		}
		if !s.proc.running() {
			return errExited
		}
	}
}

// identify connects and makes sure that it reached the server of that data directory: a port may have been taken by another.
func identify(ctx context.Context, probeURL, data string) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, probeURL)
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var dir string
	row := conn.QueryRow(ctx, "SELECT current_setting('data_directory'), current_setting('server_version_num')::int / 10000 || '.' || "+
		"current_setting('server_version_num')::int % 10000")
	if err := row.Scan(&dir, &version); err != nil {
		return "", fmt.Errorf("ask the server for its data directory: %w", err)
	}
	theirs, err := os.Stat(dir)
	if err != nil {
		return "", fmt.Errorf("look at the server's data directory: %w", err)
	}
	ours, err := os.Stat(data)
	if err != nil {
		return "", fmt.Errorf("look at our data directory: %w", err)
	}
	if !os.SameFile(theirs, ours) {
		return "", fmt.Errorf("the server uses data directory %s, not %s", dir, data)
	}
	return version, nil
}

// ensureDatabase creates the developer database unless it exists.
func (s *Server) ensureDatabase(ctx context.Context) (err error) {
	admin, err := withDatabase(s.state.URL, maintenanceDatabase)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var exists bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", devDatabase).Scan(&exists)
	if err != nil {
		return fmt.Errorf("look for database %s: %w", devDatabase, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{devDatabase}.Sanitize()); err != nil {
		return fmt.Errorf("create database %s: %w", devDatabase, err)
	}
	return nil
}

// freePort returns preferred if nobody listens on it, else a port the system chose. Another process may still take it before
// the server does.
func freePort(ctx context.Context, preferred int) (int, error) {
	var config net.ListenConfig
	for _, port := range []int{preferred, 0} {
		listener, err := config.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		address, ok := listener.Addr().(*net.TCPAddr)
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("give up the probed port: %w", err)
		}
		if ok {
			return address.Port, nil
		}
	}
	return 0, errors.New("find a free port on 127.0.0.1")
}
