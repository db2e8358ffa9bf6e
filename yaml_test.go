package tasker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// valid is a template without a mistake, five lines long.
const valid = `name: flow
namespace_name: shop
version: 1.0.0
steps:
  - {name: pay, handler: {callable: shop.pay}}
`

func TestWhatATemplateMayNotBeIsRefusedAtItsPlace(t *testing.T) {
	t.Parallel()
	nested := func(open, shut string, n int) string { return strings.Repeat(open, n) + "1" + strings.Repeat(shut, n) }
	var block strings.Builder
	for i := range 70 {
		block.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	for name, test := range map[string]struct{ text, want string }{
		"an unknown key":               {valid + "nmae: x\n", `6:1: unknown field "nmae"`},
		"an unknown key of a step":     {strings.Replace(valid, "handler", "hander", 1), `5:17: unknown field "hander"`},
		"a key of Go's alone":          {valid + "  - {name: ship, typed: true, handler: {callable: x}}\n", `6:18: unknown field "typed"`},
		"a key given twice":            {valid + "name: other\n", `6:1: mapping key "name" already defined at [1:1]`},
		"a key given twice, quoted":    {valid + "\"name\": other\n", `6:1: mapping key "name" already defined at [1:1]`},
		"a key given twice, deep down": {valid + "metadata: {a: {b: 1, b: 2}}\n", `6:22: mapping key "b" already defined at [6:16]`},
		"an anchor":                    {valid + "metadata: {a: &x 1}\n", "6:15: anchors are refused: write the value out"},
		"an anchor on a key":           {valid + "metadata: {&x a: 1}\n", "6:12: anchors are refused: write the value out"},
		"an anchor on a complex key":   {valid + "metadata:\n  ? &x a\n  : 1\n", "7:5: anchors are refused: write the value out"},
		"an alias":                     {valid + "metadata: {a: [*x]}\n", "6:16: aliases are refused: write the value out"},
		"a merge key":                  {valid + "metadata:\n  <<: {a: 1}\n", "7:3: merge keys are refused: write the value out"},
		"a tag":                        {valid + "metadata: {a: !!str 1}\n", "6:15: tags are refused: write a plain value"},
		"a tag on a key":               {valid + "metadata: {!!str a: 1}\n", "6:12: tags are refused: write a plain value"},
		"a tag of one's own":           {valid + "metadata: !secret {a: 1}\n", "6:11: tags are refused: write a plain value"},
		"a number JSON does not have":  {valid + "metadata: {a: [1, .inf]}\n", "6:19: infinity and NaN are refused: JSON has no such numbers"},
		"not a number":                 {valid + "metadata: {a: .nan}\n", "6:15: infinity and NaN are refused: JSON has no such numbers"},
		"a zero byte":                  {valid + `description: "a\0b"` + "\n", "6:14: the character U+0000 is refused: Postgres cannot store it"},
		"brackets":                     {valid + "metadata: {a: " + nested("[", "]", 70) + "}\n", "6:78: nested deeper than 64"},
		"brackets behind closed ones":  {"# " + strings.Repeat("]", 100) + "\n" + nested("[", "]", 70), "2:65: nested deeper than 64"},
		"entries on one line":          {strings.Repeat("- ", 100_000) + "1", "1:129: nested deeper than 64"},
		"mappings":                     {block.String(), "66:66: nested deeper than 64"},
		"too many bytes":               {valid + strings.Repeat("# comment\n", 30_000), "1:1: the file has 300101 bytes, more than the 262144 allowed"},
		"two documents":                {valid + "---\n" + valid, "1:1: the file has 2 documents, a template is one"},
		"nothing":                      {"", "1:1: the file is empty"},
		"only a comment":               {"# later\n", "1:1: the file is empty"},
		"a sequence":                   {"- a\n", "1:1: sequence was used where mapping is expected"},
		"a word":                       {"flow\n", "1:1: string was used where mapping is expected"},
		"null":                         {"null\n", "1:1: null was used where mapping is expected"},
		"a sequence for a name":        {strings.Replace(valid, "flow", "[flow]", 1), "1:7: sequence was used where string is expected"},
		"a mapping for steps":          {"steps: {a: 1}\n", "1:8: mapping was used where sequence is expected"},
		"a word for a step":            {"steps:\n  - pay\n", "2:5: string was used where mapping is expected"},
		"a word for a number":          {strings.Replace(valid, "pay,", "pay, timeout_seconds: soon,", 1), "5:34: string was used where number is expected"},
		"a fraction of an attempt":     {strings.Replace(valid, "pay,", "pay, retry: {max_attempts: 1.5},", 1), "5:39: max_attempts must be a whole number"},
		"a word for yes or no":         {strings.Replace(valid, "pay,", "pay, retry: {retryable: maybe},", 1), "5:36: string was used where bool is expected"},
		"a quote that does not end":    {"name: \"flow\n", "1:7: could not find end character of double-quoted text"},
		"a tabulator":                  {"name: a\n\tversion: b\n", "2:1: found character '\t' that cannot start any token"},
		"a colon too many":             {"name: a: b\n", "1:7: mapping value is not allowed in this context"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tasker.ParseTemplate("flow.yaml", []byte(test.text))
			var template *tasker.TemplateError
			require.ErrorAs(t, err, &template)
			require.Equal(t, "flow.yaml:"+test.want, err.Error())
		})
	}
}

