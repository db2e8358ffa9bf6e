package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// traced records spans into memory. With ratio the sampler decides about traces that have not been decided about.
func traced(t *testing.T, sampler sdktrace.Sampler, ids bool) (*telemetry.Telemetry, *tracetest.InMemoryExporter) {
	t.Helper()
	spans := tracetest.NewInMemoryExporter()
	options := []sdktrace.TracerProviderOption{sdktrace.WithSyncer(spans), sdktrace.WithSampler(sampler)}
	if ids {
		options = append(options, sdktrace.WithIDGenerator(telemetry.IDs{}))
	}
	watch, err := telemetry.New(&telemetry.Config{TracerProvider: sdktrace.NewTracerProvider(options...)})
	require.NoError(t, err)
	spans.Reset()
	return watch, spans
}

func newTask() *telemetry.Task {
	return &telemetry.Task{ID: uuid.Must(uuid.NewV7()), CorrelationID: uuid.New(), Namespace: "shop", Name: "order"}
}

// execute runs one step of a task that was created with the given root.
func execute(
	ctx context.Context, watch *telemetry.Telemetry, task *telemetry.Task, step *telemetry.Step, parents ...telemetry.Dispatch,
) context.Context {
	inside, e := watch.StartExecution(ctx, task, step, &telemetry.Claim{Asked: time.Now(), Held: time.Now(), Method: "event", Parents: parents})
	e.Succeeded(ctx)
	e.Submitted(ctx, 0)
	return inside
}

func named(spans *tracetest.InMemoryExporter, name string) tracetest.SpanStub {
	for _, span := range spans.GetSpans() {
		if span.Name == name {
			return span
		}
	}
	return tracetest.SpanStub{}
}

func attributes(span *tracetest.SpanStub) map[string]string {
	all := make(map[string]string)
	for _, kv := range span.Attributes {
		all[string(kv.Key)] = kv.Value.String()
	}
	return all
}

func TestATaskHasOneTraceWhoseIDFollowsFromItsOwn(t *testing.T) {
	t.Parallel()
	watch, spans := traced(t, sdktrace.AlwaysSample(), true)
	c := watch.StartCreation(t.Context(), newTask(), telemetry.Carrier{}, time.Now(), false)
	c.Stored(t.Context(), time.Now(), "")
	root := named(spans, "create_and_enqueue_task_from_request")
	require.Equal(t, telemetry.TraceID(c.ID), root.SpanContext.TraceID())
	require.False(t, root.Parent.IsValid())

	// Another process knows of the task what its row holds.
	step := &telemetry.Step{ID: uuid.New(), Name: "pay", Claim: 1, Attempt: 1, Handler: "shop.pay"}
	later := &telemetry.Task{ID: c.ID, CorrelationID: c.CorrelationID, Namespace: "shop", Name: "order", Root: c.Root}
	inside := execute(t.Context(), watch, later, step)
	execution, handler, claim := named(spans, "execute_step"), named(spans, "handler_execution"), named(spans, "try_claim_step")
	require.Equal(t, root.SpanContext.SpanID(), execution.Parent.SpanID())
	require.True(t, execution.Parent.IsRemote())
	require.Equal(t, execution.SpanContext.SpanID(), handler.Parent.SpanID())
	require.Equal(t, execution.SpanContext.SpanID(), claim.Parent.SpanID())
	require.Equal(t, handler.SpanContext.SpanID(), trace.SpanContextFromContext(inside).SpanID(), "what the handler does stands below")
	for _, span := range spans.GetSpans() {
		require.Equal(t, root.SpanContext.TraceID(), span.SpanContext.TraceID(), span.Name)
		require.Equal(t, codes.Ok, span.Status.Code, span.Name)
		has := attributes(&span)
		require.Equal(t, c.CorrelationID.String(), has["correlation_id"], span.Name)
		require.Equal(t, c.ID.String(), has["task_uuid"], span.Name)
		require.Equal(t, "shop", has["namespace"], span.Name)
		if span.Name != root.Name {
			require.Equal(t, step.ID.String(), has["step_uuid"], span.Name)
		}
	}
	require.Equal(t, "correlation_id", string(telemetry.Attributes(inside)[0].Key), "for what else records in the handler")
}

func TestATaskContinuesTheTraceOfItsCaller(t *testing.T) {
	t.Parallel()
	watch, spans := traced(t, sdktrace.ParentBased(sdktrace.AlwaysSample()), true)
	const caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for name, parent := range map[string]telemetry.Carrier{
		"as it is":          {Traceparent: caller},
		"with a tracestate": {Traceparent: caller, Tracestate: "rojo=1"},
	} {
		c := watch.StartCreation(t.Context(), newTask(), parent, time.Now(), false)
		require.Contains(t, c.Root.Traceparent, "00-0af7651916cd43dd8448eb211c80319c-", name)
		require.Equal(t, parent.Tracestate, c.Root.Tracestate, name)
		c.Stored(t.Context(), time.Now(), "")
		require.Equal(t, "b7ad6b7169203331", spans.GetSpans()[0].Parent.SpanID().String(), name)
		spans.Reset()
	}
	for _, bad := range []string{"", "x", "00-0-0-0", "00-00000000000000000000000000000000-b7ad6b7169203331-01"} {
		c := watch.StartCreation(t.Context(), newTask(), telemetry.Carrier{Traceparent: bad}, time.Now(), false)
		require.Contains(t, c.Root.Traceparent, telemetry.TraceID(c.ID).String(), "%q starts a trace of its own", bad)
		c.Stored(t.Context(), time.Now(), "")
	}
}

