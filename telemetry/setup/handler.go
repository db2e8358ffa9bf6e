package setup

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/telemetry"
)

const (
	keyCorrelation = "correlation_id"
	keyTraceID     = "trace_id"
	keySpanID      = "span_id"
)

// idOrder is the order of ids at the front of a line.
var idOrder = []string{
	keyCorrelation, "task_uuid", "step_uuid", "namespace", "task_name", "step_name", "attempt", keyTraceID, keySpanID,
}

// LogHandler makes each line that inner writes say what it belongs to: correlation_id first, then the other ids of the task and
// step that its context runs for, then trace_id and span_id. What the line says of itself stands, in the same order. Where
// logs are exported, it sends them too; no log call waits for that.
func (p *Providers) LogHandler(inner slog.Handler) slog.Handler {
	h := &handler{inner: inner, outlet: p.logs}
	if p.loggers != nil {
		h.export = otelslog.NewHandler(telemetry.Scope, otelslog.WithLoggerProvider(p.loggers))
	}
	return h
}

// handler keeps attributes and groups to itself until a line is written: what a handler has been given it puts in front of the
// line's own, and into the group that is open.
type handler struct {
	inner  slog.Handler
	export slog.Handler
	outlet *outlet
	scopes []scope
}

// scope is what one WithAttrs or WithGroup added: attributes, or the name of a group.
type scope struct {
	group string
	attrs []slog.Attr
}

// Enabled asks the inner handler: what is exported is what is written.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.inner.Enabled(ctx, level)
}

// WithAttrs adds attributes to all lines.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	return h.with(scope{attrs: slices.Clone(attrs)})
}

// WithGroup puts what follows into a group.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.with(scope{group: name})
}

func (h *handler) with(s scope) slog.Handler {
	clone := *h
	clone.scopes = append(slices.Clip(h.scopes), s)
	return &clone
}

// Handle writes a line.
func (h *handler) Handle(ctx context.Context, record slog.Record) error {
	ids, rest := split(h.attrs(&record), known(ctx))
	line := slog.NewRecord(record.Time, record.Level, record.Message, record.PC)
	line.AddAttrs(ids...)
	line.AddAttrs(rest...)
	err := h.inner.Handle(ctx, line)
	if h.export != nil {
		err = errors.Join(err, h.send(ctx, &record, ids, rest))
	}
	return err
}

// send exports a line. The ids of trace and span are fields there, and the correlation id is in the body as well: line filters
// look nowhere else.
func (h *handler) send(ctx context.Context, record *slog.Record, ids, rest []slog.Attr) error {
	body := record.Message
	if len(ids) > 0 && ids[0].Key == keyCorrelation {
		body += " " + keyCorrelation + "=" + ids[0].Value.String()
	}
	line := slog.NewRecord(record.Time, record.Level, body, record.PC)
	for _, id := range ids {
		if id.Key != keyTraceID && id.Key != keySpanID {
			line.AddAttrs(id)
		}
	}
	line.AddAttrs(rest...)
	h.outlet.made.Add(1)
	return h.export.Handle(ctx, line) //nolint:wrapcheck // a handler in between has nothing to say
}

// known are the ids of a context.
func known(ctx context.Context) []slog.Attr {
	attributes := telemetry.Attributes(ctx)
	ids := make([]slog.Attr, 0, len(attributes)+2)
	for _, kv := range attributes {
		ids = append(ids, slog.Any(string(kv.Key), kv.Value.AsInterface()))
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		ids = append(ids, slog.String(keyTraceID, sc.TraceID().String()), slog.String(keySpanID, sc.SpanID().String()))
	}
	return ids
}

// attrs are all attributes of a line, groups and all.
func (h *handler) attrs(record *slog.Record) []slog.Attr {
	attrs := make([]slog.Attr, 0, record.NumAttrs())
	record.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, a)
		return true
	})
	for _, s := range slices.Backward(h.scopes) {
		switch {
		case s.group == "":
			attrs = slices.Concat(s.attrs, attrs)
		case len(attrs) > 0:
			attrs = []slog.Attr{{Key: s.group, Value: slog.GroupValue(attrs...)}}
		}
	}
	return attrs
}

// split takes the ids out of a line's attributes, puts them in their order, and adds those of its context that it lacks. Of
// two with one name the one that was given last stands.
func split(attrs, known []slog.Attr) (ids, rest []slog.Attr) {
	byName := make(map[string]slog.Attr, len(idOrder))
	for _, attr := range known {
		byName[attr.Key] = attr
	}
	for _, attr := range attrs {
		if slices.Contains(idOrder, attr.Key) {
			byName[attr.Key] = attr
		} else {
			rest = append(rest, attr)
		}
	}
	ids = make([]slog.Attr, 0, len(byName))
	for _, name := range idOrder {
		if attr, ok := byName[name]; ok {
			ids = append(ids, attr)
		}
	}
	return ids, rest
}
