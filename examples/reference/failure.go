package reference

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tasker-systems/tasker-go"
)

// failures returns the handlers of the workflows about attempts and errors.
func failures() map[string]tasker.HandlerFunc {
	return map[string]tasker.HandlerFunc{
		"retry.fail_n_times": failNTimes,
		"errors.success": func(context.Context, *tasker.StepContext) (any, error) {
			return map[string]string{"status": "success"}, nil
		},
		"errors.permanent": func(context.Context, *tasker.StepContext) (any, error) {
			return nil, tasker.Permanent(errors.New("this error is permanent"))
		},
		"errors.retryable": func(context.Context, *tasker.StepContext) (any, error) {
			return nil, errors.New("this error might go away")
		},
	}
}

// recovered is the result of a step that failed before it succeeded.
type recovered struct {
	// AttemptsBeforeSuccess counts every execution, the successful one included.
	AttemptsBeforeSuccess int `json:"attempts_before_success"`
}

// failNTimes fails in as many executions as fail_count in the step's initialization says.
func failNTimes(_ context.Context, step *tasker.StepContext) (any, error) {
	count, ok := step.Config()["fail_count"].(json.Number)
	times, err := count.Int64()
	if !ok || err != nil {
		return nil, tasker.Permanent(errors.New("initialization.fail_count must be an integer"))
	}
	if int64(step.Attempt()) <= times {
		return nil, fmt.Errorf("attempt %d fails, as %d are to", step.Attempt(), times)
	}
	return recovered{AttemptsBeforeSuccess: step.Attempt()}, nil
}
