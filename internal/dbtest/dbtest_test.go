package dbtest

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	// Stands in for the real schema: what matters here is that every database starts from the same template.
	migrate = func(ctx context.Context, url string) error {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "CREATE TABLE note (body text)")
		return err
	}
	Main(m)
}

func TestEveryTestStartsFromTheMigratedTemplate(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"first", "second", "third"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := Pool(t)
			_, err := pool.Exec(t.Context(), "INSERT INTO note VALUES ($1)", name)
			require.NoError(t, err)
			rows, err := pool.Query(t.Context(), "SELECT body FROM note")
			require.NoError(t, err)
			bodies, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			require.Equal(t, []string{name}, bodies, "another test's rows don't show")
		})
	}
}

func TestEmptyURLHasNoTables(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), EmptyURL(t))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var tables int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables))
	require.Zero(t, tables)
}

func TestDatabasesAreGoneWhenTheirTestEnds(t *testing.T) { //nolint:tparallel // it looks at what the inner one leaves
	t.Parallel()
	var name string
	t.Run("inner", func(t *testing.T) { //nolint:paralleltest // the outer test looks at what this one leaves
		pool := Pool(t)
		name = pool.Config().ConnConfig.Database
		conn, err := pgx.Connect(t.Context(), pool.Config().ConnString()) // left open: FORCE cuts it
		require.NoError(t, err)
		require.NoError(t, conn.Ping(t.Context()))
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	})
	require.NotEmpty(t, name)
	require.False(t, databaseExists(t, name))
}

func TestADatabaseThatThisProcessDidNotMakeIsNotDropped(t *testing.T) {
	t.Parallel()
	on := ready(t)
	name := newName()
	_, err := on.create(t.Context(), name, "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, on.drop(context.WithoutCancel(t.Context()), name)) })
	comment := func(text string) {
		require.NoError(t, on.as(t.Context(), func(conn *pgx.Conn) error {
			_, err := conn.Exec(t.Context(), "COMMENT ON DATABASE "+quote(name)+" IS '"+strings.ReplaceAll(text, "'", "''")+"'")
			return err
		}))
	}

	comment("another process's mark")
	require.ErrorContains(t, on.drop(t.Context(), name), "this process did not make it")
	require.ErrorContains(t, on.drop(t.Context(), "postgres"), "its name does not start with")
	require.True(t, databaseExists(t, name))
	require.True(t, databaseExists(t, "postgres"))
	comment(mark)
}

func databaseExists(t *testing.T, name string) (exists bool) {
	t.Helper()
	require.NoError(t, ready(t).as(t.Context(), func(conn *pgx.Conn) error {
		return conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	}))
	return exists
}
