package orchestration_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/internal/faulttest"
)

// Nobody knows whether a COMMIT whose answer was lost happened. Every transaction of Tasker runs again as a whole then, and
// finds out by itself: nothing is lost and nothing is done twice, in both cases and without an error to the caller.
func TestACommitInDoubtIsNeitherLostNorDoneTwice(t *testing.T) {
	t.Parallel()
	for _, s := range shapes()[1:rounds(2, 4)] {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			url := dbtest.URL(t)
			d := newDriver(t, connect(t, url))
			d.register(s)
			proxy := faulttest.NewProxy(t, url)
			broken := connect(t, proxy.URL(url))
			for _, f := range allFlows() {
				plain, _ := crash(d, s, f, 0)
				recoverAll(d, f)
				want := d.final(plain.task).with(d.fences(plain.task))
				for range rounds(1, 25) {
					before := doubtEverywhere(d, broken, proxy, s, f, faulttest.CutBefore, want)
					after := doubtEverywhere(d, broken, proxy, s, f, faulttest.CutAfter, want)
					t.Logf("S18 commit-in-doubt ok shape=%s kind=%q cut_before=%d cut_after=%d", s.name, f.name, before, after)
				}
			}
			d.healthy("after all doubts")
		})
	}
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// doubtEverywhere cuts each of the flow's commits once, and returns how many there were.
func doubtEverywhere(
	d *driver, broken *pgxpool.Pool, proxy *faulttest.Proxy, s shape, f flow, mode faulttest.Mode, want rows,
) (hits int) {
	d.t.Helper()
	var scenes []*scene
	for cut := true; cut; {
		scene := &scene{shape: s, wish: f.wish}
		f.before(d, scene)
		before := proxy.Hits()
		proxy.Arm(faulttest.Rule{Match: func(statement string) bool { return statement == "commit" }, Mode: mode, Skip: hits})
		err := f.run(d.via(broken), scene)
		proxy.Disarm()
		require.NoError(d.t, err, "%s, commit %d", f.name, hits+1)
		scenes = append(scenes, scene)
		if cut = proxy.Hits() > before; cut {
			hits++
		}
	}
	recoverAll(d, f)
	for i, scene := range scenes {
		require.Equal(d.t, want, d.final(scene.task).with(d.fences(scene.task)), "%s, commit %d", f.name, i+1)
	}
	require.Positive(d.t, hits)
	return hits
}
