package dbtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/internal/embeddedpg"
)

// namePrefix starts the name of every database this package makes, and so of every one it may drop.
const namePrefix = "tasker_test_"

// mark is this process's comment on its databases.
var mark = "made by internal/dbtest, process token " + rand.Text()

// newName is a database name that needs no quoting.
func newName() string { return namePrefix + strings.ToLower(rand.Text()) }

// shared is the package's server. Tests reach it through Main and ready.
var shared = starter{config: embeddedpg.Config{Ephemeral: true}}

// starter starts the backend once. A failure is remembered, so that a hundred tests don't wait for it a hundred times.
type starter struct {
	config  embeddedpg.Config
	mu      sync.Mutex
	tried   bool
	started *backend
	err     error
}

// backend is a server to make databases on.
type backend struct {
	server   *embeddedpg.Server // nil when the URL was given
	admin    string             // URL to create databases through
	template string
}

func (s *starter) get(ctx context.Context) (*backend, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.tried {
		s.tried = true
		s.started, s.err = open(ctx, s.config)
	}
	return s.started, s.err
}

func (s *starter) stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started == nil {
		return nil
	}
	closing := s.started
	s.started, s.err = nil, errors.New("the server has been stopped")
	return closing.close(ctx)
}

// open starts the server, or takes the given one, and prepares the template.
func open(ctx context.Context, config embeddedpg.Config) (*backend, error) {
	b := &backend{admin: os.Getenv(urlVariable), template: newName()}
	if b.admin == "" {
		server, err := embeddedpg.Start(ctx, config)
		if err != nil {
			return nil, fmt.Errorf("start a server: %w", err)
		}
		b.server, b.admin = server, server.URL()
	}
	if err := b.prepareTemplate(ctx); err != nil {
		return nil, errors.Join(err, b.close(context.WithoutCancel(ctx)))
	}
	return b, nil
}

func (b *backend) prepareTemplate(ctx context.Context) error {
	target, err := b.create(ctx, b.template, "")
	if err != nil {
		return err
	}
	if err := migrate(ctx, target); err != nil {
		return fmt.Errorf("migrate the template database: %w", err)
	}
	return b.as(ctx, func(conn *pgx.Conn) error {
		// A connection to the template would make every copy of it fail.
		_, err := conn.Exec(ctx, "ALTER DATABASE "+quote(b.template)+" WITH ALLOW_CONNECTIONS false")
		return err
	})
}

func (b *backend) close(ctx context.Context) error {
	if b.server != nil {
		return b.server.Stop(ctx)
	}
	return b.drop(ctx, b.template)
}

// create makes a database, a copy of template unless that is "", and returns its URL.
func (b *backend) create(ctx context.Context, name, template string) (string, error) {
	target, err := url.Parse(b.admin)
	if err != nil {
		return "", errors.New("parse the server's URL (it has to start with postgres://)") // the cause would show the password
	}
	target.Path = "/" + name
	err = b.as(ctx, func(conn *pgx.Conn) error {
		statement := "CREATE DATABASE " + quote(name)
		if template != "" {
			statement += " TEMPLATE " + quote(template)
		}
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "COMMENT ON DATABASE "+quote(name)+" IS '"+mark+"'")
		return err
	})
	if err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	return target.String(), nil
}

// drop removes a database after making sure that it is one of ours. One that does not exist is fine.
func (b *backend) drop(ctx context.Context, name string) error {
	if !strings.HasPrefix(name, namePrefix) {
		return fmt.Errorf("drop database %s: its name does not start with %s", name, namePrefix)
	}
	err := b.as(ctx, func(conn *pgx.Conn) error {
		var ours bool
		err := conn.QueryRow(ctx, "SELECT pg_get_userbyid(datdba) = current_user AND "+
			"coalesce(shobj_description(oid, 'pg_database') = $2, false) FROM pg_database WHERE datname = $1", name, mark).Scan(&ours)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return err
		case !ours:
			return errors.New("this process did not make it")
		}
		_, err = conn.Exec(ctx, "DROP DATABASE "+quote(name)+" WITH (FORCE)")
		return err
	})
	if err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

// as runs do on a connection of its own: a pool kept for the whole run would look like a leak of the test that made it.
func (b *backend) as(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, b.admin)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return errors.Join(do(conn), conn.Close(context.WithoutCancel(ctx)))
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
