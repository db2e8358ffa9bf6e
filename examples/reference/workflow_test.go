package reference_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
)

func TestEveryArithmeticWorkflowComputesItsExactResult(t *testing.T) {
	t.Parallel()
	client := start(t, "")
	sixteenth := map[int]string{
		2: `65536`, 4: `4294967296`, 6: `2821109907456`, 8: `281474976710656`, 10: `10000000000000000`,
		14: `2177953337809371136`, 16: `"18446744073709551616"`, 100: `"100000000000000000000000000000000"`,
	}
	sixtyFourth := map[int]string{
		2: `"18446744073709551616"`, 4: `"340282366920938463463374607431768211456"`,
		6:  `"63340286662973277706162286946811886609896461828096"`,
		10: `"10000000000000000000000000000000000000000000000000000000000000000"`,
	}
	for _, w := range []struct {
		namespace, name, last string
		want                  map[int]string
	}{
		{"rust_e2e_linear", "mathematical_sequence", "linear_step_4", sixteenth},
		{"rust_e2e_diamond", "diamond_pattern", "diamond_end", sixteenth},
		{"rust_e2e_tree", "hierarchical_tree", "tree_final_convergence", sixtyFourth},
		{"rust_e2e_mixed_dag", "complex_dag", "dag_finalize", sixtyFourth},
	} {
		for n, want := range w.want {
			t.Run(fmt.Sprintf("%s of %d", w.name, n), func(t *testing.T) {
				t.Parallel()
				task := complete(t, client, w.namespace, w.name, fmt.Sprintf(`{"even_number": %d}`, n))
				require.Equal(t, want, string(task.Step(w.last).Result))
			})
		}
	}
}

func TestEveryStepStoresTheBareNumberItComputed(t *testing.T) {
	t.Parallel()
	client := start(t, "")
	for _, w := range []struct {
		namespace, name, input string
		want                   map[string]string
	}{
		{"rust_e2e_linear", "mathematical_sequence", `{"even_number": 6}`, map[string]string{
			"linear_step_1": "36", "linear_step_2": "1296", "linear_step_3": "1679616", "linear_step_4": "2821109907456",
		}},
		{"rust_e2e_diamond", "diamond_pattern", `{"even_number": 6.0}`, map[string]string{ // an integer to JSON Schema
			"diamond_start": "36", "diamond_branch_b": "1296", "diamond_branch_c": "1296", "diamond_end": "2821109907456",
		}},
		{"rust_e2e_tree", "hierarchical_tree", `{"even_number": 2}`, map[string]string{
			"tree_root": "4", "tree_branch_left": "16", "tree_branch_right": "16", "tree_leaf_d": "256", "tree_leaf_e": "256",
			"tree_leaf_f": "256", "tree_leaf_g": "256", "tree_final_convergence": `"18446744073709551616"`,
		}},
		{"rust_e2e_mixed_dag", "complex_dag", `{"even_number": 2}`, map[string]string{
			"dag_init": "4", "dag_process_left": "16", "dag_process_right": "16", "dag_validate": "65536",
			"dag_transform": "256", "dag_analyze": "256", "dag_finalize": `"18446744073709551616"`,
		}},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			task := complete(t, client, w.namespace, w.name, w.input)
			results := make(map[string]string, len(task.Steps))
			for i := range task.Steps {
				results[task.Steps[i].Name] = string(task.Steps[i].Result)
			}
			require.Equal(t, w.want, results)
		})
	}
}

func TestAWorkflowThatFailsEndsAsItsTemplateSays(t *testing.T) {
	t.Parallel()
	client := start(t, "")
	for _, w := range []struct {
		namespace, name, step string
		attempts              int
		permanent             bool
	}{
		{"rust_e2e_retry", "retry_exhaustion_test", "always_fail", 3, false},
		{"test_errors", "permanent_error_only", "permanent_error_step", 1, true},
		{"test_errors", "retryable_error_only", "retryable_error_step", 2, false},
		{"test_sql", "boundary_max_attempts_zero", "boundary_test_step", 1, false},
		{"test_sql", "boundary_max_attempts_one", "boundary_test_step", 1, false},
		{"test_sql", "boundary_max_attempts_three", "boundary_test_step", 3, false},
		{"test_sql", "boundary_non_retryable_first", "boundary_test_step", 1, false},
		{"test_sql", "boundary_non_retryable_retries", "boundary_test_step", 1, false},
	} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			step := fail(t, client, w.namespace, w.name, `{}`).Step(w.step)
			require.Equal(t, "error", string(step.State))
			require.Equal(t, w.attempts, step.Attempts)
			require.Equal(t, w.permanent, step.Failure.Permanent)
		})
	}
}

func TestAStepThatFailsTwiceSucceedsInItsThirdExecution(t *testing.T) {
	t.Parallel()
	for _, environment := range []string{"", "test"} {
		t.Run("environment "+environment, func(t *testing.T) {
			t.Parallel()
			step := complete(t, start(t, environment), "rust_e2e_retry", "retry_mechanics_test", `{}`).Step("fail_twice_then_succeed")
			require.JSONEq(t, `{"attempts_before_success": 3}`, string(step.Result))
			require.Equal(t, 3, step.Attempts)
		})
	}
}

func TestAStepThatSucceedsAtOnceNeedsNoAttempts(t *testing.T) {
	t.Parallel()
	step := complete(t, start(t, ""), "test_errors", "success_only", `{}`).Step("success_step")
	require.Equal(t, 1, step.Attempts)
	require.JSONEq(t, `{"status": "success"}`, string(step.Result))
}

