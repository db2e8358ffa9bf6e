package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
)

var update = flag.Bool("update", false, "write the golden files of testdata anew")

// golden compares output with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestTemplatesAreListedShownAndDrawn(t *testing.T) {
	t.Parallel()
	s := newShell(t, dbtest.URL(t))
	s.serve("--role", "orchestrator")
	golden(t, "template_list.txt", s.ok("template", "list"))
	var list []tasker.TemplateSummary
	s.decode(&list, "template", "list", "-o", "json")
	require.Len(t, list, 15)
	for _, name := range []string{"rust_e2e_tree/hierarchical_tree", "rust_e2e_mixed_dag/complex_dag@1.0.0"} {
		base, _, _ := strings.Cut(filepath.Base(name), "@")
		golden(t, base+".mermaid", s.ok("template", "graph", name, "--format", "mermaid"))
		golden(t, base+".txt", s.ok("template", "graph", name))
	}
	var definition tasker.Definition
	s.decode(&definition, "template", "show", "rust_e2e_linear/mathematical_sequence@1.0.0")
	require.Equal(t, "rust_e2e_linear/mathematical_sequence@1.0.0", definition.ID())
	require.Len(t, definition.Steps, 4)

	for _, args := range [][]string{{"show", "rust_e2e_linear/nothing"}, {"show", "rust_e2e_linear/mathematical_sequence@2"}, {"graph", "a/b"}} {
		require.Contains(t, s.fails(exitNotFound, append([]string{"template"}, args...)...), "template is not registered")
	}
	require.Contains(t, s.fails(exitUsage, "template", "show", "linear"), "is not NAMESPACE/NAME[@VERSION] or a YAML file")
	require.Contains(t, s.fails(exitUsage, "template", "graph", "rust_e2e_tree/hierarchical_tree", "--format", "dot"), "not one of text, mermaid")
}

func TestTemplatesAreValidatedWithoutADatabase(t *testing.T) {
	t.Parallel()
	s := newShell(t, "postgres://nobody@127.0.0.1:1/none")
	s.write("slow.yaml", slow)
	s.write("cycle.yaml", strings.Replace(slow, "  - name: one\n", "  - name: one\n    dependencies: [two]\n", 1))
	s.write("typo.yml", strings.Replace(slow, "dependencies", "dependences", 1))
	require.Equal(t, "✓ slow.yaml: test_slow/slow@1.0.0, 2 steps\n", s.ok("template", "validate", "slow.yaml"))
	require.Equal(t, "1  one\n2  two  ← one\n", s.ok("template", "graph", "slow.yaml"))
	require.Equal(t, "graph TD\n    s0[\"one\"]\n    s1[\"two\"]\n    s0 --> s1\n", s.ok("template", "graph", "slow.yaml", "--format", "mermaid"))

	r := s.tasker("template", "validate", "cycle.yaml", "slow.yaml", "typo.yml", "absent.yaml")
	require.Equal(t, exitUsage, r.code)
	require.Equal(t, "✓ slow.yaml: test_slow/slow@1.0.0, 2 steps\n", r.stdout)
	require.Contains(t, r.stderr, "cycle.yaml:")
	require.Contains(t, r.stderr, "steps wait for each other: one → two → one (CYCLE_DETECTED)")
	require.Contains(t, r.stderr, `typo.yml:12:5: unknown field "dependences"`)
	require.Contains(t, r.stderr, "absent.yaml: no such file or directory")
	require.Contains(t, s.fails(exitUsage, "template", "graph", "cycle.yaml"), "CYCLE_DETECTED")
}

func TestServeRefusesAFolderWithABadTemplate(t *testing.T) {
	t.Parallel()
	s := newShell(t, "postgres://nobody@127.0.0.1:1/none")
	s.write("config/tasks/bad.yaml", "name: bad\n")
	s.write("config/tasks/deeper/worse.yml", "steps: {\n")
	message := s.fails(exitUsage, "serve")
	require.Contains(t, message, "config/tasks/bad.yaml:")
	require.Contains(t, message, "config/tasks/deeper/worse.yml:")
}
