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
	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/pgxtrace"
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
	batch, err := c.prepare(ctx, engine, []Request{request})
	if err != nil {
		return nil, err
	}
	sending := time.Now()
	created, err := engine.Create(ctx, tx, batch.requests, true)
	if err != nil {
		return nil, batch.refused(ctx, err)
	}
	return batch.stored(ctx, created, sending)[0], nil
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
	batch, err := c.prepare(ctx, engine, requests)
	if err != nil {
		return nil, err
	}
	var created []orchestration.Created
	sending := time.Now()
	err = db.InTx(ctx, c.pool, "create tasks", func(ctx context.Context, tx pgx.Tx) (err error) {
		created, err = engine.Create(ctx, tx, batch.requests, false)
		return err
	})
	if err != nil {
		return nil, batch.refused(ctx, err)
	}
	runs := batch.stored(ctx, created, sending)
	c.wakeOrchestrators(ctx, engine)
	return runs, nil
}

// batch is a number of requests on their way into the database, and what telemetry tells of each.
type batch struct {
	client    *Client
	began     time.Time
	requests  []orchestration.Request
	creations []*telemetry.Creation
}

// prepare encodes and checks requests before the database sees them: contexts that it could not store, and those that break
// their template's schema.
func (c *Client) prepare(ctx context.Context, engine *orchestration.Engine, requests []Request) (*batch, error) {
	b := &batch{client: c, began: time.Now(), requests: make([]orchestration.Request, len(requests))}
	templates := make(map[[3]string]*orchestration.Template, 1)
	for i := range requests {
		r := &requests[i]
		key := [3]string{r.Namespace, r.Name, r.Version}
		template, known := templates[key]
		var err error
		if !known {
			template, err = engine.Templates.Find(ctx, engine.River.Queries(c.pool), r.Namespace, r.Name, r.Version)
			templates[key] = template
		}
		b.requests[i] = r.prepared()
		b.watch(ctx, &b.requests[i], template)
		if err != nil && !errors.Is(err, ErrTemplateNotFound) { // the database words that one better: it lists what there is
			return nil, b.refused(ctx, err)
		}
		if b.requests[i].Context, err = checkedContext(r.Context, template); err != nil {
			return nil, b.refused(ctx, err)
		}
	}
	return b, nil
}

func (r *Request) prepared() orchestration.Request {
	p := orchestration.Request{
		ID: uuid.Must(uuid.NewV7()), Namespace: r.Namespace, Name: r.Name, Version: r.Version,
		Priority: r.Priority, IdempotencyKey: r.IdempotencyKey, CorrelationID: r.CorrelationID,
		ParentCorrelationID: r.ParentCorrelationID, Tags: r.Tags, Initiator: r.Initiator, SourceSystem: r.SourceSystem,
		Reason: r.Reason, Traceparent: r.Traceparent,
	}
	if p.CorrelationID == uuid.Nil {
		p.CorrelationID = uuid.Must(uuid.NewV7())
	}
	if !r.RunAt.IsZero() {
		p.RunAt = &r.RunAt
	}
	return p
}

// watch counts a request and opens its trace, if this process does either; else the orchestrator that takes the task up does,
// in the trace of whoever called here.
func (b *batch) watch(ctx context.Context, r *orchestration.Request, template *orchestration.Template) {
	parent := telemetry.Carrier{Traceparent: r.Traceparent}
	if r.Traceparent == "" {
		parent = telemetry.CarrierOf(ctx)
		r.Traceparent, r.Tracestate = parent.Traceparent, parent.Tracestate
	}
	to := b.client.watch
	if !to.Tracing() && !to.Counting() {
		return
	}
	// Names that no template has are anything that somebody sends.
	task := &telemetry.Task{ID: r.ID, CorrelationID: r.CorrelationID, Namespace: "unknown", Name: "unknown"}
	if template != nil {
		task.Namespace, task.Name, task.Steps = r.Namespace, r.Name, len(template.Graph.Template.Steps)
	}
	creation := to.StartCreation(ctx, task, parent, b.began, false)
	creation.Count(ctx)
	b.creations = append(b.creations, creation)
	if to.Tracing() {
		r.TraceRoot, r.Tracestate = creation.Root.Traceparent, creation.Root.Tracestate
	}
	if to.Counting() {
		r.CorrelationLabel = &creation.Admitted
	}
}

// stored ends the creation of tasks that the database has.
func (b *batch) stored(ctx context.Context, created []orchestration.Created, sending time.Time) []*Run {
	now, fresh := time.Now(), 0
	runs := make([]*Run, len(created))
	for i := range created {
		runs[i] = &Run{ID: created[i].ID, Duplicate: !created[i].New, client: b.client}
		if created[i].New {
			fresh++
		}
		if i >= len(b.creations) {
			continue
		}
		existing := ""
		if created[i].New {
			b.creations[i].Sent(ctx, orchestration.Queue, orchestration.KindEnqueue)
		} else {
			existing = created[i].ID.String()
		}
		b.creations[i].Stored(ctx, now, existing)
	}
	if fresh > 0 {
		b.client.watch.Sending(ctx, orchestration.Queue, now.Sub(sending))
	}
	return runs
}

// refused ends the creation of all of them, and returns the error for the caller.
func (b *batch) refused(ctx context.Context, err error) error {
	now := time.Now()
	err = wrapRequest(err)
	for _, creation := range b.creations {
		creation.Refused(now, err)
	}
	if _, fault := errors.AsType[*RequestError](err); !fault {
		b.client.watch.SendFailed(ctx, orchestration.Queue, pgxtrace.ErrorType(err), len(b.creations))
	}
	return err
}

// checkedContext encodes a context and holds it against what the database and the template accept.
func checkedContext(v any, template *orchestration.Template) (json.RawMessage, error) {
	text, err := encodeContext(v)
	if err != nil {
		return nil, err
	}
	if err := orchestration.CheckJSON("context", text, orchestration.MaxContextBytes); err != nil {
		return nil, err
	}
	return text, template.CheckContext(text)
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
