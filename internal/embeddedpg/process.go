package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// process is a postmaster: our child, or one adopted from a process that is gone.
type process struct {
	pid  int
	done chan struct{} // closed when our child has ended; nil for an adopted one, which only polling can observe
	data string        // the data directory of an adopted one, to tell it from a later process with its id
}

// startProcess starts cmd and reaps it when it ends. tied makes the child end with this process, where the system can do that.
func startProcess(cmd *exec.Cmd, tied bool) (*process, error) {
	proc := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(proc.done)
		if tied {
			defer tieToThread(cmd)()
		}
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() //nolint:errcheck // the exit status says nothing that the log does not say better
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the process: %w", err)
	}
	proc.pid = cmd.Process.Pid
	return proc, nil
}

// exited is closed once the process has ended. For an adopted process it never is: use wait.
func (p *process) exited() <-chan struct{} { return p.done }

func (p *process) running() bool {
	if p.done == nil {
		return isPostmaster(p.pid, p.data)
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// wait returns once the process is gone.
func (p *process) wait(ctx context.Context) error {
	if p.done != nil {
		select {
		case <-p.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for process %d to end: %w", p.pid, ctx.Err())
		}
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for p.running() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for process %d to end: %w", p.pid, ctx.Err())
		}
	}
	return nil
}

// stopSignal is one of the postmaster's ways to shut down.
type stopSignal int

const (
	signalFast      stopSignal = iota // roll back, write a checkpoint, end
	signalImmediate                   // end; the next start recovers
)

// signal asks the process to stop. One that is gone is not an error.
func (p *process) signal(sig stopSignal) error {
	if !p.running() { // its id may belong to another process by now
		return nil
	}
	if err := sendSignal(p.pid, sig); err != nil && !errors.Is(err, errNoProcess) {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	return nil
}
