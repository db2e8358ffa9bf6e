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
			var flows, covered int
			for _, f := range allFlows() {
				if f.variant && s.name != "chain" && rounds(0, 1) == 0 {
					continue
				}
				points := crashEverywhere(d, s, f)
				t.Logf("S48 %s, %s: %d points %v", s.name, f.name, len(points), points)
				covered += len(points)
				flows++
			}
			d.healthy(s.name)
			t.Logf("S48 crash points ok shape=%s flows=%d points=%d", s.name, flows, covered)
		})
	}
}

// crashEverywhere runs a flow without a fault, and then once for each of its points. What the crashes leave behind is recovered
// together: the next process that dies may be one that just recovers the one before.
func crashEverywhere(d *driver, s shape, f flow) (points []string) {
	d.t.Helper()
	plain, points := crash(d, s, f, 0)
	recoverAll(d, f)
	require.NotEmpty(d.t, points)
	want := d.final(plain.task)
	scenes := make([]*scene, len(points))
	for i := range points {
		scenes[i], _ = crash(d, s, f, i+1)
	}
	d.sound(s.name + ", " + f.name + ": before recovery")
	recoverAll(d, f)
	for i, scene := range scenes {
		require.Equal(d.t, want, d.final(scene.task), "%s, %s: crash at point %d, %s", s.name, f.name, i+1, points[i])
	}
	return points
}

// recoverAll is what other processes do for all that was left behind.
func recoverAll(d *driver, f flow) {
	d.t.Helper()
	other := *d
	other.mended = f.mends
	other.settle()
}

// crash runs a flow with a process that dies at a point, 0 for none, and returns the points that it passed.
func crash(d *driver, s shape, f flow, at int) (*scene, []string) {
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
	} else {
		require.ErrorIs(d.t, err, faulttest.ErrCrashed, note)
	}
	if crashed && f.again != nil {
		repeat(d, f, scene, note)
	}
	return scene, process.Points()
}

// repeat asks again, as a person or a client does who got no answer. That it is done already is an answer, too.
func repeat(d *driver, f flow, s *scene, note string) {
	d.t.Helper()
	err := f.again(d, s)
	if _, conflict := errors.AsType[*dag.ConflictError](err); !conflict {
		require.NoError(d.t, err, note)
	}
}
