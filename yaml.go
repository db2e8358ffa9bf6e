package tasker

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

const (
	maxTemplateBytes = 256 << 10
	maxTemplateDepth = 64
	maxTemplateFiles = 1000
)

// TemplateError is everything wrong with a template file.
type TemplateError struct {
	// File is the file's name.
	File string
	// Problems are "line:column: what is wrong and what to do (CODE)".
	Problems []string
}

// Error lists the problems, one a line, each with the file's name.
func (e *TemplateError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = e.File + ":" + p
	}
	return strings.Join(lines, "\n")
}

// parsed is a template that came from YAML: its handlers stand in Config.Handlers.
type parsed struct{ definition Definition }

func (p *parsed) Definition() Definition           { return p.definition }
func (p *parsed) handlers() map[string]HandlerFunc { return nil }
func (p *parsed) problem() error                   { return nil }

// ParseTemplate reads a template from YAML. Unknown and duplicate keys, anchors and aliases are refused; the error is a
// *TemplateError with every problem found. name is the file's, for messages.
func ParseTemplate(name string, text []byte) (Template, error) {
	if len(text) > maxTemplateBytes {
		problem := fmt.Sprintf("1:1: the file has %d bytes, more than the %d allowed", len(text), maxTemplateBytes)
		return nil, &TemplateError{name, []string{problem}}
	}
	tokens := lexer.Tokenize(strings.TrimPrefix(string(text), "\ufeff")) // a byte order mark, as some editors write
	if deep := tooDeep(tokens); deep != nil {
		at := deep.Position
		return nil, &TemplateError{name, []string{fmt.Sprintf("%d:%d: nested deeper than %d", at.Line, at.Column, maxTemplateDepth)}}
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, &TemplateError{name, []string{yamlProblem(err)}}
	}
	if len(file.Docs) > 1 {
		return nil, &TemplateError{name, []string{fmt.Sprintf("1:1: the file has %d documents, a template is one", len(file.Docs))}}
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, &TemplateError{name, []string{"1:1: the file is empty"}}
	}
	if problems := refuse(file.Docs[0].Body); len(problems) > 0 {
		return nil, &TemplateError{name, problems}
	}
	var definition Definition
	if err := yaml.NodeToValue(file.Docs[0].Body, &definition, yaml.Strict()); err != nil {
		return nil, &TemplateError{name, []string{yamlProblem(err)}}
	}
	if problems := dag.Validate(&definition); len(problems) > 0 {
		return nil, &TemplateError{name, locate(file, problems)}
	}
	if err := orchestration.CheckInputSchema(definition.InputSchema); err != nil {
		problem := dag.Problem{Code: "BAD_INPUT_SCHEMA", Path: "$.input_schema", Message: strings.ReplaceAll(err.Error(), "\n", " ")}
		return nil, &TemplateError{name, locate(file, dag.Problems{problem})}
	}
	return &parsed{definition}, nil
}

// refusal walks a document for what a template may not have.
type refusal struct{ problems []string }

func refuse(node ast.Node) []string {
	r := &refusal{}
	r.walk(node, 0)
	return r.problems
}

func (r *refusal) walk(node ast.Node, depth int) {
	switch n := node.(type) {
	case nil:
	case *ast.AnchorNode:
		r.add(n, "anchors are refused: write the value out")
	case *ast.AliasNode:
		r.add(n, "aliases are refused: write the value out")
	case *ast.TagNode:
		r.add(n, "tags are refused: write a plain value")
	case *ast.InfinityNode, *ast.NanNode:
		r.add(n, "infinity and NaN are refused: JSON has no such numbers")
	case *ast.StringNode:
		if strings.ContainsRune(n.Value, 0) {
			r.add(n, "the character U+0000 is refused: Postgres cannot store it")
		}
	case *ast.LiteralNode:
		r.walk(n.Value, depth)
	case *ast.MappingKeyNode:
		r.walk(n.Value, depth+1)
	case *ast.MappingNode:
		r.mapping(n.Values, depth)
	case *ast.MappingValueNode:
		r.mapping([]*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		if depth > maxTemplateDepth {
			r.add(n, fmt.Sprintf("nested deeper than %d", maxTemplateDepth))
			return
		}
		for _, value := range n.Values {
			r.walk(value, depth+1)
		}
	}
}

func (r *refusal) mapping(values []*ast.MappingValueNode, depth int) {
	if depth > maxTemplateDepth && len(values) > 0 {
		r.add(values[0].Key, fmt.Sprintf("nested deeper than %d", maxTemplateDepth))
		return
	}
	seen := make(map[string]bool, len(values))
	for _, v := range values {
		if v.Key.IsMergeKey() {
			r.add(v.Key, "merge keys are refused: write the value out")
		}
		key := v.Key.String()
		if seen[key] {
			r.add(v.Key, fmt.Sprintf("key %q is given twice", key))
		}
		seen[key] = true
		if _, fraction := v.Value.(*ast.FloatNode); fraction && wholeNumbers[key] {
			r.add(v.Value, fmt.Sprintf("%s must be a whole number", key))
		}
		r.walk(v.Key, depth)
		r.walk(v.Value, depth+1)
	}
}

// wholeNumbers are the fields whose fractions the decoder would drop without a word.
var wholeNumbers = map[string]bool{"max_attempts": true, "backoff_base_ms": true, "max_backoff_ms": true}

func (r *refusal) add(node ast.Node, message string) {
	position := node.GetToken().Position
	r.problems = append(r.problems, fmt.Sprintf("%d:%d: %s", position.Line, position.Column, message))
}

// tooDeep bounds the nesting before the parser, which recurses and takes time by the square of it: it returns the token that
// goes beyond. It counts what nests without indentation (brackets, and entries that begin on one line); the size of the file
// bounds the rest.
func tooDeep(tokens token.Tokens) *token.Token {
	brackets, entries, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			entries, line = 0, t.Position.Line
		}
		switch t.Type { //nolint:exhaustive // nothing else nests
		case token.SequenceStartType, token.MappingStartType:
			brackets++
		case token.SequenceEndType, token.MappingEndType:
			brackets = max(brackets-1, 0)
		case token.SequenceEntryType, token.MappingKeyType:
			entries++
		}
		if brackets+entries > maxTemplateDepth {
			return t
		}
	}
	return nil
}

