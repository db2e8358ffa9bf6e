package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tasker-systems/tasker-go/db"
)

// errClosed says that the process stops and takes no more work.
var errClosed = errors.New("tasker is stopping")

// errNoAnswer says that the database took longer than commitTimeout.
var errNoAnswer = errors.New("the database does not answer in time")

// commitTimeout bounds one batch; a database that does not answer for longer is as good as gone.
const commitTimeout = 30 * time.Second

// committer makes one transaction of what many goroutines hand in. It never lingers: with nothing under way an item is
// committed at once, and what arrives meanwhile makes the next batch. So it is fast when idle and large when busy.
type committer[I, O any] struct {
	// name is the committer's in metrics.
	name string
	// commit runs one batch, all or nothing, and answers in the order of its items. What it returns beside that is run when
	// those who wait have their answers.
	commit func(ctx context.Context, items []I) ([]O, func(), error)
	// begun hears of each batch, with its size and the time that its first item waited.
	begun func(ctx context.Context, committer string, items int, waited time.Duration)
	// failed hears of items that were not committed.
	failed func(items int, err error)
	// largest bounds a batch; parallel bounds how many are under way.
	largest, parallel int

	mu      sync.Mutex
	waiting []*ticket[I, O]
	running int
	closed  bool
	batches sync.WaitGroup
}

func newCommitter[I, O any](
	name string, commit func(context.Context, []I) ([]O, func(), error), begun func(context.Context, string, int, time.Duration),
) *committer[I, O] {
	return &committer[I, O]{name: name, commit: commit, begun: begun, largest: largestBatch, parallel: 2}
}

type ticket[I, O any] struct {
	item I
	at   time.Time
	done chan answer[O]
}

type answer[O any] struct {
	out O
	err error
}

// do hands in an item and waits for its commit. A cancelled context gives up the waiting, not the item.
func (c *committer[I, O]) do(ctx context.Context, item I) (O, error) {
	t := &ticket[I, O]{item: item, at: time.Now(), done: make(chan answer[O], 1)}
	var none O
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return none, errClosed
	}
	c.waiting = append(c.waiting, t)
	if c.running < c.parallel {
		c.running++
		c.batches.Go(c.run)
	}
	c.mu.Unlock()
	select {
	case a := <-t.done:
		return a.out, a.err
	case <-ctx.Done():
		return none, fmt.Errorf("wait for commit: %w", context.Cause(ctx))
	}
}

// doAll hands in many items at once and waits for all of them; the errors are joined.
func (c *committer[I, O]) doAll(ctx context.Context, items []I) error {
	errs := make([]error, len(items))
	var all sync.WaitGroup
	for i, item := range items {
		all.Go(func() { _, errs[i] = c.do(ctx, item) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// run commits batches until nothing waits.
func (c *committer[I, O]) run() {
	for batch := c.next(); batch != nil; batch = c.next() {
		if c.begun != nil {
			c.begun(context.Background(), c.name, len(batch), time.Since(batch[0].at))
		}
		c.settle(batch)
	}
}

func (c *committer[I, O]) next() []*ticket[I, O] {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.waiting), c.largest)
	if n == 0 {
		c.running--
		return nil
	}
	batch := c.waiting[:n:n]
	if c.waiting = c.waiting[n:]; len(c.waiting) == 0 {
		c.waiting = nil
	}
	return batch
}

// settle commits a batch and answers its tickets. One bad item must not sink its neighbours: a batch that fails is halved
// until the bad ones stand alone.
func (c *committer[I, O]) settle(batch []*ticket[I, O]) {
	items := make([]I, len(batch))
	for i, t := range batch {
		items[i] = t.item
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	out, after, err := c.commit(ctx, items)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	cancel()
	switch {
	case err == nil:
		for i, t := range batch {
			t.done <- answer[O]{out: out[i]}
		}
		after()
	case len(batch) == 1 || errors.Is(err, errNoAnswer) || db.Unreachable(err): // a database that is away is nobody's fault
		for _, t := range batch {
			t.done <- answer[O]{err: err}
		}
		if c.failed != nil {
			c.failed(len(batch), err)
		}
	default:
		half := len(batch) / 2
		c.settle(batch[:half])
		c.settle(batch[half:])
	}
}

// close refuses new items and waits for those under way.
func (c *committer[I, O]) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.batches.Wait()
}
