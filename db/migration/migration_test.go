package migration_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/db/migration"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

// setup connects to an empty database.
func setup(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return connect(t, dbtest.EmptyURL(t))
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// river migrates River's tables alone, as `river migrate-up` does.
func river(t *testing.T, pool *pgxpool.Pool, schema string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{schema}.Sanitize())
	require.NoError(t, err)
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: schema})
	require.NoError(t, err)
	_, err = migrator.Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
}

func lines(t *testing.T, pool *pgxpool.Pool, query string, args ...any) []string {
	t.Helper()
	found, err := pool.Query(t.Context(), query, args...)
	require.NoError(t, err)
	all, err := pgx.CollectRows(found, pgx.RowTo[string])
	require.NoError(t, err)
	return all
}

// objects describes everything in a schema: columns, what numbers them, indexes, constraints, functions and types.
func objects(t *testing.T, pool *pgxpool.Pool, schema string) []string {
	t.Helper()
	return lines(t, pool, `
	    SELECT concat_ws(' ', 'column', table_name, column_name, data_type, udt_name, is_nullable, column_default, identity_generation) AS line
	      FROM information_schema.columns WHERE table_schema = $1
	     UNION ALL SELECT concat_ws(' ', 'index', indexdef) FROM pg_indexes WHERE schemaname = $1
	     UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(c.oid))
	      FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE n.nspname = $1
	     UNION ALL SELECT concat_ws(' ', 'function', pg_get_functiondef(p.oid))
	      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1
	     UNION ALL SELECT concat_ws(' ', 'view', viewname, definition) FROM pg_views WHERE schemaname = $1
	     UNION ALL SELECT concat_ws(' ', 'type', typname) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = $1
	     ORDER BY line`, schema)
}

func TestUpDownUpEndsWhereTheFirstUpDid(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	require.NoError(t, migration.Up(t.Context(), pool, nil))
	first, jobs := objects(t, pool, "tasker"), objects(t, pool, "public")
	require.Greater(t, len(first), 100)

	require.NoError(t, migration.Down(t.Context(), pool, 0))
	for _, left := range objects(t, pool, "tasker") {
		require.Contains(t, left, "migrations", "only the list of migrations stays")
	}
	require.Equal(t, jobs, objects(t, pool, "public"), "River's tables stay")
	version, err := db.Version(t.Context(), pool)
	require.NoError(t, err)
	require.Zero(t, version)
	require.NoError(t, migration.Down(t.Context(), pool, 0), "down again does nothing")

	require.NoError(t, migration.Up(t.Context(), pool, nil))
	require.Equal(t, first, objects(t, pool, "tasker"))
	require.NoError(t, migration.Up(t.Context(), pool, nil), "up again does nothing")
	require.Equal(t, first, objects(t, pool, "tasker"))
}

func TestFiveMigratorsAtOnceMakeOneSchema(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	var migrators sync.WaitGroup
	for range 5 {
		pool := connect(t, url)
		migrators.Go(func() {
			if err := migration.Up(t.Context(), pool, nil); err != nil {
				t.Errorf("up: %v", err)
			}
		})
	}
	migrators.Wait()
	status, err := migration.Get(t.Context(), connect(t, url))
	require.NoError(t, err)
	require.Equal(t, int64(db.SchemaVersion), status.Version)
}

func TestRiverTablesThatAreThereAlreadyAreUsed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		schema, path string
		config       *migration.Config
	}{
		"in public":                              {"public", "public", nil},
		"in a schema of the search path":         {"river", "river, public", nil},
		"in a schema that is asked for":          {"river", "public", &migration.Config{RiverSchema: "river"}},
		"in a schema whose name needs no quotes": {"my_jobs_2", "public", &migration.Config{RiverSchema: "my_jobs_2"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := dbtest.EmptyURL(t)
			river(t, connect(t, url), test.schema)
			config, err := pgxpool.ParseConfig(url)
			require.NoError(t, err)
			config.ConnConfig.RuntimeParams["search_path"] = test.path
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			before := objects(t, pool, test.schema)

			require.NoError(t, migration.Up(t.Context(), pool, test.config))

			require.Equal(t, before, objects(t, pool, test.schema), "nothing of River's is changed")
			where, err := db.CheckSchema(t.Context(), pool)
			require.NoError(t, err)
			require.Equal(t, db.RiverSchema(test.schema), where)
			require.Equal(t, []string{test.schema}, lines(t, pool, "SELECT schemaname FROM pg_tables WHERE tablename = 'river_job'"))
			status, err := migration.Get(t.Context(), pool)
			require.NoError(t, err)
			require.Equal(t, test.schema, status.RiverSchema)
			require.Positive(t, status.RiverVersion)
			require.False(t, status.LeanRiver)
			runs(t, pool)
		})
	}
}

// runs creates a task and looks whether its job went where River's tables are.
func runs(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	flow := tasker.Define("here/there", "1", func(f *tasker.Flow[int]) {
		tasker.Step(f, "one", func(_ context.Context, n int) (int, error) { return n, nil })
	})
	client, err := tasker.NewClient(pool, &tasker.Config{Templates: []tasker.Template{flow}})
	require.NoError(t, err)
	require.NoError(t, client.Register(t.Context()))
	_, err = tasker.Create(t.Context(), client, flow, 7)
	require.NoError(t, err)
	checks, err := client.Doctor(t.Context(), 0, 0)
	require.NoError(t, err)
	for _, check := range checks {
		require.True(t, check.Warning || len(check.Found) == 0, "%v", check)
	}
}

func TestRiverTablesAreMadeWhereTheyAreAskedForAndStayThere(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	require.NoError(t, migration.Up(t.Context(), pool, &migration.Config{RiverSchema: "queue"}))
	require.Equal(t, []string{"queue"}, lines(t, pool, "SELECT schemaname FROM pg_tables WHERE tablename = 'river_job'"))
	runs(t, pool)
	require.Len(t, lines(t, pool, "SELECT kind FROM queue.river_job"), 1)

	require.NoError(t, migration.Up(t.Context(), pool, nil), "the schema need not be named again")
	err := migration.Up(t.Context(), pool, &migration.Config{RiverSchema: "public"})
	require.ErrorContains(t, err, `keeps River's tables in schema "queue", not "public"`)
	require.Equal(t, []string{"queue"}, lines(t, pool, "SELECT schemaname FROM pg_tables WHERE tablename = 'river_job'"))

	for _, name := range []string{"Queue", `a"b`, "1st", "a-b", "x; DROP SCHEMA tasker"} {
		require.ErrorContains(t, migration.Up(t.Context(), pool, &migration.Config{RiverSchema: name}), "must be at most 46")
		_, err := migration.SQL(name)
		require.ErrorContains(t, err, "must be at most 46")
	}
}

func TestASchemaOfAnotherVersionIsRefusedByNameOfBoth(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	client, err := tasker.NewClient(pool, nil)
	require.NoError(t, err)
	_, err = client.Create(t.Context(), tasker.Request{Namespace: "a", Name: "b"})
	require.True(t, tasker.IsSchemaMismatch(err))
	require.EqualError(t, err, "open database: the database has no Tasker schema: run `tasker migrate up`")

	require.NoError(t, migration.Up(t.Context(), pool, nil))
	_, err = pool.Exec(t.Context(), "INSERT INTO tasker.migrations (version_id, is_applied) VALUES (99, true)")
	require.NoError(t, err)
	before := slices.Concat(objects(t, pool, "tasker"), objects(t, pool, "public"))
	var mismatch *db.SchemaError
	require.ErrorAs(t, migration.Up(t.Context(), pool, nil), &mismatch)
	require.Equal(t, &db.SchemaError{Have: 99, Need: db.SchemaVersion}, mismatch)
	require.ErrorContains(t, mismatch, fmt.Sprintf("newer than this binary's %d: run a newer tasker", db.SchemaVersion))
	require.Equal(t, before, slices.Concat(objects(t, pool, "tasker"), objects(t, pool, "public")))
	_, err = client.Create(t.Context(), tasker.Request{Namespace: "a", Name: "b"})
	require.True(t, tasker.IsSchemaMismatch(err))
}

func TestLeanRiverComesAndGoes(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	river(t, pool, "public")
	whole := objects(t, pool, "public")
	yes, no := true, false
	for _, lean := range []*bool{&yes, &yes, &no, &no, &yes} {
		require.NoError(t, migration.Up(t.Context(), pool, &migration.Config{LeanRiver: lean}))
		status, err := migration.Get(t.Context(), pool)
		require.NoError(t, err)
		require.Equal(t, *lean, status.LeanRiver)
		if *lean {
			require.Len(t, objects(t, pool, "public"), len(whole)-2)
		} else {
			require.Equal(t, whole, objects(t, pool, "public"), "as River made them")
		}
	}
	require.NoError(t, migration.Up(t.Context(), pool, nil))
	status, err := migration.Get(t.Context(), pool)
	require.NoError(t, err)
	require.True(t, status.LeanRiver, "not asked, nothing changes")
}

// What SQL prints is for those who apply it by other means; the result must be the same, and usable.
func TestThePrintedSQLMakesTheSameSchema(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"public", "river"} {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			ours, theirs := setup(t), setup(t)
			require.NoError(t, migration.Up(t.Context(), ours, &migration.Config{RiverSchema: schema}))
			text, err := migration.SQL(schema)
			require.NoError(t, err)
			river(t, theirs, schema)
			_, err = theirs.Exec(t.Context(), text) // the simple protocol, as psql's
			require.NoError(t, err)
			require.Equal(t, objects(t, ours, "tasker"), objects(t, theirs, "tasker"))
			runs(t, theirs)
			require.NoError(t, migration.Up(t.Context(), theirs, nil), "and migrate finds it done")
		})
	}
}