// yamlProblem is a decoder's error as "line:column: message", without its excerpt.
func yamlProblem(err error) string {
	var located yaml.Error
	if !errors.As(err, &located) {
		return "1:1: " + err.Error()
	}
	message := located.GetMessage()
	if typed, ok := errors.AsType[*yaml.TypeError](err); ok { // in the words of YAML, not of Go
		message = fmt.Sprintf("%s was used where %s is expected", kindName(typed.SrcType), kindName(typed.DstType))
	}
	if token := located.GetToken(); token != nil {
		return fmt.Sprintf("%d:%d: %s", token.Position.Line, token.Position.Column, message)
	}
	return "1:1: " + message
}

// kindName is what YAML calls values of a type.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return kindName(t.Elem())
	case reflect.Bool, reflect.String:
		return t.Kind().String()
	case reflect.Slice:
		return "sequence"
	case reflect.Map, reflect.Struct:
		return "mapping"
	}
	return "number"
}

// locate gives each problem its place in the file; the nearest enclosing one where the path itself is missing.
func locate(file *ast.File, problems dag.Problems) []string {
	lines := make([]string, len(problems))
	for i, p := range problems {
		line, column := 1, 1
		for path := p.Path; path != ""; path = path[:max(strings.LastIndexAny(path, ".["), 0)] {
			at, err := yaml.PathString(path)
			if err != nil {
				continue
			}
			if node, err := at.FilterFile(file); err == nil && node != nil {
				at := firstToken(node).Position
				line, column = at.Line, at.Column
				break
			}
		}
		lines[i] = fmt.Sprintf("%d:%d: %s (%s)", line, column, p.Message, p.Code)
	}
	sort.SliceStable(lines, func(a, b int) bool { return lineOf(lines[a]) < lineOf(lines[b]) })
	return lines
}

// firstToken is where a node begins: the token of a mapping itself is its first colon.
func firstToken(node ast.Node) *token.Token {
	switch n := node.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return node.GetToken()
}

func lineOf(problem string) int {
	text, _, _ := strings.Cut(problem, ":")
	line, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return line
}

// LoadTemplates reads every .yaml and .yml file below a directory, in order of path. Links out of the directory are not
// followed. The error joins those of all files; a directory that does not exist has no templates.
func LoadTemplates(dir string) ([]Template, error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open templates: %w", err)
	}
	defer func() { _ = root.Close() }()
	return LoadTemplatesFS(root.FS(), dir)
}

// LoadTemplatesFS is [LoadTemplates] for a file system; dir names it in messages.
func LoadTemplatesFS(fsys fs.FS, dir string) ([]Template, error) {
	var templates []Template
	var errs []error
	err := fs.WalkDir(fsys, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if extension := filepath.Ext(path); !entry.Type().IsRegular() || (extension != ".yaml" && extension != ".yml") {
			return nil
		}
		template, err := readTemplate(fsys, dir, path)
		if err != nil {
			errs = append(errs, err)
		} else {
			templates = append(templates, template)
		}
		if len(templates)+len(errs) > maxTemplateFiles {
			return fmt.Errorf("more than %d template files below %s", maxTemplateFiles, dir)
		}
		return nil
	})
	return templates, errors.Join(append(errs, err)...)
}

func readTemplate(fsys fs.FS, dir, path string) (Template, error) {
	file, err := fsys.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open template: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxTemplateBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read template %s: %w", path, err)
	}
	return ParseTemplate(filepath.Join(dir, path), text)
}

// FromDefinition makes a template from data; its handlers stand in Config.Handlers.
func FromDefinition(definition Definition) (Template, error) {
	if problems := dag.Validate(&definition); len(problems) > 0 {
		return nil, fmt.Errorf("template %s: %w", definition.ID(), problems)
	}
	return &parsed{definition}, nil
}
