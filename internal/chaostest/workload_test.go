//go:build linux

package chaostest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// input is every task's context.
type input struct {
	// Key makes each task's results its own.
	Key string `json:"key"`
	// N starts a sequence.
	N json.Number `json:"n"`
}

// workload is a template with what its tasks must come to.
type workload struct {
	template tasker.Template
	steps    []dag.Step
	plans    []*plan
}

// hash is a step's result in most workloads: it is right only if all its ancestors' are.
func hash(key, name string, parents []string) string {
	sum := sha256.Sum256([]byte(key + "\n" + name + "\n" + strings.Join(parents, "\n")))
	return hex.EncodeToString(sum[:16])
}

// newWorkload makes a template of one step for each plan; the step's name is its key in names.
func newWorkload(t testing.TB, name string, names []string, plans []*plan) *workload {
	t.Helper()
	w := &workload{plans: plans}
	for i, p := range plans {
		// One attempt more than planned failures: an attempt that a loss used up would end the task in error.
		attempts, base, jitter := p.Fails+1, int64(50), 0.5
		w.steps = append(w.steps, dag.Step{
			Name: names[i], Handler: dag.Handler{Callable: callable, Initialization: map[string]any{"plan": p}}, Dependencies: p.Parents,
			Retry: &dag.Retry{MaxAttempts: &attempts, BackoffBaseMS: &base, Jitter: &jitter},
		})
	}
	w.build(t, name)
	return w
}

func (w *workload) build(t testing.TB, name string) {
	t.Helper()
	template, err := tasker.FromDefinition(tasker.Definition{
		Namespace: namespace, Name: name, Version: "1.0.0", Identity: tasker.IdentityCallerProvided, Steps: w.steps,
	})
	require.NoError(t, err)
	w.template = template
}

// sequence is the reference's mathematical sequence: four squares in a row.
func sequence(t testing.TB) *workload {
	t.Helper()
	names := []string{"linear_step_1", "linear_step_2", "linear_step_3", "linear_step_4"}
	plans := make([]*plan, len(names))
	for i := range names {
		plans[i] = &plan{Square: true, Tx: i == len(names)-1, Work: 5 * time.Millisecond}
		if i > 0 {
			plans[i].Parents = names[i-1 : i]
		}
	}
	return newWorkload(t, "mathematical_sequence", names, plans)
}

// randomDAG is a graph of 5 to most steps, some of which fail at first, and a share of which complete in their own transaction.
func randomDAG(t testing.TB, rng *rand.Rand, name string, most int, longest time.Duration) *workload {
	t.Helper()
	n := 5 + rng.IntN(most-4)
	names, plans := make([]string, n), make([]*plan, n)
	for i := range n {
		names[i] = fmt.Sprintf("s%02d", i)
		plans[i] = &plan{Work: rand64(rng, longest), Tx: rng.IntN(3) == 0}
		if rng.IntN(5) == 0 {
			plans[i].Fails = 1 + rng.IntN(3)
		}
		for _, parent := range rng.Perm(i)[:min(i, rng.IntN(4))] {
			plans[i].Parents = append(plans[i].Parents, names[parent])
		}
	}
	return newWorkload(t, name, names, plans)
}

func rand64(rng *rand.Rand, below time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(below) + 1))
}

// reference computes what every step of a task must return, as JSON.
func (w *workload) reference(in input) map[string]string {
	results := make(map[string]string, len(w.steps))
	for i := range w.steps {
		p := w.plans[i]
		if p.Square {
			exponent := new(big.Int).Exp(big.NewInt(2), big.NewInt(int64(i+1)), nil)
			n, _ := new(big.Int).SetString(in.N.String(), 10)
			results[w.steps[i].Name] = n.Exp(n, exponent, nil).String()
			continue
		}
		parents := make([]string, len(p.Parents))
		for j, parent := range p.Parents {
			parents[j] = strings.Trim(results[parent], `"`)
		}
		results[w.steps[i].Name] = `"` + hash(in.Key, w.steps[i].Name, parents) + `"`
	}
	return results
}

// numberOf is a number of up to 64 bits: its 16th power has a thousand.
func numberOf(rng *rand.Rand) json.Number {
	return json.Number(new(big.Int).SetUint64(rng.Uint64()).String())
}
