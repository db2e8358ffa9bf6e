package orchestration_test

import (
	"os"
	"testing"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

// A deadlock is to show at once, not after a second. Statements are planned as the pools of package jobs have them planned.
func TestMain(m *testing.M) {
	dbtest.Main(m, dbtest.WithParameters(map[string]string{
		"deadlock_timeout": "100ms", "plan_cache_mode": "force_generic_plan", "jit": "off",
		"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
	}))
}

// rounds is how often a test of chances repeats: CHAOS=long asks for the long form.
func rounds(short, long int) int {
	if os.Getenv("CHAOS") == "long" {
		return long
	}
	return short
}
