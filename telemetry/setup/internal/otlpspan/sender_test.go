package otlpspan_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/setup/internal/otlpspan"
)

// told is a span that is over.
func told(name string) *telemetry.Span {
	began := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return &telemetry.Span{Name: name, Kind: trace.SpanKindConsumer, Began: began, Ended: began.Add(time.Millisecond)}
}

func TestAFullBatchIsSentAtOnceAndTheRestAtTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for range 250 {
		b.record(t, told("a"))
	}
	for range 2 {
		require.NoError(t, <-b.errs)
	}
	assert.Equal(t, []int{100, 100}, b.collector.sizes())
	b.shutdown(t)
	assert.Equal(t, []int{100, 100, 50}, b.collector.sizes())
	assert.EqualValues(t, 250, b.made.Load())
}

func TestASpanDoesNotWaitForOthersForLong(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *otlpspan.Config) { c.Delay = time.Millisecond })
	b.record(t, told("a"))
	require.NoError(t, <-b.errs)
	assert.Equal(t, []int{1}, b.collector.sizes())
	b.shutdown(t)
}

func TestAFlushSendsWhatThereIs(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.record(t, told("a"))
	require.NoError(t, b.sender.ForceFlush(t.Context()))
	assert.Equal(t, []int{1}, b.collector.sizes())
	b.shutdown(t)
	require.NoError(t, b.sender.ForceFlush(t.Context()), "there is nothing left")
}

func TestWhatAQueueHasNoRoomForIsDroppedAndCounted(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	b := setup(t, func(c *otlpspan.Config) {
		c.Client.(*collector).hold = hold
		c.Queue, c.Size = 20, 10
	})
	for range 1000 {
		b.record(t, told("a"))
	}
	close(hold)
	b.shutdown(t)
	arrived := len(b.collector.spans())
	assert.LessOrEqual(t, arrived, 40, "twenty in the queue, and what was under way")
	assert.GreaterOrEqual(t, arrived, 20)
	assert.EqualValues(t, 1000, b.made.Load())
	assert.EqualValues(t, 1000-arrived, b.dropped.Load())
}

func TestABusyQueueIsSentInFullBatchesAndItsDropsAreToldMeanwhile(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	b := setup(t, func(c *otlpspan.Config) {
		c.Client.(*collector).hold = hold
		c.Queue, c.Size = 20, 10
	})
	flushed := make(chan error, 1)
	b.record(t, told("a"))
	go func() { flushed <- b.sender.ForceFlush(t.Context()) }()
	isFlushed := func() bool {
		select {
		case err := <-flushed:
			require.NoError(t, err)
			return true
		default:
			return false
		}
	}
	for limit := time.Now().Add(20 * time.Second); !isFlushed(); { // there is always more while one is under way
		require.True(t, time.Now().Before(limit), "what comes later is waited for")
		for range 30 {
			b.record(t, told("a"))
		}
		hold <- struct{}{}
		require.NoError(t, <-b.errs)
	}
	assert.Positive(t, b.dropped.Load(), "before the end")
	close(hold)
	b.shutdown(t)
	small := 0
	for _, size := range b.collector.sizes() {
		if size < 10 {
			small++
		}
	}
	assert.LessOrEqual(t, small, 2, "the one that was flushed, and the last")
}

func TestShutdownGivesUpWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *otlpspan.Config) { c.Client.(*collector).hold = make(chan struct{}) })
	for range 250 {
		b.record(t, told("a"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.sender.Shutdown(ctx), context.Canceled)
	assert.True(t, b.collector.stopped)
	b.record(t, told("late"))
	assert.EqualValues(t, 250, b.made.Load(), "nobody takes it any more")
}

func TestAnUploadThatHangsEndsWithItsTimeout(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *otlpspan.Config) {
		c.Client.(*collector).hold = make(chan struct{})
		c.Size, c.Timeout = 1, time.Millisecond
	})
	b.record(t, told("a"))
	require.ErrorIs(t, <-b.errs, context.DeadlineExceeded)
	b.shutdown(t)
}

func TestManyAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *otlpspan.Config) { c.Queue, c.Delay = 100_000, time.Millisecond })
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 1000 {
				b.record(t, told("a"))
			}
		})
	}
	all.Wait()
	b.shutdown(t)
	ids := make(map[string]bool)
	for _, span := range b.collector.spans() {
		ids[string(span.GetSpanId())] = true
	}
	assert.Len(t, ids, 20_000)
}

func TestTextThatIsNotUTF8DoesNotSinkItsBatch(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	s := told("bad \xff name")
	s.Attributes = []attribute.KeyValue{attribute.String("key", "\xc3\x28"), attribute.StringSlice("list", []string{"ok", "\xff"})}
	b.record(t, s)
	b.record(t, told("good"))
	b.shutdown(t)
	require.NoError(t, <-b.errs)
	spans := b.collector.spans()
	require.Len(t, spans, 2)
	assert.Equal(t, "bad \uFFFD name", spans[0].GetName())
	assert.Equal(t, "\uFFFD(", spans[0].GetAttributes()[0].GetValue().GetStringValue())
	assert.Equal(t, "\uFFFD", spans[0].GetAttributes()[1].GetValue().GetArrayValue().GetValues()[1].GetStringValue())
	assert.Equal(t, "good", spans[1].GetName())
}

func TestLongTextsAreWhole(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	lengths := []int{0, 1, 100, 127, 128, 129, 16_383, 16_384, 16_385, 3_000_000}
	for _, n := range lengths {
		s := told(strings.Repeat("n", n))
		s.Attributes = []attribute.KeyValue{attribute.String("key", strings.Repeat("v", n))}
		b.record(t, s)
	}
	b.shutdown(t)
	spans := b.collector.spans()
	require.Len(t, spans, len(lengths))
	for i, n := range lengths {
		assert.Len(t, spans[i].GetName(), n)
		assert.Len(t, spans[i].GetAttributes()[0].GetValue().GetStringValue(), n)
	}
}

func TestASpanThatIsOverCostsNoAllocation(t *testing.T) { //nolint:paralleltest // it counts the allocations of the process
	b := setup(t, func(c *otlpspan.Config) { c.Queue, c.Size = 1_000_000, 1_000_000 })
	s := told("a")
	s.Parent = trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, Remote: true,
	})
	s.Attributes = []attribute.KeyValue{attribute.String("correlation_id", "x"), attribute.Int("attempt", 1)}
	s.Links = []trace.Link{{SpanContext: s.Parent}}
	for range 2 { // room for what is measured, in both of the batches that take turns
		for range 10_000 {
			b.record(t, s)
		}
		require.NoError(t, b.sender.ForceFlush(t.Context()))
	}
	assert.Zero(t, testing.AllocsPerRun(1000, func() { b.record(t, s) }))
	b.shutdown(t)
}
