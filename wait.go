package tasker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/jobs"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

const (
	// The intervals at which a waiting call asks the database by itself, for when no notification arrives.
	firstPoll = 500 * time.Millisecond
	slowPoll  = 5 * time.Second
)

// Wait returns the task when it has ended. An *EndedError, with the task, says that it did not end complete; a task that was
// halted for an operator counts as ended. It is woken by the end of the task, wherever that happens.
func (r *Run) Wait(ctx context.Context) (*Task, error) { return r.client.Wait(ctx, r.ID) }

// Wait waits for a task by its id; see [Run.Wait].
func (c *Client) Wait(ctx context.Context, id uuid.UUID) (*Task, error) {
	q, err := c.queries(ctx)
	if err != nil {
		return nil, err
	}
	woken, done := c.waiters.add(ctx, id)
	defer done()
	for poll := firstPoll; ; poll = min(2*poll, slowPoll) {
		state, err := q.TaskState(ctx, id)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil, fmt.Errorf("wait for task %s: %w", id, ErrTaskNotFound)
		case err != nil && (ctx.Err() != nil || !IsUnavailable(err)):
			return nil, fmt.Errorf("wait for task %s: %w", id, err)
		case err == nil && dag.TaskState(state).Resting():
			return c.endedTask(ctx, id)
		}
		timer := time.NewTimer(poll)
		select {
		case <-woken:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("wait for task %s: %w", id, ctx.Err())
		}
		timer.Stop()
	}
}

func (c *Client) endedTask(ctx context.Context, id uuid.UUID) (*Task, error) {
	task, err := c.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if task.State != dag.TaskComplete && task.State != dag.TaskResolvedManually {
		return task, &EndedError{Task: task}
	}
	return task, nil
}

// waiters are the waiting calls of a process. From the first one until the client stops, one connection listens for tasks that
// end elsewhere.
type waiters struct {
	client *Client

	mu      sync.Mutex
	waiting map[uuid.UUID]map[chan struct{}]struct{}
	// stop ends the listener and waits for it; nil while there is none.
	stop func()
}

func newWaiters(c *Client) *waiters {
	return &waiters{client: c, waiting: make(map[uuid.UUID]map[chan struct{}]struct{})}
}

// add registers a call. The channel gets a value when the task may have ended.
func (w *waiters) add(ctx context.Context, id uuid.UUID) (<-chan struct{}, func()) {
	woken := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[id] == nil {
		w.waiting[id] = make(map[chan struct{}]struct{})
	}
	w.waiting[id][woken] = struct{}{}
	if w.stop == nil && !w.client.config.PollOnly {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.listen(ctx)
		}()
		w.stop = func() {
			cancel()
			<-done
		}
	}
	return woken, func() { w.remove(id, woken) }
}

func (w *waiters) remove(id uuid.UUID, woken chan struct{}) {
	w.mu.Lock()
	delete(w.waiting[id], woken)
	if len(w.waiting[id]) == 0 {
		delete(w.waiting, id)
	}
	w.mu.Unlock()
}

// signal wakes the calls that wait for these tasks.
func (w *waiters) signal(ids []uuid.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		for woken := range w.waiting[id] {
			select {
			case woken <- struct{}{}:
			default:
			}
		}
	}
}

// close ends the listening and waits for it.
func (w *waiters) close() {
	w.mu.Lock()
	stop := w.stop
	w.stop = nil
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// listen hears of tasks that end elsewhere. While it cannot, the calls poll.
func (w *waiters) listen(ctx context.Context) {
	c := w.client
	jobs.Listen(ctx, c.pool.Config().ConnConfig, jobs.EndedChannel, c.config.Logger, w.signalAll, func(payload string) {
		var ids []uuid.UUID
		for text := range strings.SplitSeq(payload, ",") {
			if id, err := uuid.Parse(text); err == nil {
				ids = append(ids, id)
			}
		}
		w.signal(ids)
	})
}

func (w *waiters) signalAll() {
	w.mu.Lock()
	ids := make([]uuid.UUID, 0, len(w.waiting))
	for id := range w.waiting {
		ids = append(ids, id)
	}
	w.mu.Unlock()
	w.signal(ids)
}
