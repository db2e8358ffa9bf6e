package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

func TestDoctorFindsAndMendsWhatSomebodyBroke(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	s := newShell(t, url)
	orchestrator := s.serve("--role", "orchestrator")
	for range 2 {
		s.ok("task", "create", "rust_e2e_linear/mathematical_sequence", "-i", `{"even_number":2}`)
	}
	const enqueued = "SELECT count(*) FROM tasker.steps WHERE state = 'enqueued'"
	eventually(t, "their first steps are dispatched", func() bool { return ask[int](t, url, enqueued) == 2 })
	orchestrator.stop()
	clean := s.ok("doctor")
	require.Contains(t, clean, "✓ I13  what is dispatched has a live carrier")
	require.NotContains(t, clean, "✗")

	alter(t, url, "DELETE FROM river_job WHERE kind = 'tasker_execute'")
	s.ok("doctor", "--age", "1h")
	r := s.tasker("doctor", "--age", "1ms")
	require.Equal(t, exitViolations, r.code)
	require.Contains(t, r.stdout, "✗ I13  what is dispatched has a live carrier\n       step ")
	require.Contains(t, r.stdout, "(linear_step_1) is enqueued, its job is gone\n")
	require.Contains(t, r.stdout, "       mend it: tasker doctor --repair I13\n")
	require.Contains(t, r.stderr, "1 of the invariants are broken")

	r = s.tasker("doctor", "--age", "1ms", "--max-rows", "1", "--json")
	require.Equal(t, exitViolations, r.code)
	found := findings(t, r.stdout)
	require.Len(t, found["I13"], 1, "no more than asked for")
	require.Len(t, found, 1)

	r = s.tasker("doctor", "--age", "1ms", "--repair", "I13", "--dry-run")
	require.Equal(t, exitViolations, r.code)
	require.Contains(t, r.stderr, "would repair I13\n")
	require.Zero(t, ask[int](t, url, "SELECT count(*) FROM river_job WHERE kind = 'tasker_execute'"))
	r = s.tasker("doctor", "--age", "1ms", "--repair", "all")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, "I13, I14, I15: gave 2 steps and 0 tasks a new job, settled 0 jobs")
	s.ok("doctor", "--age", "1ms")

	s.serve()
	s.ok("task", "wait", "@last")
	require.Equal(t, 0, ask[int](t, url, enqueued), "what was mended runs")
}

func TestDoctorDoesNotPretendToMendWhatItCannot(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	s := newShell(t, url)
	s.serve()
	s.ok("task", "create", "rust_e2e_linear/mathematical_sequence", "-i", `{"even_number":2}`, "-w")
	alter(t, url, "UPDATE tasker.steps SET state = 'pending', finished_at = NULL WHERE name = 'linear_step_2'")
	r := s.tasker("doctor", "-o", "json")
	require.Equal(t, exitViolations, r.code)
	found := findings(t, r.stdout)
	require.Contains(t, found, "I03", "a complete task with a pending step")
	require.Contains(t, found, "I18", "a state without its transition")
	require.Contains(t, s.fails(exitUnchecked, "doctor", "--repair", "I03"), "I03 cannot be repaired by dispatching again")
	require.Contains(t, s.fails(exitUnchecked, "doctor", "--repair", "I99"), `--repair: there is no check "I99"`)
	require.Contains(t, s.fails(exitViolations, "doctor", "--repair", "all"), "nothing to repair\n")

	alter(t, url, "ALTER TABLE tasker.steps RENAME TO lost")
	require.Contains(t, s.fails(exitUnchecked, "doctor"), "check I01")
}

// findings decodes doctor's JSON, and returns what was found by check. Warnings are about the server, which is not the test's.
func findings(t *testing.T, text string) map[string][]string {
	t.Helper()
	checks := decodeText[[]tasker.Check](t, text)
	require.Len(t, checks, 24+13)
	found := make(map[string][]string)
	for _, check := range checks {
		require.NotEmpty(t, check.Title)
		if !check.Warning && len(check.Found) > 0 {
			found[check.ID] = check.Found
		}
	}
	return found
}
