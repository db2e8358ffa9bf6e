package telemetry

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// TraceID is the id of the trace of a task that continues no other trace, so that anything which knows the task can name its
// trace. It is a hash: samplers read the last bytes, which in a UUID are not random.
func TraceID(task uuid.UUID) trace.TraceID {
	return trace.TraceID(digest("trace", task, 0)[:16])
}

// laterTraceID is the trace of what a task does after it has outlived its first one, in its n-th period.
func laterTraceID(task uuid.UUID, n int64) trace.TraceID {
	return trace.TraceID(digest("later", task, n)[:16])
}

// The spans that others link to have derived ids, so that nothing has to carry them.
func rootSpanID(task uuid.UUID) trace.SpanID { return trace.SpanID(digest("root", task, 0)[:8]) }

// executionSpanIDs are those of an execution and of its handler.
func executionSpanIDs(step uuid.UUID, claim int32) (execution, handler trace.SpanID) {
	sum := digest("execute", step, int64(claim))
	return trace.SpanID(sum[:8]), trace.SpanID(sum[8:16])
}

func executionSpanID(step uuid.UUID, claim int32) trace.SpanID {
	execution, _ := executionSpanIDs(step, claim)
	return execution
}

func handlerSpanID(step uuid.UUID, claim int32) trace.SpanID {
	_, handler := executionSpanIDs(step, claim)
	return handler
}

func digest(kind string, id uuid.UUID, n int64) []byte {
	text := make([]byte, 0, 64)
	text = append(text, "tasker:"...)
	text = append(text, kind...)
	text = append(text, id[:]...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(text, uint64(n))) //nolint:gosec // any 64 bits will do
	return sum[:]
}

// IDs generates random ids, or those that Tasker derives from tasks and steps. Give it to a tracer provider of your own
// (sdktrace.WithIDGenerator(telemetry.IDs{})) to have a task's trace id follow from its id.
type IDs struct{}

type wantedKey struct{}

// wanted are the ids of the next span; zero ones are random.
type wanted struct {
	trace trace.TraceID
	span  trace.SpanID
	// sampled is true where the sampler is not to be asked.
	sampled bool
}

func want(ctx context.Context, w wanted) context.Context {
	return context.WithValue(ctx, wantedKey{}, w)
}

// NewIDs returns the ids of a span that begins a trace.
func (IDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	w, _ := ctx.Value(wantedKey{}).(wanted)
	if !w.trace.IsValid() {
		binary.NativeEndian.PutUint64(w.trace[:8], rand.Uint64())
		binary.NativeEndian.PutUint64(w.trace[8:], rand.Uint64()|1)
	}
	if !w.span.IsValid() {
		w.span = randomSpanID()
	}
	return w.trace, w.span
}

// NewSpanID returns the id of a span in a trace.
func (IDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	if w, _ := ctx.Value(wantedKey{}).(wanted); w.span.IsValid() {
		return w.span
	}
	return randomSpanID()
}

func randomSpanID() (id trace.SpanID) {
	binary.NativeEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// Sampled tells samplers of root spans whether the next one is recorded in any case: its trace goes on from an earlier one
// that is.
func Sampled(ctx context.Context) bool {
	w, _ := ctx.Value(wantedKey{}).(wanted)
	return w.sampled
}

// Carrier is a trace context as it is stored with a task: W3C's two fields.
type Carrier struct {
	Traceparent, Tracestate string
}

var (
	w3c propagation.TraceContext
	// nowhere is a context without a span: fields are read from it and written to it, and what is measured in it is no exemplar.
	nowhere = context.Background()
)

// carry returns the fields of a span context; empty ones where it is not valid.
//
//nolint:contextcheck,nolintlint // no cancellation: the context only holds the fields
func carry(sc trace.SpanContext) Carrier {
	fields := propagation.MapCarrier{}
	w3c.Inject(trace.ContextWithSpanContext(nowhere, sc), fields)
	return Carrier{fields["traceparent"], fields["tracestate"]}
}

// CarrierOf returns the trace context that code runs in; an empty one where it runs in none.
func CarrierOf(ctx context.Context) Carrier { return carry(trace.SpanContextFromContext(ctx)) }

// context returns the span context of the fields, as a remote one; an invalid one for what W3C does not allow.
//
//nolint:contextcheck,nolintlint // as carry
func (c Carrier) context() trace.SpanContext {
	if c.Traceparent == "" {
		return trace.SpanContext{}
	}
	if sc := parse(c.Traceparent); sc.IsValid() && c.Tracestate == "" {
		return sc
	}
	fields := propagation.MapCarrier{"traceparent": c.Traceparent, "tracestate": c.Tracestate}
	return trace.SpanContextFromContext(w3c.Extract(nowhere, fields))
}

// parse reads what every task has: version 00 and known flags, without a map and a context. It returns an invalid context for
// all else.
func parse(traceparent string) trace.SpanContext {
	const layout = "00-00000000000000000000000000000000-0000000000000000-0"
	if len(traceparent) != len(layout)+1 || traceparent[:3] != layout[:3] || traceparent[35] != '-' || traceparent[52:54] != "-0" {
		return trace.SpanContext{}
	}
	config := trace.SpanContextConfig{Remote: true}
	var errs [2]error
	config.TraceID, errs[0] = trace.TraceIDFromHex(traceparent[3:35])
	config.SpanID, errs[1] = trace.SpanIDFromHex(traceparent[36:52])
	switch flags := traceparent[54]; {
	case errs != [2]error{} || flags != '0' && flags != '1':
		return trace.SpanContext{}
	case flags == '1':
		config.TraceFlags = trace.FlagsSampled
	}
	return trace.NewSpanContext(config)
}

// period numbers the traces of a task that lives for long: 0 for the first, whose root is stored.
func period(age, longest time.Duration) int64 { return int64(age / longest) }