func TestEveryProblemOfAGraphIsFoundAtItsLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200)
	for name, test := range map[string]struct{ replace, with, want string }{
		"BAD_NAMESPACE":         {"shop\n", "Shop\n", `2:17: namespace "Shop" must be lower case letters, digits and single underscores`},
		"NAMESPACE_TOO_LONG":    {"shop\n", strings.Repeat("s", 30) + "\n", "2:17: namespace "},
		"EMPTY_NAME":            {"version: 1.0.0\n", "", "1:1: version is missing"},
		"EMPTY_NAME of a step":  {"name: pay, ", "", "5:5: step name is missing"},
		"NAME_TOO_LONG":         {"flow", long, "1:7: template name has 200 characters, at most 64 are allowed"},
		"BAD_NAME":              {"pay", `"p y"`, `5:12: step name "p y" must be letters`},
		"BAD_IDENTITY_STRATEGY": {"steps:", "identity_strategy: none\nsteps:", `4:20: identity strategy "none" is not one of strict, caller_provided, always_unique`},
		"BAD_ON_FAILURE":        {"steps:", "lifecycle: {on_failure: panic}\nsteps:", `4:25: on_failure "panic" is not one of error, block`},
		"NO_STEPS":              {"steps:\n  - {name: pay, handler: {callable: shop.pay}}", "steps: []", "4:8: a template needs at least one step"},
		"NO_STEPS at all":       {"steps:\n  - {name: pay, handler: {callable: shop.pay}}", "", "1:1: a template needs at least one step"},
		"DUPLICATE_STEP_NAME":   {"steps:", "steps:\n  - {name: pay, handler: {callable: x}}", `6:12: step "pay" is already step 1; names are unique in a template`},
		"UNSUPPORTED_STEP_TYPE": {"pay, ", "pay, type: batchable, ", `5:23: step type "batchable" is not supported; only standard steps are`},
		"EMPTY_CALLABLE":        {"callable: shop.pay", `callable: ""`, `5:37: step "pay" needs a handler.callable of 1 to 500 characters`},
		"BAD_TIMEOUT":           {"pay, ", "pay, timeout_seconds: -1, ", "5:34: timeout_seconds -1 is outside 0 to 604800"},
		"BAD_RETRY attempts":    {"pay, ", "pay, retry: {max_attempts: 101}, ", "5:39: max_attempts 101 is outside 0 to 100"},
		"BAD_RETRY backoff":     {"pay, ", "pay, retry: {backoff: cubic}, ", `5:34: backoff "cubic" is not one of none, linear, exponential, fibonacci`},
		"BAD_RETRY base":        {"pay, ", "pay, retry: {backoff_base_ms: -1}, ", "5:42: backoff_base_ms -1 is outside 0 to 3600000"},
		"BAD_RETRY jitter":      {"pay, ", "pay, retry: {jitter: 2}, ", "5:33: jitter 2 is outside 0 to 1"},
		"SELF_DEPENDENCY":       {"pay, ", "pay, dependencies: [pay], ", `5:32: step "pay" depends on itself`},
		"MISSING_DEP_REF":       {"pay, ", "pay, dependencies: [pai], ", `5:32: there is no step "pai"; did you mean "pay"?`},
		"DUPLICATE_DEPENDENCY":  {"steps:", "steps:\n  - {name: a, handler: {callable: x}, dependencies: [pay, pay]}", `5:59: step "a" names "pay" twice`},
		"CYCLE_DETECTED":        {"pay, ", "pay, dependencies: [b], handler: {callable: x}}\n  - {name: b, dependencies: [pay], ", "5:3: steps wait for each other: pay → b → pay"},
		"MISSING_STEP_REF":      {"steps:", "environments:\n  test:\n    steps:\n      - {name: pey}\nsteps:", `7:16: there is no step "pey"; did you mean "pay"?; ALL means every step`},
		"BAD_TIMEOUT there":     {"steps:", "environments: {test: {steps: [{name: ALL, timeout_seconds: 1e9}]}}\nsteps:", "4:60: timeout_seconds 1e+09 is outside 0 to 604800"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, _, _ := strings.Cut(name, " ")
			require.Contains(t, valid, test.replace)
			_, err := tasker.ParseTemplate("flow.yaml", []byte(strings.Replace(valid, test.replace, test.with, 1)))
			require.Error(t, err)
			require.Contains(t, err.Error(), "flow.yaml:"+test.want)
			require.Contains(t, err.Error(), "("+code+")")
			require.NotContains(t, err.Error(), "\n", "one mistake, one problem")
		})
	}
}

