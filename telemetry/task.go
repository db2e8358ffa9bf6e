package telemetry

import (
	"context"
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
	// correlation and uuid are the ids as text.
	correlation, uuid string
}

// adopt resolves once what measurements and spans of a task share.
func (t *Telemetry) adopt(task *Task) {
	if task.telemetry == nil {
		task.telemetry = t
		task.labelled = task.Admitted && t.gate.labels(task.CorrelationID, task.Steps)
		task.root = task.Root.context()
	}
}

// maxAttributes is how many attributes the eleven spans have at the most.
const maxAttributes = 8

// ids appends the attributes of every span of the task. A span under another of the same task has few more: each attribute is
// paid for again when it is exported, and the span above says the rest.
func (task *Task) ids(to []attribute.KeyValue) []attribute.KeyValue {
	task.spell()
	return append(to, attribute.String("correlation_id", task.correlation), attribute.String("task_uuid", task.uuid),
		attribute.String("namespace", task.Namespace))
}

// spell spells the ids out, once.
func (task *Task) spell() {
	if task.correlation == "" {
		task.correlation, task.uuid = task.CorrelationID.String(), task.ID.String()
	}
}

// attributes appends those of the root, which has the name too.
func (task *Task) attributes(to []attribute.KeyValue) []attribute.KeyValue {
	return append(task.ids(to), attribute.String("task_name", task.Name))
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
	s.spell()
	return attribute.String("step_uuid", s.uuid)
}

// spell spells the id out, once.
func (s *Step) spell() {
	if s.uuid == "" {
		s.uuid = s.ID.String()
	}
}

// attributes appends those of a span that is about the step.
func (s *Step) attributes(to []attribute.KeyValue) []attribute.KeyValue {
	to = append(to, s.id(), attribute.String("step_name", s.Name))
	if s.Attempt > 0 {
		to = append(to, attribute.Int("attempt", s.Attempt))
	}
	return to
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
	return s.step.attributes(s.task.attributes(make([]attribute.KeyValue, 0, maxAttributes)))
}
