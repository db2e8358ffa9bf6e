package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	// deadline bounds every wait for something that happens in a moment on an idle machine.
	deadline = 60 * time.Second
	pollGap  = 50 * time.Millisecond
)

// shell is a terminal: a folder and an environment to run tasker in.
type shell struct {
	t      *testing.T
	dir    string
	binary string
	env    []string
	user   *syscall.Credential
}

// newShell opens a terminal in an empty folder. With an empty URL, tasker has to bring its own Postgres.
func newShell(t *testing.T, url string) *shell {
	t.Helper()
	binary, err := os.Executable()
	require.NoError(t, err)
	s := &shell{t: t, dir: openDir(t), binary: binary, env: []string{
		mainVariable + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(), //nolint:usetesting // short enough for a socket
		"USER=ada", "GORACE=atexit_sleep_ms=0",
	}}
	if url != "" {
		s.env = append(s.env, "DATABASE_URL="+url)
	}
	return s
}

// with returns the terminal with more variables set.
func (s *shell) with(variables ...string) *shell {
	other := *s
	other.env = append(append([]string(nil), s.env...), variables...)
	return &other
}

// openDir makes a folder that every user can reach: the account of root's Postgres has to.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tasker-cli-") //nolint:usetesting // t.TempDir's parent is closed to other users
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// write makes a file in the terminal's folder.
func (s *shell) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(s.t, os.WriteFile(path, []byte(text), 0o644))
}

// command prepares a run of tasker that the kernel ends with the thread that starts it.
func (s *shell) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.binary, args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	// SIGTERM, not SIGKILL: a server takes its Postgres along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Credential: s.user}
	return cmd
}

// result is what a command left behind.
type result struct {
	stdout, stderr string
	code           int
}

// tasker runs a command to its end.
func (s *shell) tasker(args ...string) result { return s.pipe("", args...) }

// pipe runs a command to its end with text on its standard input.
func (s *shell) pipe(input string, args ...string) result {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := s.command(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	require.NoError(s.t, cmd.Start())
	timer := time.AfterFunc(deadline, func() { _ = cmd.Process.Kill() }) //nolint:errcheck // the exit code tells
	defer timer.Stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("tasker %v: %v", args, err)
	}
	r := result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	s.inspect(r.stderr, args)
	return r
}

// inspect fails the test where a process crashed.
func (s *shell) inspect(output string, args []string) {
	s.t.Helper()
	for _, sign := range []string{"WARNING: DATA RACE", "panic:", "fatal error:", "goroutine "} {
		assert.NotContains(s.t, output, sign, "tasker %v", args)
	}
}

// ok runs a command that has to succeed and returns its standard output.
func (s *shell) ok(args ...string) string {
	s.t.Helper()
	r := s.tasker(args...)
	require.Zero(s.t, r.code, "tasker %v: %s", args, r.stderr)
	return r.stdout
}

// fails runs a command that has to end with a code, and returns its standard error.
func (s *shell) fails(code int, args ...string) string {
	s.t.Helper()
	r := s.tasker(args...)
	require.Equal(s.t, code, r.code, "tasker %v: %s%s", args, r.stdout, r.stderr)
	return r.stderr
}

// decode runs a command that has to succeed and print JSON.
func (s *shell) decode(into any, args ...string) {
	s.t.Helper()
	text := s.ok(args...)
	require.NoError(s.t, json.Unmarshal([]byte(text), into), "tasker %v: %s", args, text)
}

// server is a running `tasker`.
type server struct {
	shell  *shell
	cmd    *exec.Cmd
	exited chan struct{}
	mu     sync.Mutex
	output bytes.Buffer
}

