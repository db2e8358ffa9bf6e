// Package reference holds the reference workflows: arithmetic on graphs of four shapes, the fulfilment of an order, and steps
// that fail in every way. They are what `tasker serve` runs when it is given nothing else, and the acceptance data of the
// engine: for every input there is one exact result, which README.md lists.
package reference

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"time"

	"github.com/tasker-systems/tasker-go"
)

// files holds one template a file, below a folder named after its namespace.
//
//go:embed templates
var files embed.FS

const root = "templates"

// Templates returns the workflows' templates, in order of namespace and name.
func Templates() ([]tasker.Template, error) {
	below, err := fs.Sub(files, root)
	if err != nil {
		return nil, fmt.Errorf("open the embedded templates: %w", err)
	}
	return tasker.LoadTemplatesFS(below, "examples/reference/"+root)
}

// Handlers returns the functions that the templates call, by callable.
func Handlers() map[string]tasker.HandlerFunc {
	all := arithmetic()
	maps.Copy(all, orders{now: time.Now}.handlers())
	maps.Copy(all, failures())
	return all
}

// Namespaces returns the namespaces of the templates, sorted.
func Namespaces() []string {
	folders, err := files.ReadDir(root)
	if err != nil {
		panic(fmt.Sprintf("reference: read the embedded templates: %v", err)) // they are compiled in
	}
	names := make([]string, len(folders))
	for i, folder := range folders {
		names[i] = folder.Name()
	}
	return names
}
