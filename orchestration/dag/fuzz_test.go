package dag_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// written reads bytes as a graph: the number of steps, then pairs of a child and its parent. Anything may come of it: cycles,
// steps that depend on themselves, dependencies named twice.
func written(data []byte) dag.Template {
	if len(data) == 0 {
		return template()
	}
	steps := make([]dag.Step, 1+int(data[0])%24)
	for i := range steps {
		steps[i] = node(fmt.Sprint("s", i))
	}
	for i := 1; i+1 < len(data); i += 2 {
		child, parent := &steps[int(data[i])%len(steps)], int(data[i+1])%len(steps)
		child.Dependencies = append(child.Dependencies, steps[parent].Name)
	}
	return template(steps...)
}

// reachable is the naive closure: reachable[i][j] says that i is above j. Dependencies on oneself are another problem.
func reachable(steps []dag.Step) [][]bool {
	closure := make([][]bool, len(steps))
	for i := range closure {
		closure[i] = make([]bool, len(steps))
		for j := range steps {
			closure[i][j] = i != j && slices.Contains(steps[j].Dependencies, steps[i].Name)
		}
	}
	for k := range steps {
		for i := range steps {
			for j := range steps {
				closure[i][j] = closure[i][j] || (closure[i][k] && closure[k][j])
			}
		}
	}
	return closure
}

// mistakes counts what is wrong with the edges, by code.
func mistakes(steps []dag.Step, above [][]bool) map[string]int {
	count := make(map[string]int)
	for i := range steps {
		seen := make(map[string]bool)
		for _, name := range steps[i].Dependencies {
			if name == steps[i].Name {
				count["SELF_DEPENDENCY"]++
			} else if seen[name] {
				count["DUPLICATE_DEPENDENCY"]++
			}
			seen[name] = true
		}
	}
	for i := range steps {
		if above[i][i] {
			count["CYCLE_DETECTED"] = 1
		}
	}
	if len(steps) == 0 {
		count["NO_STEPS"] = 1
	}
	return count
}

func FuzzDAG(f *testing.F) {
	for _, seed := range [][]byte{
		{},
		{0},
		{0, 0, 0},
		{1, 1, 0},
		{1, 1, 0, 0, 1},
		{1, 1, 0, 1, 0},
		{3, 1, 0, 2, 0, 3, 1, 3, 2},
		{4, 1, 0, 2, 1, 1, 2, 3, 2, 4, 4},
		{23, 9, 3, 3, 7, 7, 9, 1, 9},
		{5, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		flow := written(data)
		above := reachable(flow.Steps)
		found := make(map[string]int)
		for _, p := range dag.Validate(&flow) {
			found[p.Code]++
			if p.Code == "CYCLE_DETECTED" {
				requireCycle(t, flow.Steps, p.Message)
			}
		}
		require.Equal(t, mistakes(flow.Steps, above), found)
		graph, err := dag.Compile(flow)
		if len(found) > 0 {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		requireGraph(t, graph, above)
		s := newStore(t, flow)
		s.begin(dag.Start{})
		finish(s)
		newModel(&flow).check(s)
		require.Equal(t, dag.TaskComplete, s.task.State)
	})
}

// requireCycle follows the cycle that is shown to the author of the template.
func requireCycle(t *testing.T, steps []dag.Step, message string) {
	t.Helper()
	cycle := strings.Split(strings.TrimPrefix(message, "steps wait for each other: "), " → ")
	require.Greater(t, len(cycle), 2)
	require.Equal(t, cycle[0], cycle[len(cycle)-1])
	for i, name := range cycle[1:] {
		at := slices.IndexFunc(steps, func(s dag.Step) bool { return s.Name == name })
		require.GreaterOrEqual(t, at, 0, name)
		require.Contains(t, steps[at].Dependencies, cycle[i], message)
		require.NotContains(t, cycle[1:i+1], name, "%s: a step is shown once", message)
	}
}

func requireGraph(t *testing.T, graph *dag.Graph, above [][]bool) {
	t.Helper()
	steps, order := graph.Template.Steps, graph.Order()
	require.Len(t, order, len(steps))
	sinks := 0
	for j := range steps {
		name := steps[j].Name
		var ancestors, parents []string
		for i := range steps {
			if above[i][j] {
				ancestors = append(ancestors, steps[i].Name)
				require.Less(t, slices.Index(order, steps[i].Name), slices.Index(order, name), "parents first")
			}
		}
		parents = append(parents, steps[j].Dependencies...)
		require.ElementsMatch(t, ancestors, graph.Ancestors(name))
		require.ElementsMatch(t, parents, graph.Parents(name))
		for _, parent := range parents {
			require.Contains(t, graph.Children(parent), name)
		}
		if !slices.Contains(above[j], true) {
			sinks++
			require.Empty(t, graph.Children(name))
		}
	}
	require.Equal(t, sinks, graph.Sinks())
}

// finish runs a task in which everything succeeds.
func finish(s *store) {
	for ready := s.in(dag.StepEnqueued); len(ready) > 0; ready = s.in(dag.StepEnqueued) {
		for _, name := range ready {
			s.claim(name)
			s.advance(item{execution: execution{name, s.steps[name].claimNo}, outcome: &outcome{}})
		}
	}
}

func FuzzBackoff(f *testing.F) {
	f.Add(uint8(0), uint32(1000), uint32(30_000), 1, 0.1, 0.0)
	f.Add(uint8(1), uint32(3_600_000), uint32(3_600_000), math.MaxInt, 1.0, -1.0)
	f.Add(uint8(2), uint32(1), uint32(3_600_000), 33, 0.5, 1.0)
	f.Add(uint8(3), uint32(0), uint32(0), 0, 0.0, 0.7)
	f.Add(uint8(4), uint32(77), uint32(78), math.MinInt, 1.0, 0.999)
	strategies := []dag.Backoff{dag.BackoffNone, dag.BackoffLinear, dag.BackoffExponential, dag.BackoffFibonacci, ""}
	const hour = 3_600_001 // what Validate allows, in milliseconds
	f.Fuzz(func(t *testing.T, strategy uint8, base, limit uint32, failures int, share, jitter float64) {
		policy := dag.Policy{
			Backoff: strategies[int(strategy)%len(strategies)], Base: time.Duration(base%hour) * time.Millisecond,
			Max: time.Duration(limit%hour) * time.Millisecond, Jitter: unit(share),
		}
		still := policy.Delay(failures, 0)
		require.GreaterOrEqual(t, still, time.Duration(0))
		require.LessOrEqual(t, still, policy.Max)
		if failures < math.MaxInt {
			require.LessOrEqual(t, still, policy.Delay(failures+1, 0), "a later failure never waits less")
		}
		if policy.Backoff != dag.BackoffNone {
			require.GreaterOrEqual(t, still, min(policy.Base, policy.Max))
		}
		moved := policy.Delay(failures, math.Copysign(unit(jitter), jitter))
		require.GreaterOrEqual(t, moved, time.Duration(0))
		require.LessOrEqual(t, math.Abs(float64(moved-still)), float64(still)*policy.Jitter+1)
	})
}

// unit folds any number into 0 to 1.
func unit(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	if x = math.Abs(x); x <= 1 {
		return x
	}
	return x - math.Floor(x)
}