func TestTheSameNumberMayBeComputedAgainAndTheSameOrderMayNot(t *testing.T) {
	t.Parallel()
	client := start(t, "")
	first := create(t, client, "rust_e2e_linear", "mathematical_sequence", `{"even_number": 6}`)
	second := create(t, client, "rust_e2e_linear", "mathematical_sequence", `{"even_number": 6}`)
	require.False(t, second.Duplicate)
	require.NotEqual(t, first.ID, second.ID)

	first = create(t, client, "rust_e2e_order_fulfillment", "business_workflow", goodOrder)
	second = create(t, client, "rust_e2e_order_fulfillment", "business_workflow", goodOrder)
	require.True(t, second.Duplicate)
	require.Equal(t, first.ID, second.ID)
}

func TestTheInputSchemaNamesTheFieldItRefuses(t *testing.T) {
	t.Parallel()
	client := start(t, "")
	linear := func(input string) tasker.Request { return request("rust_e2e_linear", "mathematical_sequence", input) }
	order := func(input string) tasker.Request {
		return request("rust_e2e_order_fulfillment", "business_workflow", input)
	}
	for _, c := range []struct {
		name    string
		request tasker.Request
		want    string
	}{
		{"missing number", linear(`{}`), "context: missing property 'even_number'"},
		{"too small", linear(`{"even_number": 1}`), "context.even_number: "},
		{"too big", linear(`{"even_number": 101}`), "context.even_number: "},
		{"a fraction", linear(`{"even_number": 6.5}`), "context.even_number: "},
		{"a string", linear(`{"even_number": "6"}`), "context.even_number: "},
		{"an order without anything", order(`{}`), "context: missing properties 'customer', 'items', 'payment', 'shipping'"},
		{
			"an order with a bad quantity",
			order(`{"customer": {"id": 1, "email": "a@b.c"}, "items": [{"sku": "WIDGET-001", "quantity": 0, "price": 1}],
			  "payment": {"method": "card", "token": "t"}, "shipping": {"method": "express"}}`),
			"context.items.0.quantity: ",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := client.Create(patience(t), c.request)
			var refused *tasker.RequestError
			require.ErrorAs(t, err, &refused)
			require.Len(t, refused.Fields, 1)
			require.Contains(t, refused.Fields[0], c.want)
		})
	}
}

// openLinear is mathematical_sequence with the door open: without a schema, and halting for an operator.
const openLinear = `
name: open_sequence
namespace_name: rust_e2e_linear
version: 1.0.0
identity_strategy: always_unique
lifecycle: {on_failure: block}
steps:
  - name: linear_step_1
    handler: {callable: linear.step_1}
  - name: linear_step_2
    handler: {callable: linear.step_2}
    dependencies: [linear_step_1]
    retry: {max_attempts: 2, backoff_base_ms: 20}
`

func TestTheFirstStepChecksItsInputItself(t *testing.T) {
	t.Parallel()
	client := start(t, "", parse(t, openLinear))
	for _, c := range []struct{ name, input, code, message string }{
		{"missing", `{}`, "MISSING_CONTEXT_FIELD", "even_number is missing"},
		{"null", `{"even_number": null}`, "MISSING_CONTEXT_FIELD", "even_number is missing"},
		{"odd", `{"even_number": 7}`, "VALIDATION_ERROR", "Number must be even"},
		{"a fraction", `{"even_number": 6.5}`, "VALIDATION_ERROR", "is not an integer"},
		{"a word", `{"even_number": "six"}`, "VALIDATION_ERROR", "is not an integer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := create(t, client, "rust_e2e_linear", "open_sequence", c.input).Wait(patience(t))
			var ended *tasker.EndedError
			require.ErrorAs(t, err, &ended)
			step := ended.Task.Step("linear_step_1")
			require.Equal(t, 1, step.Attempts)
			require.True(t, step.Failure.Permanent)
			require.Equal(t, c.code, step.Failure.Code)
			require.Contains(t, step.Failure.Message, c.message)
		})
	}
}

func TestAStepIsTriedAgainWhileItsParentHasNoResult(t *testing.T) {
	t.Parallel()
	client := start(t, "", parse(t, openLinear))
	ctx := patience(t)
	run := create(t, client, "rust_e2e_linear", "open_sequence", `{}`)
	_, err := run.Wait(ctx)
	var ended *tasker.EndedError
	require.ErrorAs(t, err, &ended)
	require.NoError(t, client.ResolveStep(ctx, run.ID, "linear_step_1", nil, tasker.By{Actor: "test", Reason: "closed by hand"}))
	_, err = run.Wait(ctx)
	require.ErrorAs(t, err, &ended)
	step := ended.Task.Step("linear_step_2")
	require.Equal(t, "MISSING_DEPENDENCY", step.Failure.Code)
	require.False(t, step.Failure.Permanent)
	require.Equal(t, 2, step.Attempts)
}

func TestALongNumberGivenByHandGoesOnExactly(t *testing.T) {
	t.Parallel()
	client := start(t, "", parse(t, openLinear))
	ctx := patience(t)
	run := create(t, client, "rust_e2e_linear", "open_sequence", `{}`)
	_, err := run.Wait(ctx)
	var ended *tasker.EndedError
	require.ErrorAs(t, err, &ended)
	byHand := json.RawMessage(`"10000000000000000000000001"`)
	require.NoError(t, client.ResolveStep(ctx, run.ID, "linear_step_1", byHand, tasker.By{Actor: "test", Reason: "computed by hand"}))
	task, err := run.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, `"100000000000000000000000020000000000000000000000001"`, string(task.Step("linear_step_2").Result))
}
