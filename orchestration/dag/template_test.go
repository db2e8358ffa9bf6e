package dag_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// diamond is written in an order that is not the one in which it runs.
func diamond(t *testing.T) *dag.Graph {
	t.Helper()
	return compile(t, template(node("bottom", "left", "right"), node("right", "top"), node("top"), node("left", "top"), node("alone")))
}

func TestCompileOrdersParentsBeforeChildren(t *testing.T) {
	t.Parallel()
	graph := diamond(t)
	require.Equal(t, []string{"top", "alone", "right", "left", "bottom"}, graph.Order())
	require.Equal(t, 2, graph.Sinks())
}

func TestAGraphKnowsTheNeighboursOfItsSteps(t *testing.T) {
	t.Parallel()
	graph := diamond(t)
	require.Equal(t, []string{"left", "right"}, graph.Parents("bottom"))
	require.Equal(t, []string{"right", "left"}, graph.Children("top"))
	require.Equal(t, []string{"top", "right", "left"}, graph.Ancestors("bottom"), "parents first")
	require.Empty(t, graph.Parents("top"))
	require.Empty(t, graph.Children("bottom"))
	require.Empty(t, graph.Ancestors("alone"))
	require.Equal(t, "test.left", graph.Step("left").Handler.Callable)
	require.Nil(t, graph.Step("elsewhere"))
}

func TestAnEnvironmentChangesWhatItsOverridesSay(t *testing.T) {
	t.Parallel()
	flow := template(node("a"), node("b"))
	flow.Steps[0].TimeoutSeconds = 9
	flow.Steps[0].Retry = &dag.Retry{MaxAttempts: new(5), Backoff: dag.BackoffLinear}
	flow.Environments = map[string]dag.Environment{
		"production": {Steps: []dag.Override{{Name: "ALL", TimeoutSeconds: 60}}},
		"test": {Steps: []dag.Override{
			{Name: "ALL", TimeoutSeconds: 2},
			{Name: "a", Retry: &dag.Retry{Jitter: new(0.0)}},
		}},
	}
	in := flow.In("test")
	require.Equal(t, 2*time.Second, in.Steps[0].Timeout())
	require.Equal(t, 2*time.Second, in.Steps[1].Timeout())
	require.Equal(t, &dag.Retry{Jitter: new(0.0)}, in.Steps[0].Retry, "retry is replaced as a whole")
	require.Nil(t, in.Steps[1].Retry, "only the named step is changed")
	require.Nil(t, in.Environments, "what is left has no environments")

	require.Equal(t, time.Minute, flow.In("production").Steps[0].Timeout().Round(time.Second))
	require.InDelta(t, 9, flow.Steps[0].TimeoutSeconds, 0, "the template itself stays as it was")
	require.NotNil(t, flow.Environments)
}

func TestOverridesApplyInTheirOrder(t *testing.T) {
	t.Parallel()
	flow := template(node("a"), node("b"))
	all, one := dag.Override{Name: "ALL", TimeoutSeconds: 1}, dag.Override{Name: "b", TimeoutSeconds: 5}
	flow.Environments = map[string]dag.Environment{
		"general first": {Steps: []dag.Override{all, one}},
		"general last":  {Steps: []dag.Override{one, all}},
	}
	require.Equal(t, 5*time.Second, flow.In("general first").Steps[1].Timeout())
	require.Equal(t, time.Second, flow.In("general last").Steps[1].Timeout())
	require.Equal(t, time.Second, flow.In("general first").Steps[0].Timeout())
}

func TestInitializationIsMergedKeyByKey(t *testing.T) {
	t.Parallel()
	flow := template(node("a"), node("b"))
	flow.Steps[0].Handler.Initialization = map[string]any{"limit": 10, "url": "https://live"}
	flow.Environments = map[string]dag.Environment{"test": {Steps: []dag.Override{
		{Name: "ALL", Handler: &dag.Handler{Initialization: map[string]any{"dry": true, "url": "http://all"}}},
		{Name: "a", Handler: &dag.Handler{Initialization: map[string]any{"url": "http://local"}}},
	}}}
	in := flow.In("test")
	require.Equal(t, map[string]any{"limit": 10, "dry": true, "url": "http://local"}, in.Steps[0].Handler.Initialization)
	require.Equal(t, map[string]any{"dry": true, "url": "http://all"}, in.Steps[1].Handler.Initialization)
	require.Equal(t, "test.a", in.Steps[0].Handler.Callable, "the code is not the environment's to choose")
	require.Equal(t, map[string]any{"limit": 10, "url": "https://live"}, flow.Steps[0].Handler.Initialization,
		"the template itself stays as it was")
}

func TestAnUnknownEnvironmentChangesNothing(t *testing.T) {
	t.Parallel()
	flow := template(node("a"), node("b", "a"))
	flow.Environments = map[string]dag.Environment{"test": {Steps: []dag.Override{{Name: "ALL", TimeoutSeconds: 2}}}}
	want := template(node("a"), node("b", "a"))
	require.Equal(t, want, flow.In("nowhere"))
	require.Equal(t, want, flow.In(""))
}

func TestATimeoutIsThirtySecondsUnlessWritten(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[float64]time.Duration{0: 30 * time.Second, 0.25: 250 * time.Millisecond, 604800: 7 * 24 * time.Hour} {
		step := dag.Step{TimeoutSeconds: seconds}
		require.Equal(t, want, step.Timeout())
	}
}

func TestATemplateIsNamedAsPeopleWriteIt(t *testing.T) {
	t.Parallel()
	flow := template()
	require.Equal(t, "test/flow@1.0.0", flow.ID())
}

func TestEqualTemplatesHaveEqualBytesAndReadBackAsTheyWere(t *testing.T) {
	t.Parallel()
	build := func(keys ...string) dag.Template {
		flow := template(node("a"), node("b", "a"))
		flow.Metadata = make(map[string]any)
		for _, key := range keys {
			flow.Metadata[key] = "x"
		}
		flow.Steps[1].Typed = true
		flow.Steps[1].Retry = &dag.Retry{Retryable: new(false), MaxAttempts: new(0)}
		return flow
	}
	one, other := build("author", "team", "url"), build("url", "team", "author")
	first, err := one.Canonical()
	require.NoError(t, err)
	second, err := other.Canonical()
	require.NoError(t, err)
	require.Equal(t, string(first), string(second))

	var back dag.Template
	require.NoError(t, json.Unmarshal(first, &back))
	require.Equal(t, one, back)

	changed := build("author", "team", "url")
	changed.Steps[0].TimeoutSeconds = 1
	third, err := changed.Canonical()
	require.NoError(t, err)
	require.NotEqual(t, string(first), string(third))
}
