package embeddedpg_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tasker-systems/tasker-go/internal/embeddedpg"
)

// helperVariable makes the test binary start a server, print its process id and wait to be killed: it plays the tasker process
// that dies.
const (
	helperVariable = "TASKER_EMBEDDEDPG_HELPER"
	dirVariable    = "TASKER_EMBEDDEDPG_DIR"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(helperVariable); kind != "" {
		os.Exit(helper(kind))
	}
	goleak.VerifyTestMain(m)
}

func helper(kind string) int {
	config := embeddedpg.Config{Dir: os.Getenv(dirVariable), Ephemeral: kind == "ephemeral"}
	server, err := embeddedpg.Start(context.Background(), config)
	if err != nil {
		fmt.Fprintln(os.Stdout, "error:", err)
		return 1
	}
	fmt.Fprintln(os.Stdout, server.PID())
	_, _ = io.Copy(io.Discard, os.Stdin) //nolint:errcheck // any end will do
	return 0
}

// killedOwner starts a server in another process, kills that process, and returns the server's process id.
func killedOwner(t *testing.T, kind, dir string) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"="+kind, dirVariable+"="+dir, "TMPDIR="+dir)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, readErr := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait(), "it was killed")
	require.NoError(t, readErr)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	return pid
}

// start starts a server that the test's end stops.
func start(t *testing.T, config embeddedpg.Config) *embeddedpg.Server {
	t.Helper()
	begin := time.Now()
	server, err := embeddedpg.Start(t.Context(), config)
	require.NoError(t, err)
	t.Logf("started in %s (adopted: %t)", time.Since(begin).Round(time.Millisecond), server.Adopted())
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
	return server
}

// stateDir is a folder that the server's account can pass through, unlike t.TempDir when we are root. Its path is short enough
// for a socket.
func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tasker-test-") //nolint:usetesting // the server runs as another user, who cannot enter t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func count(t *testing.T, url string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM kept").Scan(&n))
	return n
}

const makeRow = "CREATE TABLE kept AS SELECT 1 AS one"

func TestEphemeralServerKeepsCommittedRowsThroughACrashAndLeavesNothing(t *testing.T) {
	t.Parallel()
	server := start(t, embeddedpg.Config{Ephemeral: true, ListenTCP: true})
	execute(t, server.URL(), makeRow)
	pid := server.PID()

	require.NoError(t, server.CrashRestart(t.Context()))

	require.NotEqual(t, pid, server.PID())
	require.Equal(t, 1, count(t, server.URL()))
	require.Equal(t, 1, count(t, server.TCPURL()), "the port stays the same")
	require.Less(t, len(server.SocketPath()), 100)
	require.NoError(t, server.Stop(t.Context()))
	require.NoError(t, server.Stop(t.Context()), "a second Stop does nothing")
	require.NoDirExists(t, filepath.Dir(server.SocketPath()))
}

func TestEphemeralServerDiesWithItsProcess(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ends a child with its parent")
	}
	pid := killedOwner(t, "ephemeral", stateDir(t))
	require.Eventually(t, func() bool { return !running(pid) }, 10*time.Second, 20*time.Millisecond)
}

// running is false for a zombie too: nobody may reap orphans in a container.
func running(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !strings.Contains(string(status), "State:\tZ")
}

