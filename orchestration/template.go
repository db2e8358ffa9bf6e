package orchestration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// Templates keeps compiled templates by id. A template in use never changes, so neither does an entry.
type Templates struct {
	// Environment selects the overrides that apply in this process.
	Environment string

	mu       sync.RWMutex
	compiled map[uuid.UUID]*Template
}

// Template is a compiled template with its input schema.
type Template struct {
	ID    uuid.UUID
	Graph *dag.Graph

	schema     *inputSchema
	definition []byte
}

// ErrTemplateNotFound says that no such template is registered.
var ErrTemplateNotFound = errors.New("template is not registered")

// errTemplateInUse says that a version cannot change any more.
var errTemplateInUse = errors.New("tasks already use this version with another definition: give the changed template a new version")

// Register stores a template. The same definition again is fine; a changed one is refused once tasks use the version.
func (t *Templates) Register(ctx context.Context, q *dbsqlc.Queries, template dag.Template) (uuid.UUID, error) {
	if _, err := dag.Compile(template.In(t.Environment)); err != nil {
		return uuid.Nil, fmt.Errorf("register %s: %w", template.ID(), err)
	}
	if _, err := compileSchema(template.InputSchema); err != nil {
		return uuid.Nil, fmt.Errorf("register %s: %w", template.ID(), err)
	}
	definition, err := template.Canonical()
	if err != nil {
		return uuid.Nil, fmt.Errorf("register %s: encode: %w", template.ID(), err)
	}
	hash := sha256.Sum256(definition)
	identity := template.Identity
	if identity == "" {
		identity = dag.IdentityStrict
	}
	id, err := q.TemplateUpsert(ctx, dbsqlc.TemplateUpsertParams{
		ID: uuid.Must(uuid.NewV7()), Namespace: template.Namespace, Name: template.Name, Version: template.Version,
		IdentityStrategy: string(identity), Definition: definition, ContentHash: hash[:],
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return uuid.Nil, fmt.Errorf("register %s: %w", template.ID(), errTemplateInUse)
	}
	if err != nil {
		return uuid.Nil, fmt.Errorf("register %s: %w", template.ID(), err)
	}
	t.mu.Lock()
	delete(t.compiled, id)
	t.mu.Unlock()
	return id, nil
}

// Find returns the template of that version, or with an empty version the newest.
func (t *Templates) Find(ctx context.Context, q *dbsqlc.Queries, namespace, name, version string) (*Template, error) {
	row, err := q.TemplateFind(ctx, dbsqlc.TemplateFindParams{Namespace: namespace, Name: name, Version: version})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("%s/%s: %w", namespace, name, ErrTemplateNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("find template %s/%s: %w", namespace, name, err)
	}
	if known := t.get(row.ID); known != nil && bytes.Equal(known.definition, row.Definition) {
		return known, nil
	}
	return t.compile(row.ID, row.Definition) // new, or changed while no task used it yet
}

// Load returns the templates of those ids, reading the ones that this process has not met.
func (t *Templates) Load(ctx context.Context, q *dbsqlc.Queries, ids []uuid.UUID) (map[uuid.UUID]*Template, error) {
	found := make(map[uuid.UUID]*Template, 1)
	var missing []uuid.UUID
	for _, id := range ids {
		if known := t.get(id); known != nil {
			found[id] = known
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return found, nil
	}
	rows, err := q.TemplateGetMany(ctx, missing)
	if err != nil {
		return nil, fmt.Errorf("load templates: %w", err)
	}
	for _, row := range rows {
		if found[row.ID], err = t.compile(row.ID, row.Definition); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (t *Templates) get(id uuid.UUID) *Template {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.compiled[id]
}

func (t *Templates) compile(id uuid.UUID, definition []byte) (*Template, error) {
	var parsed dag.Template
	decoder := json.NewDecoder(bytes.NewReader(definition))
	decoder.UseNumber()
	if err := decoder.Decode(&parsed); err != nil {
		return nil, fmt.Errorf("decode template %s: %w", id, err)
	}
	graph, err := dag.Compile(parsed.In(t.Environment))
	if err != nil {
		return nil, fmt.Errorf("compile template %s: %w", id, err)
	}
	schema, err := compileSchema(parsed.InputSchema)
	if err != nil {
		return nil, fmt.Errorf("compile template %s: %w", id, err)
	}
	compiled := &Template{ID: id, Graph: graph, schema: schema, definition: definition}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.compiled == nil {
		t.compiled = make(map[uuid.UUID]*Template)
	}
	t.compiled[id] = compiled
	return compiled, nil
}
