package telemetry_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/tasker-systems/tasker-go/telemetry"
)

const limit = 6000

// bundle records into memory, with the cardinality limit that telemetry/setup sets.
type bundle struct {
	*telemetry.Telemetry

	t      *testing.T
	reader *sdkmetric.ManualReader
	log    *strings.Builder
}

func setup(t *testing.T, mode telemetry.LabelMode) *bundle {
	t.Helper()
	b := &bundle{t: t, reader: sdkmetric.NewManualReader(), log: &strings.Builder{}}
	var err error
	b.Telemetry, err = telemetry.New(&telemetry.Config{
		MeterProvider:    sdkmetric.NewMeterProvider(sdkmetric.WithReader(b.reader), sdkmetric.WithCardinalityLimit(limit)),
		TracerProvider:   sdktrace.NewTracerProvider(sdktrace.WithIDGenerator(telemetry.IDs{})),
		CorrelationLabel: mode, Logger: slog.New(slog.NewTextHandler(b.log, nil)),
	})
	require.NoError(t, err)
	return b
}

// counts are the points of a counter.
func (b *bundle) counts(name string) []metricdata.DataPoint[int64] {
	b.t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(b.t, b.reader.Collect(context.Background(), &all))
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name == name {
				return m.Data.(metricdata.Sum[int64]).DataPoints
			}
		}
	}
	return nil
}

// run records what one task of four steps does.
func (b *bundle) run() *telemetry.Creation {
	b.t.Helper()
	task := &telemetry.Task{ID: uuid.Must(uuid.NewV7()), CorrelationID: uuid.Must(uuid.NewV7()), Namespace: "shop", Name: "order", Steps: 4}
	ctx := b.t.Context()
	c := b.StartCreation(ctx, task, telemetry.Carrier{}, time.Now(), false)
	c.Count(ctx)
	for _, name := range []string{"pay", "pack", "ship", "bill"} {
		later := &telemetry.Task{
			ID: c.ID, CorrelationID: c.CorrelationID, Namespace: c.Namespace, Name: c.Name, Steps: 4, Root: c.Root, Admitted: c.Admitted,
		}
		step := &telemetry.Step{ID: uuid.New(), Name: name, Claim: 1, Attempt: 1, Handler: "shop." + name}
		_, e := b.StartExecution(ctx, later, step, &telemetry.Claim{Asked: time.Now(), Held: time.Now(), Method: telemetry.ClaimEvent})
		e.Succeeded(ctx)
		e.Submitted(ctx, time.Millisecond)
	}
	c.Stored(ctx, time.Now(), "")
	return c
}

const (
	executions = "tasker.steps.executions.total"
	overflow   = attribute.Key("otel.metric.overflow")
)

func TestThousandsOfTasksStayWithinTheBudgetAndTheirTotalsExact(t *testing.T) {
	t.Parallel()
	b := setup(t, telemetry.LabelBounded)
	const tasks = 3000
	admitted := 0
	for range tasks {
		if b.run().Admitted {
			admitted++
		}
	}
	require.InDelta(t, 200, admitted, 20, "a burst, and what a few seconds add")
	total, labelled := int64(0), 0
	for _, point := range b.counts(executions) {
		total += point.Value
		if _, ok := point.Attributes.Value("correlation_id"); ok {
			labelled++
		}
		_, over := point.Attributes.Value(overflow)
		require.False(t, over)
	}
	require.Equal(t, int64(4*tasks), total, "what is refused stands in the plain series")
	require.Equal(t, 4*admitted, labelled)
	refused := int64(0)
	for _, point := range b.counts("tasker.telemetry.correlation_labels.total") {
		if decision, _ := point.Attributes.Value("decision"); decision.AsString() == "refused" {
			refused = point.Value
		}
	}
	require.Equal(t, int64(tasks-admitted), refused)
}

func TestWithoutTheGateTheLimitWouldTrip(t *testing.T) {
	t.Parallel()
	b := setup(t, telemetry.LabelAll)
	for range 2000 {
		b.run()
	}
	over := false
	for _, point := range b.counts(executions) {
		_, lost := point.Attributes.Value(overflow)
		over = over || lost
	}
	require.True(t, over)
}

func TestAProcessLabelsNoMoreThanItsOwnBudgetOfWhatOthersAdmitted(t *testing.T) {
	t.Parallel()
	b := setup(t, telemetry.LabelBounded)
	for range 2000 {
		task := &telemetry.Task{ID: uuid.New(), CorrelationID: uuid.New(), Namespace: "shop", Name: "order", Steps: 4, Admitted: true}
		_, e := b.StartExecution(t.Context(), task, &telemetry.Step{ID: uuid.New(), Name: "pay"}, &telemetry.Claim{Method: telemetry.ClaimPoll})
		e.Succeeded(t.Context())
		e.Submitted(t.Context(), 0)
	}
	labelled, plain := 0, int64(0)
	for _, point := range b.counts(executions) {
		if _, ok := point.Attributes.Value("correlation_id"); ok {
			labelled++
		} else {
			plain += point.Value
		}
	}
	require.Equal(t, 571, labelled, "4000 sets, seven for each task")
	require.Equal(t, int64(1429), plain)
	require.Equal(t, 1, strings.Count(b.log.String(), "budget of correlation_id labels is spent"), "said once")
}

func TestOffGivesTheLabelToNone(t *testing.T) {
	t.Parallel()
	b := setup(t, telemetry.LabelOff)
	require.False(t, b.run().Admitted)
	for _, point := range b.counts(executions) {
		_, ok := point.Attributes.Value("correlation_id")
		require.False(t, ok)
	}
}

func TestNamesThatUsersInventAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, telemetry.LabelOff)
	for range 1000 {
		task := &telemetry.Task{ID: uuid.New(), CorrelationID: uuid.New(), Namespace: "n" + uuid.NewString(), Name: "order"}
		c := b.StartCreation(t.Context(), task, telemetry.Carrier{}, time.Now(), false)
		c.Count(t.Context())
		c.Stored(t.Context(), time.Now(), "")
	}
	points := b.counts("tasker.tasks.requests.total")
	require.Len(t, points, 257, "256 names and other")
	total := int64(0)
	for _, point := range points {
		total += point.Value
	}
	require.Equal(t, int64(1000), total)
}

func TestRecordingWithoutALabelAllocatesNothing(t *testing.T) {
	b := setup(t, telemetry.LabelOff)
	ctx := t.Context()
	measure := func() {
		b.Database.Query(ctx, "TaskGet", "ok", time.Millisecond)
		b.Batch(ctx, "advance", 3, time.Millisecond)
		b.Reaped(ctx, 1)
		b.Fetched(ctx, "shop", time.Millisecond)
		b.Received(ctx, nil, "shop", "tasker_execute", time.Millisecond)
	}
	measure()
	require.Zero(t, testing.AllocsPerRun(100, measure))
}