// launch starts `tasker` without waiting for anything. It ends with the test.
func (s *shell) launch(args ...string) *server {
	s.t.Helper()
	srv := &server{shell: s, cmd: s.command(args...), exited: make(chan struct{})}
	srv.cmd.Stdout, srv.cmd.Stderr = srv, srv
	started := make(chan error)
	go func() {
		defer close(srv.exited)
		runtime.LockOSThread() // the kernel ties the process to this thread
		defer runtime.UnlockOSThread()
		err := srv.cmd.Start()
		started <- err
		if err == nil {
			_ = srv.cmd.Wait() //nolint:errcheck // the exit code is looked at where one is expected
		}
	}()
	require.NoError(s.t, <-started)
	s.t.Cleanup(func() {
		srv.signal(syscall.SIGTERM)
		timer := time.AfterFunc(deadline, func() { srv.signal(syscall.SIGKILL) })
		<-srv.exited
		timer.Stop()
		s.inspect(srv.text(), args)
		if s.t.Failed() {
			s.t.Logf("output of tasker %v:\n%s", args, srv.text())
		}
	})
	return srv
}

// serve starts `tasker serve` on a free port and returns once it is ready.
func (s *shell) serve(args ...string) *server {
	s.t.Helper()
	srv := s.launch(append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	srv.awaitReady()
	return srv
}

// Write takes the process's output.
func (srv *server) Write(text []byte) (int, error) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.output.Write(text)
}

func (srv *server) text() string {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.output.String()
}

func (srv *server) awaitReady() {
	srv.shell.t.Helper()
	srv.await("Press Ctrl-C to stop.")
}

// await returns once the process has printed the text.
func (srv *server) await(text string) {
	srv.shell.t.Helper()
	eventually(srv.shell.t, "tasker prints "+text, func() bool {
		if srv.ended() && !strings.Contains(srv.text(), text) {
			srv.shell.t.Fatalf("tasker ended before it printed %q:\n%s", text, srv.text())
		}
		return strings.Contains(srv.text(), text)
	})
}

func (srv *server) ended() bool {
	select {
	case <-srv.exited:
		return true
	default:
		return false
	}
}

// signal reaches a process that runs; one that has ended keeps its peace.
func (srv *server) signal(sig syscall.Signal) {
	if !srv.ended() {
		_ = srv.cmd.Process.Signal(sig) //nolint:errcheck // it may have ended this moment
	}
}

// stop asks for a polite end, which has to be a success, and returns how long it took.
func (srv *server) stop() time.Duration {
	srv.shell.t.Helper()
	began := time.Now()
	srv.signal(syscall.SIGTERM)
	require.Zero(srv.shell.t, srv.wait().ExitCode(), srv.text())
	return time.Since(began)
}

// wait returns once the process has ended.
func (srv *server) wait() *os.ProcessState {
	srv.shell.t.Helper()
	eventually(srv.shell.t, "tasker ends", srv.ended)
	return srv.cmd.ProcessState
}

var addressPattern = regexp.MustCompile(`http://(127\.0\.0\.1:\d+)/riverui/`)

// address is where the process says that it listens.
func (srv *server) address() string {
	srv.shell.t.Helper()
	match := addressPattern.FindStringSubmatch(srv.text())
	require.NotNil(srv.shell.t, match, srv.text())
	return match[1]
}

// get asks for a page; the code is 0 where nobody answers.
func get(t *testing.T, address, path string) (int, string) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	require.NoError(t, err)
	response, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

// eventually polls until something is so.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	ticker := time.NewTicker(pollGap)
	defer ticker.Stop()
	for !check() {
		select {
		case <-ticker.C:
		case <-timeout.C:
			t.Fatalf("waited %v in vain: %s", deadline, what)
		}
	}
}

// ask returns the one value that a query finds.
func ask[T any](t *testing.T, url, sql string, args ...any) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var value T
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

// alter runs a statement.
func alter(t *testing.T, url, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func decodeText[T any](t *testing.T, text string) T {
	t.Helper()
	var value T
	require.NoError(t, json.Unmarshal([]byte(text), &value), text)
	return value
}
