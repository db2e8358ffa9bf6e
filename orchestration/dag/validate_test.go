package dag_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// broken is a valid template of a, b and c, changed by one mistake.
func broken(mistake func(*dag.Template)) dag.Template {
	flow := template(node("a"), node("b", "a"), node("c", "b"))
	mistake(&flow)
	return flow
}

func TestValidateNamesTheProblemAndItsPlace(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		mistake func(*dag.Template)
		want    dag.Problem
	}{
		{"a cycle", func(f *dag.Template) { f.Steps[0].Dependencies = []string{"c"} }, dag.Problem{
			Code: "CYCLE_DETECTED", Path: "$.steps", Message: "steps wait for each other: a → b → c → a",
		}},
		{"a dependency named twice", func(f *dag.Template) { f.Steps[2].Dependencies = []string{"b", "b"} }, dag.Problem{
			Code: "DUPLICATE_DEPENDENCY", Path: "$.steps[2].dependencies[1]", Message: `step "c" names "b" twice`,
		}},
		{"a dependency on itself", func(f *dag.Template) { f.Steps[1].Dependencies = []string{"a", "b"} }, dag.Problem{
			Code: "SELF_DEPENDENCY", Path: "$.steps[1].dependencies[1]", Message: `step "b" depends on itself`,
		}},
		{"a missing dependency", func(f *dag.Template) { f.Steps[2].Dependencies = []string{"elsewhere"} }, dag.Problem{
			Code: "MISSING_DEP_REF", Path: "$.steps[2].dependencies[0]", Message: `there is no step "elsewhere"`,
		}},
		{"a misspelt dependency", func(f *dag.Template) {
			f.Steps[0].Name, f.Steps[1].Dependencies[0] = "reserve_stock", "reserve_stok"
		}, dag.Problem{
			Code: "MISSING_DEP_REF", Path: "$.steps[1].dependencies[0]",
			Message: `there is no step "reserve_stok"; did you mean "reserve_stock"?`,
		}},
		{"a misspelt override", func(f *dag.Template) {
			f.Steps[0].Name, f.Steps[1].Dependencies[0] = "charge", "charge"
			f.Environments = map[string]dag.Environment{"test": {Steps: []dag.Override{{Name: "ALL"}, {Name: "chagre"}}}}
		}, dag.Problem{
			Code: "MISSING_STEP_REF", Path: "$.environments.test.steps[1].name",
			Message: `there is no step "chagre"; did you mean "charge"?; ALL means every step`,
		}},
		{"a step name too long", func(f *dag.Template) { f.Steps[2].Name = strings.Repeat("x", 129) }, dag.Problem{
			Code: "NAME_TOO_LONG", Path: "$.steps[2].name", Message: "step name has 129 characters, at most 128 are allowed",
		}},
		{"a step name with a space", func(f *dag.Template) { f.Steps[2].Name = "c d" }, dag.Problem{
			Code: "BAD_NAME", Path: "$.steps[2].name",
			Message: `step name "c d" must be letters, digits, '_', '-' and '.', and begin with a letter or digit`,
		}},
		{"a step name twice", func(f *dag.Template) { f.Steps[2].Name = "a" }, dag.Problem{
			Code: "DUPLICATE_STEP_NAME", Path: "$.steps[2].name", Message: `step "a" is already step 1; names are unique in a template`,
		}},
		{"a step without a name", func(f *dag.Template) { f.Steps[2].Name = "" }, dag.Problem{
			Code: "EMPTY_NAME", Path: "$.steps[2].name", Message: "step name is missing",
		}},
		{"an identity strategy of the future", func(f *dag.Template) { f.Identity = "loose" }, dag.Problem{
			Code: "BAD_IDENTITY_STRATEGY", Path: "$.identity_strategy",
			Message: `identity strategy "loose" is not one of strict, caller_provided, always_unique`,
		}},
		{"another on_failure", func(f *dag.Template) { f.Lifecycle.OnFailure = "ignore" }, dag.Problem{
			Code: "BAD_ON_FAILURE", Path: "$.lifecycle.on_failure", Message: `on_failure "ignore" is not one of error, block`,
		}},
		{"another step type", func(f *dag.Template) { f.Steps[1].Type = "decision" }, dag.Problem{
			Code: "UNSUPPORTED_STEP_TYPE", Path: "$.steps[1].type", Message: `step type "decision" is not supported; only standard steps are`,
		}},
		{"no callable", func(f *dag.Template) { f.Steps[1].Handler.Callable = "" }, dag.Problem{
			Code: "EMPTY_CALLABLE", Path: "$.steps[1].handler.callable", Message: `step "b" needs a handler.callable of 1 to 500 characters`,
		}},
		{"no name", func(f *dag.Template) { f.Name = "" }, dag.Problem{
			Code: "EMPTY_NAME", Path: "$.name", Message: "template name is missing",
		}},
		{"no steps", func(f *dag.Template) { f.Steps = nil }, dag.Problem{
			Code: "NO_STEPS", Path: "$.steps", Message: "a template needs at least one step",
		}},
		{"no version", func(f *dag.Template) { f.Version = "" }, dag.Problem{
			Code: "EMPTY_NAME", Path: "$.version", Message: "version is missing",
		}},
		{"the callable too long", func(f *dag.Template) { f.Steps[0].Handler.Callable = strings.Repeat("x", 501) }, dag.Problem{
			Code: "EMPTY_CALLABLE", Path: "$.steps[0].handler.callable", Message: `step "a" needs a handler.callable of 1 to 500 characters`,
		}},
		{"the name of Tasker's own queue", func(f *dag.Template) { f.Namespace = "orchestration" }, dag.Problem{
			Code: "BAD_NAMESPACE", Path: "$.namespace_name",
			Message: `namespace "orchestration" is the name of Tasker's own queue; choose another`,
		}},
		{"the namespace in upper case", func(f *dag.Template) { f.Namespace = "Orders" }, dag.Problem{
			Code: "BAD_NAMESPACE", Path: "$.namespace_name",
			Message: `namespace "Orders" must be lower case letters, digits and single underscores`,
		}},
		{"the namespace too long", func(f *dag.Template) { f.Namespace = strings.Repeat("n", 30) }, dag.Problem{
			Code: "NAMESPACE_TOO_LONG", Path: "$.namespace_name",
			Message: `namespace "` + strings.Repeat("n", 30) + `" has 30 characters, at most 29 are allowed`,
		}},
		{"the time limit below zero", func(f *dag.Template) { f.Steps[0].TimeoutSeconds = -0.5 }, dag.Problem{
			Code: "BAD_TIMEOUT", Path: "$.steps[0].timeout_seconds", Message: "timeout_seconds -0.5 is outside 0 to 604800",
		}},
		{"the time limit beyond a week in an environment", func(f *dag.Template) {
			f.Environments = map[string]dag.Environment{"test": {Steps: []dag.Override{{Name: "ALL", TimeoutSeconds: 604801}}}}
		}, dag.Problem{
			Code: "BAD_TIMEOUT", Path: "$.environments.test.steps[0].timeout_seconds", Message: "timeout_seconds 604801 is outside 0 to 604800",
		}},
		{"the time limit no number", func(f *dag.Template) { f.Steps[0].TimeoutSeconds = math.NaN() }, dag.Problem{
			Code: "BAD_TIMEOUT", Path: "$.steps[0].timeout_seconds", Message: "timeout_seconds NaN is outside 0 to 604800",
		}},
		{"the time limit beyond a week", func(f *dag.Template) { f.Steps[0].TimeoutSeconds = 604801 }, dag.Problem{
			Code: "BAD_TIMEOUT", Path: "$.steps[0].timeout_seconds", Message: "timeout_seconds 604801 is outside 0 to 604800",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			flow := broken(tt.mistake)
			problems := dag.Validate(&flow)
			require.Contains(t, problems, tt.want)
			_, err := dag.Compile(flow)
			require.Equal(t, problems, err, "what is not valid does not compile")
		})
	}
}

