package main

import (
	"context"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/embeddedpg"
)

// newHome opens a terminal in an empty folder without a database. Should the test leave a Postgres there, it is stopped.
func newHome(t *testing.T) *shell {
	t.Helper()
	s := newShell(t, "")
	t.Cleanup(func() {
		config := embeddedpg.Config{Dir: s.state()}
		if _, err := embeddedpg.Find(config.Dir); err != nil {
			return
		}
		server, err := embeddedpg.Start(context.WithoutCancel(t.Context()), config)
		if assert.NoError(t, err) {
			assert.NoError(t, server.Stop(context.WithoutCancel(t.Context())))
		}
	})
	return s
}

// state is the folder of the embedded Postgres.
func (s *shell) state() string { return filepath.Join(s.dir, ".tasker") }

// url is the embedded Postgres'.
func (s *shell) url() string {
	s.t.Helper()
	url, err := embeddedpg.Find(s.state())
	require.NoError(s.t, err)
	return url
}

func TestAnEmptyFolderIsEnough(t *testing.T) {
	t.Parallel()
	s := newHome(t)
	message := s.fails(exitUnreachable, "task", "list")
	require.Contains(t, message, "start `tasker` in this folder, or set DATABASE_URL")

	srv := s.launch("--listen", "127.0.0.1:0") // no command at all
	srv.awaitReady()
	require.Contains(t, srv.text(), "✓ PostgreSQL 1")
	require.Contains(t, srv.text(), "✓ worker         50 slots each in [rust_e2e_diamond rust_e2e_linear")
	code, _ := get(t, srv.address(), "/health/ready")
	require.Equal(t, 200, code)

	require.Equal(t, "2821109907456\n",
		s.ok("task", "create", "rust_e2e_linear/mathematical_sequence", "--input", `{"even_number":6}`, "--wait"))
	require.Equal(t, new(big.Int).Exp(big.NewInt(6), big.NewInt(64), nil).String()+"\n",
		s.ok("task", "create", "rust_e2e_tree/hierarchical_tree", "--input", `{"even_number":6}`, "--wait"))

	second := s.tasker("--listen", "127.0.0.1:0")
	require.Zero(t, second.code)
	require.Contains(t, second.stderr, fmt.Sprintf("tasker is already running in this folder (process %d)", srv.cmd.Process.Pid))

	postgres := postmaster(t, s)
	require.Less(t, srv.stop(), 10*time.Second)
	require.False(t, alive(postgres), "Postgres ends with the tasker that started it")
	require.Contains(t, s.fails(exitUnreachable, "task", "list"), "no embedded Postgres is running")
}

func TestNothingIsLostWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	s := newHome(t)
	s.write("config/tasks/slow.yaml", slow)
	srv := s.serve("--profile", "fast", "--workers", "20")
	url, postgres := s.url(), postmaster(t, s)
	alter(t, url, `SELECT tasker.create_task('test_slow', 'slow', jsonb_build_object('ms', 40 + n)) FROM generate_series(1, 150) n`)
	alter(t, url, `SELECT tasker.create_task('rust_e2e_linear', 'mathematical_sequence', '{"even_number": 8}') FROM generate_series(1, 50)`)
	const complete = "SELECT count(*) FROM tasker.tasks WHERE state = 'complete'"
	eventually(t, "tasks are under way", func() bool {
		return ask[int](t, url, complete) >= 20 && ask[int](t, url, "SELECT count(*) FROM tasker.steps WHERE state = 'in_progress'") > 5
	})
	srv.signal(syscall.SIGKILL)
	require.Equal(t, syscall.SIGKILL, srv.wait().Sys().(syscall.WaitStatus).Signal())
	require.True(t, alive(postgres), "Postgres outlives the process")
	require.Positive(t, ask[int](t, url, "SELECT count(*) FROM tasker.steps WHERE state = 'in_progress'"), "killed too late to tell anything")

	again := s.serve("--profile", "fast")
	require.Contains(t, again.text(), "adopted the Postgres left running")
	require.Equal(t, postgres, postmaster(t, s))
	eventually(t, "all tasks are complete", func() bool { return ask[int](t, url, complete) == 200 })
	require.Positive(t, ask[int](t, url, "SELECT count(*) FROM tasker.step_attempts WHERE outcome = 'lost'"), "steps ran again")
	s.ok("doctor")
	again.stop()
	require.False(t, alive(postgres), "an adopted Postgres is stopped too")
}

func TestTaskerRunsAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("all the other tests do")
	}
	nobody, err := user.Lookup("nobody")
	require.NoError(t, err)
	uid, err := strconv.Atoi(nobody.Uid)
	require.NoError(t, err)
	gid, err := strconv.Atoi(nobody.Gid)
	require.NoError(t, err)
	s := newShell(t, "")
	binary := filepath.Join(openDir(t), "tasker") // go test's own folder is closed to others
	copyFile(t, s.binary, binary)
	require.NoError(t, os.Chown(s.dir, uid, gid))
	s = s.with("HOME=/nonexistent", "USER=nobody")
	s.binary, s.user = binary, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}

	srv := s.serve()
	info, err := os.Stat(filepath.Join(s.state(), "data"))
	require.NoError(t, err)
	require.Equal(t, uint32(uid), info.Sys().(*syscall.Stat_t).Uid)
	require.Equal(t, "1208925819614629174706176\n",
		s.ok("task", "create", "rust_e2e_diamond/diamond_pattern", "--input", `{"even_number":32}`, "--wait"))
	srv.stop()
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	source, err := os.Open(from)
	require.NoError(t, err)
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(target, source)
	require.NoError(t, err)
	require.NoError(t, target.Close())
}

// postmaster is the process id of the folder's Postgres.
func postmaster(t *testing.T, s *shell) int {
	t.Helper()
	data := ask[string](t, s.url(), "SHOW data_directory")
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	require.NoError(t, err)
	return pid
}

// alive does not count a zombie: in a container nobody may reap an orphan.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}
