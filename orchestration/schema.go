package orchestration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// inputSchema is a compiled JSON Schema; nil accepts anything.
type inputSchema struct{ schema *jsonschema.Schema }

// ContextError says which fields of a task's context break its template's input_schema.
type ContextError struct {
	// Fields lists "path: what is wrong", in order of path.
	Fields []string
}

// Error lists the fields.
func (e *ContextError) Error() string {
	return "context does not fit the template's input_schema: " + strings.Join(e.Fields, "; ")
}

// errNoReference keeps schemas self-contained: nothing is ever fetched.
var errNoReference = errors.New("input_schema may not refer to other documents")

type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errNoReference }

func compileSchema(definition map[string]any) (*inputSchema, error) {
	if len(definition) == 0 {
		return nil, nil //nolint:nilnil // no schema is a valid schema: it accepts everything
	}
	text, err := json.Marshal(definition)
	if err != nil {
		return nil, fmt.Errorf("encode input_schema: %w", err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read input_schema: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noLoader{})
	if err := compiler.AddResource("input_schema.json", document); err != nil {
		return nil, fmt.Errorf("read input_schema: %w", err)
	}
	schema, err := compiler.Compile("input_schema.json")
	if err != nil {
		return nil, fmt.Errorf("input_schema is not a valid JSON Schema: %w", err)
	}
	return &inputSchema{schema}, nil
}

// CheckInputSchema verifies that a template's input_schema is a JSON Schema that stands alone.
func CheckInputSchema(definition map[string]any) error {
	_, err := compileSchema(definition)
	return err
}

// CheckContext verifies a task's context against the template's input_schema; the error is a *ContextError. No template
// accepts anything.
func (t *Template) CheckContext(context []byte) error {
	if t == nil || t.schema == nil {
		return nil
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(context))
	if err != nil {
		return &ContextError{Fields: []string{"context is not JSON: " + err.Error()}}
	}
	err = t.schema.schema.Validate(value)
	if invalid, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		fields := leaves(invalid, nil)
		sort.Strings(fields)
		return &ContextError{Fields: fields}
	}
	if err != nil {
		return &ContextError{Fields: []string{err.Error()}}
	}
	return nil
}

var english = message.NewPrinter(language.English)

// leaves collects the innermost causes: the outer ones only say that something below is wrong.
func leaves(e *jsonschema.ValidationError, all []string) []string {
	if len(e.Causes) == 0 {
		path := strings.Join(append([]string{"context"}, e.InstanceLocation...), ".")
		return append(all, path+": "+e.ErrorKind.LocalizedString(english))
	}
	for _, cause := range e.Causes {
		all = leaves(cause, all)
	}
	return all
}