func TestValidateBoundsTheRetryPolicy(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		retry   dag.Retry
		key     string
		message string
	}{
		{
			"attempts above the limit",
			dag.Retry{MaxAttempts: new(101)},
			"max_attempts",
			"max_attempts 101 is outside 0 to 100; it counts every execution, the first included",
		},
		{
			"attempts below zero",
			dag.Retry{MaxAttempts: new(-1)},
			"max_attempts",
			"max_attempts -1 is outside 0 to 100; it counts every execution, the first included",
		},
		{
			"base above an hour",
			dag.Retry{BackoffBaseMS: new(int64(3_600_001))},
			"backoff_base_ms",
			"backoff_base_ms 3600001 is outside 0 to 3600000",
		},
		{"base below zero", dag.Retry{BackoffBaseMS: new(int64(-1))}, "backoff_base_ms", "backoff_base_ms -1 is outside 0 to 3600000"},
		{
			"cap above an hour",
			dag.Retry{MaxBackoffMS: new(int64(3_600_001))},
			"max_backoff_ms",
			"max_backoff_ms 3600001 is outside 0 to 3600000",
		},
		{"jitter above one", dag.Retry{Jitter: new(1.5)}, "jitter", "jitter 1.5 is outside 0 to 1"},
		{"jitter that is no number", dag.Retry{Jitter: new(math.NaN())}, "jitter", "jitter NaN is outside 0 to 1"},
		{"unknown strategy", dag.Retry{Backoff: "cubic"}, "backoff", `backoff "cubic" is not one of none, linear, exponential, fibonacci`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			flow := broken(func(f *dag.Template) {
				f.Steps[1].Retry = &tt.retry
				f.Environments = map[string]dag.Environment{"test": {Steps: []dag.Override{{Name: "ALL", Retry: &tt.retry}}}}
			})
			require.Equal(t, dag.Problems{
				{Code: "BAD_RETRY", Path: "$.steps[1].retry." + tt.key, Message: tt.message},
				{Code: "BAD_RETRY", Path: "$.environments.test.steps[0].retry." + tt.key, Message: tt.message},
			}, dag.Validate(&flow))
		})
	}
}

