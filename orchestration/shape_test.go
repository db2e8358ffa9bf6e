package orchestration_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// shape is a graph in short form: a step and what it depends on, a line each.
type shape struct {
	name  string
	steps [][]string
}

// shapes are the graphs that the crash tests run on.
func shapes() []shape {
	return []shape{
		{"lone", [][]string{{"a"}}},
		{"chain", [][]string{{"a"}, {"b", "a"}, {"c", "b"}, {"d", "c"}}},
		{"diamond", [][]string{{"a"}, {"b", "a"}, {"c", "a"}, {"d", "b", "c"}}},
		{"fan", [][]string{{"a"}, {"b", "a"}, {"c", "a"}, {"d", "a"}, {"e", "a"}, {"f", "b", "c", "d", "e"}}},
		{"forest", [][]string{{"a"}, {"b"}, {"c", "a", "b"}, {"d", "a"}, {"e", "b"}}},
	}
}

func (s shape) template() dag.Template {
	base, jitter := int64(1000), 0.0
	t := dag.Template{Namespace: "toy", Name: s.name, Version: "1", Identity: dag.IdentityAlwaysUnique}
	for _, line := range s.steps {
		t.Steps = append(t.Steps, dag.Step{
			Name: line[0], Dependencies: line[1:], Handler: dag.Handler{Callable: "toy." + line[0]},
			Retry: &dag.Retry{BackoffBaseMS: &base, Jitter: &jitter},
		})
	}
	return t
}

// wish is the context of a toy task: how the handlers are to behave.
type wish struct {
	// Fail is how many attempts of each step fail.
	Fail int `json:"fail,omitempty"`
	// Broken is a step that fails for good until it is mended.
	Broken string `json:"broken,omitempty"`
	// Key makes contexts different.
	Key string `json:"key,omitempty"`
}

// handle is the toy handler of every step. The result is a fingerprint of the step and of all results it was given, so that a
// mixed-up, stale or lost result changes what comes out at the end.
func handle(step *orchestration.Claimed, mended bool) orchestration.Outcome {
	var w wish
	if err := json.Unmarshal(step.Context, &w); err != nil {
		return orchestration.Outcome{Failure: &dag.Failure{Type: "handler_error", Message: err.Error(), Permanent: true}}
	}
	if w.Broken == step.Name && !mended {
		return orchestration.Outcome{Failure: &dag.Failure{Type: "handler_error", Message: "broken", Permanent: true}}
	}
	if step.Attempt <= w.Fail {
		return orchestration.Outcome{Failure: &dag.Failure{Type: "handler_error", Message: "not yet"}}
	}
	sum := fnv.New64()
	parents := step.Template.Graph.Parents(step.Name)
	slices.Sort(parents)
	for _, parent := range parents {
		fmt.Fprintf(sum, "%s=%s;", parent, step.Results[parent])
	}
	// As jsonb writes it: a continued step is given its parent's result as the handler returned it, others as it is stored.
	return orchestration.Outcome{Result: json.RawMessage(fmt.Sprintf(`{"sum": "%x", "step": %q}`, sum.Sum64(), step.Name))}
}

// reference is what the results of a shape must be, worked out without an engine.
func (s shape) reference() map[string]string {
	graph, err := dag.Compile(s.template())
	if err != nil {
		panic(err)
	}
	results := make(map[string]string)
	for _, name := range graph.Order() {
		given := make(map[string]json.RawMessage)
		for _, parent := range graph.Parents(name) {
			given[parent] = json.RawMessage(results[parent])
		}
		step := &orchestration.Claimed{
			Name: name, Attempt: 1, Context: json.RawMessage("{}"), Results: given,
			Template: &orchestration.Template{Graph: graph},
		}
		results[name] = string(handle(step, true).Result)
	}
	return results
}