func TestAnOldTaskGoesOnInATraceOfItsOwnThatLinksToTheFirst(t *testing.T) {
	t.Parallel()
	for _, sampled := range []bool{true, false} {
		sampler := sdktrace.NeverSample()
		if sampled {
			sampler = sdktrace.AlwaysSample()
		}
		watch, _ := traced(t, sampler, true)
		c := watch.StartCreation(t.Context(), newTask(), telemetry.Carrier{}, time.Now(), false)
		c.Stored(t.Context(), time.Now(), "")
		// The sampler that would decide anew is not asked: a task is whole or absent.
		watch, spans := traced(t, sdktrace.ParentBased(follow{sdktrace.TraceIDRatioBased(0.5)}), true)
		var traces []trace.TraceID
		for _, age := range []time.Duration{59 * time.Minute, 61 * time.Minute, 119 * time.Minute, 25 * time.Hour} {
			task := &telemetry.Task{ID: c.ID, CorrelationID: c.CorrelationID, Namespace: "shop", Name: "order", Root: c.Root, Age: age}
			execute(t.Context(), watch, task, &telemetry.Step{ID: uuid.New(), Name: "pay", Claim: 1})
			if !sampled {
				require.Empty(t, spans.GetSpans())
				continue
			}
			span := named(spans, "execute_step")
			traces = append(traces, span.SpanContext.TraceID())
			if age > time.Hour {
				require.False(t, span.Parent.IsValid())
				require.Len(t, span.Links, 1)
				require.Equal(t, telemetry.TraceID(c.ID), span.Links[0].SpanContext.TraceID())
			}
			spans.Reset()
		}
		if sampled {
			require.Equal(t, telemetry.TraceID(c.ID), traces[0])
			require.Equal(t, traces[1], traces[2], "one trace for an hour")
			require.NotEqual(t, traces[1], traces[0])
			require.NotEqual(t, traces[2], traces[3])
		}
	}
}

// follow is the sampler of root spans that telemetry/setup has.
type follow struct{ sdktrace.Sampler }

func (f follow) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if telemetry.Sampled(p.ParentContext) {
		return sdktrace.AlwaysSample().ShouldSample(p)
	}
	return f.Sampler.ShouldSample(p)
}

func TestAnExecutionLinksToTheOneBeforeItAndToAllThatItJoins(t *testing.T) {
	t.Parallel()
	watch, spans := traced(t, sdktrace.AlwaysSample(), true)
	c := watch.StartCreation(t.Context(), newTask(), telemetry.Carrier{}, time.Now(), false)
	c.Stored(t.Context(), time.Now(), "")
	run := func(step *telemetry.Step, parents ...telemetry.Dispatch) tracetest.SpanStub {
		spans.Reset()
		task := &telemetry.Task{ID: c.ID, CorrelationID: c.CorrelationID, Namespace: "shop", Name: "order", Root: c.Root}
		execute(t.Context(), watch, task, step, parents...)
		return named(spans, "execute_step")
	}
	step := uuid.New()
	first := run(&telemetry.Step{ID: step, Name: "pay", Claim: 1})
	require.Empty(t, first.Links)
	second := run(&telemetry.Step{ID: step, Name: "pay", Claim: 2})
	require.Len(t, second.Links, 1)
	require.True(t, second.Links[0].SpanContext.Equal(first.SpanContext.WithRemote(true)))

	var parents []telemetry.Dispatch
	var handlers []trace.SpanID
	for range 40 {
		d := telemetry.Dispatch{StepID: uuid.New(), Claim: 1}
		parents = append(parents, d)
		run(&telemetry.Step{ID: d.StepID, Name: "part", Claim: d.Claim})
		handlers = append(handlers, named(spans, "handler_execution").SpanContext.SpanID())
	}
	require.Empty(t, run(&telemetry.Step{ID: uuid.New(), Name: "one", Claim: 1}, parents[0]).Links, "one dependency is the order of things")
	join := run(&telemetry.Step{ID: uuid.New(), Name: "join", Claim: 1}, parents...)
	require.Len(t, join.Links, 32)
	for i, link := range join.Links {
		require.Equal(t, handlers[i], link.SpanContext.SpanID())
	}
}

func TestAProviderWithIDsOfItsOwnHasOneTraceForATaskToo(t *testing.T) {
	t.Parallel()
	watch, spans := traced(t, sdktrace.AlwaysSample(), false)
	c := watch.StartCreation(t.Context(), newTask(), telemetry.Carrier{}, time.Now(), false)
	c.Stored(t.Context(), time.Now(), "")
	task := &telemetry.Task{ID: c.ID, CorrelationID: c.CorrelationID, Namespace: "shop", Name: "order", Root: c.Root}
	execute(t.Context(), watch, task, &telemetry.Step{ID: uuid.New(), Name: "pay", Claim: 2})
	all := spans.GetSpans()
	for i := range all {
		require.Equal(t, all[0].SpanContext.TraceID(), all[i].SpanContext.TraceID())
		require.Empty(t, all[i].Links, "a link to a span that nobody made would lead nowhere")
	}
}

