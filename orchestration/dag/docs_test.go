package dag_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

var quoted = regexp.MustCompile("`([a-z_]+)`")

// tables reads the "From | To" tables of docs/state_machines.md, in order.
func tables(t *testing.T) []map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/state_machines.md")
	require.NoError(t, err)
	var found []map[string][]string
	reading := false
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "| From | To |"):
			found, reading = append(found, make(map[string][]string)), true
		case !strings.HasPrefix(line, "|"):
			reading = false
		case reading && strings.HasPrefix(line, "| `"):
			cells := strings.Split(line, "|")
			from := quoted.FindStringSubmatch(cells[1])[1]
			found[len(found)-1][from] = []string{}
			for _, to := range quoted.FindAllStringSubmatch(cells[2], -1) {
				found[len(found)-1][from] = append(found[len(found)-1][from], to[1])
			}
		}
	}
	return found
}

func TestTheDocumentedStateMachinesAreTheCodes(t *testing.T) {
	t.Parallel()
	documented := tables(t)
	require.Len(t, documented, 2)
	tasks, steps := make(map[string][]string), make(map[string][]string)
	for _, from := range dag.TaskStates() {
		tasks[string(from)] = []string{}
		for _, to := range dag.TaskStates() {
			if from.CanBecome(to) {
				tasks[string(from)] = append(tasks[string(from)], string(to))
			}
		}
	}
	for _, from := range dag.StepStates() {
		steps[string(from)] = []string{}
		for _, to := range dag.StepStates() {
			if from.CanBecome(to) {
				steps[string(from)] = append(steps[string(from)], string(to))
			}
		}
	}
	for i, machine := range []map[string][]string{tasks, steps} {
		require.Len(t, documented[i], len(machine))
		for from, to := range machine {
			require.ElementsMatch(t, to, documented[i][from], "from %s", from)
		}
	}
}
