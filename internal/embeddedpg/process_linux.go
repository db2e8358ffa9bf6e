package embeddedpg

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// tieToThread makes the kernel send SIGQUIT (immediate shutdown) to the child when the calling thread ends. The thread must
// therefore live as long as the child: the caller stays locked to it until the returned function is called.
func tieToThread(cmd *exec.Cmd) (release func()) {
	runtime.LockOSThread()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	return runtime.UnlockOSThread
}

// processAlive does not count a zombie: in a container nobody may ever reap an orphan.
func processAlive(pid int) bool {
	stat, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return false
	}
	// "pid (name) state ...", where the name may contain anything
	_, rest, found := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	return found && len(rest) > 0 && rest[0] != 'Z' && rest[0] != 'X'
}

// isPostmaster reports whether the process is alive and is the server of that data directory, rather than one that got its id
// after a reboot. A postmaster's working directory is its data directory.
func isPostmaster(pid int, data string) bool {
	if !processAlive(pid) {
		return false
	}
	working, err := os.Stat(procPath(pid, "cwd"))
	if err == nil {
		ours, err := os.Stat(data)
		return err == nil && os.SameFile(working, ours)
	}
	if !errors.Is(err, fs.ErrPermission) {
		return false
	}
	name, err := os.ReadFile(procPath(pid, "comm"))
	return err == nil && strings.Contains(string(name), "postgres")
}

func procPath(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }
