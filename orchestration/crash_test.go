package orchestration_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/internal/faulttest"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// The crash test of every flow: the process dies before and after each statement and each COMMIT, others recover, and in the
// end all rows are as if nothing had happened.
func TestACrashAtAnyPointOfAnyFlowChangesNothingInTheEnd(t *testing.T) {
	t.Parallel()
	for _, s := range shapes() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			d := newDriver(t, dbtest.Pool(t))
			d.register(s)
			var covered int
			for _, f := range allFlows() {
				points := crashEverywhere(d, s, f)
				t.Logf("S48 %s, %s: %d points %v", s.name, f.name, len(points), points)
				covered += len(points)
			}
			t.Logf("S48 crash points ok shape=%s flows=%d points=%d", s.name, len(allFlows()), covered)
		})
	}
}

// crashEverywhere runs a flow without a fault, and then once for each of its points.
func crashEverywhere(d *driver, s shape, f flow) (points []string) {
	d.t.Helper()
	want, points := crash(d, s, f, 0)
	require.NotEmpty(d.t, points)
	for at := range points {
		got, _ := crash(d, s, f, at+1)
		require.Equal(d.t, want, got, "%s, %s: crash at point %d, %s", s.name, f.name, at+1, points[at])
	}
	return points
}

// crash runs a flow with a process that dies at a point, 0 for none, and returns the rows at the end.
func crash(d *driver, s shape, f flow, at int) (rows, []string) {
	d.t.Helper()
	scene := &scene{shape: s, wish: f.wish}
	f.before(d, scene)
	process := faulttest.NewProcess(d.judge, at)
	err := f.run(d.via(process), scene)
	where, crashed := process.Crashed()
	note := fmt.Sprintf("%s, %s: crash at point %d, %s", s.name, f.name, at, where)
	require.Equal(d.t, at > 0, crashed, note)
	if !crashed {
		require.NoError(d.t, err, note)
	} else if err != nil {
		require.ErrorIs(d.t, err, faulttest.ErrCrashed, note)
	}
	d.sound(note + ", before recovery")
	if crashed && f.again != nil {
		repeat(d, f, scene, note)
	}
	recovering := *d
	recovering.mended = scene.mended
	recovering.settle()
	d.healthy(note + ", after recovery")
	return d.final(scene.task), process.Points()
}

// repeat asks again, as a person or a client does who got no answer. That it is done already is an answer, too.
func repeat(d *driver, f flow, s *scene, note string) {
	d.t.Helper()
	err := f.again(d, s)
	var conflict *dag.ConflictError
	if !errors.As(err, &conflict) {
		require.NoError(d.t, err, note)
	}
}
