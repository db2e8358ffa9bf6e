package db_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/internal/faulttest"
)

// testBundle is a table, and a pool that reaches it through a proxy that breaks connections.
type testBundle struct {
	direct, broken *pgxpool.Pool
	proxy          *faulttest.Proxy
}

func setup(t *testing.T) *testBundle {
	t.Helper()
	url := dbtest.EmptyURL(t)
	proxy := faulttest.NewProxy(t, url)
	b := &testBundle{direct: connect(t, url), broken: connect(t, proxy.URL(url)), proxy: proxy}
	_, err := b.direct.Exec(t.Context(), `CREATE TABLE note (id uuid PRIMARY KEY, body text NOT NULL, peer uuid);
	    ALTER TABLE note ADD CONSTRAINT peer_exists FOREIGN KEY (peer) REFERENCES note (id) DEFERRABLE INITIALLY DEFERRED`)
	require.NoError(t, err)
	return b
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func (b *testBundle) notes(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, b.direct.QueryRow(t.Context(), "SELECT count(*) FROM note").Scan(&n))
	return n
}

// write is a function as InTx wants it: made outside, recognising what it did before.
func (b *testBundle) write(t *testing.T, runs *int) error {
	t.Helper()
	id := uuid.New()
	return db.InTx(t.Context(), b.broken, "write", func(ctx context.Context, tx pgx.Tx) error {
		*runs++
		_, err := tx.Exec(ctx, "INSERT INTO note (id, body) VALUES ($1, 'hello') ON CONFLICT DO NOTHING", id)
		return err
	})
}

func commits(statement string) bool { return statement == "commit" }

func TestAFunctionRunsAgainAsAWholeWhenItsCommitIsInDoubt(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]faulttest.Mode{"not committed": faulttest.CutBefore, "committed": faulttest.CutAfter} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			for i := range 5 {
				b.proxy.Arm(faulttest.Rule{Match: commits, Mode: mode})
				var runs int
				require.NoError(t, b.write(t, &runs))
				require.Equal(t, 2, runs)
				require.Equal(t, i+1, b.proxy.Hits())
				require.Equal(t, i+1, b.notes(t), "neither lost nor twice")
				b.proxy.Disarm()
			}
		})
	}
}

func TestAFunctionRunsAgainWhenItsConnectionBreaks(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{"insert", "begin"} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.proxy.Arm(faulttest.Rule{Contains: statement, Mode: faulttest.CutAfter, Count: 2})
			var runs int
			require.NoError(t, b.write(t, &runs))
			require.Equal(t, 2, b.proxy.Hits())
			require.Equal(t, 1, b.notes(t))
		})
	}
}

func TestADatabaseThatIsGoneIsAskedFiveTimesAndNamed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.proxy.Arm(faulttest.Rule{Match: commits, Mode: faulttest.CutBefore, Count: -1})
	var runs int
	err := b.write(t, &runs)
	require.ErrorContains(t, err, "write: commit: ")
	require.True(t, db.Unavailable(err))
	require.Equal(t, 5, runs)
	require.Zero(t, b.notes(t))
}

func TestAFunctionDoesNotRunAgainOnAPlainSQLError(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ statement, code string }{
		"in the function": {"SELECT 1/0", "22012"},
		"at the commit":   {"INSERT INTO note VALUES (gen_random_uuid(), 'x', gen_random_uuid())", "23503"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var runs int
			err := db.InTx(t.Context(), b.broken, "fail", func(ctx context.Context, tx pgx.Tx) error {
				runs++
				_, err := tx.Exec(ctx, test.statement)
				return err
			})
			var pgErr *pgconn.PgError
			require.ErrorAs(t, err, &pgErr)
			require.Equal(t, test.code, pgErr.Code)
			require.Equal(t, 1, runs)
			require.False(t, db.Unavailable(err))
		})
	}
}

func TestAFunctionRunsAgainWhenItsBackendIsTerminated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var runs int
	require.NoError(t, db.InTx(t.Context(), b.broken, "write", func(ctx context.Context, tx pgx.Tx) error {
		if runs++; runs == 1 {
			_, err := b.direct.Exec(ctx, "SELECT pg_terminate_backend($1)", tx.Conn().PgConn().PID())
			require.NoError(t, err)
		}
		_, err := tx.Exec(ctx, "INSERT INTO note VALUES (gen_random_uuid(), 'x')")
		return err
	}))
	require.Equal(t, 2, runs)
	require.Equal(t, 1, b.notes(t))
}

func TestNothingRunsAgainOnceTheCallerHasGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	var runs int
	err := db.InTx(ctx, b.broken, "write", func(ctx context.Context, tx pgx.Tx) error {
		runs++
		cancel()
		_, err := tx.Exec(ctx, "SELECT 1")
		return err
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, runs)
	require.Zero(t, b.broken.Stat().AcquiredConns(), "its connection went back")
}

func TestAPanicRollsBackAndIsNotSwallowed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.PanicsWithError(t, "boom", func() {
		//nolint:errcheck // it does not return
		_ = db.InTx(t.Context(), b.broken, "panic", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO note VALUES (gen_random_uuid(), 'x')")
			require.NoError(t, err)
			panic(errors.New("boom"))
		})
	})
	require.Zero(t, b.notes(t))
	require.Zero(t, b.broken.Stat().AcquiredConns())
}
