package tasker_test

import (
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
)

// FuzzParseTemplate: whatever comes is refused with its place or can be stored, soon.
func FuzzParseTemplate(f *testing.F) {
	files := os.DirFS("examples/reference/templates")
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		f.Add(text)
		return err
	})
	require.NoError(f, err)
	for _, text := range []string{
		"", valid, "- - - - ? - a", `["]",["]",[`, "a: &a [*a]", "<<: {a: b}", "? [a]\n: {b: !!x c}", "metadata: {\"\\0\": .nan}", "\ufeff%YAML 1.2\n---\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		began := time.Now()
		template, err := tasker.ParseTemplate("fuzz.yaml", text)
		require.Less(t, time.Since(began), 5*time.Second)
		if err == nil {
			require.NotNil(t, template)
			requireStable(t, text)
			return
		}
		var refused *tasker.TemplateError
		require.ErrorAs(t, err, &refused)
		require.NotEmpty(t, refused.Problems)
		for _, problem := range refused.Problems {
			require.Regexp(t, `^\d+:\d+: `, problem)
		}
	})
}
