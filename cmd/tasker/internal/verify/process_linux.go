package verify

import "syscall"

// attributes keep a terminal's Ctrl-C from the process, which is stopped in its turn, and end it with this one.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
