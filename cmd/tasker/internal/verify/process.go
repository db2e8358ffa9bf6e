package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a running `tasker serve`.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}

	mu     sync.Mutex
	output strings.Builder
	// more is closed, and replaced, when there is more output.
	more chan struct{}
}

// launch starts a process that the kernel ends with this one, where it can.
func launch(ctx context.Context, path, dir string, env []string, args ...string) (*process, error) {
	p := &process{cmd: exec.CommandContext(context.WithoutCancel(ctx), path, args...), exited: make(chan struct{}), more: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = dir, env, p, p, attributes()
	started := make(chan error)
	go func() {
		defer close(p.exited)
		runtime.LockOSThread() // the kernel ties the process to this thread
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() //nolint:errcheck // the exit code tells
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start tasker serve: %w", err)
	}
	return p, nil
}

// Write takes the process's output.
func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.more)
	p.more = make(chan struct{})
	return p.output.Write(text) //nolint:wrapcheck // it never fails
}

func (p *process) read() (text string, more <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String(), p.more
}

// await returns once the process has printed the text.
func (p *process) await(ctx context.Context, text string) error {
	for {
		output, more := p.read()
		if strings.Contains(output, text) {
			return nil
		}
		select {
		case <-more:
		case <-p.exited:
			return fmt.Errorf("tasker serve ended before it printed %q", text)
		case <-ctx.Done():
			return fmt.Errorf("wait until tasker serve prints %q: %w", text, ctx.Err())
		}
	}
}

// ending is how a process ended.
type ending struct {
	code int
	took time.Duration
	// killed: it did not end by itself.
	killed bool
}

// stop asks for a polite end, and enforces one after the patience.
func (p *process) stop(patience time.Duration) ending {
	began := time.Now()
	var end ending
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		end.killed = true
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		end.killed = true
	}
	if end.killed {
		_ = p.cmd.Process.Kill() //nolint:errcheck // it may have ended this moment
		<-p.exited
	}
	end.code, end.took = p.cmd.ProcessState.ExitCode(), time.Since(began)
	return end
}

// tail is the end of the output, for errors.
func (p *process) tail() string {
	const lines = 15
	output, _ := p.read()
	all := strings.Split(strings.TrimSpace(output), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
