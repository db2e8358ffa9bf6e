package jobs

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/pgxtrace"
)

// heard remembers when each queue was last announced. River does not tell whether a notification or a poll brought a job.
type heard struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// driver is River's, with ears, and with a look at its fetches: River reports only those that succeed.
type driver struct {
	*riverpgxv5.Driver
	heard     *heard
	telemetry *telemetry.Telemetry
}

// GetExecutor returns River's executor, watched.
func (d *driver) GetExecutor() riverdriver.Executor {
	return &executor{d.Driver.GetExecutor(), d.telemetry}
}

type executor struct {
	riverdriver.Executor
	telemetry *telemetry.Telemetry
}

// JobGetAvailable fetches jobs and records it.
func (e *executor) JobGetAvailable(
	ctx context.Context, params *riverdriver.JobGetAvailableParams,
) (*riverdriver.JobGetAvailableResult, error) {
	began := time.Now()
	result, err := e.Executor.JobGetAvailable(ctx, params)
	if err != nil {
		e.telemetry.FetchFailed(ctx, params.Queue, pgxtrace.ErrorType(err))
	} else {
		e.telemetry.Fetched(ctx, params.Queue, time.Since(began))
	}
	return result, err //nolint:wrapcheck // River's own, passed through
}

// GetListener returns River's listener, overheard.
func (d *driver) GetListener(params *riverdriver.GetListenenerParams) riverdriver.Listener {
	return &listener{d.Driver.GetListener(params), d.heard}
}

type listener struct {
	riverdriver.Listener
	heard *heard
}

// WaitForNotification waits for the next notification and notes it.
func (l *listener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	n, err := l.Listener.WaitForNotification(ctx)
	if err == nil && strings.HasSuffix(n.Topic, "river_insert") {
		l.heard.note(n.Payload)
	}
	return n, err //nolint:wrapcheck // River's own, passed through
}

func (h *heard) note(payload string) {
	var insert struct {
		Queue string `json:"queue"`
	}
	if json.Unmarshal([]byte(payload), &insert) != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = make(map[string]time.Time)
	}
	h.last[insert.Queue] = time.Now()
}

// startSlack is what may pass between a job's fetch and its begin.
const startSlack = 50 * time.Millisecond

// method tells what brought a job of a queue that had waited this long when it was fetched: a notification since it was
// there, or a poll.
func (h *heard) method(queue string, waited time.Duration) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last, ok := h.last[queue]; ok && time.Since(last) <= waited+startSlack {
		return telemetry.ClaimEvent
	}
	return telemetry.ClaimPoll
}
