package telemetry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const (
	// maxLabels is the largest number of labels of a metric, correlation_id apart.
	maxLabels = 3
	// maxSets bounds the prepared options of one instrument; what comes later is prepared each time.
	maxSets = 4096
)

// values are the values of an instrument's labels, in the order of its catalogue entry, correlation_id left out.
type values [maxLabels]string

// sets prepares the options of measurements: once for each combination of values.
type sets[O any] struct {
	keys []attribute.Key
	// correlates: correlation_id is a label.
	correlates bool
	guards     map[attribute.Key]*names
	option     func(attribute.Set) O
	// buckets is how many exemplars the instrument holds of a combination.
	buckets int
	// every: all measurements are offered as exemplars.
	every bool

	// known is read with each measurement, by all goroutines, and soon complete: it is copied to be changed, under mu.
	known atomic.Pointer[map[values]*set[O]]
	mu    sync.Mutex
}

// set is one combination.
type set[O any] struct {
	options []O
	// shown is when each bucket was last offered an exemplar, in Unix nanoseconds.
	shown []atomic.Int64
	// every: all measurements are offered.
	every bool
}

func newSets[O any](f *factory, m *Metric, option func(attribute.Set) O) *sets[O] {
	s := &sets[O]{guards: f.guards, every: f.every, option: option, buckets: len(m.Bounds) + 1}
	s.known.Store(&map[values]*set[O]{})
	for _, label := range m.Labels {
		if label == labelCorrelation {
			s.correlates = true
			continue
		}
		s.keys = append(s.keys, attribute.Key(label))
	}
	return s
}

// of is a combination. It is made at its first use, and kept while there is room.
func (s *sets[O]) of(v values) *set[O] {
	all := *s.known.Load()
	if known, ok := all[v]; ok {
		return known
	}
	made := &set[O]{[]O{s.option(attribute.NewSet(s.attributes(v)...))}, make([]atomic.Int64, s.buckets), s.every}
	if len(all) >= maxSets {
		return made
	}
	s.add(v, made)
	return made
}

// add keeps a combination, unless another goroutine has just kept it.
func (s *sets[O]) add(v values, made *set[O]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := maps.Clone(*s.known.Load()); all[v] == nil {
		all[v] = made
		s.known.Store(&all)
	}
}

// exemplarInterval is how often a bucket is offered an exemplar. It holds one or a few, and is looked at once a minute.
const exemplarInterval = time.Second

// exemplar tells whether a measurement of what a span did is to be offered as an exemplar of its bucket, and returns the
// context to measure in. An offer costs as much as the measurement, and most of those of a minute would be for nothing.
//
//nolint:contextcheck,nolintlint // no cancellation: instruments only look for a span
func (s *set[O]) exemplar(ctx context.Context, of trace.SpanContext, bucket int) (_ context.Context, offered bool) {
	if !of.IsSampled() {
		return ctx, false
	}
	if s.every {
		return trace.ContextWithSpanContext(ctx, of), true
	}
	now := time.Now().UnixNano()
	last := s.shown[bucket].Load()
	if now-last < int64(exemplarInterval) || !s.shown[bucket].CompareAndSwap(last, now) {
		return nowhere, false
	}
	return trace.ContextWithSpanContext(ctx, of), true
}

// correlated are the options of a combination for one task. They are made for each measurement: few tasks have them.
func (s *sets[O]) correlated(v values, id uuid.UUID) O {
	return s.option(attribute.NewSet(append(s.attributes(v), attribute.String(labelCorrelation, id.String()))...))
}

func (s *sets[O]) attributes(v values) []attribute.KeyValue {
	attributes := make([]attribute.KeyValue, len(s.keys), len(s.keys)+1)
	for i, key := range s.keys {
		attributes[i] = key.String(s.guards[key].admit(v[i]))
	}
	return attributes
}

// names lets a bounded number of values of a label through: what users name must not grow without limit.
type names struct {
	limit int

	mu   sync.Mutex
	seen map[string]struct{}
}

// otherName stands for the values past the limit.
const otherName = "other"

