package orchestration_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

func TestEveryShapeRunsToTheReferenceResults(t *testing.T) {
	t.Parallel()
	for _, s := range shapes() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, apart := range []bool{false, true} {
				d := newDriver(t, dbtest.Pool(t))
				d.apart = apart
				d.register(s)
				plain, flaky := d.mustCreate(s, wish{}), d.mustCreate(s, wish{Fail: 2})
				d.settle()
				require.Equal(t, "complete", d.state(plain))
				require.Equal(t, s.reference(), d.results(plain))
				require.Equal(t, s.reference(), d.results(flaky))
				require.Equal(t, "complete", d.state(flaky))
				require.Zero(t, d.final(plain).Live)
				d.healthy("at rest")
			}
		})
	}
}
