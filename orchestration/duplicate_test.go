package orchestration_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration"
)

// Messages are delivered at least once and in any order. Two orchestrators get everything one to five times, shuffled and in
// batches of all sizes: it counts once.
func TestResultsDeliveredAgainAndOutOfOrderCountOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		apart bool
	}{{"stored results", true}, {"outcomes", false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, dbtest.Pool(t))
			d.apart = test.apart
			d.register(shapes()...)
			random := rand.New(rand.NewPCG(43, uint64(len(test.name))))
			var delivered, items int
			for range rounds(3, 40) {
				more, of := deliverAll(d, random, rounds(8, 20))
				delivered, items = delivered+more, items+of
			}
			t.Logf("S43 duplicated-shuffled ok form=%q items=%d deliveries=%d", test.name, items, delivered)
			d.healthy("at rest")
		})
	}
}

// deliverAll drives tasks of every shape to their end, delivering everything to two orchestrators.
func deliverAll(d *driver, random *rand.Rand, of int) (deliveries, items int) {
	d.t.Helper()
	var requests []orchestration.Request
	for range of {
		for _, s := range shapes() {
			requests = append(requests, request(s, wish{Fail: random.IntN(2)}))
		}
	}
	created, err := d.create(requests...)
	require.NoError(d.t, err)
	for {
		batch := d.work()
		if len(batch) == 0 && !d.waiting() {
			d.pass(time.Hour)
			if n, err := d.promote(); n == 0 {
				require.NoError(d.t, err)
				break
			}
			continue
		}
		items += len(batch)
		deliveries += deliverTwice(d, random, batch)
	}
	for i, task := range created {
		require.Equal(d.t, shapes()[i%len(shapes())].reference(), d.results(task.ID))
		require.Equal(d.t, "complete", d.state(task.ID))
		require.Zero(d.t, d.final(task.ID).Live)
	}
	return deliveries, items
}

// work takes all jobs, runs what is to run, and returns what is to be delivered.
func (d *driver) work() []orchestration.Item {
	d.t.Helper()
	var items []orchestration.Item
	var executions []carrier
	for _, job := range d.fetch(10_000) {
		if job.Kind == "tasker_execute" {
			executions = append(executions, job)
		} else {
			items = append(items, job.item())
		}
	}
	if len(executions) == 0 {
		return items
	}
	claimed, err := d.claim(executions)
	require.NoError(d.t, err)
	outcomes := make([]orchestration.Item, len(claimed))
	for i, step := range claimed {
		outcomes[i] = d.outcome(step)
		outcomes[i].Offer = nil
	}
	if !d.apart {
		return append(items, outcomes...)
	}
	for range 2 { // a worker may deliver twice, too
		effects, err := d.store(outcomes)
		require.NoError(d.t, err)
		require.Len(d.t, effects.Verdicts, len(outcomes))
	}
	return items
}

// deliverTwice gives every item one to five times to two orchestrators at once, and then all of it again.
func deliverTwice(d *driver, random *rand.Rand, items []orchestration.Item) (deliveries int) {
	d.t.Helper()
	var all []orchestration.Item
	for _, item := range items {
		for range 1 + random.IntN(5) {
			all = append(all, item)
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	half := len(all) / 2
	var mu sync.Mutex
	accepted := make(map[orchestration.Dispatch]int)
	count := func(_ []orchestration.Item, effects *orchestration.Effects) {
		mu.Lock()
		defer mu.Unlock()
		for dispatch, verdict := range effects.Verdicts {
			if verdict == orchestration.VerdictAccepted {
				accepted[dispatch]++
			}
		}
	}
	var orchestrators sync.WaitGroup
	one, other := random.Uint64(), random.Uint64()
	orchestrators.Go(func() { deliver(d, one, all[:half], count) })
	orchestrators.Go(func() { deliver(d, other, all[half:], count) })
	orchestrators.Wait()
	before := d.digest()
	deliver(d, random.Uint64(), all, count)
	require.Equal(d.t, before, d.digest(), "a late delivery changes nothing")
	for _, item := range items {
		if item.Outcome != nil {
			require.Equal(d.t, 1, accepted[item.Dispatch], "an outcome counts once")
		}
	}
	return 2 * len(all)
}

// deliver advances items in batches of random sizes, each through a process of its own.
func deliver(d *driver, seed uint64, items []orchestration.Item, count func([]orchestration.Item, *orchestration.Effects)) {
	process := d.via(d.judge)
	for random := rand.New(rand.NewPCG(seed, 0)); len(items) > 0; {
		n := min(1+random.IntN(40), len(items))
		effects, err := process.advance(items[:n])
		if err != nil {
			d.t.Errorf("deliver: %v", err)
			return
		}
		count(items[:n], effects)
		items = items[n:]
	}
}

// digest is a fingerprint of every row.
func (d *driver) digest() (digest string) {
	d.t.Helper()
	require.NoError(d.t, d.judge.QueryRow(d.t.Context(), `SELECT md5(string_agg(x.row, '|' ORDER BY x.row)) FROM (
	    SELECT t::text AS row FROM tasker.tasks t UNION ALL SELECT s::text FROM tasker.steps s
	    UNION ALL SELECT x::text FROM tasker.task_transitions x UNION ALL SELECT y::text FROM tasker.step_transitions y
	    UNION ALL SELECT a::text FROM tasker.step_attempts a UNION ALL SELECT j::text FROM river_job j) x`).Scan(&digest))
	return digest
}

// A worker whose outcome's COMMIT was in doubt delivers it again, with the same offer, and must find the step that it was
// continued with. With another offer, it must not.
func TestAReplayedOutcomeFindsTheStepItWasContinuedWith(t *testing.T) {
	t.Parallel()
	d := newDriver(t, dbtest.Pool(t))
	s := shapes()[1]
	d.register(s)
	scene := &scene{shape: s}
	scene.held(d)
	item := d.outcome(scene.claimed[0])
	first, err := d.advance([]orchestration.Item{item})
	require.NoError(t, err)
	next := first.Next[item.Dispatch]
	require.NotNil(t, next)
	again, err := d.via(d.judge).advance([]orchestration.Item{item})
	require.NoError(t, err)
	require.Equal(t, orchestration.VerdictReplayed, again.Verdicts[item.Dispatch])
	require.Equal(t, next.Dispatch, again.Next[item.Dispatch].Dispatch)
	require.Equal(t, next.JobID, again.Next[item.Dispatch].JobID)
	require.Equal(t, next.Attempt, again.Next[item.Dispatch].Attempt)
	require.JSONEq(t, string(next.Results["a"]), string(again.Next[item.Dispatch].Results["a"]))

	other := item
	other.Offer = &orchestration.Offer{Token: uuid.New(), Step: item.Offer.Step, Runs: item.Offer.Runs}
	effects, err := d.advance([]orchestration.Item{other})
	require.NoError(t, err)
	require.Equal(t, orchestration.VerdictReplayed, effects.Verdicts[item.Dispatch])
	require.Empty(t, effects.Next)
}
