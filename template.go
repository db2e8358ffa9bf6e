package tasker

import (
	"context"
	"fmt"
	"time"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// TemplateSummary is one line of the list of templates.
type TemplateSummary struct {
	Namespace string               `json:"namespace"`
	Name      string               `json:"name"`
	Version   string               `json:"version"`
	Identity  dag.IdentityStrategy `json:"identity_strategy"`
	Steps     int                  `json:"steps"`
	CreatedAt time.Time            `json:"created_at"`
}

// Templates lists the registered templates, by namespace and name.
func (c *Client) Templates(ctx context.Context) ([]TemplateSummary, error) {
	q, err := c.queries(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := q.TemplateList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	list := make([]TemplateSummary, len(rows))
	for i := range rows {
		list[i] = TemplateSummary{
			Namespace: rows[i].Namespace, Name: rows[i].Name, Version: rows[i].Version,
			Identity: dag.IdentityStrategy(rows[i].IdentityStrategy), Steps: int(rows[i].Steps), CreatedAt: rows[i].CreatedAt,
		}
	}
	return list, nil
}

// Template returns a registered template, as the client's environment changes it; with an empty version the newest.
// [ErrTemplateNotFound] says that there is none.
func (c *Client) Template(ctx context.Context, namespace, name, version string) (*Definition, error) {
	engine, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	template, err := engine.Templates.Find(ctx, engine.River.Queries(c.pool), namespace, name, version)
	if err != nil {
		return nil, err
	}
	definition := template.Graph.Template
	return &definition, nil
}
