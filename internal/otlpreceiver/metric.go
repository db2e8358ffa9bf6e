package otlpreceiver

import (
	"time"

	"go.opentelemetry.io/otel/trace"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
)

// Kind is the kind of a metric.
type Kind string

// The kinds, by the names that the catalogue of package telemetry has for them.
const (
	// KindCounter is a sum that only grows.
	KindCounter Kind = "counter"
	// KindUpDownCounter is a sum that may fall.
	KindUpDownCounter Kind = "updowncounter"
	// KindGauge is a value of the moment.
	KindGauge Kind = "gauge"
	// KindHistogram is a distribution.
	KindHistogram Kind = "histogram"
)

// Metric is the state of one metric, over all processes that report it.
type Metric struct {
	Name, Unit, Description string
	Kind                    Kind
	// Scope is the name of the meter.
	Scope string
	// Points has one entry for each set of attributes.
	Points []Point
	// Resources are the processes that reported it.
	Resources []map[string]any
}

// Point is the state of a metric for one set of attributes.
type Point struct {
	Attributes map[string]any
	// Time is when the process read it.
	Time time.Time
	// Value is the sum of a counter over all processes, and the largest value of a gauge: what each process reads from the
	// database is the same in all.
	Value float64
	// Sum is that of a histogram's values, and of a gauge over all processes.
	Sum float64
	// Count, Bounds and Buckets are a histogram's: Buckets has one entry more than Bounds, and they are not cumulated.
	Count     uint64
	Bounds    []float64
	Buckets   []uint64
	Exemplars []Exemplar
}

// Exemplar is a measurement that stands for those of its point.
type Exemplar struct {
	Value float64
	Time  time.Time
	// Attributes are those that the point does not have.
	Attributes map[string]any
	TraceID    trace.TraceID
	SpanID     trace.SpanID
}

// seriesKey tells series apart. Attributes and process are canonical.
type seriesKey struct {
	metric, attributes, process string
}

// series is what one process reported for one set of attributes.
type series struct {
	metric   Metric
	point    Point
	resource map[string]any
}

func (r *Receiver) keepMetrics(batch []*metricspb.ResourceMetrics) {
	var all []series
	for _, process := range batch {
		resource := attributes(process.GetResource().GetAttributes())
		for _, scope := range process.GetScopeMetrics() {
			for _, metric := range scope.GetMetrics() {
				m, points := newMetric(metric)
				m.Scope = scope.GetScope().GetName()
				for i := range points {
					all = append(all, series{metric: m, point: points[i], resource: resource})
				}
			}
		}
	}
	// Whether points replace those before them or add to them is the process's choice for the whole metric.
	deltas := deltaMetrics(batch)
	r.keep(func() {
		for i := range all {
			r.keepSeries(&all[i], deltas[all[i].metric.Name])
		}
	})
}

func (r *Receiver) keepSeries(s *series, delta bool) {
	key := seriesKey{s.metric.Name, canonical(s.point.Attributes), process(s.resource)}
	before, ok := r.series[key]
	switch {
	case ok && delta:
		merge(&s.point, &before.point, s.metric.Kind)
	case ok && s.point.Time.Before(before.point.Time):
		return // a report that its process gave up may arrive after the one that followed
	}
	r.series[key] = *s
}

// process identifies the process of a resource.
func process(resource map[string]any) string {
	if id, ok := resource["service.instance.id"].(string); ok {
		return id
	}
	return canonical(resource)
}

func deltaMetrics(batch []*metricspb.ResourceMetrics) map[string]bool {
	deltas := make(map[string]bool)
	for _, process := range batch {
		for _, scope := range process.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				delta := metricspb.AggregationTemporality_AGGREGATION_TEMPORALITY_DELTA
				deltas[m.GetName()] = m.GetSum().GetAggregationTemporality() == delta ||
					m.GetHistogram().GetAggregationTemporality() == delta ||
					m.GetExponentialHistogram().GetAggregationTemporality() == delta
			}
		}
	}
	return deltas
}

func newMetric(from *metricspb.Metric) (Metric, []Point) {
	m := Metric{Name: from.GetName(), Unit: from.GetUnit(), Description: from.GetDescription()}
	switch data := from.GetData().(type) {
	case *metricspb.Metric_Sum:
		m.Kind = KindUpDownCounter
		if data.Sum.GetIsMonotonic() {
			m.Kind = KindCounter
		}
		return m, numbers(data.Sum.GetDataPoints())
	case *metricspb.Metric_Gauge:
		m.Kind = KindGauge
		return m, numbers(data.Gauge.GetDataPoints())
	case *metricspb.Metric_Histogram:
		m.Kind = KindHistogram
		return m, histograms(data.Histogram.GetDataPoints())
	case *metricspb.Metric_ExponentialHistogram:
		m.Kind = KindHistogram
		return m, exponentials(data.ExponentialHistogram.GetDataPoints())
	}
	return m, nil
}

func numbers(from []*metricspb.NumberDataPoint) []Point {
	points := make([]Point, 0, len(from))
	for _, p := range from {
		value := p.GetAsDouble()
		if _, whole := p.GetValue().(*metricspb.NumberDataPoint_AsInt); whole {
			value = float64(p.GetAsInt())
		}
		points = append(points, Point{
			Attributes: attributes(p.GetAttributes()), Time: instant(p.GetTimeUnixNano()),
			Value: value, Sum: value, Exemplars: exemplars(p.GetExemplars()),
		})
	}
	return points
}

func histograms(from []*metricspb.HistogramDataPoint) []Point {
	points := make([]Point, 0, len(from))
	for _, p := range from {
		points = append(points, Point{
			Attributes: attributes(p.GetAttributes()), Time: instant(p.GetTimeUnixNano()),
			Count: p.GetCount(), Sum: p.GetSum(), Bounds: p.GetExplicitBounds(),
			Buckets: p.GetBucketCounts(), Exemplars: exemplars(p.GetExemplars()),
		})
	}
	return points
}

// exponentials have no buckets that could be added up.
func exponentials(from []*metricspb.ExponentialHistogramDataPoint) []Point {
	points := make([]Point, 0, len(from))
	for _, p := range from {
		points = append(points, Point{
			Attributes: attributes(p.GetAttributes()), Time: instant(p.GetTimeUnixNano()),
			Count: p.GetCount(), Sum: p.GetSum(), Exemplars: exemplars(p.GetExemplars()),
		})
	}
	return points
}

func exemplars(from []*metricspb.Exemplar) []Exemplar {
	out := make([]Exemplar, 0, len(from))
	for _, e := range from {
		value := e.GetAsDouble()
		if _, whole := e.GetValue().(*metricspb.Exemplar_AsInt); whole {
			value = float64(e.GetAsInt())
		}
		out = append(out, Exemplar{
			Value: value, Time: instant(e.GetTimeUnixNano()), Attributes: attributes(e.GetFilteredAttributes()),
			TraceID: traceID(e.GetTraceId()), SpanID: spanID(e.GetSpanId()),
		})
	}
	return out
}
