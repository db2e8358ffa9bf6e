package reference_test

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/examples/reference"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func definitions(t *testing.T) map[string]tasker.Definition {
	t.Helper()
	templates, err := reference.Templates()
	require.NoError(t, err)
	all := make(map[string]tasker.Definition, len(templates))
	for _, template := range templates {
		d := template.Definition()
		all[d.Namespace+"/"+d.Name] = d
	}
	require.Len(t, all, len(templates))
	return all
}

func TestEachTemplateStandsInTheFileThatBearsItsName(t *testing.T) {
	t.Parallel()
	var paths []string
	require.NoError(t, fs.WalkDir(os.DirFS("templates"), ".", func(path string, entry fs.DirEntry, err error) error {
		if !entry.IsDir() {
			paths = append(paths, strings.TrimSuffix(path, ".yaml"))
		}
		return err
	}))
	all := definitions(t)
	require.ElementsMatch(t, paths, slices.Collect(maps.Keys(all)))
	namespaces := make(map[string]bool)
	for _, d := range all {
		require.Equal(t, "1.0.0", d.Version)
		namespaces[d.Namespace] = true
	}
	require.Equal(t, slices.Sorted(maps.Keys(namespaces)), reference.Namespaces())
}

func TestEveryCallableHasAHandlerAndEveryHandlerAStep(t *testing.T) {
	t.Parallel()
	called := make(map[string]bool)
	for _, d := range definitions(t) {
		for i := range d.Steps {
			called[d.Steps[i].Handler.Callable] = true
		}
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(called)), slices.Collect(maps.Keys(reference.Handlers())))
}

func TestATemplateReadsTheSameFromItsJSONForm(t *testing.T) {
	t.Parallel()
	for name, d := range definitions(t) {
		text, err := d.Canonical()
		require.NoError(t, err)
		again := parse(t, string(text)).Definition() // JSON is YAML
		require.Equal(t, d, again, name)
	}
}

func TestATemplateComesOutOfTheDatabaseAsItWentIn(t *testing.T) {
	t.Parallel()
	client := start(t, "")
	for name, d := range definitions(t) {
		stored, err := client.Template(patience(t), d.Namespace, d.Name, "")
		require.NoError(t, err)
		d.Environments = nil // the client has applied its own
		want, err := d.Canonical()
		require.NoError(t, err)
		got, err := stored.Canonical()
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(got), name)
	}
}

// policies lists "timeout attempts backoff base max" for each step, as the environment has it.
func policies(all map[string]tasker.Definition, environment string) map[string]string {
	found := make(map[string]string)
	for name, d := range all {
		d = d.In(environment)
		for i := range d.Steps {
			s := &d.Steps[i]
			p := s.Policy()
			found[name+" "+s.Name] = fmt.Sprint(s.Timeout(), p.MaxAttempts, p.Retryable, p.Backoff, p.Base, p.Max)
		}
	}
	return found
}

func policy(timeout time.Duration, attempts int, retryable bool, base, longest time.Duration) string {
	return fmt.Sprint(timeout, attempts, retryable, dag.BackoffExponential, base, longest)
}

func TestStepsHaveTheTimeoutsAndPoliciesOfTheSpecification(t *testing.T) {
	t.Parallel()
	const seconds, ms = time.Second, time.Millisecond
	usual := policy(30*seconds, 3, true, 1*seconds, 30*seconds)
	special := map[string]string{
		"rust_e2e_tree/hierarchical_tree tree_final_convergence":         policy(45*seconds, 3, true, 1*seconds, 30*seconds),
		"rust_e2e_mixed_dag/complex_dag dag_finalize":                    policy(45*seconds, 3, true, 1*seconds, 30*seconds),
		"rust_e2e_order_fulfillment/business_workflow validate_order":    policy(45*seconds, 3, true, 1*seconds, 30*seconds),
		"rust_e2e_order_fulfillment/business_workflow reserve_inventory": policy(60*seconds, 3, true, 1*seconds, 30*seconds),
		"rust_e2e_order_fulfillment/business_workflow process_payment":   policy(90*seconds, 2, true, 2*seconds, 30*seconds),
		"rust_e2e_order_fulfillment/business_workflow ship_order":        policy(60*seconds, 3, true, 1*seconds, 30*seconds),
		"rust_e2e_retry/retry_mechanics_test fail_twice_then_succeed":    policy(30*seconds, 5, true, 50*ms, 200*ms),
		"rust_e2e_retry/retry_exhaustion_test always_fail":               policy(30*seconds, 3, true, 50*ms, 100*ms),
		"test_errors/success_only success_step":                          policy(5*seconds, 0, false, 1*seconds, 30*seconds),
		"test_errors/permanent_error_only permanent_error_step":          policy(5*seconds, 0, false, 1*seconds, 30*seconds),
		"test_errors/retryable_error_only retryable_error_step":          policy(5*seconds, 2, true, 100*ms, 500*ms),
		"test_sql/boundary_max_attempts_zero boundary_test_step":         policy(5*seconds, 0, true, 100*ms, 30*seconds),
		"test_sql/boundary_max_attempts_one boundary_test_step":          policy(5*seconds, 1, true, 100*ms, 30*seconds),
		"test_sql/boundary_max_attempts_three boundary_test_step":        policy(5*seconds, 3, true, 100*ms, 30*seconds),
		"test_sql/boundary_non_retryable_first boundary_test_step":       policy(5*seconds, 1, false, 100*ms, 30*seconds),
		"test_sql/boundary_non_retryable_retries boundary_test_step":     policy(5*seconds, 3, false, 100*ms, 30*seconds),
	}
	found := policies(definitions(t), "")
	require.Len(t, found, 4+4+8+7+4+1+1+3+5)
	for step, got := range found {
		want, ok := special[step]
		if !ok {
			want = usual
		}
		require.Equal(t, want, got, step)
	}
	for step := range special {
		require.Contains(t, found, step)
	}
}

func TestEnvironmentsShortenTestsAndDebugDevelopment(t *testing.T) {
	t.Parallel()
	const arithmetic = 4 + 4 + 8 + 7
	short := 0
	for _, got := range policies(definitions(t), "test") {
		if got == policy(10*time.Second, 2, true, time.Second, 30*time.Second) {
			short++
		}
	}
	require.Equal(t, arithmetic, short)

	linear := definitions(t)["rust_e2e_linear/mathematical_sequence"]
	for _, step := range linear.In("development").Steps {
		require.Equal(t, map[string]any{"debug_mode": true}, step.Handler.Initialization)
	}
	retry := definitions(t)["rust_e2e_retry/retry_mechanics_test"]
	require.Len(t, retry.In("development").Steps[0].Handler.Initialization, 2, "debug_mode is merged with fail_count")
}
