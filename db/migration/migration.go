// Package migration makes and removes the schemas that Tasker needs: its own, by goose, and River's, by River's own
// migrator. Everything happens under one advisory lock, so that any number of processes may migrate at once.
package migration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/db/migrations"
)

// lockKey is the advisory lock of every migration; the value has no meaning but must never change.
const lockKey = 7_465_726_171_001

// minimumPostgres is the oldest server version that Tasker's SQL runs on.
const minimumPostgres = 140_000

// Config says where things go. The zero value is right for most.
type Config struct {
	// RiverSchema is where River's tables are or will be. Empty: where the connection's search path finds them, else its
	// first schema.
	RiverSchema string
	// LeanRiver drops River's two GIN indexes, which neither River nor River UI reads and which make up two fifths of its
	// write-ahead log. Nil: only where this call creates River's tables.
	LeanRiver *bool
}

// Status is what a database has.
type Status struct {
	// Version is Tasker's schema version, 0 for none; Newest is what this binary would bring it to.
	Version int64 `json:"version"`
	Newest  int64 `json:"newest"`
	// RiverSchema holds River's tables; RiverVersion is 0 where there are none.
	RiverSchema  string `json:"river_schema"`
	RiverVersion int    `json:"river_version"`
	// LeanRiver tells whether River's unused GIN indexes are gone.
	LeanRiver bool `json:"lean_river"`
}

// Up brings River's schema and Tasker's to this binary's versions. A database that is newer is an error and stays as it is.
func Up(ctx context.Context, pool *pgxpool.Pool, config *Config) error {
	return locked(ctx, pool, config, func(m *migrator) error { return m.up(ctx) })
}

// Down removes Tasker's schema with all its tasks, down to the given version; 0 removes everything. River's tables stay:
// they may hold other jobs.
func Down(ctx context.Context, pool *pgxpool.Pool, to int64) error {
	return locked(ctx, pool, nil, func(m *migrator) error { return m.down(ctx, to) })
}

// Get returns what the database has.
func Get(ctx context.Context, pool *pgxpool.Pool) (*Status, error) {
	m := &migrator{pool: pool, config: &Config{}}
	if err := m.findRiver(ctx); err != nil {
		return nil, err
	}
	version, err := db.Version(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	if err := m.sameRiver(ctx, version); err != nil {
		return nil, err
	}
	return &Status{
		Version: version, Newest: db.SchemaVersion, RiverSchema: string(m.river), RiverVersion: m.riverVersion, LeanRiver: m.lean,
	}, nil
}

// SQL returns the text of Tasker's migrations for a River schema, for those who apply SQL by other means.
func SQL(riverSchema string) (string, error) {
	if err := db.RiverSchema(riverSchema).Validate(); err != nil {
		return "", fmt.Errorf("migration sql: %w", err)
	}
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		return "", fmt.Errorf("list migrations: %w", err)
	}
	var b strings.Builder
	for _, name := range names {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			return "", fmt.Errorf("read migration %s: %w", name, err)
		}
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		fmt.Fprintf(&b, "-- %s\n%s\n", name, fill(up, riverSchema))
	}
	fmt.Fprintf(&b, versionTable, db.SchemaVersion)
	fmt.Fprintf(&b, "INSERT INTO tasker.settings (name, value) VALUES ('river_schema', '%s');\n", riverSchema)
	return b.String(), nil
}

func fill(text, riverSchema string) string {
	return strings.ReplaceAll(text, "{{river_schema}}", riverSchema)
}

// migrator is one migration under the lock.
type migrator struct {
	pool         *pgxpool.Pool
	config       *Config
	river        db.RiverSchema
	riverVersion int
	lean         bool
}

// locked holds a session's advisory lock on a connection of its own around fn.
func locked(ctx context.Context, pool *pgxpool.Pool, config *Config, fn func(*migrator) error) error {
	if config == nil {
		config = &Config{}
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to migrate: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(lockKey)); err != nil {
		return fmt.Errorf("lock for migration: %w", err)
	}
	defer func() {
		// Should this fail, the connection is broken and the lock gone with it.
		_, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(lockKey)) //nolint:errcheck // see above
	}()
	m := &migrator{pool: pool, config: config}
	if err := m.findRiver(ctx); err != nil {
		return err
	}
	return fn(m)
}

// findRiver looks for River's tables where the configuration or the search path says.
func (m *migrator) findRiver(ctx context.Context) error {
	var server int
	if err := m.pool.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&server); err != nil {
		return fmt.Errorf("read server version: %w", err)
	}
	if server < minimumPostgres {
		return fmt.Errorf("the server is PostgreSQL %d; Tasker needs 14 or newer", server/10_000)
	}
	// Never Tasker's own schema, which "$user" in the search path may name.
	const find = `SELECT coalesce(nullif($1, ''), n.nspname, nullif(current_schema(), 'tasker'), 'public')
	                FROM (SELECT 1) one
	                LEFT JOIN pg_class c ON c.oid = to_regclass('river_job')
	                LEFT JOIN pg_namespace n ON n.oid = c.relnamespace`
	if err := m.pool.QueryRow(ctx, find, m.config.RiverSchema).Scan(&m.river); err != nil {
		return fmt.Errorf("find River's schema: %w", err)
	}
	if err := m.river.Validate(); err != nil {
		return err
	}
	var exists bool
	if err := m.pool.QueryRow(ctx, `SELECT to_regclass($1 || '.river_migration') IS NOT NULL,
	    to_regclass($1 || '.river_job_args_index') IS NULL AND to_regclass($1 || '.river_job_metadata_index') IS NULL`,
		string(m.river)).Scan(&exists, &m.lean); err != nil {
		return fmt.Errorf("look for River's tables: %w", err)
	}
	if !exists {
		return nil
	}
	if err := m.pool.QueryRow(ctx, fmt.Sprintf("SELECT coalesce(max(version), 0) FROM %s.river_migration", m.river)).
		Scan(&m.riverVersion); err != nil {
		return fmt.Errorf("read River's version: %w", err)
	}
	return nil
}

