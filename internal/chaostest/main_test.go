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
		widen()
		dbtest.Main(m)
		return
	}
	if err := runProcess(os.Getenv(configVariable)); err != nil {
		fmt.Fprintln(os.Stderr, "chaos: "+err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

// widen sets the number of scenarios that run at once, unless the command line does.
func widen() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic("chaostest: " + err.Error())
	}
}
