package verify

import (
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/internal/otlpreceiver"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// evidence is all that is known at the end.
type evidence struct {
	// requested is how many tasks were asked for, version what tasker is called.
	requested int
	version   string
	// folder is one without configuration files.
	folder string

	tasks   []task
	metrics map[string]otlpreceiver.Metric
	spans   []otlpreceiver.Span
	logs    []otlpreceiver.Log

	// page is what the server showed to Prometheus before the outage, output what it printed.
	page, output string
	end          ending
	// warnings are those of this process's telemetry.
	warnings string
	// outage is nil where the database was never away.
	outage *outage

	index index
}

// index finds spans.
type index struct {
	byID map[trace.SpanID]*otlpreceiver.Span
	// byTask are those that say that they belong to a task.
	byTask map[uuid.UUID][]*otlpreceiver.Span
	// owner is the task of a trace.
	owner map[trace.TraceID]*task
}

// prepare builds the index.
func (e *evidence) prepare() *evidence {
	e.index = index{
		byID:   make(map[trace.SpanID]*otlpreceiver.Span, len(e.spans)),
		byTask: make(map[uuid.UUID][]*otlpreceiver.Span, len(e.tasks)), owner: make(map[trace.TraceID]*task, len(e.tasks)),
	}
	for i := range e.tasks {
		e.index.owner[telemetry.TraceID(e.tasks[i].id)] = &e.tasks[i]
	}
	for i := range e.spans {
		span := &e.spans[i]
		e.index.byID[span.SpanID] = span
		if id, err := uuid.Parse(text(span.Attributes, "task_uuid")); err == nil {
			e.index.byTask[id] = append(e.index.byTask[id], span)
		}
	}
	return e
}

// text is a value that is a text; else empty.
func text(attributes map[string]any, key string) string {
	value, _ := attributes[key].(string)
	return value
}

// labels select points.
type labels map[string]string

func (l labels) match(p *otlpreceiver.Point) bool {
	for key, want := range l {
		if got, ok := p.Attributes[key].(string); !ok || got != want {
			return false
		}
	}
	return true
}

// total adds up the points of a metric that have the labels: values of a counter, counts of a histogram.
func (e *evidence) total(metric string, l labels) int {
	m := e.metrics[metric]
	var total float64
	for i := range m.Points {
		switch p := &m.Points[i]; {
		case !l.match(p):
		case m.Kind == otlpreceiver.KindHistogram:
			total += float64(p.Count)
		default:
			total += p.Value
		}
	}
	return int(total)
}

// values are the values that a label has on the points of a metric, with the sum of each.
func (e *evidence) values(metric, label string) map[string]int {
	out := make(map[string]int)
	m := e.metrics[metric]
	for i := range m.Points {
		out[text(m.Points[i].Attributes, label)] += int(m.Points[i].Value)
	}
	return out
}

// labelled tells whether a task has its correlation_id on metrics. Many tasks at once do not all have.
func (e *evidence) labelled(t *task) bool {
	return e.total("tasker.tasks.requests.total", labels{"correlation_id": t.correlation.String()}) > 0
}
