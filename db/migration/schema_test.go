package migration_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func TestTheTableOfLegalTransitionsIsDagsStateMachine(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	var expected []string
	for _, from := range dag.TaskStates() {
		for _, to := range dag.TaskStates() {
			if from.CanBecome(to) {
				expected = append(expected, "task "+string(from)+" "+string(to))
			}
		}
	}
	for _, from := range dag.StepStates() {
		for _, to := range dag.StepStates() {
			if from.CanBecome(to) {
				expected = append(expected, "step "+string(from)+" "+string(to))
			}
		}
	}
	slices.Sort(expected)
	stored := lines(t, pool, "SELECT concat_ws(' ', entity, from_state, to_state) FROM tasker.legal_transitions")
	slices.Sort(stored)
	require.Equal(t, expected, stored)
}

var quoted = regexp.MustCompile(`'([a-z_]+)'`)

func TestTheStatesThatColumnsAcceptAreDags(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	accepted := func(constraint string) (states []string) {
		definition := lines(t, pool, "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1", constraint)
		require.Len(t, definition, 1)
		for _, match := range quoted.FindAllStringSubmatch(definition[0], -1) {
			states = append(states, match[1])
		}
		slices.Sort(states)
		return states
	}
	require.Equal(t, words(dag.TaskStates(), nil), accepted("tasks_state_valid"))
	require.Equal(t, words(dag.StepStates(), nil), accepted("steps_state_valid"))
	require.Equal(t, words(dag.TaskStates(), dag.TaskState.Terminal), accepted("tasks_finished_at_when_terminal"))
	ended := func(s dag.StepState) bool { return s.Closed() || s == dag.StepError }
	require.Equal(t, words(dag.StepStates(), ended), accepted("steps_finished_at_when_terminal"))
}

// words lists states as the database has them, those that only accepts.
func words[S ~string](states []S, only func(S) bool) []string {
	var all []string
	for _, s := range states {
		if only == nil || only(s) {
			all = append(all, string(s))
		}
	}
	slices.Sort(all)
	return all
}

var (
	comments   = regexp.MustCompile(`(?m)--.*$`)
	table      = regexp.MustCompile(`(?s)CREATE TABLE (\w+) \((.*?)\n\);`)
	enum       = regexp.MustCompile(`(?s)CREATE TYPE (\w+) AS ENUM \((.*?)\);`)
	columnLine = regexp.MustCompile(`^(\w+) (\w+(?:\(\d+\))?(?:\[\])?)(.*)$`)
)

// queries/schema/river.sql is what sqlc believes of River's tables. A River that changed them must fail here, not at run time.
func TestWhatSqlcBelievesOfRiverIsTrue(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	text, err := os.ReadFile("../../queries/schema/river.sql")
	require.NoError(t, err)
	page := comments.ReplaceAllString(string(text), "")
	migrated := lines(t, pool, `SELECT concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
	        CASE WHEN a.attnotnull THEN 'not null' END)
	      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped`)
	var checked int
	for _, match := range table.FindAllStringSubmatch(page, -1) {
		for line := range strings.SplitSeq(match[2], "\n") {
			column := columnLine.FindStringSubmatch(strings.TrimSuffix(strings.TrimSpace(line), ","))
			if column == nil {
				continue
			}
			require.Contains(t, migrated, match[1]+" "+described(column), "queries/schema/river.sql: %s", line)
			checked++
		}
	}
	require.Greater(t, checked, 15)
	for _, match := range enum.FindAllStringSubmatch(page, -1) {
		var values []string
		for _, value := range quoted.FindAllStringSubmatch(match[2], -1) {
			values = append(values, value[1])
		}
		labels := lines(t, pool, "SELECT enumlabel::text FROM pg_enum WHERE enumtypid = $1::text::regtype", match[1])
		require.ElementsMatch(t, labels, values)
	}
}

// described is a column as format_type writes it.
func described(column []string) string {
	name, kind, rest := column[1], column[2], column[3]
	kind = strings.NewReplacer("bigserial", "bigint", "timestamptz", "timestamp with time zone", "varchar", "character varying").Replace(kind)
	if strings.Contains(rest, "NOT NULL") || strings.Contains(rest, "PRIMARY KEY") {
		return name + " " + kind + " not null"
	}
	return name + " " + kind
}

func TestTheDatabaseItselfRefusesASecondSuccessOfAStep(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	const attempt = `INSERT INTO tasker.step_attempts (step_id, claim_no, attempt, outcome, started_at)
		VALUES ('01a20267-0343-7787-9383-ebee89689e67', $1, 1, $2, now())`
	for i, outcome := range []string{"lost", "error", "released", "complete"} {
		_, err := pool.Exec(t.Context(), attempt, i+1, outcome)
		require.NoError(t, err)
	}
	_, err := pool.Exec(t.Context(), attempt, 99, "complete")
	require.ErrorContains(t, err, "step_attempts_one_complete_key")
}
