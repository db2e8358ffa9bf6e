package dag_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// noon is when every table test happens: dag has no clock, so any moment does.
var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// node is a valid step.
func node(name string, parents ...string) dag.Step {
	return dag.Step{Name: name, Handler: dag.Handler{Callable: "test." + name}, Dependencies: parents}
}

// template is a valid template, if its steps are.
func template(steps ...dag.Step) dag.Template {
	return dag.Template{Name: "flow", Namespace: "test", Version: "1.0.0", Steps: steps}
}

func compile(t require.TestingT, template dag.Template) *dag.Graph {
	graph, err := dag.Compile(template)
	require.NoError(t, err)
	return graph
}

// pair is left and right, then join once both succeeded.
func pair(t require.TestingT, onFailure dag.OnFailure) *dag.Graph {
	flow := template(node("left"), node("right"), node("join", "left", "right"))
	flow.Lifecycle.OnFailure = onFailure
	for i := range flow.Steps {
		flow.Steps[i].Retry = &dag.Retry{Jitter: new(0.0)}
	}
	return compile(t, flow)
}

// plan decides about an event that nothing speaks against.
func plan(t *testing.T, s dag.Snapshot, event dag.Event) dag.Plan {
	t.Helper()
	decided, err := dag.Decide(s, event, noon)
	require.NoError(t, err)
	return decided
}

// refusal is the reason why an operator's event was refused.
func refusal(t *testing.T, s dag.Snapshot, event dag.Event) string {
	t.Helper()
	decided, err := dag.Decide(s, event, noon)
	var conflict *dag.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, dag.Plan{}, decided, "a refused event has no plan")
	require.EqualError(t, err, conflict.Reason)
	return conflict.Reason
}

// succeeded and failed are batches of one result.
func succeeded(step string) dag.Finished {
	return dag.Finished{Results: []dag.Result{{Step: step}}}
}

func failed(step string, permanent bool) dag.Finished {
	return dag.Finished{Results: []dag.Result{{Step: step, Failure: &dag.Failure{Type: "handler_error", Permanent: permanent}}}}
}

// changesOf is the plan's changes by step.
func changesOf(t *testing.T, p *dag.Plan) map[string]dag.StepChange {
	t.Helper()
	changes := make(map[string]dag.StepChange, len(p.Steps))
	for _, c := range p.Steps {
		require.NotContains(t, changes, c.Step, "a step is changed at most once")
		changes[c.Step] = c
	}
	return changes
}
