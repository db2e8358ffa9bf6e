//go:build linux

package chaostest

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

// parallel is how many of the scenarios that mostly wait run at once, whatever the number of cores.
const parallel = "4"

// TestMain runs the tests, or, in a process that they started, what its role says.
func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "" {
		flag.Parse()
		if err := flag.Set("test.parallel", parallel); err != nil {
			panic("chaostest: " + err.Error())
		}
		dbtest.Main(m)
		return
	}
	if err := runProcess(os.Getenv(configVariable)); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: "+err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}