func TestProblemsComeInTheOrderOfTheirLines(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer("pay,", "pay, dependencies: [a, b],", "1.0.0", "1 0", "flow", "f l").Replace(valid)
	_, err := tasker.ParseTemplate("flow.yaml", []byte(text))
	var template *tasker.TemplateError
	require.ErrorAs(t, err, &template)
	var places []string
	for _, problem := range template.Problems {
		places = append(places, strings.SplitN(problem, ": ", 2)[0])
	}
	require.Equal(t, []string{"1:7", "3:10", "5:32", "5:35"}, places)
}

func TestAByteOrderMarkAndWindowsLinesAreFine(t *testing.T) {
	t.Parallel()
	template, err := tasker.ParseTemplate("flow.yaml", []byte("\ufeff"+strings.ReplaceAll(valid, "\n", "\r\n")))
	require.NoError(t, err)
	definition := template.Definition()
	require.Equal(t, "shop/flow@1.0.0", definition.ID())
}

func TestEnvironmentsOfAFileChangeItsSteps(t *testing.T) {
	t.Parallel()
	template, err := tasker.ParseTemplate("flow.yaml", []byte(valid+`
environments:
  test:
    steps:
      - {name: ALL, timeout_seconds: 5, retry: {max_attempts: 1}}
      - {name: pay, handler: {callable: "", initialization: {dry: true}}}
`))
	require.NoError(t, err)
	definition := template.Definition()
	in := definition.In("test")
	require.InDelta(t, 5, in.Steps[0].TimeoutSeconds, 0)
	require.Equal(t, 1, in.Steps[0].Policy().MaxAttempts)
	require.Equal(t, dag.Handler{Callable: "shop.pay", Initialization: map[string]any{"dry": true}}, in.Steps[0].Handler)
}

