//go:build unix

package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

var errNoProcess error = syscall.ESRCH

func supported() error { return nil }

func sendSignal(pid int, sig stopSignal) error {
	number := syscall.SIGINT
	if sig == signalImmediate {
		number = syscall.SIGQUIT
	}
	if err := syscall.Kill(pid, number); err != nil {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}

// pidTaken reports whether some process, of whatever kind, has that id. The server's own check of a stale postmaster.pid goes
// no further than this.
func pidTaken(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// command prepares a program to run under the account, away from the terminal's process group: Ctrl-C is for tasker, which
// stops the server after it has drained.
func (a account) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/" // the current folder may be closed to the account
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a.foreign {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)} //nolint:gosec // ids are 32 bits wide
	}
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"} // C: messages are searched; UTC: initdb need not look for the time zone
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PG") && !strings.HasPrefix(entry, "LC_ALL=") && !strings.HasPrefix(entry, "TZ=") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	return cmd
}

// ownerOf returns the user and group that own path.
func ownerOf(path string) (uid, gid int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, fmt.Errorf("look up who owns the data: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("look up who owns %s: not told by this system", path)
	}
	return int(stat.Uid), int(stat.Gid), nil
}

// tryLock takes the lock file, creating it if missing. held means that another process has it. A file system without locks is
// an error.
func tryLock(path string) (file *os.File, held bool, err error) {
	file, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("open the lock: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, false, nil
	}
	closeErr := file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, true, closeErr //nolint:wrapcheck // the caller says what was tried
	}
	return nil, false, fmt.Errorf("lock %s: %w", path, errors.Join(err, closeErr))
}

// unlock gives the lock up; nil is fine.
func unlock(file *os.File) error {
	if file == nil {
		return nil
	}
	if err := file.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("give up the lock: %w", err)
	}
	return nil
}
