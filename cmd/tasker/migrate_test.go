package main

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/db/migration"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

const schemaExists = "SELECT to_regclass($1) IS NOT NULL"

func TestSchemasComeAndGo(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	s := newShell(t, url)
	require.Regexp(t, `^tasker +version 0 of 2\nriver +version 0 in schema "public"`, s.ok("migrate", "status"))
	require.Contains(t, s.fails(exitUnreachable, "task", "list"), "the database has no Tasker schema: run `tasker migrate up`")
	up := s.ok("migrate", "up")
	require.Regexp(t, `^tasker +version 2 of 2\nriver +version [1-9]\d* in schema "public", lean true\n$`, up)
	require.Equal(t, up, s.ok("migrate", "up"), "once more changes nothing")
	require.Equal(t, up, s.ok("migrate", "status"))
	var status migration.Status
	s.decode(&status, "migrate", "status", "-o", "json")
	require.Equal(t, status.Newest, status.Version)
	require.Contains(t, s.ok("migrate", "up", "--lean-river=false"), "lean false")

	require.Contains(t, s.fails(exitUsage, "migrate", "down"), "this deletes every task and template: give --yes")
	require.True(t, ask[bool](t, url, schemaExists, "tasker.tasks"))
	require.Contains(t, s.ok("migrate", "down", "--yes"), "version 0 of 2")
	require.False(t, ask[bool](t, url, schemaExists, "tasker.tasks"))
	require.True(t, ask[bool](t, url, schemaExists, "river_job"), "River's tables may hold other jobs")
	s.ok("migrate", "up")
	s.ok("doctor")
}

func TestTheMigrationsAsSQLMakeTheSameSchema(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	s := newShell(t, url)
	text := s.ok("migrate", "sql", "--river-schema", "jobs")
	require.NotContains(t, text, "{{")
	require.Contains(t, text, "jobs.river_job")
	require.Contains(t, text, "INSERT INTO tasker.settings (name, value) VALUES ('river_schema', 'jobs');")
	s.fails(exitUsage, "migrate", "sql", "--river-schema", "a;b")

	alter(t, url, "CREATE SCHEMA jobs")
	migrateRiver(t, url, "jobs") // whose tables are its own to make
	conn, err := pgconn.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), text).ReadAll()
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	s.serve("--migrate=false")
	require.Equal(t, "65536\n", s.ok("task", "create", "rust_e2e_linear/mathematical_sequence", "-i", `{"even_number":2}`, "-w"))
	s.ok("doctor")
}

func TestAServerThatMayNotMigrateSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := newShell(t, dbtest.EmptyURL(t))
	message := s.fails(exitUnreachable, "serve", "--listen", "", "--migrate=false")
	require.Contains(t, message, "the database has no Tasker schema: run `tasker migrate up`")
}

func TestASchemaOfANewerTaskerIsLeftAlone(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	alter(t, url, "INSERT INTO tasker.migrations (version_id, is_applied) VALUES (99, true)")
	s := newShell(t, url)
	const newer = "the database has Tasker schema version 99, newer than this binary's 2: run a newer tasker"
	for _, args := range [][]string{
		{"serve", "--listen", ""}, {"serve", "--listen", "", "--migrate=false"}, {"migrate", "up"}, {"task", "list"},
	} {
		require.Contains(t, s.fails(exitUnreachable, args...), newer)
	}
	require.Contains(t, s.fails(exitUnchecked, "doctor"), newer)
	require.True(t, ask[bool](t, url, schemaExists, "tasker.tasks"))
}

func TestAnyNumberOfProcessesMayMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	s := newShell(t, url)
	var running sync.WaitGroup
	results := make([]result, 4)
	for i := range results {
		running.Go(func() { results[i] = s.tasker("migrate", "up") })
	}
	running.Wait()
	for _, r := range results {
		require.Zero(t, r.code, r.stderr)
		require.Equal(t, results[0].stdout, r.stdout)
	}
	require.Equal(t, 1, ask[int](t, url, "SELECT count(*) FROM tasker.migrations WHERE version_id = 1"))
}

// migrateRiver makes River's tables as an application does that used River before.
func migrateRiver(t *testing.T, url, schema string) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	river, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: schema})
	require.NoError(t, err)
	_, err = river.Migrate(context.WithoutCancel(t.Context()), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
}

func TestTaskerJoinsTheRiverThatIsThere(t *testing.T) {
	t.Parallel()
	url := dbtest.EmptyURL(t)
	migrateRiver(t, url, "")
	alter(t, url, "INSERT INTO river_job (kind, args, max_attempts, queue, state) VALUES ('mail', '{}', 3, 'mail', 'available')")
	s := newShell(t, url)
	srv := s.serve()
	require.Equal(t, "65536\n", s.ok("task", "create", "rust_e2e_linear/mathematical_sequence", "-i", `{"even_number":2}`, "-w"))
	require.Contains(t, s.ok("migrate", "status"), `in schema "public", lean false`, "their indexes stay")
	srv.stop()
	require.Equal(t, "available", ask[string](t, url, "SELECT state FROM river_job WHERE kind = 'mail'"), "their jobs stay")
	s.ok("doctor")
}

func TestRiverMayLiveInASchemaOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, url string){
		"made by Tasker": func(*testing.T, string) {},
		"made before": func(t *testing.T, url string) {
			t.Helper()
			alter(t, url, "CREATE SCHEMA jobs")
			migrateRiver(t, url, "jobs")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := dbtest.EmptyURL(t)
			prepare(t, url)
			s := newShell(t, url)
			srv := s.serve("--river-schema", "jobs")
			const create = "rust_e2e_linear/mathematical_sequence"
			require.Equal(t, "65536\n", s.ok("task", "create", create, "-i", `{"even_number":2}`, "-w"), "the others need not be told")
			code, text := get(t, srv.address(), "/riverui/api/jobs?state=completed&limit=100")
			require.Equal(t, 200, code)
			require.Contains(t, text, "tasker_execute")
			srv.stop()
			require.True(t, ask[bool](t, url, schemaExists, "jobs.river_job"))
			require.False(t, ask[bool](t, url, schemaExists, "public.river_job"))
			require.Contains(t, s.ok("migrate", "up"), `in schema "jobs"`, "it is remembered")
			message := s.fails(exitUnexpected, "migrate", "up", "--river-schema", "public")
			require.Contains(t, message, `this database keeps River's tables in schema "jobs", not "public"`)
			s.ok("doctor")
			require.NotContains(t, strings.ToLower(srv.text()), "level=error")
		})
	}
}