func (m *migrator) up(ctx context.Context) error {
	version, err := db.Version(ctx, m.pool)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if version > db.SchemaVersion {
		return &db.SchemaError{Have: version, Need: db.SchemaVersion}
	}
	if err := m.sameRiver(ctx, version); err != nil {
		return err
	}
	created := m.riverVersion == 0
	if err := m.upRiver(ctx); err != nil {
		return err
	}
	if _, err := m.pool.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS tasker"); err != nil {
		return fmt.Errorf("create schema tasker: %w", err)
	}
	up := func(p *goose.Provider) error { _, err := p.Up(ctx); return err } //nolint:wrapcheck // wrapped below
	if err := m.goose(up); err != nil {
		return fmt.Errorf("migrate Tasker's schema: %w", err)
	}
	if _, err := m.pool.Exec(ctx, `INSERT INTO tasker.settings (name, value) VALUES ('river_schema', $1)
	    ON CONFLICT (name) DO NOTHING`, string(m.river)); err != nil {
		return fmt.Errorf("remember River's schema: %w", err)
	}
	lean := created
	if m.config.LeanRiver != nil {
		lean = *m.config.LeanRiver
	} else if !created {
		return nil
	}
	return m.setLean(ctx, lean)
}

// sameRiver refuses to move: the SQL function and the jobs already there name the old schema.
func (m *migrator) sameRiver(ctx context.Context, version int64) error {
	if version == 0 {
		return nil
	}
	river, err := db.CheckSchema(ctx, m.pool)
	if _, mismatch := errors.AsType[*db.SchemaError](err); mismatch {
		return nil
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if m.config.RiverSchema != "" && river != m.river {
		return fmt.Errorf("this database keeps River's tables in schema %q, not %q: leave --river-schema out", river, m.river)
	}
	m.config.RiverSchema = string(river)
	return m.findRiver(ctx)
}

func (m *migrator) upRiver(ctx context.Context) error {
	if _, err := m.pool.Exec(ctx, fmt.Sprintf("CREATE SCHEMA IF NOT EXISTS %s", m.river)); err != nil {
		return fmt.Errorf("create River's schema: %w", err)
	}
	river, err := rivermigrate.New(riverpgxv5.New(m.pool), &rivermigrate.Config{Schema: string(m.river)})
	if err != nil {
		return fmt.Errorf("prepare River's migrations: %w", err)
	}
	if _, err := river.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrate River's schema: %w", err)
	}
	return nil
}

// setLean drops or makes River's two unread indexes, under River's own names.
func (m *migrator) setLean(ctx context.Context, lean bool) error {
	statements := []string{
		"CREATE INDEX IF NOT EXISTS river_job_args_index ON %[1]s.river_job USING gin (args)",
		"CREATE INDEX IF NOT EXISTS river_job_metadata_index ON %[1]s.river_job USING gin (metadata)",
	}
	if lean {
		statements = []string{
			"DROP INDEX IF EXISTS %[1]s.river_job_args_index",
			"DROP INDEX IF EXISTS %[1]s.river_job_metadata_index",
			"ALTER TABLE %[1]s.river_job SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)",
		}
	}
	for _, statement := range statements {
		if _, err := m.pool.Exec(ctx, fmt.Sprintf(statement, m.river)); err != nil {
			return fmt.Errorf("set River's indexes: %w", err)
		}
	}
	return nil
}

func (m *migrator) down(ctx context.Context, to int64) error {
	if version, err := db.Version(ctx, m.pool); err != nil || version == 0 {
		return err
	}
	down := func(p *goose.Provider) error { _, err := p.DownTo(ctx, to); return err } //nolint:wrapcheck // wrapped below
	if err := m.goose(down); err != nil {
		return fmt.Errorf("migrate Tasker's schema down: %w", err)
	}
	return nil
}

// goose runs fn with a provider over the migrations, with River's schema filled in.
func (m *migrator) goose(fn func(*goose.Provider) error) error {
	filled := make(fstest.MapFS)
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		return fmt.Errorf("list migrations: %w", err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(migrations.FS, name)
		if err != nil {
			return fmt.Errorf("read migration %s: %w", name, err)
		}
		filled[name] = &fstest.MapFile{Data: []byte(fill(string(text), string(m.river)))}
	}
	conn := stdlib.OpenDBFromPool(m.pool)
	defer func() { _ = conn.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, conn, filled, goose.WithTableName("tasker.migrations"))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	return fn(provider)
}
