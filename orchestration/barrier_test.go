package orchestration_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration"
)

// Two orchestrators close the two last parents of a join, or the two last steps of a task, at the same instant. The join is
// dispatched once and the task ends once, whoever comes second.
func TestTheLastTwoAtOnceDispatchTheJoinOnceAndEndTheTaskOnce(t *testing.T) {
	t.Parallel()
	for _, s := range []shape{{"join", [][]string{{"a"}, {"b"}, {"c", "a", "b"}}}, {"sinks", [][]string{{"a"}, {"b"}}}} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, dbtest.Pool(t))
			d.register(s)
			total := rounds(300, 10_000)
			for done := 0; done < total; done += 100 {
				atOnce(d, s, 100)
			}
			d.healthy("at rest")
			var joins, ended int
			require.NoError(t, d.judge.QueryRow(t.Context(), `SELECT
			    (SELECT count(*) FROM river_job j JOIN tasker.steps x ON x.id = (j.args->>'step_id')::uuid
			      WHERE x.name = 'c' AND j.kind = 'tasker_execute'),
			    (SELECT count(*) FROM tasker.task_transitions WHERE to_state = 'complete')`).Scan(&joins, &ended))
			require.Equal(t, total, ended)
			if s.name == "join" {
				require.Equal(t, total, joins)
			}
			t.Logf("S42/S47 barrier ok shape=%s rounds=%d joins=%d ended=%d", s.name, total, joins, ended)
		})
	}
}

// atOnce brings tasks to where two steps run, and then delivers both outcomes of each task at once.
func atOnce(d *driver, s shape, tasks int) {
	d.t.Helper()
	requests := make([]orchestration.Request, tasks)
	for i := range requests {
		requests[i] = request(s, wish{})
	}
	_, err := d.create(requests...)
	require.NoError(d.t, err)
	require.NoError(d.t, d.carry(d.fetch(tasks)))
	claimed, err := d.claim(d.fetch(2 * tasks))
	require.NoError(d.t, err)
	require.Len(d.t, claimed, 2*tasks)
	var pairs [2][]orchestration.Item
	for _, step := range claimed {
		item := d.outcome(step)
		item.Offer = nil
		side := int(step.Name[0] - 'a')
		pairs[side] = append(pairs[side], item)
	}
	var ready, done sync.WaitGroup
	for i := range tasks {
		ready.Add(2)
		for side := range pairs {
			item := pairs[side][i]
			done.Go(func() {
				ready.Done()
				ready.Wait()
				if _, err := d.via(d.judge).advance([]orchestration.Item{item}); err != nil {
					d.t.Errorf("finish %s: %v", item.TaskID, err)
				}
			})
		}
		done.Wait()
	}
	d.settle()
}
