package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

func TestExitCodesTellWhatHappened(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	s := newShell(t, url)
	s.write("config/tasks/slow.yaml", slow)
	s.serve()
	create := func(name, input string) string {
		return strings.TrimSpace(s.ok("task", "create", name, "--input", input, "--reason", "for its code"))
	}
	long, done := create("test_slow/slow", `{"ms":600000}`), create("test_errors/success_only", `{}`)
	s.ok("task", "wait", done)
	cancelled := create("test_slow/slow", `{"ms":600000}`)
	s.ok("task", "cancel", cancelled, "--reason", "for its code")
	t.Cleanup(func() { s.ok("task", "cancel", long, "--reason", "the test is over") })
	dead := newShell(t, "postgres://nobody@127.0.0.1:1/none")

	for name, test := range map[string]struct {
		shell   *shell
		code    int
		args    []string
		message string
	}{
		"success":                         {s, 0, []string{"task", "create", "test_errors/success_only", "--wait"}, ""},
		"a flag that is not one":          {s, exitUsage, []string{"task", "list", "--nope"}, "unknown flag: --nope"},
		"a command that is not one":       {s, exitUsage, []string{"taks"}, `unknown command "taks"`},
		"a verb that is not one":          {s, exitUsage, []string{"task", "creat"}, `unknown command "creat"`},
		"an argument too many":            {s, exitUsage, []string{"version", "please"}, `usage: tasker version`},
		"an argument too few":             {s, exitUsage, []string{"task", "show"}, "usage: tasker task show TASK"},
		"no file to validate":             {s, exitUsage, []string{"template", "validate"}, "usage: tasker template validate FILE…"},
		"a format that is not one":        {s, exitUsage, []string{"task", "list", "-o", "yaml"}, `--output "yaml" is not one of table, json, id`},
		"a state that is not one":         {s, exitUsage, []string{"task", "list", "--state", "done"}, `--state "done" is not one of`},
		"a name without namespace":        {s, exitUsage, []string{"task", "create", "success_only"}, `"success_only" is not NAMESPACE/NAME`},
		"input that is not JSON":          {s, exitUsage, []string{"task", "create", "test_errors/success_only", "--input", "{"}, "--input is not JSON"},
		"input that breaks the schema":    {s, exitUsage, []string{"task", "create", "rust_e2e_linear/mathematical_sequence"}, "missing property 'even_number'"},
		"a time that is not one":          {s, exitUsage, []string{"task", "create", "test_errors/success_only", "--at", "noon"}, `--at "noon" is neither`},
		"a change without reason":         {s, exitUsage, []string{"task", "cancel", long}, "give a --reason"},
		"a role that is not one":          {s, exitUsage, []string{"serve", "--role", "boss"}, `--role "boss" is not one of`},
		"a profile that is not one":       {s, exitUsage, []string{"serve", "--profile", "slow"}, `--profile "slow" is not one of`},
		"a log level that is not one":     {s, exitUsage, []string{"serve", "--log-level", "loud"}, "--log-level"},
		"an address that is not one":      {s, exitUsage, []string{"serve", "--listen", "here"}, "--listen"},
		"a URL that is not one":           {s, exitUsage, []string{"task", "list", "--database-url", "postgres://u:secret@h:x/"}, "read DATABASE_URL"},
		"a template that is not there":    {s, exitNotFound, []string{"task", "create", "test_errors/nothing"}, "unknown template test_errors/nothing"},
		"a task that is not there":        {s, exitNotFound, []string{"task", "show", "0123456789ab"}, "task not found"},
		"a step that is not there":        {s, exitNotFound, []string{"step", "retry", long, "three", "--reason", "x"}, `the task has no step "three"`},
		"what the state forbids":          {s, exitConflict, []string{"task", "cancel", done, "--reason", "x"}, "already complete"},
		"a wait that takes too long":      {s, exitTimeout, []string{"task", "wait", long, "--timeout", "150ms"}, ""},
		"a watch that takes too long":     {s, exitTimeout, []string{"task", "create", "test_slow/slow", "-i", `{"ms":3000}`, "--watch", "--timeout", "150ms"}, ""},
		"no database":                     {dead, exitUnreachable, []string{"task", "list"}, "no database"},
		"no database to examine":          {dead, exitUnchecked, []string{"doctor"}, "no database"},
		"no server to ask for its health": {s.with("TASKER_LISTEN=127.0.0.1:1"), exitUnreachable, []string{"health"}, "ask for health"},
		"a task that fails":               {s, exitTaskError, []string{"task", "create", "test_errors/permanent_error_only", "-w"}, "this error is permanent"},
		"a task that was cancelled":       {s, exitCancelled, []string{"task", "wait", cancelled}, "ended cancelled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.shell.exits(t, test.code, test.message, test.args)
		})
	}
}

