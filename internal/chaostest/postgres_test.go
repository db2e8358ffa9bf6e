//go:build linux

package chaostest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/db/migration"
	"github.com/tasker-systems/tasker-go/internal/embeddedpg"
)

// newRigOnServer makes a cluster on a Postgres of its own, which the test may crash. The ledger stays with the package's.
func newRigOnServer(t *testing.T) (*rig, *embeddedpg.Server) {
	t.Helper()
	if testing.Short() {
		t.Skip("chaos needs patience")
	}
	server, err := embeddedpg.Start(t.Context(), embeddedpg.Config{Ephemeral: true, ListenTCP: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
	pool, err := pgxpool.New(t.Context(), server.URL())
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, migration.Up(t.Context(), pool, nil))
	return newRigOn(t, server.URL()), server
}

func TestChaosS15PostgresCrashes(t *testing.T) {
	r, server := newRigOnServer(t)
	m := r.mix(pick(200*time.Millisecond, 500*time.Millisecond))
	r.cluster(orchestrator, both, worker, worker)
	crashes := pick(3, 10)
	gap := pick(1500*time.Millisecond, 12*time.Second)
	rng := r.random("crashes")
	var back []time.Time
	var down time.Duration
	r.during(
		func() { r.feed(m, 26, pick(40, 200), time.Duration(crashes+1)*gap) },
		func() {
			for range crashes {
				rest(t.Context(), gap/2+rand64(rng, gap))
				begun := time.Now()
				require.NoError(t, server.CrashRestart(t.Context()))
				back = append(back, time.Now())
				down = max(down, time.Since(begun))
			}
		})
	f := r.U(pick(40*time.Second, 4*time.Minute))
	// The database's absence is not the workers' death.
	assert.Zero(t, f.losses, "steps lost workers that lived")
	resumed := r.resumed(back)
	assert.Less(t, resumed, 3*time.Second)
	r.report("S15 postgres-crash", "crashes", crashes, "down_max", down, "tasks", f.tasks, "steps", f.steps, "losses", f.losses,
		"reruns", f.reruns, "resume_max", resumed, "drain", f.drain, "clean", f.clean, "dup", f.dup, "lost", f.lost)
}

// resumed is the longest time from the database's return to the next start of a step.
func (r *rig) resumed(back []time.Time) (longest time.Duration) {
	r.t.Helper()
	for _, at := range back {
		var next *time.Time
		require.NoError(r.t, r.ledger.QueryRow(r.t.Context(),
			`SELECT min(at) FROM ledger WHERE event = 'start' AND at > $1`, at).Scan(&next))
		if next != nil {
			longest = max(longest, next.Sub(at))
		}
	}
	return longest
}