func TestAFailedExecutionIsRedAndItsTaskIsNot(t *testing.T) {
	t.Parallel()
	watch, spans := traced(t, sdktrace.AlwaysSample(), true)
	c := watch.StartCreation(t.Context(), newTask(), telemetry.Carrier{}, time.Now(), false)
	c.Stored(t.Context(), time.Now(), "")
	task := &telemetry.Task{ID: c.ID, CorrelationID: c.CorrelationID, Namespace: "shop", Name: "order", Root: c.Root}
	_, e := watch.StartExecution(t.Context(), task, &telemetry.Step{ID: uuid.New(), Name: "pay", Claim: 1}, &telemetry.Claim{})
	e.Failed(t.Context(), "handler_error", "card declined")
	e.Submitted(t.Context(), 0)
	require.Equal(t, codes.Ok, named(spans, "create_and_enqueue_task_from_request").Status.Code)
	require.Equal(t, codes.Error, named(spans, "execute_step").Status.Code)
	handler := named(spans, "handler_execution")
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "card declined"}, handler.Status)
	require.Equal(t, "handler_error", attributes(&handler)["error.type"])
}

// recordOnly records what is not sampled, for processors that make metrics of spans.
type recordOnly struct{ sdktrace.Sampler }

func (recordOnly) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return sdktrace.SamplingResult{Decision: sdktrace.RecordOnly}
}

func TestSpansThatAreOnlyRecordedEndToo(t *testing.T) {
	t.Parallel()
	ended := tracetest.NewSpanRecorder()
	watch, err := telemetry.New(&telemetry.Config{TracerProvider: sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(ended), sdktrace.WithSampler(recordOnly{}))})
	require.NoError(t, err)
	c := watch.StartCreation(t.Context(), newTask(), telemetry.Carrier{}, time.Now(), false)
	c.Stored(t.Context(), time.Now(), "")
	require.Len(t, ended.Started(), 1)
	require.Len(t, ended.Ended(), 1)
}

func TestWithAProviderOfItsOwnAHandlerRunsInASpanOfIt(t *testing.T) {
	t.Parallel()
	watch, spans := traced(t, sdktrace.AlwaysSample(), true)
	c := watch.StartCreation(t.Context(), newTask(), telemetry.Carrier{}, time.Now(), false)
	c.Stored(t.Context(), time.Now(), "")
	task := &telemetry.Task{ID: c.ID, CorrelationID: c.CorrelationID, Namespace: "shop", Name: "order", Root: c.Root}
	inside, e := watch.StartExecution(t.Context(), task, &telemetry.Step{ID: uuid.New(), Name: "pay", Claim: 1}, &telemetry.Claim{})
	for name, ctx := range map[string]context.Context{"handler_execution": inside, "execute_step": e.Within(t.Context())} {
		span, ok := trace.SpanFromContext(ctx).(sdktrace.ReadOnlySpan)
		require.True(t, ok, name)
		require.Equal(t, name, span.Name())
	}
	e.Succeeded(t.Context())
	e.Submitted(t.Context(), 0)
	require.Len(t, spans.GetSpans(), 4)
}

func TestLinesAboutATaskThatIsNotSampledNameItsTrace(t *testing.T) {
	t.Parallel()
	watch, spans := traced(t, sdktrace.ParentBased(sdktrace.NeverSample()), true)
	c := watch.StartCreation(t.Context(), newTask(), telemetry.Carrier{}, time.Now(), false)
	c.Stored(t.Context(), time.Now(), "")
	task := &telemetry.Task{ID: c.ID, CorrelationID: c.CorrelationID, Namespace: "shop", Name: "order", Root: c.Root}
	inside, e := watch.StartExecution(t.Context(), task, &telemetry.Step{ID: uuid.New(), Name: "pay", Claim: 1}, &telemetry.Claim{})
	for _, ctx := range []context.Context{inside, e.Within(t.Context())} {
		require.Equal(t, telemetry.TraceID(c.ID), trace.SpanContextFromContext(ctx).TraceID())
	}
	e.Succeeded(t.Context())
	e.Submitted(t.Context(), 0)
	require.Empty(t, spans.GetSpans())
}

func TestNothingIsRecordedWithoutProviders(t *testing.T) {
	t.Parallel()
	watch, err := telemetry.New(nil)
	require.NoError(t, err)
	require.False(t, watch.Tracing())
	require.False(t, watch.Counting())
	c := watch.StartCreation(t.Context(), newTask(), telemetry.Carrier{}, time.Now(), false)
	require.Empty(t, c.Root)
	c.Stored(t.Context(), time.Now(), "")
	execute(t.Context(), watch, newTask(), &telemetry.Step{ID: uuid.New(), Name: "pay", Claim: 1})
}