// exits runs a command that has to end with a code and say something.
func (s *shell) exits(t *testing.T, code int, says string, args []string) {
	t.Helper()
	here := *s
	here.t = t
	message := here.fails(code, args...)
	require.Contains(t, message, says)
	require.NotContains(t, message, "secret")
	require.Equal(t, code == 0, message == "", "errors and only errors are on standard error")
}

func TestWhatTaskerSaysOfItself(t *testing.T) {
	t.Parallel()
	s := newShell(t, "postgres://tasker:secret@127.0.0.1:1/none")
	require.Equal(t, "tasker 0.1.0-dev\n", s.ok("version"))
	for _, command := range []string{"", "serve", "task", "task create", "step", "template", "migrate", "doctor"} {
		help := s.ok(append(strings.Fields(command), "--help")...)
		require.Contains(t, help, "Usage:")
		require.NotContains(t, help, "secret", "a password does not belong on the screen")
	}
	require.Contains(t, s.ok("task"), "Available Commands:")
}

func TestWatchingInAPipePrintsALineOfJSONForEachChange(t *testing.T) {
	t.Parallel()
	s := newShell(t, dbtest.URL(t))
	s.write("config/tasks/slow.yaml", slow)
	s.serve()
	output := s.ok("task", "create", "test_slow/slow", "--input", `{"ms":300}`, "--watch")
	var seen []string
	for line := range strings.Lines(output) {
		var c map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &c), line)
		require.Subset(t, keys(c), []string{"time", "task", "state"})
		step, _ := c["step"].(string)
		seen = append(seen, strings.TrimSpace(step+" "+c["state"].(string)))
	}
	for _, change := range []string{"one in_progress", "one complete", "two pending", "two in_progress", "two complete", "steps_in_process"} {
		require.Contains(t, seen, change)
	}
	require.Equal(t, "complete", seen[len(seen)-1], "the task's end is the last line")

	failed := s.tasker("task", "create", "test_errors/permanent_error_only", "--watch")
	require.Equal(t, exitTaskError, failed.code)
	require.Contains(t, failed.stdout, `"state":"error","error":"this error is permanent"}`)
}

func keys(m map[string]any) []string {
	all := make([]string, 0, len(m))
	for key := range m {
		all = append(all, key)
	}
	return all
}

func TestHealthIsAskedWhereTaskerListens(t *testing.T) {
	t.Parallel()
	s := newShell(t, dbtest.URL(t))
	srv := s.serve()
	s.with("TASKER_LISTEN=" + srv.address()).ok("health")
	other := s.launch("serve", "--listen", srv.address(), "--role", "orchestrator")
	other.awaitReady()
	require.NotEqual(t, srv.address(), other.address(), "a port that is taken does not keep tasker from starting")
	require.Contains(t, other.text(), "address is taken, using another")
	code, _ := get(t, other.address(), "/health/ready")
	require.Equal(t, 200, code)
	none := s.launch("serve", "--listen", "", "--role", "worker")
	none.awaitReady()
	require.NotContains(t, none.text(), "River UI")
}
