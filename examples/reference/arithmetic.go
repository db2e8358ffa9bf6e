package reference

import (
	"context"
	"errors"
	"fmt"

	"github.com/tasker-systems/tasker-go"
)

// The codes of failures that more than one workflow has.
const (
	codeMissingField      = "MISSING_CONTEXT_FIELD"
	codeValidation        = "VALIDATION_ERROR"
	codeMissingDependency = "MISSING_DEPENDENCY"
)

// arithmetic returns the handlers of the four workflows that compute powers. All steps but the first follow one rule: square
// the product of the parents' results. Which parents these are comes with the callable, not from the template, so that a
// template that was wired otherwise fails instead of computing something else.
func arithmetic() map[string]tasker.HandlerFunc {
	return map[string]tasker.HandlerFunc{
		"linear.step_1": squareInput,
		"linear.step_2": squareOf("linear_step_1"),
		"linear.step_3": squareOf("linear_step_2"),
		"linear.step_4": squareOf("linear_step_3"),

		"diamond.start":    squareInput,
		"diamond.branch_b": squareOf("diamond_start"),
		"diamond.branch_c": squareOf("diamond_start"),
		"diamond.end":      squareOf("diamond_branch_b", "diamond_branch_c"),

		"tree.root":              squareInput,
		"tree.branch_left":       squareOf("tree_root"),
		"tree.branch_right":      squareOf("tree_root"),
		"tree.leaf_d":            squareOf("tree_branch_left"),
		"tree.leaf_e":            squareOf("tree_branch_left"),
		"tree.leaf_f":            squareOf("tree_branch_right"),
		"tree.leaf_g":            squareOf("tree_branch_right"),
		"tree.final_convergence": squareOf("tree_leaf_d", "tree_leaf_e", "tree_leaf_f", "tree_leaf_g"),

		"dag.init":          squareInput,
		"dag.process_left":  squareOf("dag_init"),
		"dag.process_right": squareOf("dag_init"),
		"dag.validate":      squareOf("dag_process_left", "dag_process_right"),
		"dag.transform":     squareOf("dag_process_left"),
		"dag.analyze":       squareOf("dag_process_right"),
		"dag.finalize":      squareOf("dag_validate", "dag_transform", "dag_analyze"),
	}
}

// squareInput is the first step: it checks the task's even_number and squares it. The templates' input_schema refuses most
// bad input before there is a task; the checks here are for tasks of a template without one.
func squareInput(_ context.Context, step *tasker.StepContext) (any, error) {
	var in struct {
		EvenNumber *Number `json:"even_number"`
	}
	if err := step.Context(&in); err != nil {
		return nil, tasker.WithCode(err, codeValidation)
	}
	switch {
	case in.EvenNumber == nil:
		return nil, refused(codeMissingField, "even_number is missing")
	case !in.EvenNumber.Even():
		return nil, refused(codeValidation, "Number must be even")
	}
	return in.EvenNumber.Square(), nil
}

// squareOf makes a step that squares the product of its parents' results.
func squareOf(parents ...string) tasker.HandlerFunc {
	return func(_ context.Context, step *tasker.StepContext) (any, error) {
		product := NewNumber(1)
		for _, name := range parents {
			factor, err := parentResult[Number](step, name)
			if err != nil {
				return nil, err
			}
			product = product.Times(factor)
		}
		return product.Square(), nil
	}
}

// parentResult returns the result of a step that this one depends on. A parent that an operator closed without a result is
// worth another attempt, for the operator may add it.
func parentResult[T any](step *tasker.StepContext, name string) (T, error) {
	var result *T
	err := step.Result(name, &result)
	if err == nil && result == nil {
		err = tasker.WithCode(fmt.Errorf("%s has no result", name), codeMissingDependency)
	}
	if err != nil {
		var none T
		return none, err
	}
	return *result, nil
}

// refused is a failure for good: the same input fails again.
func refused(code, message string) error {
	return tasker.Permanent(tasker.WithCode(errors.New(message), code))
}
