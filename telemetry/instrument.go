package telemetry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
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
	keys   []attribute.Key
	guards map[attribute.Key]*names
	option func(attribute.Set) O

	mu    sync.RWMutex
	known map[values][]O
}

func newSets[O any](m *Metric, guards map[attribute.Key]*names, option func(attribute.Set) O) *sets[O] {
	s := &sets[O]{guards: guards, option: option, known: make(map[values][]O)}
	for _, label := range m.Labels {
		if label != labelCorrelation {
			s.keys = append(s.keys, attribute.Key(label))
		}
	}
	return s
}

// options are those of a combination. They are made at its first use.
func (s *sets[O]) options(v values) []O {
	s.mu.RLock()
	options, ok := s.known[v]
	s.mu.RUnlock()
	if ok {
		return options
	}
	options = []O{s.option(attribute.NewSet(s.attributes(v)...))}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) < maxSets {
		s.known[v] = options
	}
	return options
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
	if n != 0 && c.Enabled(ctx) {
		c.Add(ctx, n, c.sets.options(v)...)
	}
}

// countFor counts one for a task: with its correlation_id where that is a label.
func (c *counter) countFor(ctx context.Context, task *Task, v values) {
	switch {
	case !c.Enabled(ctx):
	case task.correlated(ctx):
		c.Add(ctx, 1, c.sets.correlated(v, task.CorrelationID))
	default:
		c.Add(ctx, 1, c.sets.options(v)...)
	}
}

// histogram is an instrument of [KindHistogram].
type histogram struct {
	metric.Float64Histogram
	sets *sets[metric.RecordOption]
}

// record records a value.
func (h *histogram) record(ctx context.Context, value float64, v values) {
	if h.Enabled(ctx) {
		h.Record(ctx, value, h.sets.options(v)...)
	}
}

// recordFor records a duration of a task: with its correlation_id where that is a label.
func (h *histogram) recordFor(ctx context.Context, task *Task, d time.Duration, v values) {
	switch {
	case !h.Enabled(ctx):
	case task.correlated(ctx):
		h.Record(ctx, milliseconds(d), h.sets.correlated(v, task.CorrelationID))
	default:
		h.Record(ctx, milliseconds(d), h.sets.options(v)...)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// factory makes instruments from the catalogue, by name.
type factory struct {
	meter   metric.Meter
	entries map[string]*Metric
	guards  map[attribute.Key]*names
	err     error
}

func newFactory(provider metric.MeterProvider) *factory {
	f := &factory{meter: provider.Meter(Scope), entries: make(map[string]*Metric), guards: make(map[attribute.Key]*names)}
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
	return &counter{c, newSets(m, f.guards, func(s attribute.Set) metric.AddOption { return metric.WithAttributeSet(s) })}
}

func (f *factory) histogram(name string) *histogram {
	m := f.entry(name, KindHistogram)
	h, err := f.meter.Float64Histogram(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Help),
		metric.WithExplicitBucketBoundaries(m.Bounds...))
	f.fail(err)
	return &histogram{h, newSets(m, f.guards, func(s attribute.Set) metric.RecordOption { return metric.WithAttributeSet(s) })}
}

func (f *factory) gauge(name string) *gauge {
	m := f.entry(name, KindGauge)
	g, err := f.meter.Int64ObservableGauge(m.Name, metric.WithUnit(m.Unit), metric.WithDescription(m.Help))
	f.fail(err)
	return &gauge{g, newSets(m, f.guards, func(s attribute.Set) metric.ObserveOption { return metric.WithAttributeSet(s) })}
}

// gauge is an instrument of [KindGauge].
type gauge struct {
	metric.Int64ObservableGauge
	sets *sets[metric.ObserveOption]
}

// observe reports a value in a callback.
func (g *gauge) observe(o metric.Observer, value int64, v values) {
	o.ObserveInt64(g.Int64ObservableGauge, value, g.sets.options(v)...)
}

// unused are the catalogue's metrics that no instrument was made for.
func (f *factory) unused() []string {
	return slices.Sorted(maps.Keys(f.entries))
}
