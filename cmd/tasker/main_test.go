package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/examples/reference"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

// mainVariable makes the test binary be tasker: no test needs a build.
const mainVariable = "TASKER_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		handlers = withSlowSteps
		os.Exit(run())
	}
	if err := flag.Set("test.parallel", "4"); err != nil { // a default: most of the time tests wait for processes
		panic(err)
	}
	dbtest.Main(m)
}

// withSlowSteps adds a handler that takes as long as the task's context says: the reference workflows take none.
func withSlowSteps() map[string]tasker.HandlerFunc {
	all := reference.Handlers()
	all["test.wait"] = func(ctx context.Context, step *tasker.StepContext) (any, error) {
		var in struct {
			Milliseconds int `json:"ms"`
		}
		if err := step.Context(&in); err != nil {
			return nil, err
		}
		timer := time.NewTimer(time.Duration(in.Milliseconds) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
			return step.Name(), nil
		case <-ctx.Done():
			return nil, fmt.Errorf("wait: %w", context.Cause(ctx))
		}
	}
	return all
}

// slow is a template of two slow steps, each tried once.
const slow = `name: slow
namespace_name: test_slow
version: 1.0.0
identity_strategy: always_unique
steps:
  - name: one
    handler: {callable: test.wait}
    retry: {max_attempts: 1}
    timeout_seconds: 600
  - name: two
    handler: {callable: test.wait}
    dependencies: [one]
    retry: {max_attempts: 1}
`
