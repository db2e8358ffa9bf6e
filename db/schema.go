package db

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tasker-systems/tasker-go/db/dbsqlc"
)

// SchemaVersion is the newest migration that this code knows and needs.
const SchemaVersion = 2

// riverToken marks in the queries where the schema of River's tables goes.
const riverToken = "/* TEMPLATE: schema */"

var schemaPattern = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,45}$`)

// RiverSchema is the name of the schema that holds River's tables.
type RiverSchema string

// Validate refuses names that would need quoting: River puts them into notification channels as they are.
func (s RiverSchema) Validate() error {
	if s == "tasker" {
		return errors.New(`schema "tasker" is Tasker's own and cannot hold River's tables: choose another`)
	}
	if !schemaPattern.MatchString(string(s)) {
		return fmt.Errorf("river schema %q must be at most 46 lower case letters, digits and underscores", string(s))
	}
	return nil
}

// Queries binds the generated queries to a connection, pool or transaction.
func (s RiverSchema) Queries(conn dbsqlc.DBTX) *dbsqlc.Queries {
	return dbsqlc.New(&templated{DBTX: conn, schema: s})
}

// templated fills in River's schema. Each statement is replaced once per process: the driver caches prepared statements by
// their text, so the text must be the same every time.
type templated struct {
	dbsqlc.DBTX
	schema RiverSchema
}

type templateKey struct {
	schema RiverSchema
	sql    string
}

var replaced sync.Map // templateKey -> string

func (t *templated) fill(sql string) string {
	key := templateKey{t.schema, sql}
	if done, ok := replaced.Load(key); ok {
		return done.(string) //nolint:forcetypeassert // nothing else is ever stored
	}
	done := strings.ReplaceAll(sql, riverToken, string(t.schema)+".")
	replaced.Store(key, done)
	return done
}

// plain turns arguments into types that pgx knows without asking the server for the parameter's type: poolers in transaction
// mode need query modes in which it cannot ask.
func plain(args []any) []any {
	for i, arg := range args {
		if ids, ok := arg.([]uuid.UUID); ok {
			known := make([]pgtype.UUID, len(ids))
			for j, id := range ids {
				known[j] = pgtype.UUID{Bytes: id, Valid: true}
			}
			args[i] = known
		}
	}
	return args
}

func (t *templated) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return t.DBTX.Exec(ctx, t.fill(sql), plain(args)...) //nolint:wrapcheck // a transparent layer
}

func (t *templated) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.DBTX.Query(ctx, t.fill(sql), plain(args)...) //nolint:wrapcheck,rowserrcheck // a transparent layer
}

func (t *templated) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return t.DBTX.QueryRow(ctx, t.fill(sql), plain(args)...)
}

// SchemaError says that the database's schema does not fit this binary, and what to do.
type SchemaError struct {
	// Have is the version found, 0 for none; Need is this binary's.
	Have, Need int64
}

// Error names both versions and the way out.
func (e *SchemaError) Error() string {
	if e.Have > e.Need {
		return fmt.Sprintf("the database has Tasker schema version %d, newer than this binary's %d: run a newer tasker", e.Have, e.Need)
	}
	if e.Have == 0 {
		return "the database has no Tasker schema: run `tasker migrate up`"
	}
	return fmt.Sprintf("the database has Tasker schema version %d, this binary needs %d: run `tasker migrate up`", e.Have, e.Need)
}

// CheckSchema verifies the database's version and returns where River's tables are.
func CheckSchema(ctx context.Context, conn dbsqlc.DBTX) (RiverSchema, error) {
	have, err := Version(ctx, conn)
	if err != nil {
		return "", err
	}
	if have != SchemaVersion {
		return "", &SchemaError{Have: have, Need: SchemaVersion}
	}
	var river RiverSchema
	if err := conn.QueryRow(ctx, "SELECT value FROM tasker.settings WHERE name = 'river_schema'").Scan(&river); err != nil {
		return "", fmt.Errorf("read river schema from tasker.settings: %w", err)
	}
	return river, nil
}

// Version returns the newest migration applied, 0 where there is none.
func Version(ctx context.Context, conn dbsqlc.DBTX) (int64, error) {
	var version int64
	err := conn.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM tasker.migrations WHERE is_applied").Scan(&version)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && (pgErr.Code == "42P01" || pgErr.Code == "3F000") {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	return version, nil
}
