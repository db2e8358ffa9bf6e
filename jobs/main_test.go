package jobs_test

import (
	"os"
	"testing"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// rounds is how often a test of chances repeats: CHAOS=long asks for the long form.
func rounds(short, long int) int {
	if os.Getenv("CHAOS") == "long" {
		return long
	}
	return short
}
