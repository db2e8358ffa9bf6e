package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

const running = "SELECT EXISTS (SELECT FROM tasker.steps WHERE state = 'in_progress')"

// serveSlow starts a server with a task whose first step runs for so many milliseconds, and returns once it does.
func serveSlow(t *testing.T, ms string) (*server, string) {
	t.Helper()
	url := dbtest.URL(t)
	s := newShell(t, url)
	s.write("config/tasks/slow.yaml", slow)
	srv := s.serve()
	s.ok("task", "create", "test_slow/slow", "--input", `{"ms":`+ms+`}`)
	eventually(t, "the step runs", func() bool { return ask[bool](t, url, running) })
	return srv, url
}

func TestARunningStepIsFinishedBeforeTaskerStops(t *testing.T) {
	t.Parallel()
	srv, url := serveSlow(t, "1500")
	require.Less(t, srv.stop(), 8*time.Second)
	require.Contains(t, srv.text(), "stopping: running steps get 8s to finish; a second signal exits at once")
	require.Equal(t, "complete", ask[string](t, url, "SELECT state FROM tasker.steps WHERE name = 'one'"))
	require.Equal(t, "enqueued", ask[string](t, url, "SELECT state FROM tasker.steps WHERE name = 'two'"), "nothing new is begun")
}

func TestAStepThatTakesTooLongIsHandedBackWithItsAttempt(t *testing.T) {
	t.Parallel()
	srv, url := serveSlow(t, "600000")
	require.Equal(t, 1, ask[int](t, url, "SELECT attempts FROM tasker.steps WHERE name = 'one'"))
	require.Less(t, srv.stop(), 15*time.Second, "8 s of grace, and a little to hand back")
	require.Equal(t, "enqueued", ask[string](t, url, "SELECT state FROM tasker.steps WHERE name = 'one'"))
	require.Zero(t, ask[int](t, url, "SELECT attempts FROM tasker.steps WHERE name = 'one'"))
	require.Equal(t, "released", ask[string](t, url, "SELECT outcome FROM tasker.step_attempts"))
	srv.shell.ok("doctor", "--age", "1ms")

	// Whoever comes next takes it up.
	again := srv.shell.serve()
	eventually(t, "the step runs again", func() bool { return ask[bool](t, url, running) })
	again.shell.ok("task", "cancel", "@last", "--reason", "seen enough")
	require.Less(t, again.stop(), 8*time.Second, "a cancelled step does not hold up the end")
}

func TestASecondSignalEndsTaskerAtOnce(t *testing.T) {
	t.Parallel()
	srv, url := serveSlow(t, "600000")
	srv.signal(syscall.SIGINT)
	srv.await("stopping:")
	code, _ := get(t, srv.address(), "/health/ready")
	require.NotEqual(t, 200, code, "no new traffic while it drains")
	began := time.Now()
	srv.signal(syscall.SIGINT)
	status := srv.wait().Sys().(syscall.WaitStatus)
	require.Equal(t, syscall.SIGINT, status.Signal())
	require.Less(t, time.Since(began), 3*time.Second)
	require.True(t, ask[bool](t, url, running), "its lease will run out")
}

func TestAnInterruptedWaitSaysSoByItsCode(t *testing.T) {
	t.Parallel()
	s := newShell(t, dbtest.URL(t))
	s.write("config/tasks/slow.yaml", slow)
	srv := s.serve("--role", "orchestrator")
	id := strings.TrimSpace(s.ok("task", "create", "test_slow/slow"))
	waiting := s.launch("task", "wait", id)
	eventually(t, "the command listens", func() bool {
		return ask[bool](t, dbURL(s), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'LISTEN tasker_task_ended%' AND datname = current_database())")
	})
	waiting.signal(syscall.SIGINT)
	require.Equal(t, exitInterrupted, waiting.wait().ExitCode())
	require.Empty(t, waiting.text(), "who pressed Ctrl-C knows")
	srv.stop()
}

// dbURL is the terminal's DATABASE_URL.
func dbURL(s *shell) string {
	for _, variable := range s.env {
		if url, ok := strings.CutPrefix(variable, "DATABASE_URL="); ok {
			return url
		}
	}
	return ""
}
