package main

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/embeddedpg"
)

// freeAddress is one that nobody listens on at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

func TestTaskerLivesWithADatabaseThatComesAndGoes(t *testing.T) {
	t.Parallel()
	config := embeddedpg.Config{Dir: openDir(t)}
	start := func() *embeddedpg.Server {
		server, err := embeddedpg.Start(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
		return server
	}
	server := start() // for its URL, which stays
	refuseWrongPassword(t, server.URL())
	require.NoError(t, server.Stop(t.Context()))

	s, address := newShell(t, server.URL()), freeAddress(t)
	s.write("config/tasks/slow.yaml", slow)
	srv := s.launch("serve", "--listen", address, "--profile", "fast")
	srv.await("waiting for the database")
	code, _ := get(t, address, "/health/live")
	require.Equal(t, http.StatusOK, code)
	for _, path := range []string{"/health/ready", "/riverui/"} {
		code, _ = get(t, address, path)
		require.Equal(t, http.StatusServiceUnavailable, code, path)
	}
	impatient := s.launch("serve", "--listen", "")
	impatient.await("waiting for the database")
	impatient.stop()

	server = start()
	srv.awaitReady()
	code, _ = get(t, address, "/health/ready")
	require.Equal(t, http.StatusOK, code)
	crashUnderLoad(t, s, server)
	eventually(t, "tasker is ready again", func() bool {
		code, _ := get(t, address, "/health/ready")
		return code == http.StatusOK
	})
	s.ok("doctor")
	srv.stop()
}

func refuseWrongPassword(t *testing.T, right string) {
	t.Helper()
	wrong, err := url.Parse(right)
	require.NoError(t, err)
	wrong.User = url.UserPassword(wrong.User.Username(), "wrong-"+"password")
	s := newShell(t, wrong.String())
	for _, args := range [][]string{{"serve", "--listen", ""}, {"task", "list"}, {"migrate", "status"}} {
		began := time.Now()
		message := s.fails(exitUnreachable, args...)
		require.Less(t, time.Since(began), 10*time.Second, "waiting does not mend a password")
		require.Contains(t, message, "password authentication failed")
		require.NotContains(t, message, "wrong-password")
	}
	unknown := *wrong
	unknown.User, unknown.Path = nil, "/nothing"
	if parsed, err := url.Parse(right); err == nil {
		unknown.User = parsed.User
	}
	require.Contains(t, newShell(t, unknown.String()).fails(exitUnreachable, "serve", "--listen", ""), `database "nothing" does not exist`)
}

// crashUnderLoad crashes Postgres while tasks run, and wants each of them complete.
func crashUnderLoad(t *testing.T, s *shell, server *embeddedpg.Server) {
	t.Helper()
	alter(t, server.URL(), `SELECT tasker.create_task('test_slow', 'slow', jsonb_build_object('ms', n)) FROM generate_series(1, 200) n`)
	waiting := s.launch("task", "wait", "@last")
	const complete = "SELECT count(*) FROM tasker.tasks WHERE state = 'complete'"
	eventually(t, "tasks are under way", func() bool { return ask[int](t, server.URL(), complete) >= 20 })
	require.NoError(t, server.CrashRestart(t.Context()))
	require.Less(t, ask[int](t, server.URL(), complete), 200, "crashed too late to tell anything")
	eventually(t, "all tasks are complete", func() bool { return ask[int](t, server.URL(), complete) == 200 })
	require.Zero(t, waiting.wait().ExitCode(), waiting.text())
	require.Equal(t, "two\n", waiting.text())
}
