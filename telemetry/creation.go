package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Creation is a task that is being created: its root span is open.
type Creation struct {
	Task

	telemetry *Telemetry
	span      opened
	began     time.Time
	counted   bool
}

// Tracing tells whether spans go anywhere.
func (t *Telemetry) Tracing() bool { return t.tracing }

// Counting tells whether metrics go anywhere.
func (t *Telemetry) Counting() bool { return t.counting }

// StartCreation opens the root span of a task that is being created, unless it has one: in the caller's trace, if parent or
// ctx belongs to one, else in one of its own. began is when the request was made. A request that nobody has counted is counted
// by [Creation.Count].
func (t *Telemetry) StartCreation(ctx context.Context, task *Task, parent Carrier, began time.Time, counted bool) *Creation {
	c := &Creation{Task: *task, telemetry: t, began: began, counted: counted}
	if !counted {
		c.Admitted = t.gate.admit(task.CorrelationID, task.Steps)
	}
	if task.Root == (Carrier{}) && t.tracing {
		c.span.Span = Span{
			Name: spanCreate, Kind: trace.SpanKindProducer, Began: began, Parent: parent.context(), ID: rootSpanID(task.ID),
			Attributes: c.attributes(make([]attribute.KeyValue, 0, maxAttributes)),
		}
		if !c.span.Parent.IsValid() {
			c.span.Parent = trace.SpanContextFromContext(ctx)
		}
		if !c.span.Parent.IsValid() {
			c.span.TraceID = TraceID(task.ID)
		}
		t.open(ctx, &c.span)
		c.Root = carry(c.span.context)
	}
	t.adopt(&c.Task)
	return c
}

// Count counts the request, and the decision about its label.
func (c *Creation) Count(ctx context.Context) {
	if !c.counted {
		c.telemetry.gate.count(ctx, c.Admitted)
		c.telemetry.taskRequests.countFor(ctx, &c.Task, c.span.context, values{c.Namespace, c.Name})
	}
}

// Stored ends the creation of a task that was stored. existing is empty, or the id of the task that had its identity already.
func (c *Creation) Stored(ctx context.Context, now time.Time, existing string) {
	if !c.counted { // who counted it has measured it, too
		c.telemetry.initialization.recordFor(ctx, &c.Task, c.span.context, now.Sub(c.began), values{c.Namespace, c.Name})
	}
	c.span.Code = codes.Ok
	if existing != "" {
		c.span.Attributes = append(c.span.Attributes, attribute.String("duplicate_of", existing))
	}
	c.span.end(now)
}

// takenUp records a task that was created by SQL, or by a client without telemetry, with the job that brought it.
func (c *Creation) takenUp(ctx context.Context, arrivals []Arrival, now time.Time) {
	c.Count(ctx)
	if !c.counted && len(arrivals) > 0 {
		c.Sent(ctx, arrivals[0].Queue, arrivals[0].Kind)
	}
	c.Stored(ctx, now, "")
}

// Sent counts the job of a stored task.
func (c *Creation) Sent(ctx context.Context, queue, kind string) {
	c.telemetry.sent.countFor(ctx, &c.Task, c.span.context, values{queue, kind})
}

// Refused ends the creation of a task that was not stored.
func (c *Creation) Refused(now time.Time, err error) {
	c.span.fail(err.Error())
	c.span.end(now)
}

// Sending records the transaction that inserted jobs into a queue.
func (t *Telemetry) Sending(ctx context.Context, queue string, took time.Duration) {
	t.sendTime.record(ctx, milliseconds(took), values{queue})
}

// SendFailed counts jobs whose transaction failed.
func (t *Telemetry) SendFailed(ctx context.Context, queue, errorType string, jobs int) {
	t.sendFailures.add(ctx, int64(jobs), values{queue, errorType})
}
