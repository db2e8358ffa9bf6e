//go:build linux

package chaostest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	readyTimeout = 30 * time.Second
	exitTimeout  = 60 * time.Second
	// tailLines is how much of a process's output a failed test shows.
	tailLines = 40
)

// process is one life of a process under test.
type process struct {
	rig    *rig
	config processConfig
	cmd    *exec.Cmd
	ready  chan struct{}
	exited chan struct{}

	mu      sync.Mutex
	doomed  bool // its end was asked for
	partial []byte
	tail    []string
	stale   int // late results that were refused
	errors  []string
}

// spawn starts a process and returns once it takes part.
func (r *rig) spawn(role string, opts ...func(*processConfig)) *process {
	r.t.Helper()
	p := r.launch(role, opts...)
	r.wait(readyTimeout, "process "+p.config.ID+" is ready", func() bool { return closed(p.ready) || closed(p.exited) })
	require.True(r.t, closed(p.ready), "process %s ended before it was ready", p.config.ID)
	return p
}

// launch starts a process.
func (r *rig) launch(role string, opts ...func(*processConfig)) *process {
	config := processConfig{
		Role: role, URL: r.url, Ledger: r.ledgerURL, MaxLosses: 1000, Slots: 16, StopGrace: 2 * time.Second, Lease: lease,
	}
	for _, opt := range opts {
		opt(&config)
	}
	r.mu.Lock()
	r.lives++
	config.ID = fmt.Sprintf("%s-%d", role, r.lives)
	r.mu.Unlock()
	p := &process{rig: r, config: config, ready: make(chan struct{}), exited: make(chan struct{})}
	text, err := json.Marshal(config)
	require.NoError(r.t, err)
	p.cmd = exec.Command(r.binary)
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0", configVariable+"="+string(text))
	p.cmd.Stdout, p.cmd.Stderr = p, p
	started := make(chan error)
	r.running.Go(func() { p.run(started) })
	require.NoError(r.t, <-started)
	r.mu.Lock()
	r.processes = append(r.processes, p)
	r.mu.Unlock()
	return p
}

// run holds the thread that the kernel ties the process to: whatever becomes of the test, the process ends with it.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.doomed && !p.config.Mortal {
		p.rig.t.Errorf("process %s ended by itself: %v", p.config.ID, err)
	}
	if code := p.cmd.ProcessState.ExitCode(); code == raceExit {
		p.rig.t.Errorf("process %s had a data race", p.config.ID)
	}
	close(p.exited)
}

// Write takes the process's output.
func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.partial = append(p.partial, text...)
	for {
		line, rest, found := bytes.Cut(p.partial, []byte("\n"))
		if !found {
			return len(text), nil
		}
		p.partial = rest
		p.line(string(line))
	}
}

func (p *process) line(line string) {
	switch {
	case line == readyLine:
		close(p.ready)
	case strings.Contains(line, "WARNING: DATA RACE"), strings.HasPrefix(line, "panic:"), strings.HasPrefix(line, "fatal error:"):
		p.rig.t.Errorf("process %s: %s", p.config.ID, line)
	case strings.Contains(line, "stale_result"):
		p.stale++
	case strings.Contains(line, "level=ERROR"):
		p.errors = append(p.errors, line)
	}
	if p.tail = append(p.tail, line); len(p.tail) > tailLines {
		p.tail = p.tail[1:]
	}
}

// staleResults is how many late results the process has had refused.
func (p *process) staleResults() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stale
}

// calm fails the test if a process met an error: where the database answers, everything that comes late is refused quietly.
func (r *rig) calm() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.processes {
		p.mu.Lock()
		assert.Emptyf(r.t, p.errors, "errors of process %s", p.config.ID)
		p.mu.Unlock()
	}
}

// doom says that the process is about to end, and returns whether it still runs.
func (p *process) doom() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doomed = true
	return !closed(p.exited)
}

// kill ends the process at once and notes when.
func (p *process) kill() {
	if !p.doom() {
		return
	}
	at := time.Now()
	p.signal(syscall.SIGKILL)
	<-p.exited
	p.rig.killed(p.config.ID, at)
}

// stop asks the process to end politely and returns how long it took.
func (p *process) stop() time.Duration {
	p.doom()
	asked := time.Now()
	p.signal(syscall.SIGTERM)
	p.awaitExit()
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.rig.t.Errorf("process %s: exit code %d after SIGTERM", p.config.ID, code)
	}
	return time.Since(asked)
}

// awaitExit waits for the end of a process, by force if it takes too long.
func (p *process) awaitExit() {
	timer := time.NewTimer(exitTimeout)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		p.rig.t.Errorf("process %s did not end within %v", p.config.ID, exitTimeout)
		p.signal(syscall.SIGKILL)
		<-p.exited
	}
}

func (p *process) signal(sig syscall.Signal) {
	if closed(p.exited) { // its id may be another process's by now
		return
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.rig.t.Logf("signal %v to process %s: %v", sig, p.config.ID, err)
	}
}

// show prints the end of the process's output, for a test that failed.
func (p *process) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rig.t.Logf("last output of %s:\n\t%s", p.config.ID, strings.Join(p.tail, "\n\t"))
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
