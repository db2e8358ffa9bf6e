package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

// served opens a terminal with a server in the background.
func served(t *testing.T, args ...string) *shell {
	t.Helper()
	s := newShell(t, dbtest.URL(t))
	s.write("config/tasks/slow.yaml", slow)
	s.serve(args...)
	return s
}

// show reads a task as scripts do.
func (s *shell) show(id string) *tasker.Task {
	s.t.Helper()
	task := &tasker.Task{}
	s.decode(task, "task", "show", id, "-o", "json")
	return task
}

func TestTasksAreCreatedFromTheCommandLine(t *testing.T) {
	t.Parallel()
	s := served(t)
	const linear = "rust_e2e_linear/mathematical_sequence"
	s.write("input.json", `{"even_number": 4}`)
	require.Equal(t, "4294967296\n", s.ok("task", "create", linear, "--input", "@input.json", "-w"))
	piped := s.pipe(`{"even_number": 4}`, "task", "create", linear, "--input", "-", "-w")
	require.Equal(t, "4294967296\n", piped.stdout)

	first := strings.TrimSpace(s.ok("task", "create", linear, "-i", `{"even_number":2}`, "--key", "k1", "--tag", "red,blue",
		"--priority", "7", "--reason", "to see", "--correlation-id", "0190e3a1-0000-7000-8000-000000000001"))
	require.Len(t, first, 36, "the id alone is the result")
	again := s.tasker("task", "create", linear, "-i", `{"even_number":8}`, "--key", "k1")
	require.Equal(t, first+"\n", again.stdout)
	require.Equal(t, "task "+first+" exists already with this identity\n", again.stderr)
	var created map[string]any
	s.decode(&created, "task", "create", linear, "-i", `{"even_number":8}`, "--key", "k1", "-o", "json")
	require.Equal(t, map[string]any{"id": first, "duplicate": true}, created)

	s.ok("task", "wait", first[28:], "--timeout", "1m")
	task := s.show(first)
	require.Equal(t, []string{"red", "blue"}, task.Tags)
	require.Equal(t, 7, task.Priority)
	require.Equal(t, "ada", task.Initiator)
	require.Equal(t, "tasker-cli", task.SourceSystem)
	require.Equal(t, "to see", task.Reason)
	require.Equal(t, "0190e3a1-0000-7000-8000-000000000001", task.CorrelationID.String())
	require.Equal(t, "65536", string(task.Step("linear_step_4").Result))
	require.JSONEq(t, `{"even_number": 2}`, string(task.Context))

	later := strings.TrimSpace(s.ok("task", "create", linear, "-i", `{"even_number":2}`, "--at", "1h"))
	require.Equal(t, "pending", string(s.show(later).State))
	require.Contains(t, s.ok("task", "list", "--state", "pending"), "starts")
}

func TestTasksAreListedAndShown(t *testing.T) {
	t.Parallel()
	s := served(t)
	done := strings.TrimSpace(s.ok("task", "create", "test_errors/success_only", "--tag", "red", "-w", "-o", "id"))
	failed := s.tasker("task", "create", "test_errors/permanent_error_only", "-w")
	require.Equal(t, exitTaskError, failed.code)

	table := strings.Split(strings.TrimSpace(s.ok("task", "list")), "\n")
	require.Len(t, table, 3)
	require.Regexp(t, `^ID +TEMPLATE +STATE +STEPS +PROBLEM +AGE$`, table[0])
	require.Regexp(t, `^[0-9a-f]{8} +test_errors/permanent_error_only +error +0/1 +permanent_error_step: this error is permanent.* +\d+s$`, table[1])
	require.Regexp(t, `^`+done[28:]+` +test_errors/success_only +complete +1/1 +\d+s$`, table[2])
	require.Equal(t, done+"\n", s.ok("task", "list", "--tag", "red", "-o", "id"))
	require.Equal(t, done+"\n", s.ok("task", "list", "--state", "complete,cancelled", "-o", "id"))
	require.Equal(t, done+"\n", s.ok("task", "list", "--template", "test_errors/success_only", "-o", "id"))
	require.Len(t, strings.Fields(s.ok("task", "list", "--template", "test_errors", "-o", "id")), 2)
	require.Len(t, strings.Fields(s.ok("task", "list", "--limit", "1", "-o", "id")), 1)
	require.Equal(t, "[]\n", s.ok("task", "list", "--tag", "green", "-o", "json"), "nothing is a list too")

	tree := s.ok("task", "show", "@last")
	id := s.show("@last").ID.String()
	require.Contains(t, tree, "test_errors/permanent_error_only@1.0.0  "+id+"  error  ")
	require.Contains(t, tree, "└─ ✗ permanent_error_step         error  ")
	require.Contains(t, tree, "\n  retry    tasker task retry "+id[28:]+" --reason …\n")
	require.Contains(t, tree, "\n  resolve  tasker step resolve "+id[28:]+" permanent_error_step --reason …\n")
	require.Equal(t, id+"\n", s.ok("task", "show", id[28:], "-o", "id"))
	require.Contains(t, s.ok("task", "show", done, "--history"), "success_step  in_progress")
	var history []tasker.Change
	s.decode(&history, "task", "show", done, "--history", "-o", "json")
	require.Equal(t, "complete", history[len(history)-1].To)
	require.Contains(t, s.fails(exitNotFound, "task", "show", "abc"), "last four characters")
}

