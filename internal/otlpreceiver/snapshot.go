package otlpreceiver

import (
	"cmp"
	"maps"
	"slices"
)

// Snapshot is what had arrived at one moment. It does not change any more.
type Snapshot struct {
	// Spans and Logs are in the order of their arrival.
	Spans []Span
	Logs  []Log
	// Batches is how many requests were stored, of all signals.
	Batches int

	series map[seriesKey]series
}

// Metrics are the metrics by name: the last report of each process, added up over the processes. A series that a process
// does not report any more keeps its last value.
func (s *Snapshot) Metrics() map[string]Metric {
	out := make(map[string]Metric)
	keys := slices.SortedFunc(maps.Keys(s.series), func(a, b seriesKey) int {
		return cmp.Or(cmp.Compare(a.metric, b.metric), cmp.Compare(a.attributes, b.attributes), cmp.Compare(a.process, b.process))
	})
	var last seriesKey
	seen := make(map[[2]string]bool)
	for _, key := range keys {
		from := s.series[key]
		m, ok := out[key.metric]
		if !ok {
			m = from.metric
		}
		if by := [2]string{key.metric, key.process}; !seen[by] {
			seen[by] = true
			m.Resources = append(m.Resources, from.resource)
		}
		if ok && last.metric == key.metric && last.attributes == key.attributes {
			merge(&m.Points[len(m.Points)-1], &from.point, m.Kind)
		} else {
			m.Points = append(m.Points, from.point)
		}
		out[key.metric], last = m, key
	}
	return out
}

// Total adds up the points of a metric that have all the given labels: the values of a counter, the counts of a histogram, the
// values of a gauge. Nil labels are those of every point.
func (s *Snapshot) Total(metric string, labels map[string]string) float64 {
	m := s.Metrics()[metric]
	var total float64
	for i := range m.Points {
		switch p := &m.Points[i]; {
		case !p.has(labels):
		case m.Kind == KindHistogram:
			total += float64(p.Count)
		default:
			total += p.Value
		}
	}
	return total
}

func (p *Point) has(labels map[string]string) bool {
	for key, want := range labels {
		if got, ok := p.Attributes[key].(string); !ok || got != want {
			return false
		}
	}
	return true
}

// merge adds another process's point, or one process's next delta.
func merge(into, from *Point, kind Kind) {
	into.Sum += from.Sum
	into.Count += from.Count
	into.Exemplars = slices.Concat(into.Exemplars, from.Exemplars)
	if kind == KindGauge {
		into.Value = max(into.Value, from.Value)
	} else {
		into.Value += from.Value
	}
	if !slices.Equal(into.Bounds, from.Bounds) {
		into.Bounds, into.Buckets = nil, nil
		return
	}
	into.Buckets = slices.Clone(into.Buckets)
	for i := range min(len(into.Buckets), len(from.Buckets)) {
		into.Buckets[i] += from.Buckets[i]
	}
}