func TestDeveloperServerKeepsDataPortAndPasswordBetweenRuns(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(stateDir(t), "state")
	_, err := embeddedpg.Find(dir)
	require.ErrorIs(t, err, embeddedpg.ErrNotRunning)
	first := start(t, embeddedpg.Config{Dir: dir})
	execute(t, first.URL(), makeRow)
	require.False(t, first.Adopted())
	found, err := embeddedpg.Find(dir)
	require.NoError(t, err)
	require.Equal(t, first.URL(), found)

	_, err = embeddedpg.Start(t.Context(), embeddedpg.Config{Dir: dir})
	var running *embeddedpg.AlreadyRunningError
	require.ErrorAs(t, err, &running)
	require.ErrorIs(t, err, embeddedpg.ErrAlreadyRunning)
	require.Equal(t, first.URL(), running.URL)
	require.Equal(t, os.Getpid(), running.OwnerPID)

	require.NoError(t, first.Stop(t.Context()))
	_, err = embeddedpg.Find(dir)
	require.ErrorIs(t, err, embeddedpg.ErrNotRunning)
	info, err := os.Stat(filepath.Join(dir, "dev.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	second := start(t, embeddedpg.Config{Dir: dir})
	require.Equal(t, first.URL(), second.URL())
	require.Equal(t, 1, count(t, second.URL()))
}

func TestDeveloperServerOfAKilledProcessIsAdopted(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	pid := killedOwner(t, "dev", dir)
	found, err := embeddedpg.Find(dir)
	require.NoError(t, err, "it outlives its owner")
	execute(t, found, makeRow)

	server := start(t, embeddedpg.Config{Dir: dir})

	require.True(t, server.Adopted())
	require.Equal(t, pid, server.PID())
	require.Equal(t, found, server.URL())
	require.NotEmpty(t, server.Version())
	require.NoError(t, server.CrashRestart(t.Context()))
	require.NotEqual(t, pid, server.PID())
	require.Equal(t, 1, count(t, server.URL()))
}

func TestStoppingAnAdoptedServerEndsIt(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	pid := killedOwner(t, "dev", dir)
	server := start(t, embeddedpg.Config{Dir: dir})
	require.NoError(t, server.Stop(t.Context()))
	require.NoFileExists(t, filepath.Join(server.DataDir(), "postmaster.pid"))
	if runtime.GOOS == "linux" {
		require.False(t, running(pid))
	}
}

func TestStartSurvivesALostDevFileAndAStaleProcessFile(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	first := start(t, embeddedpg.Config{Dir: dir})
	execute(t, first.URL(), makeRow)
	require.NoError(t, first.Stop(t.Context()))
	require.NoError(t, os.Remove(filepath.Join(dir, "dev.json")))
	writeForServer(t, filepath.Join(first.DataDir(), "postmaster.pid"), strconv.Itoa(os.Getpid())+"\n")

	second := start(t, embeddedpg.Config{Dir: dir})

	require.NotEqual(t, first.URL(), second.URL(), "it has a new password")
	require.Equal(t, 1, count(t, second.URL()))
}

func TestAPortTakenBetweenRunsIsReplaced(t *testing.T) {
	t.Parallel()
	dir := stateDir(t)
	first := start(t, embeddedpg.Config{Dir: dir})
	require.NoError(t, first.Stop(t.Context()))
	config, err := pgx.ParseConfig(first.URL())
	require.NoError(t, err)
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp4", net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))))
	require.NoError(t, err)
	defer listener.Close()

	second := start(t, embeddedpg.Config{Dir: dir})

	require.NotEqual(t, first.URL(), second.URL())
	execute(t, second.URL(), makeRow)
}

func TestWhatKilledTestProcessesLeftIsRemoved(t *testing.T) {
	t.Parallel()
	left, err := os.MkdirTemp("", "taskerpg-") //nolint:usetesting // it must lie where servers leave theirs
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(left)) })
	lock := filepath.Join(left, "owner.lock")
	require.NoError(t, os.WriteFile(lock, nil, 0o600))
	longAgo := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(lock, longAgo, longAgo))
	running := start(t, embeddedpg.Config{Ephemeral: true})

	start(t, embeddedpg.Config{Ephemeral: true})

	require.NoDirExists(t, left)
	execute(t, running.URL(), "SELECT 1")
}

func TestDataOfAnotherMajorVersionIsRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	ephemeral := start(t, embeddedpg.Config{Ephemeral: true})
	dir := stateDir(t)
	version := filepath.Join(dir, "data", "PG_VERSION")
	require.NoError(t, os.Mkdir(filepath.Dir(version), 0o700))
	writeForServer(t, version, "13\n")
	chownLike(t, filepath.Dir(version), ephemeral.DataDir())

	_, err := embeddedpg.Start(t.Context(), embeddedpg.Config{Dir: dir, BinDir: ephemeral.BinDir()})
	require.ErrorContains(t, err, "the data was made by PostgreSQL 13")
	_, err = embeddedpg.Start(t.Context(), embeddedpg.Config{Dir: dir})
	require.ErrorContains(t, err, "the data needs PostgreSQL 13")
	require.ErrorContains(t, err, "--pg-bin")

	text, err := os.ReadFile(version)
	require.NoError(t, err)
	require.Equal(t, "13\n", string(text))
}

func TestRootKeepsDataElsewhereWhenTheFolderIsClosedToTheServer(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a normal user's server runs as that user")
	}
	dir := stateDir(t)
	require.NoError(t, os.Chmod(dir, 0o700))
	server := start(t, embeddedpg.Config{Dir: dir})
	home := filepath.Dir(server.DataDir())
	t.Cleanup(func() {
		require.NoError(t, server.Stop(context.WithoutCancel(t.Context())))
		require.NoError(t, os.RemoveAll(home))
	})
	require.Equal(t, "/var/lib/tasker", filepath.Dir(home))
	found, err := embeddedpg.Find(dir)
	require.NoError(t, err)
	require.Equal(t, server.URL(), found)
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	_, err := embeddedpg.Start(t.Context(), embeddedpg.Config{Ephemeral: true, Parameters: map[string]string{"work_mem": "many"}})
	require.ErrorContains(t, err, `invalid value for parameter "work_mem"`)
}

// writeForServer writes a file that the server's account owns, as the folder it lies in.
func writeForServer(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	chownLike(t, path, filepath.Dir(path))
}

func chownLike(t *testing.T, path, model string) {
	t.Helper()
	info, err := os.Stat(model)
	require.NoError(t, err)
	stat, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	require.NoError(t, os.Chown(path, int(stat.Uid), int(stat.Gid)))
}