func TestValidateAcceptsTheLimitsThemselves(t *testing.T) {
	t.Parallel()
	flow := broken(func(f *dag.Template) {
		f.Namespace = strings.Repeat("n", 29)
		f.Name = strings.Repeat("N", 64)
		f.Version = strings.Repeat("1", 50)
		f.Identity = dag.IdentityCallerProvided
		f.Lifecycle.OnFailure = dag.OnFailureBlock
		f.Steps[2] = dag.Step{
			Name: strings.Repeat("s", 128), Type: dag.StepStandard, Handler: dag.Handler{Callable: strings.Repeat("c", 500)},
			TimeoutSeconds: 604800, Dependencies: []string{"a", "b"},
			Retry: &dag.Retry{
				MaxAttempts: new(100), Backoff: dag.BackoffNone, BackoffBaseMS: new(int64(3_600_000)),
				MaxBackoffMS: new(int64(3_600_000)), Jitter: new(1.0),
			},
		}
		f.Environments = map[string]dag.Environment{"test": {Steps: []dag.Override{{Name: "ALL"}, {Name: "b"}}}, "empty": {}}
	})
	require.Empty(t, dag.Validate(&flow))
}

func TestValidateReportsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	flow := dag.Template{Namespace: "no-dash", Version: "v 1", Steps: []dag.Step{
		{Name: "a", Dependencies: []string{"c", "a", "x"}, Retry: &dag.Retry{MaxAttempts: new(-1), Jitter: new(2.0)}},
		node("a"),
		node("c", "d", "d"),
		node("d", "a", "c"),
	}}
	var found []string
	for _, p := range dag.Validate(&flow) {
		found = append(found, p.Code+" "+p.Path)
	}
	require.Equal(t, []string{
		"BAD_NAMESPACE $.namespace_name",
		"EMPTY_NAME $.name",
		"BAD_NAME $.version",
		"EMPTY_CALLABLE $.steps[0].handler.callable",
		"BAD_RETRY $.steps[0].retry.max_attempts",
		"BAD_RETRY $.steps[0].retry.jitter",
		"DUPLICATE_STEP_NAME $.steps[1].name",
		"SELF_DEPENDENCY $.steps[0].dependencies[1]",
		"MISSING_DEP_REF $.steps[0].dependencies[2]",
		"DUPLICATE_DEPENDENCY $.steps[2].dependencies[1]",
		"CYCLE_DETECTED $.steps",
	}, found)
}

