//go:build !unix

package embeddedpg

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

var (
	errNoProcess   = errors.New("no such process")
	errUnsupported = errors.New("embedded Postgres needs Linux or macOS: set DATABASE_URL to a PostgreSQL server of yours")
)

func supported() error { return errUnsupported }

func sendSignal(int, stopSignal) error { return errUnsupported }

func pidTaken(int) bool { return false }

func (account) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, path, args...)
}

func ownerOf(string) (uid, gid int, err error) { return 0, 0, errUnsupported }

func tryLock(string) (file *os.File, held bool, err error) { return nil, false, errUnsupported }

func unlock(*os.File) error { return nil }

func tieToThread(*exec.Cmd) (release func()) { return func() {} }

func processAlive(int) bool { return false }

func isPostmaster(int, string) bool { return false }
