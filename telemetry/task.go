package telemetry

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Task is what telemetry knows of a task. It belongs to one goroutine at a time.
type Task struct {
	ID, CorrelationID uuid.UUID
	// Namespace and Name are the template's.
	Namespace, Name string
	// Steps is how many steps the template has: what a correlation label costs.
	Steps int
	// Root is the stored context of the task's first span.
	Root Carrier
	// Admitted is the stored decision about the correlation label.
	Admitted bool
	// Age is how long ago the task was created.
	Age time.Duration

	telemetry *Telemetry
	labelled  bool
	root      trace.SpanContext
	common    []attribute.KeyValue
}

// adopt resolves once what measurements and spans of a task share.
func (t *Telemetry) adopt(task *Task) {
	if task.telemetry == nil {
		task.telemetry = t
		task.labelled = task.Admitted && t.gate.labels(task.CorrelationID, task.Steps)
		task.root = task.Root.context()
	}
}

// correlated tells whether a measurement carries the task's correlation id.
func (task *Task) correlated(ctx context.Context) bool {
	return task.labelled || task.telemetry.gate.mode == LabelExemplars && trace.SpanContextFromContext(ctx).IsSampled()
}

// ids are the attributes of every span of the task. A span under another of the same task has no more: each attribute is paid
// for again when it is exported, and the span above says the rest.
func (task *Task) ids() []attribute.KeyValue {
	if task.common == nil {
		task.common = []attribute.KeyValue{
			attribute.String("correlation_id", task.CorrelationID.String()),
			attribute.String("task_uuid", task.ID.String()),
			attribute.String("namespace", task.Namespace),
		}
	}
	return slices.Clip(task.common)
}

// stepIDs are the attributes of a span below that of a step.
func (task *Task) stepIDs(step *Step) []attribute.KeyValue { return append(task.ids(), step.id()) }

// attributes are those of the root, which has the name too.
func (task *Task) attributes() []attribute.KeyValue {
	return append(task.ids(), attribute.String("task_name", task.Name))
}

// Step is one dispatch of a step.
type Step struct {
	ID   uuid.UUID
	Name string
	// Claim is the number of the dispatch.
	Claim int32
	// Attempt counts from 1; 0 where it does not matter.
	Attempt int
	// Handler is the callable.
	Handler string

	uuid string
}

// id is the step's, as an attribute.
func (s *Step) id() attribute.KeyValue {
	if s.uuid == "" {
		s.uuid = s.ID.String()
	}
	return attribute.String("step_uuid", s.uuid)
}

// attributes are those of a span that is about the step.
func (s *Step) attributes() []attribute.KeyValue {
	attributes := make([]attribute.KeyValue, 0, 3)
	attributes = append(attributes, s.id(), attribute.String("step_name", s.Name))
	if s.Attempt > 0 {
		attributes = append(attributes, attribute.Int("attempt", s.Attempt))
	}
	return attributes
}

// Scope of a context: the task and step that code runs for.
type subject struct {
	task *Task
	step *Step
}

type subjectKey struct{}

// Attributes are those of the task and step that a context belongs to, for spans below Tasker's own and for log lines; nil
// outside of a step.
func Attributes(ctx context.Context) []attribute.KeyValue {
	s, ok := ctx.Value(subjectKey{}).(subject)
	if !ok {
		return nil
	}
	return append(s.task.attributes(), s.step.attributes()...)
}