func TestValidateReportsEnvironmentsInTheOrderOfTheirNames(t *testing.T) {
	t.Parallel()
	flow := broken(func(f *dag.Template) {
		f.Environments = make(map[string]dag.Environment)
		for _, name := range []string{"test", "production", "staging", "development"} {
			f.Environments[name] = dag.Environment{Steps: []dag.Override{{Name: "elsewhere"}}}
		}
	})
	var paths []string
	for _, p := range dag.Validate(&flow) {
		paths = append(paths, p.Path)
	}
	require.Equal(t, []string{
		"$.environments.development.steps[0].name", "$.environments.production.steps[0].name",
		"$.environments.staging.steps[0].name", "$.environments.test.steps[0].name",
	}, paths)
}

func TestProblemsReadAsOneMessageWithALineForEach(t *testing.T) {
	t.Parallel()
	_, err := dag.Compile(dag.Template{Name: "flow", Namespace: "test", Version: "1"})
	require.EqualError(t, err, "template is not valid:\n  steps: a template needs at least one step (NO_STEPS)")
	var problems dag.Problems
	require.ErrorAs(t, err, &problems)
	problems = append(problems, dag.Problem{Code: "BAD_NAME", Path: "$.steps[0].name", Message: "no"})
	require.EqualError(t, problems,
		"template is not valid:\n  steps: a template needs at least one step (NO_STEPS)\n  steps[0].name: no (BAD_NAME)")
}

func TestValidateSuggestsTheNearestNameAndTheFirstOfEquallyNearOnes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, given, want string
	}{
		{"a letter too many", "shipp", "ship"},
		{"equally near", "step_x", "step_a"},
		{"nothing near", "unrelated_to_all", ""},
		{"swapped letters", "hsip", "ship"},
		{"wrong case", "Ship", "ship"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			flow := template(node("step_b"), node("ship"), node("step_a"), node("last", tt.given))
			want := fmt.Sprintf("there is no step %q", tt.given)
			if tt.want != "" {
				want += fmt.Sprintf("; did you mean %q?", tt.want)
			}
			problems := dag.Validate(&flow)
			require.Len(t, problems, 1)
			require.Equal(t, want, problems[0].Message)
		})
	}
}

func TestTheCycleIsShownWithoutTheStepsAroundIt(t *testing.T) {
	t.Parallel()
	flow := template(node("below", "y"), node("above"), node("x", "above", "z"), node("y", "x"), node("z", "y"), node("beside"))
	problems := dag.Validate(&flow)
	require.Len(t, problems, 1)
	require.Equal(t, "steps wait for each other: z → x → y → z", strings.TrimSpace(rotate(problems[0].Message, "z")))
}

// rotate turns the cycle so that it begins with a step: where it begins says nothing.
func rotate(message, first string) string {
	head, path, _ := strings.Cut(message, ": ")
	cycle := strings.Split(path, " → ")
	ring := cycle[1:]
	for range ring {
		if ring[0] == first {
			break
		}
		ring = append(ring[1:], ring[0])
	}
	return head + ": " + strings.Join(append(ring, first), " → ")
}

func TestValidateBoundsTheSizeOfTheGraph(t *testing.T) {
	t.Parallel()
	steps := make([]dag.Step, dag.MaxSteps+1)
	for i := range steps {
		steps[i] = node(fmt.Sprint("s", i))
		for j := max(0, i-10); j < i; j++ {
			steps[i].Dependencies = append(steps[i].Dependencies, steps[j].Name)
		}
	}
	allowed := template(steps[:dag.MaxSteps]...)
	require.Empty(t, dag.Validate(&allowed), "%d steps are fine", dag.MaxSteps)

	last := &steps[dag.MaxSteps-1]
	last.Dependencies = nil
	for j := range 70 {
		last.Dependencies = append(last.Dependencies, steps[j].Name)
	}
	dense := template(steps[:dag.MaxSteps]...)
	require.Equal(t, dag.Problems{
		{Code: "TOO_MANY_EDGES", Path: "$.steps", Message: "200005 dependencies, at most 200000 are allowed"},
	}, dag.Validate(&dense))

	long := template(steps...)
	require.Equal(t, dag.Problems{
		{Code: "TOO_MANY_STEPS", Path: "$.steps", Message: "20001 steps, at most 20000 are allowed"},
	}, dag.Validate(&long), "nothing else is looked at")
}