func TestATemplateReadsBackFromItsJSONAsItWas(t *testing.T) {
	t.Parallel()
	text := valid + `description: "quotes \" and ünïcode \u2028"
metadata: {int: 9007199254740993, float: 0.1, hex: 0x1f, date: 2020-01-02, yes: yes, null: ~, 1: one, nested: {2: [3, {4: 5}]}}
input_schema: {type: object, properties: {n: {type: integer, maximum: 9223372036854775807}}}
environments: {test: {steps: [{name: ALL, retry: {jitter: 0.0, retryable: false}}]}}
`
	requireStable(t, []byte(text))
}

// requireStable says that what was parsed survives being stored: the hash of its JSON is what tells versions apart.
func requireStable(t *testing.T, text []byte) {
	t.Helper()
	template, err := tasker.ParseTemplate("flow.yaml", text)
	require.NoError(t, err)
	definition := template.Definition()
	first, err := definition.Canonical()
	require.NoError(t, err)
	var stored tasker.Definition
	decoder := json.NewDecoder(bytes.NewReader(first))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&stored))
	second, err := stored.Canonical()
	require.NoError(t, err)
	require.Equal(t, string(first), string(second))
	_, err = tasker.FromDefinition(stored)
	require.NoError(t, err)
}

func TestTemplatesAreLoadedFromAFolderAndItsSubfolders(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	named := func(name string) []byte { return []byte(strings.Replace(valid, "flow", name, 1)) }
	for path, text := range map[string][]byte{
		filepath.Join(dir, "b.yaml"): named("b"), filepath.Join(dir, "a", "deeper", "a.yml"): named("a"),
		filepath.Join(dir, "README.md"): []byte("not a template"), filepath.Join(outside, "secret.yaml"): named("secret"),
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, text, 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder.yaml"), 0o755))
	require.NoError(t, os.Symlink(filepath.Join(outside, "secret.yaml"), filepath.Join(dir, "link.yaml")))
	require.NoError(t, os.Symlink(outside, filepath.Join(dir, "linked")))
	templates, err := tasker.LoadTemplates(dir)
	require.NoError(t, err)
	var names []string
	for _, template := range templates {
		names = append(names, template.Definition().Name)
	}
	require.Equal(t, []string{"a", "b"}, names, "in order of path, without what links lead to")

	none, err := tasker.LoadTemplates(filepath.Join(dir, "absent"))
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = tasker.LoadTemplates(filepath.Join(dir, "b.yaml"))
	require.ErrorContains(t, err, "not a directory")
}

// closed is a file system with a file that may not be read.
type closed struct{ fstest.MapFS }

func (c closed) Open(name string) (fs.File, error) {
	if name == "closed.yaml" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return c.MapFS.Open(name)
}

func TestMistakesOfSeveralFilesAreReportedTogether(t *testing.T) {
	t.Parallel()
	templates, err := tasker.LoadTemplatesFS(closed{fstest.MapFS{
		"a.yaml": {Data: []byte(valid + "x: 1\n")}, "b.yaml": {Data: []byte(valid)}, "closed.yaml": {Data: []byte(valid)},
		"d/e.yaml": {Data: []byte("{")}, "large.yaml": {Data: bytes.Repeat([]byte("#"), 300_000)},
	}}, "templates")
	require.Len(t, templates, 1)
	require.ErrorIs(t, err, fs.ErrPermission)
	for _, want := range []string{
		`templates/a.yaml:6:1: unknown field "x"`, "open template: open closed.yaml", "templates/d/e.yaml:1:1: ",
		"templates/large.yaml:1:1: the file has 262145 bytes",
	} {
		require.ErrorContains(t, err, want)
	}
	require.Len(t, errors.Unwrap(fmt.Errorf("%w", err)).(interface{ Unwrap() []error }).Unwrap(), 4)

	many := make(fstest.MapFS)
	for i := range 1001 {
		many[fmt.Sprintf("%04d.yaml", i)] = &fstest.MapFile{Data: []byte(valid)}
	}
	_, err = tasker.LoadTemplatesFS(many, "templates")
	require.ErrorContains(t, err, "more than 1000 template files below templates")
}
