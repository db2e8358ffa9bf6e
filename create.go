package tasker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/orchestration"
)

// Request is a task to create, by the name of its template. Only Namespace and Name are required.
type Request struct {
	Namespace string
	Name      string
	// Version of the template; empty is the newest registered.
	Version string
	// Context is the task's input: anything that encodes as JSON, or JSON as []byte or
	// json.RawMessage. Nil is an empty object.
	Context any
	// Priority is -100 to 100; higher runs earlier. Default 0.
	Priority int
	// IdempotencyKey makes requests with the same key the same task, whatever the template's identity strategy.
	IdempotencyKey string
	// CorrelationID is shared by the task's logs and traces; generated when zero.
	CorrelationID uuid.UUID
	// ParentCorrelationID links the task to the one that caused it.
	ParentCorrelationID uuid.UUID
	Tags                []string
	// Initiator, SourceSystem (128 characters at most) and Reason (500) say who asked, from where, and why.
	Initiator    string
	SourceSystem string
	Reason       string
	// RunAt delays the start; zero is now.
	RunAt time.Time
	// Traceparent is the W3C trace context that the task continues.
	Traceparent string
}

// CreateOption sets an optional field of a request.
type CreateOption func(*Request)

// Key sets the idempotency key.
func Key(key string) CreateOption { return func(r *Request) { r.IdempotencyKey = key } }

// Priority sets the priority, -100 to 100.
func Priority(p int) CreateOption { return func(r *Request) { r.Priority = p } }

// RunAt delays the start.
func RunAt(at time.Time) CreateOption { return func(r *Request) { r.RunAt = at } }

// Tags sets the tags.
func Tags(tags ...string) CreateOption { return func(r *Request) { r.Tags = tags } }

// Reason says why the task is created.
func Reason(text string) CreateOption { return func(r *Request) { r.Reason = text } }

// Initiator says who creates the task, and from which system.
func Initiator(who, system string) CreateOption {
	return func(r *Request) { r.Initiator, r.SourceSystem = who, system }
}

// Correlate sets the correlation id, and that of the task that caused this one, which may be zero.
func Correlate(id, parent uuid.UUID) CreateOption {
	return func(r *Request) { r.CorrelationID, r.ParentCorrelationID = id, parent }
}

// Run is a created task.
type Run struct {
	// ID is the task's id.
	ID uuid.UUID
	// Duplicate says that a task with this identity existed already, and that this is it.
	Duplicate bool

	client *Client
}

// Create starts a task of a workflow.
func Create[In any](ctx context.Context, c *Client, w *Workflow[In], in In, opts ...CreateOption) (*Run, error) {
	return c.Create(ctx, w.request(in, opts))
}

// CreateTx starts a task of a workflow inside the caller's transaction: the task exists if and only if the transaction
// commits. Orchestrators see it at the commit.
func CreateTx[In any](ctx context.Context, c *Client, tx pgx.Tx, w *Workflow[In], in In, opts ...CreateOption) (*Run, error) {
	return c.CreateTx(ctx, tx, w.request(in, opts))
}

// CreateMany starts many tasks of a workflow in one transaction, in a few statements.
func CreateMany[In any](ctx context.Context, c *Client, w *Workflow[In], ins []In, opts ...CreateOption) ([]*Run, error) {
	requests := make([]Request, len(ins))
	for i, in := range ins {
		requests[i] = w.request(in, opts)
	}
	return c.CreateMany(ctx, requests)
}

func (w *Workflow[In]) request(in In, opts []CreateOption) Request {
	r := Request{Namespace: w.definition.Namespace, Name: w.definition.Name, Version: w.definition.Version, Context: in}
	for _, opt := range opts {
		opt(&r)
	}
	return r
}

// Create starts a task. A task with the same identity is returned as a duplicate, not as an error.
func (c *Client) Create(ctx context.Context, request Request) (*Run, error) {
	runs, err := c.CreateMany(ctx, []Request{request})
	if err != nil {
		return nil, err
	}
	return runs[0], nil
}

// CreateTx starts a task inside the caller's transaction; see the function [CreateTx].
func (c *Client) CreateTx(ctx context.Context, tx pgx.Tx, request Request) (*Run, error) {
	engine, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	prepared, err := c.prepare(ctx, engine, []Request{request})
	if err != nil {
		return nil, err
	}
	created, err := engine.Create(ctx, tx, prepared, true)
	if err != nil {
		return nil, wrapRequest(err)
	}
	return &Run{ID: created[0].ID, Duplicate: !created[0].New, client: c}, nil
}

// CreateMany starts many tasks in one transaction: all or none.
func (c *Client) CreateMany(ctx context.Context, requests []Request) ([]*Run, error) {
	if len(requests) == 0 {
		return nil, nil
	}
	engine, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	prepared, err := c.prepare(ctx, engine, requests)
	if err != nil {
		return nil, err
	}
	var created []orchestration.Created
	err = db.InTx(ctx, c.pool, "create tasks", func(ctx context.Context, tx pgx.Tx) (err error) {
		created, err = engine.Create(ctx, tx, prepared, false)
		return err
	})
	if err != nil {
		return nil, wrapRequest(err)
	}
	c.wakeOrchestrators(ctx, engine)
	runs := make([]*Run, len(created))
	for i := range created {
		runs[i] = &Run{ID: created[i].ID, Duplicate: !created[i].New, client: c}
	}
	return runs, nil
}

// prepare encodes and checks requests before the database sees them: contexts that it could not store, and those that break
// their template's schema.
func (c *Client) prepare(ctx context.Context, engine *orchestration.Engine, requests []Request) ([]orchestration.Request, error) {
	prepared := make([]orchestration.Request, len(requests))
	templates := make(map[[3]string]*orchestration.Template, 1)
	for i := range requests {
		r := &requests[i]
		text, err := encodeContext(r.Context)
		if err != nil {
			return nil, err
		}
		if err := orchestration.CheckJSON("context", text, orchestration.MaxContextBytes); err != nil {
			return nil, wrapRequest(err)
		}
		key := [3]string{r.Namespace, r.Name, r.Version}
		template, known := templates[key]
		if !known {
			template, err = engine.Templates.Find(ctx, engine.River.Queries(c.pool), r.Namespace, r.Name, r.Version)
			if err != nil && !errors.Is(err, ErrTemplateNotFound) { // the database words that one better: it lists what there is
				return nil, wrapRequest(err)
			}
			templates[key] = template
		}
		if err := template.CheckContext(text); err != nil {
			return nil, wrapRequest(err)
		}
		prepared[i] = orchestration.Request{
			ID: uuid.Must(uuid.NewV7()), Namespace: r.Namespace, Name: r.Name, Version: r.Version, Context: text,
			Priority: r.Priority, IdempotencyKey: r.IdempotencyKey, CorrelationID: r.CorrelationID,
			ParentCorrelationID: r.ParentCorrelationID, Tags: r.Tags, Initiator: r.Initiator, SourceSystem: r.SourceSystem,
			Reason: r.Reason, Traceparent: r.Traceparent,
		}
		if !r.RunAt.IsZero() {
			prepared[i].RunAt = &r.RunAt
		}
	}
	return prepared, nil
}

func encodeContext(v any) (json.RawMessage, error) {
	if v == nil {
		return json.RawMessage("{}"), nil
	}
	switch text := v.(type) {
	case json.RawMessage:
		return text, nil
	case []byte: // encoding/json would make it a base64 string, which nobody means
		return text, nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, &RequestError{Reason: fmt.Sprintf("context cannot be encoded as JSON: %v", err)}
	}
	return text, nil
}
