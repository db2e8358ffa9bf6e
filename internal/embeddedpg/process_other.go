//go:build unix && !linux

package embeddedpg

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// tieToThread does nothing: only Linux can end a child with its parent. A server left behind is stopped by hand.
func tieToThread(*exec.Cmd) (release func()) { return func() {} }

func processAlive(pid int) bool { return pidTaken(pid) }

// isPostmaster reports whether the process is alive and is a PostgreSQL server. That it is the one of that data directory shows
// when connecting to it.
func isPostmaster(pid int, _ string) bool {
	if !processAlive(pid) {
		return false
	}
	out, err := exec.CommandContext(context.Background(), "ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(filepath.Base(strings.TrimSpace(string(out))), "postgres")
}
