package tracetest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
)

// rig is a database, a receiver, and the processes of a test.
type rig struct {
	t        *testing.T
	url      string
	pool     *pgxpool.Pool
	receiver *otlpreceiver.Receiver
	lives    int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	receiver, err := otlpreceiver.Start(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(receiver.Stop)
	r := &rig{t: t, url: dbtest.URL(t), receiver: receiver}
	r.pool, err = pgxpool.New(t.Context(), r.url)
	require.NoError(t, err)
	t.Cleanup(r.pool.Close)
	client, err := tasker.NewClient(r.pool, &tasker.Config{Templates: []tasker.Template{chain}})
	require.NoError(t, err)
	require.NoError(t, client.Register(t.Context()))
	return r
}

// process is a process under test.
type process struct {
	t      *testing.T
	id     string
	cmd    *exec.Cmd
	output strings.Builder
	mu     sync.Mutex
	read   sync.WaitGroup
}

func (r *rig) spawn(config processConfig) *process {
	r.t.Helper()
	r.lives++
	config.URL, config.ID = r.url, fmt.Sprintf("process-%d", r.lives)
	text, err := json.Marshal(config)
	require.NoError(r.t, err)
	p := &process{t: r.t, id: config.ID}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), processVariable+"="+string(text))
	out, err := p.cmd.StdoutPipe()
	require.NoError(r.t, err)
	p.cmd.Stderr = p
	require.NoError(r.t, p.cmd.Start())
	r.t.Cleanup(p.kill)
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	require.NoError(r.t, err, "%s did not start: %s", p.id, p.said())
	require.Equal(r.t, readyLine+"\n", line)
	p.read.Go(func() { _, _ = io.Copy(p, lines) }) //nolint:errcheck // it ends with the process
	return p
}

func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(text)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// kill ends the process at once.
func (p *process) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	_ = p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	p.read.Wait()
	_ = p.cmd.Wait() //nolint:errcheck // killed
}

// stop asks the process to end, and returns how long it took.
func (p *process) stop() time.Duration {
	p.t.Helper()
	began := time.Now()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	p.read.Wait()
	require.NoError(p.t, p.cmd.Wait(), "%s: %s", p.id, p.said())
	return time.Since(began)
}

// client creates tasks from this process, and records that at the receiver if it is told to.
func (r *rig) client(traced bool, ratio float64) (*tasker.Client, func()) {
	r.t.Helper()
	config := &processConfig{ID: "creator", Ratio: ratio}
	if traced {
		config.Endpoint = r.receiver.Endpoint()
	}
	providers, err := watch(r.t.Context(), config)
	require.NoError(r.t, err)
	client, err := tasker.NewClient(r.pool, &tasker.Config{Telemetry: providers.TelemetryConfig()})
	require.NoError(r.t, err)
	return client, func() { providers.Shutdown(context.WithoutCancel(r.t.Context())) }
}

// create starts n tasks in batches.
func (r *rig) create(client *tasker.Client, n int) (ids []uuid.UUID) {
	r.t.Helper()
	for n > 0 {
		some := min(n, 50)
		runs, err := tasker.CreateMany(r.t.Context(), client, chain, make([]input, some))
		require.NoError(r.t, err)
		for _, run := range runs {
			ids = append(ids, run.ID)
		}
		n -= some
	}
	return ids
}

// createBySQL starts n tasks as a program in another language would.
func (r *rig) createBySQL(n int) (ids []uuid.UUID) {
	r.t.Helper()
	for range n {
		var id uuid.UUID
		require.NoError(r.t, r.pool.QueryRow(r.t.Context(), `SELECT tasker.create_task('traced', 'chain', '{"n": 1}')`).Scan(&id))
		ids = append(ids, id)
	}
	return ids
}

// drained waits until all tasks have ended, well.
func (r *rig) drained(limit time.Duration) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return r.count("SELECT count(*) FROM tasker.tasks WHERE finished_at IS NULL") == 0 },
		limit, 50*time.Millisecond)
	require.Zero(r.t, r.count("SELECT count(*) FROM tasker.tasks WHERE state <> 'complete'"))
}

func (r *rig) count(query string, args ...any) (n int) {
	r.t.Helper()
	require.NoError(r.t, r.pool.QueryRow(r.t.Context(), query, args...).Scan(&n))
	return n
}