func TestWhatSteersATerminalIsNotPrinted(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	s := newShell(t, url)
	s.serve()
	s.fails(exitTaskError, "task", "create", "test_errors/permanent_error_only", "-w")
	alter(t, url, `UPDATE tasker.steps SET failure = jsonb_set(failure, '{message}', to_jsonb(E'\x1b[2Jgone\x1b]0;title\x07'::text))`)
	for _, args := range [][]string{{"task", "list"}, {"task", "show", "@last"}} {
		text := s.ok(args...)
		require.Contains(t, text, "[2Jgone")
		require.NotContains(t, text, "\x1b")
		require.NotContains(t, text, "\x07")
	}
	message := s.fails(exitTaskError, "task", "wait", "@last")
	require.NotContains(t, message, "\x1b", "nor in errors")
}

func TestOperatorsMendTasksFromTheCommandLine(t *testing.T) {
	t.Parallel()
	s := served(t)
	failed := func() string {
		s.fails(exitTaskError, "task", "create", "test_errors/permanent_error_only", "-w")
		return s.show("@last").ID.String()
	}
	id := failed()
	retried := s.tasker("task", "retry", id, "--reason", "once more")
	require.Zero(t, retried.code)
	require.Empty(t, retried.stdout)
	require.Equal(t, "task "+id+" goes on\n", retried.stderr)
	s.fails(exitTaskError, "task", "wait", id)
	s.with("TASKER_ACTOR=grace").ok("step", "retry", id, "permanent_error_step", "--reason", "and again")
	s.fails(exitTaskError, "task", "wait", id)
	require.Equal(t, 3, s.show(id).Step("permanent_error_step").ClaimNo)

	s.ok("step", "resolve", id, "permanent_error_step", "--result", `{"by":"hand"}`, "--reason", "done outside")
	require.JSONEq(t, `{"by":"hand"}`, s.ok("task", "wait", id))
	history := s.ok("task", "show", id, "--history")
	for _, note := range []string{"retry_task by ada: once more", "retry_step by grace: and again", "resolve_step by ada: done outside"} {
		require.Contains(t, history, note)
	}
	require.Contains(t, s.fails(exitConflict, "step", "resolve", id, "permanent_error_step", "--reason", "x"), "complete")

	other := failed()
	s.ok("step", "resolve", other, "permanent_error_step", "--reason", "not needed")
	require.Equal(t, "resolved_manually", string(s.show(other).Step("permanent_error_step").State))
	s.fails(exitUsage, "step", "resolve", other, "permanent_error_step", "--result", "{", "--reason", "x")

	running := strings.TrimSpace(s.ok("task", "create", "test_slow/slow", "-i", `{"ms":600000}`))
	require.Equal(t, "task "+running+" cancelled\n", s.tasker("task", "cancel", running[28:], "--reason", "enough").stderr)
	require.Contains(t, s.ok("task", "show", running), "⊘ two")
	raw, err := json.Marshal(s.show(running).State)
	require.NoError(t, err)
	require.Equal(t, `"cancelled"`, string(raw))
}
