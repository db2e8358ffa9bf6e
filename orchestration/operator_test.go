package orchestration_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// People act on tasks while workers and orchestrators are busy with them: each act and each result either counts as a whole
// or is refused, and nothing is left half done.
func TestOperatorsAgainstWorkersLeaveEveryTaskWhole(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		// act picks what is done to a task.
		act func(random *rand.Rand) dag.Event
		// ends are the states that a task may end in.
		ends []string
	}{
		{"cancel", func(*rand.Rand) dag.Event { return dag.Cancel{} }, []string{"complete", "cancelled"}},
		{"everything", anyEvent, []string{"complete", "cancelled", "error"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, dbtest.Pool(t))
			d.register(shapes()...)
			random := rand.New(rand.NewPCG(44, uint64(len(test.name))))
			ended := make(map[string]int)
			var refused int
			for range rounds(3, 25) {
				refused += disturb(d, random, test.act, test.name == "everything", func(state string) {
					require.Contains(t, test.ends, state)
					ended[state]++
				})
			}
			d.healthy("at rest")
			t.Logf("S44/S45 operators ok acts=%s ended=%v refused=%d", test.name, ended, refused)
		})
	}
}

func anyEvent(random *rand.Rand) dag.Event {
	step := string(rune('a' + random.IntN(4)))
	switch random.IntN(8) {
	case 0:
		return dag.Cancel{}
	case 1:
		return dag.Rerun{Steps: []string{step}}
	case 2:
		return dag.Rerun{}
	default:
		return dag.Resolve{Step: step, HasResult: random.IntN(2) == 0}
	}
}

// disturb runs tasks while somebody acts on them at random moments, and reports the states that they end in.
func disturb(d *driver, random *rand.Rand, act func(*rand.Rand) dag.Event, failing bool, report func(state string)) (refused int) {
	d.t.Helper()
	var tasks []uuid.UUID
	for i := range 20 {
		w := wish{}
		if failing {
			w = wish{Fail: random.IntN(2), Broken: string(rune('a' + random.IntN(8)))}
		}
		tasks = append(tasks, d.mustCreate(shapes()[i%len(shapes())], w))
	}
	moments, seed := make(chan struct{}), random.Uint64()
	var people sync.WaitGroup
	people.Go(func() { refused = meddle(d, rand.New(rand.NewPCG(seed, 0)), act, tasks, moments) })
	for jobs := d.fetch(3); len(jobs) > 0; jobs = d.fetch(1 + random.IntN(6)) {
		select {
		case moments <- struct{}{}: // somebody acts now
		default:
		}
		require.NoError(d.t, d.carry(jobs))
	}
	close(moments)
	people.Wait()
	d.settle()
	for _, task := range tasks {
		report(d.state(task))
	}
	return refused
}

// meddle acts on a random task at each moment.
func meddle(d *driver, random *rand.Rand, act func(*rand.Rand) dag.Event, tasks []uuid.UUID, moments <-chan struct{}) (refused int) {
	person := d.via(d.judge)
	for range moments {
		event := act(random)
		op := orchestration.Operation{TaskID: tasks[random.IntN(len(tasks))], Event: event}
		if resolve, ok := event.(dag.Resolve); ok && resolve.HasResult {
			op.Result = json.RawMessage(`{"by": "hand"}`)
		}
		_, err := person.operate(op)
		var conflict *dag.ConflictError
		switch {
		case errors.As(err, &conflict):
			refused++
		case err != nil:
			d.t.Errorf("operate %T: %v", event, err)
		}
	}
	return refused
}
