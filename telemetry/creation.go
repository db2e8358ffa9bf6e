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
	ctx       context.Context //nolint:containedctx // the root span lives here from the request to the commit
	span      trace.Span
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
	c := &Creation{Task: *task, telemetry: t, began: began, counted: counted, span: noSpan}
	if !counted {
		c.Admitted = t.gate.admit(task.CorrelationID, task.Steps)
	}
	if task.Root == (Carrier{}) {
		if sc := parent.context(); sc.IsValid() {
			ctx = trace.ContextWithRemoteSpanContext(ctx, sc)
		}
		w := wanted{span: rootSpanID(task.ID)}
		of := &spanOf{name: spanCreate, kind: trace.SpanKindProducer, began: began}
		if !trace.SpanContextFromContext(ctx).IsValid() {
			w.trace = TraceID(task.ID)
		}
		ctx, c.span = t.start(ctx, w, of)
		c.Root = carry(c.span.SpanContext())
	}
	c.ctx = ctx
	t.adopt(&c.Task)
	return c
}

// Count counts the request, and the decision about its label.
func (c *Creation) Count() {
	if !c.counted {
		c.telemetry.gate.count(c.ctx, c.Admitted)
		c.telemetry.taskRequests.countFor(c.ctx, &c.Task, values{c.Namespace, c.Name})
	}
}

// Stored ends the creation of a task that was stored. existing is empty, or the id of the task that had its identity already.
func (c *Creation) Stored(now time.Time, existing string) {
	if !c.counted { // who counted it has measured it, too
		c.telemetry.initialization.recordFor(c.ctx, &c.Task, now.Sub(c.began), values{c.Namespace, c.Name})
	}
	if c.span.IsRecording() {
		c.span.SetAttributes(c.attributes()...)
		if existing != "" {
			c.span.SetAttributes(attribute.String("duplicate_of", existing))
		}
	}
	succeed(c.span, now)
}

// Sent counts the job of a stored task.
func (c *Creation) Sent(queue, kind string) {
	c.telemetry.sent.countFor(c.ctx, &c.Task, values{queue, kind})
}

// Refused ends the creation of a task that was not stored.
func (c *Creation) Refused(now time.Time, err error) {
	if c.span.IsRecording() {
		c.span.SetAttributes(c.attributes()...)
		c.span.SetStatus(codes.Error, err.Error())
	}
	c.span.End(trace.WithTimestamp(now))
}

// Sending records the transaction that inserted jobs into a queue.
func (t *Telemetry) Sending(ctx context.Context, queue string, took time.Duration) {
	t.sendTime.record(ctx, milliseconds(took), values{queue})
}

// SendFailed counts jobs whose transaction failed.
func (t *Telemetry) SendFailed(ctx context.Context, queue, errorType string, jobs int) {
	t.sendFailures.add(ctx, int64(jobs), values{queue, errorType})
}