func (n *names) admit(value string) string {
	value = strings.ToValidUTF8(value, "\uFFFD") // an exporter would refuse the whole report
	if n == nil {
		return value
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.seen[value]; ok {
		return value
	}
	if len(n.seen) >= n.limit {
		return otherName
	}
	if n.seen == nil {
		n.seen = make(map[string]struct{})
	}
	n.seen[value] = struct{}{}
	return value
}

// counter is an instrument of [KindCounter].
type counter struct {
	metric.Int64Counter
	sets *sets[metric.AddOption]
}

// add counts n. It allocates nothing once the combination is known.
func (c *counter) add(ctx context.Context, n int64, v values) {
	if n == 0 || !c.Enabled(ctx) {
		return
	}
	set := c.sets.of(v)
	ctx, _ = set.exemplar(ctx, trace.SpanContextFromContext(ctx), 0)
	c.Add(ctx, n, set.options...)
}

// countFor counts one for what a span of a task did; see addFor.
func (c *counter) countFor(ctx context.Context, task *Task, of trace.SpanContext, v values) {
	c.addFor(ctx, 1, task, of, v)
}

// addFor counts n for what a span of a task did: with the task's correlation_id where that is a label, or where the measurement
// is an exemplar.
func (c *counter) addFor(ctx context.Context, n int64, task *Task, of trace.SpanContext, v values) {
	if !c.Enabled(ctx) {
		return
	}
	if task.labelled && c.sets.correlates {
		c.Add(trace.ContextWithSpanContext(ctx, of), n, c.sets.correlated(v, task.CorrelationID))
		return
	}
	set := c.sets.of(v)
	ctx, offered := set.exemplar(ctx, of, 0)
	if offered && c.sets.correlates && task.telemetry.gate.mode == LabelExemplars {
		c.Add(ctx, n, c.sets.correlated(v, task.CorrelationID))
		return
	}
	c.Add(ctx, n, set.options...)
}

// histogram is an instrument of [KindHistogram].
type histogram struct {
	metric.Float64Histogram
	sets   *sets[metric.RecordOption]
	bounds []float64
}

// bucket is the number of the bucket that a value falls into.
func (h *histogram) bucket(value float64) int {
	i, _ := slices.BinarySearch(h.bounds, value)
	return i
}

// record records a value.
func (h *histogram) record(ctx context.Context, value float64, v values) {
	if !h.Enabled(ctx) {
		return
	}
	set := h.sets.of(v)
	ctx, _ = set.exemplar(ctx, trace.SpanContextFromContext(ctx), h.bucket(value))
	h.Record(ctx, value, set.options...)
}

// recordFor records a duration of what a span of a task did; see addFor.
func (h *histogram) recordFor(ctx context.Context, task *Task, of trace.SpanContext, d time.Duration, v values) {
	if !h.Enabled(ctx) {
		return
	}
	value := milliseconds(d)
	if task.labelled && h.sets.correlates {
		h.Record(trace.ContextWithSpanContext(ctx, of), value, h.sets.correlated(v, task.CorrelationID))
		return
	}
	set := h.sets.of(v)
	ctx, offered := set.exemplar(ctx, of, h.bucket(value))
	if offered && h.sets.correlates && task.telemetry.gate.mode == LabelExemplars {
		h.Record(ctx, value, h.sets.correlated(v, task.CorrelationID))
		return
	}
	h.Record(ctx, value, set.options...)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// factory makes instruments from the catalogue, by name.
type factory struct {
	meter   metric.Meter
	entries map[string]*Metric
	guards  map[attribute.Key]*names
	every   bool
	err     error
}

func newFactory(provider metric.MeterProvider, every bool) *factory {
	f := &factory{meter: provider.Meter(Scope), every: every, entries: make(map[string]*Metric), guards: make(map[attribute.Key]*names)}
	catalogue := Catalogue()
	for i := range catalogue {
		f.entries[catalogue[i].Name] = &catalogue[i]
	}
	for key, limit := range map[attribute.Key]int{
		labelNamespace: 256, labelTaskType: 256, labelStepName: 256, labelHandler: 256, labelQueue: 256, labelMessage: 64,
		labelQuery: 1024, labelTransaction: 64,
	} {
		f.guards[key] = &names{limit: limit}
	}
	return f
}

// entry takes a metric out of the catalogue, so that each is made once.
func (f *factory) entry(name string, kind Kind) *Metric {
	m := f.entries[name]
	if m == nil || m.Kind != kind {
		f.fail(fmt.Errorf("instrument %s: no %s of that name in the catalogue", name, kind))
		return &Metric{Name: name, Kind: kind}
	}
	delete(f.entries, name)
	return m
}

func (f *factory) fail(err error) {
	if f.err == nil && err != nil {
		f.err = err
	}
}

func (f *factory) counter(name string) *counter {
	m := f.entry(name, KindCounter)
	c, err := f.meter.Int64Counter(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Help))
	f.fail(err)
	return &counter{c, newSets(f, m, func(s attribute.Set) metric.AddOption { return metric.WithAttributeSet(s) })}
}

func (f *factory) histogram(name string) *histogram {
	m := f.entry(name, KindHistogram)
	h, err := f.meter.Float64Histogram(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Help),
		metric.WithExplicitBucketBoundaries(m.Bounds...))
	f.fail(err)
	return &histogram{h, newSets(f, m, func(s attribute.Set) metric.RecordOption { return metric.WithAttributeSet(s) }), m.Bounds}
}

func (f *factory) gauge(name string) *gauge {
	m := f.entry(name, KindGauge)
	g, err := f.meter.Int64ObservableGauge(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Help))
	f.fail(err)
	return &gauge{g, newSets(f, m, func(s attribute.Set) metric.ObserveOption { return metric.WithAttributeSet(s) })}
}

// gauge is an instrument of [KindGauge].
type gauge struct {
	metric.Int64ObservableGauge
	sets *sets[metric.ObserveOption]
}

// observe reports a value in a callback.
func (g *gauge) observe(o metric.Observer, value int64, v values) {
	o.ObserveInt64(g.Int64ObservableGauge, value, g.sets.of(v).options...)
}

// unused are the catalogue's metrics that no instrument was made for.
func (f *factory) unused() []string {
	return slices.Sorted(maps.Keys(f.entries))
}
