package telemetry

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// Sample is what the gauges show: the state of the database at one time.
type Sample struct {
	Queues []QueueSample
	Tasks  []TaskSample
	Ready  []ReadySample
}

// QueueSample is a River queue.
type QueueSample struct {
	Queue string
	// Namespace is empty for the orchestrators' queue.
	Namespace string
	// Depth is how many jobs could be fetched, Oldest how long the oldest of them waits.
	Depth  int64
	Oldest time.Duration
	// Worked: this process works the queue.
	Worked bool
}

// TaskSample counts open tasks.
type TaskSample struct {
	Namespace, State string
	Count            int64
}

// ReadySample counts steps that wait for a worker.
type ReadySample struct {
	Namespace string
	Count     int64
}

// Gauges shows the newest sample, and what runs in this process.
type Gauges struct {
	meter                                                           metric.Meter
	tasksActive, stepsReady, running, workerDepth, depth, oldestAge *gauge
	sampleFailures                                                  *counter

	sample atomic.Pointer[Sample]

	mu        sync.Mutex
	executing map[values]*int64Gauge
}

// int64Gauge is a number that goes up and down.
type int64Gauge struct{ n atomic.Int64 }

func (g *int64Gauge) add(n int64) { g.n.Add(n) }

func newGauges(f *factory) *Gauges {
	g := &Gauges{
		meter:          f.meter,
		tasksActive:    f.gauge("tasker.tasks.active"),
		stepsReady:     f.gauge("tasker.steps.ready"),
		running:        f.gauge("tasker.steps.active_executions"),
		workerDepth:    f.gauge("tasker.worker.queue.depth"),
		depth:          f.gauge("tasker.queue.depth"),
		oldestAge:      f.gauge("tasker.queue.oldest_message.age"),
		sampleFailures: f.counter("tasker.gauges.failures.total"),
	}
	g.executing = make(map[values]*int64Gauge)
	return g
}

// executions is the number of handlers that run for a callable. Those whose names are not admitted any more share one.
func (g *Gauges) executions(namespace, handler string) *int64Gauge {
	guards := g.running.sets.guards
	v := values{guards[labelNamespace].admit(namespace), guards[labelHandler].admit(handler)}
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.executing[v]
	if n == nil {
		n = &int64Gauge{}
		g.executing[v] = n
	}
	return n
}

// Show replaces the sample.
func (g *Gauges) Show(sample *Sample) { g.sample.Store(sample) }

// Failed counts a part of the sample that could not be read.
func (g *Gauges) Failed(ctx context.Context) { g.sampleFailures.add(ctx, 1, values{}) }

// Observe reports the gauges whenever metrics are collected, until stop is called.
func (g *Gauges) Observe() (stop func() error, err error) {
	registration, err := g.meter.RegisterCallback(g.collect, g.tasksActive.Int64ObservableGauge, g.stepsReady.Int64ObservableGauge,
		g.running.Int64ObservableGauge, g.workerDepth.Int64ObservableGauge, g.depth.Int64ObservableGauge, g.oldestAge.Int64ObservableGauge)
	if err != nil {
		return nil, err //nolint:wrapcheck // the meter names the instrument
	}
	return registration.Unregister, nil
}

func (g *Gauges) collect(_ context.Context, o metric.Observer) error {
	g.mu.Lock()
	for v, n := range g.executing {
		g.running.observe(o, n.n.Load(), v)
	}
	g.mu.Unlock()
	sample := g.sample.Load()
	if sample == nil {
		return nil
	}
	for _, q := range sample.Queues {
		g.depth.observe(o, q.Depth, values{q.Queue, q.Namespace})
		g.oldestAge.observe(o, q.Oldest.Milliseconds(), values{q.Queue})
		if q.Worked && q.Namespace != "" {
			g.workerDepth.observe(o, q.Depth, values{q.Namespace})
		}
	}
	for _, t := range sample.Tasks {
		g.tasksActive.observe(o, t.Count, values{t.State, t.Namespace})
	}
	for _, r := range sample.Ready {
		g.stepsReady.observe(o, r.Count, values{r.Namespace})
	}
	return nil
}
