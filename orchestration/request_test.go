package orchestration_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration"
)

func TestARequestThatCanNeverSucceedIsARequestError(t *testing.T) {
	t.Parallel()
	early := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	late := time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := map[string]func(r *orchestration.Request){
		"a context that is not JSON":      func(r *orchestration.Request) { r.Context = json.RawMessage(`{"a":`) },
		"a context with a zero":           func(r *orchestration.Request) { r.Context = json.RawMessage(`"\u0000"`) },
		"a long key":                      func(r *orchestration.Request) { r.IdempotencyKey = strings.Repeat("k", 256) },
		"a long reason":                   func(r *orchestration.Request) { r.Reason = strings.Repeat("k", 501) },
		"a priority beyond its range":     func(r *orchestration.Request) { r.Priority = 101 },
		"a priority beyond an integer":    func(r *orchestration.Request) { r.Priority = 1 << 40 },
		"a start before the calendar":     func(r *orchestration.Request) { r.RunAt = &early },
		"a start beyond the calendar":     func(r *orchestration.Request) { r.RunAt = &late },
		"a zero character in a tag":       func(r *orchestration.Request) { r.Tags = []string{"a\x00b"} },
		"a zero character in a reason":    func(r *orchestration.Request) { r.Reason = "a\x00b" },
		"a zero character in a namespace": func(r *orchestration.Request) { r.Namespace = "a\x00b" },
		"an unknown template":             func(r *orchestration.Request) { r.Name = "'; DROP TABLE tasker.tasks; --" },
	}
	d := newDriver(t, dbtest.Pool(t))
	s := shapes()[0]
	d.register(s)
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := request(s, wish{})
			change(&r)
			_, err := d.create(r)
			var refused *orchestration.RequestError
			require.ErrorAs(t, err, &refused)
		})
	}
}

func TestSQLCallersHearWhyTheirTaskIsRefused(t *testing.T) {
	t.Parallel()
	d := newDriver(t, dbtest.Pool(t))
	d.register(shapes()[0])
	tests := map[string]struct {
		statement, code string
		args            []any
	}{
		"a zero in the context": {`SELECT tasker.create_task('toy', 'lone', '"\u0000"')`, "22P05", nil},
		"a lone surrogate":      {`SELECT tasker.create_task('toy', 'lone', '"\ud800"')`, "22P02", nil},
		"an endless number":     {`SELECT tasker.create_task('toy', 'lone', '[1e400000]')`, "22003", nil},
		"too much": {
			`SELECT tasker.create_task('toy', 'lone', to_jsonb($1::text))`, "TK400",
			[]any{strings.Repeat("x", orchestration.MaxContextBytes)},
		},
		"an unknown template": {`SELECT tasker.create_task('toy', 'none')`, "TK404", nil},
		"a priority":          {`SELECT tasker.create_task('toy', 'lone', priority => -101)`, "TK400", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := d.judge.Exec(t.Context(), test.statement, test.args...)
			var refused *pgconn.PgError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, test.code, refused.Code, refused.Message)
		})
	}
}

// What SQL hands in unchecked, an engine still runs to its end.
func TestAnOddContextFromSQLStillRuns(t *testing.T) {
	t.Parallel()
	d := newDriver(t, dbtest.Pool(t))
	d.register(shapes()[0])
	for _, text := range []string{`null`, `[]`, `"text"`, `{"Fail": 0, "fail": 0}`, `{"key": "\ud83d\ude00\u0001"}`, `{"deep": ` +
		strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`} {
		require.NoError(t, d.tx("create_task", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "SELECT tasker.create_task('toy', 'lone', $1::text::jsonb)", text)
			return err
		}))
	}
	d.settle()
	var open int
	require.NoError(t, d.judge.QueryRow(t.Context(), "SELECT count(*) FROM tasker.tasks WHERE finished_at IS NULL").Scan(&open))
	require.Zero(t, open)
	d.healthy("at rest")
}
