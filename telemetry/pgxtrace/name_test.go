package pgxtrace

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/telemetry"
)

func newTracer(tb testing.TB, pool string) *Tracer {
	tb.Helper()
	nowhere, err := telemetry.New(nil)
	require.NoError(tb, err)
	return New(nowhere.Database, &Config{Pool: pool})
}

func TestTheLabelOfAStatementIsItsNameOrItsFirstWord(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"-- name: TaskGetByID :one\nSELECT 1":              "TaskGetByID",
		"\n  -- name: Task_Get\nSELECT 1":                  "Task_Get",
		"-- name: Task":                                    "Task",
		"-- name: \nSELECT 1":                              "select",
		"-- name: what; is this\nSELECT 1":                 "select",
		"-- name: Gr\u00f6\u00dfe :one\nSELECT 1":          "select",
		"-- name: " + strings.Repeat("x", 64) + " :one\n":  strings.Repeat("x", 64),
		"-- name: " + strings.Repeat("x", 65) + " :one\nS": "other",
		"-- NAME: X\nSELECT 1":                             "select",
		"select 1":                                         "select",
		"SeLeCt*":                                          "select",
		"begin;":                                           "begin",
		"begin isolation level serializable":               "begin",
		"rollback to savepoint sp_1":                       "rollback",
		"((select 1) union (select 2))":                    "select",
		"; with x as (select 1) delete from y":             "with",
		"/* one */ -- two\n/**/ update x":                  "update",
		"/* no end":                                        "other",
		"/*/ select 1":                                     "other",
		"-- ping":                                          "other",
		"":                                                 "other",
		"task_get":                                         "other",
		"deallocate all":                                   "deallocate",
		"checkpoints":                                      "other",
		"\xff\xfe":                                         "other",
		"123":                                              "other",
	} {
		require.Equal(t, want, newTracer(t, "app").statement(sql).label, "%q", sql)
		require.Equal(t, "river."+want, newTracer(t, "river").statement(sql).label, "%q", sql)
	}
}

func TestTheLongestVerbFits(t *testing.T) {
	t.Parallel()
	require.Equal(t, maxVerb, len(slices.MaxFunc(verbs, func(a, b string) int { return len(a) - len(b) }))) //nolint:testifylint // a number, not a list
}

func TestNamesPastTheLimitShareOne(t *testing.T) {
	t.Parallel()
	l := newLabels("p.", 2)
	for _, name := range []string{"a", "b", "c", "a", "b", "d"} {
		want := "p." + name
		if name > "b" {
			want = "p.other"
		}
		require.Equal(t, want, l.label(name))
	}
}

func TestATableWithAnUnusualNameHasNoLabelOfItsOwn(t *testing.T) {
	t.Parallel()
	for table, want := range map[string]string{
		"note": "copy:note", "\xff": "copy:other", "a b": "copy:other", "": "copy:other", strings.Repeat("x", 65): "copy:other",
	} {
		require.Equal(t, want, newTracer(t, "app").copying(pgx.Identifier{"public", table}).label)
		require.Equal(t, "river."+want, newTracer(t, "river").copying(pgx.Identifier{table}).label)
	}
	require.Equal(t, "copy", newTracer(t, "app").copying(nil).label)
}

// Whatever users write, a label is short, harmless text, and there is a limited number of them.
func FuzzStatementLabel(f *testing.F) {
	for _, seed := range []string{
		"-- name: TaskGetByID :one\nSELECT 1", "select 1", "/* a */ -- b\n(INSERT", "-- name: \xff", "/*", "--", "", ";;((", "-- name:",
	} {
		f.Add(seed)
	}
	app, river := newTracer(f, "app"), newTracer(f, "river")
	f.Fuzz(func(t *testing.T, sql string) {
		name := queryName(sql)
		require.Contains(t, sql, name)
		label := app.statement(sql).label
		require.True(t, isName(label), "%q", label)
		require.True(t, utf8.ValidString(label))
		require.True(t, label == name || slices.Contains(verbs, label), "%q", label)
		require.Contains(t, []string{"river." + label, "river.other"}, river.statement(sql).label)
		require.LessOrEqual(t, len(*app.names.known.Load()), maxNames)
	})
}
