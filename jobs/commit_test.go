package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// commits records the batches that a committer commits, and answers each item with its square. Negative items are bad.
type commits struct {
	mu      sync.Mutex
	batches [][]int
	running int
	most    int
	// gate holds each commit back until it is closed; nil lets it go.
	gate chan struct{}
	err  error
}

var errBad = errors.New("a bad item")

func (c *commits) commit(_ context.Context, items []int) ([]int, func(), error) {
	c.mu.Lock()
	c.batches = append(c.batches, slices.Clone(items))
	c.running++
	c.most = max(c.most, c.running)
	gate := c.gate
	c.mu.Unlock()
	if gate != nil {
		<-gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	if c.err != nil {
		return nil, nil, c.err
	}
	out := make([]int, len(items))
	for i, item := range items {
		if item < 0 {
			return nil, nil, fmt.Errorf("commit %d: %w", item, errBad)
		}
		out[i] = item * item
	}
	return out, func() {}, nil
}

func (c *commits) sizes() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sizes := make([]int, len(c.batches))
	for i, batch := range c.batches {
		sizes[i] = len(batch)
	}
	return sizes
}

// hand gives items to a committer, each from a goroutine of its own, and collects the answers.
func hand(t *testing.T, c *committer[int, int], items ...int) (wait func() map[int]error) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	errs := make(map[int]error)
	for _, item := range items {
		all.Go(func() {
			out, err := c.do(t.Context(), item)
			mu.Lock()
			defer mu.Unlock()
			errs[item] = err
			if err == nil && out != item*item {
				t.Errorf("item %d got the answer %d of another", item, out)
			}
		})
	}
	return func() map[int]error {
		all.Wait()
		return errs
	}
}

func numbers(from, to int) (all []int) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

func TestAnIdleCommitterCommitsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		record := &commits{}
		c := &committer[int, int]{commit: record.commit, largest: 10, parallel: 1}
		start := time.Now()
		for n := range 3 {
			out, err := c.do(t.Context(), n)
			require.NoError(t, err)
			require.Equal(t, n*n, out)
		}
		require.Zero(t, time.Since(start), "it never lingers")
		require.Equal(t, []int{1, 1, 1}, record.sizes())
		c.close()
	})
}

func TestABusyCommitterMakesOneBatchOfWhatArrivesMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		record := &commits{gate: make(chan struct{})}
		c := &committer[int, int]{commit: record.commit, largest: 10, parallel: 1}
		first := hand(t, c, 1)
		synctest.Wait()
		rest := hand(t, c, numbers(2, 26)...)
		synctest.Wait()
		require.Equal(t, []int{1}, record.sizes(), "the others gather")
		close(record.gate)
		first()
		require.Len(t, rest(), 25)
		require.Equal(t, []int{1, 10, 10, 5}, record.sizes(), "no batch is larger than allowed")
		require.Equal(t, 1, record.most)
		c.close()
	})
}

func TestACommitterHasOnlySoManyBatchesUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		record := &commits{gate: make(chan struct{})}
		c := &committer[int, int]{commit: record.commit, largest: 5, parallel: 2}
		var waits []func() map[int]error
		for n := range 20 {
			waits = append(waits, hand(t, c, n))
			synctest.Wait()
		}
		close(record.gate)
		for _, wait := range waits {
			wait()
		}
		require.Equal(t, 2, record.most)
		c.close()
		require.Zero(t, c.running)
	})
}

func TestABadItemFailsAloneAndItsNeighboursAreCommittedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		record := &commits{gate: make(chan struct{})}
		c := &committer[int, int]{commit: record.commit, largest: 64, parallel: 1}
		first := hand(t, c, 100)
		synctest.Wait()
		wait := hand(t, c, append(numbers(1, 30), -3, -17)...)
		synctest.Wait()
		close(record.gate)
		first()
		for item, err := range wait() {
			if item < 0 {
				require.ErrorIs(t, err, errBad)
				require.ErrorContains(t, err, fmt.Sprint(item), "it hears of itself")
			} else {
				require.NoError(t, err)
			}
		}
		committed := make(map[int]int)
		for _, batch := range record.batches {
			if slices.Min(batch) >= 0 {
				for _, item := range batch {
					committed[item]++
				}
			}
		}
		for _, n := range numbers(1, 30) {
			require.Equal(t, 1, committed[n])
		}
		require.Less(t, len(record.batches), 32, "halving, not one by one")
		c.close()
	})
}

func TestADatabaseThatIsAwayIsNotAskedForEachItem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		record := &commits{gate: make(chan struct{}), err: &pgconn.PgError{Severity: "FATAL", Code: "57P03"}}
		c := &committer[int, int]{commit: record.commit, largest: 64, parallel: 1}
		first := hand(t, c, 1)
		synctest.Wait()
		wait := hand(t, c, numbers(2, 60)...)
		synctest.Wait()
		close(record.gate)
		first()
		for _, err := range wait() {
			require.ErrorIs(t, err, record.err)
		}
		require.Equal(t, []int{1, 59}, record.sizes())
		c.close()
	})
}

func TestClosingACommitterWaitsForWhatItTookAndRefusesTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		record := &commits{gate: make(chan struct{})}
		c := &committer[int, int]{commit: record.commit, largest: 2, parallel: 1}
		wait := hand(t, c, numbers(1, 9)...)
		synctest.Wait()
		closed := make(chan struct{})
		go func() { c.close(); close(closed) }()
		synctest.Wait()
		_, err := c.do(t.Context(), 10)
		require.ErrorIs(t, err, errClosed)
		select {
		case <-closed:
			t.Error("closed while batches are under way")
		default:
		}
		close(record.gate)
		<-closed
		for item, err := range wait() {
			require.NoError(t, err, item)
		}
		c.close()
	})
}

func TestWhoStopsWaitingDoesNotTakeItsItemBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		record := &commits{gate: make(chan struct{})}
		c := &committer[int, int]{commit: record.commit, largest: 2, parallel: 1}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		cancel(gone)
		_, err := c.do(ctx, 7)
		require.ErrorIs(t, err, gone)
		close(record.gate)
		c.close()
		require.Equal(t, [][]int{{7}}, record.batches)
	})
}
