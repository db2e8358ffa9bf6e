package chaostest

import (
	"fmt"
	"os"
	"testing"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

// TestMain runs the tests, or, in a process that they started, what its role says.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "" {
		dbtest.Main(m)
		return
	}
	if err := runProcess(os.Getenv(configVariable)); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: "+err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}
