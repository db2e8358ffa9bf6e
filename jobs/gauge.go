package jobs

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/telemetry"
)

const (
	// sampleEvery is how old the gauges may be; sampleLimit is what a statement of theirs may take.
	sampleEvery = 15 * time.Second
	sampleLimit = time.Second
)

// sampler reads the gauges, for all scrapes at once. What it has seen once it shows as zero when it is gone.
type sampler struct {
	runner *Runner
	queues map[string]bool
	tasks  map[[2]string]bool
	ready  map[string]bool
}

func newSampler(r *Runner) *sampler {
	s := &sampler{
		runner: r, queues: map[string]bool{orchestration.Queue: true}, tasks: make(map[[2]string]bool), ready: make(map[string]bool),
	}
	for namespace := range r.config.Namespaces {
		s.queues[namespace], s.ready[namespace] = true, true
		for _, state := range []string{"pending", "steps_in_process"} {
			s.tasks[[2]string{namespace, state}] = true
		}
	}
	return s
}

func (s *sampler) run(ctx context.Context) {
	s.take(ctx)
	every(ctx, sampleEvery, func() { s.take(ctx) })
}

func (s *sampler) take(ctx context.Context) {
	gauges := s.runner.telemetry.Gauges
	ctx, cancel := context.WithTimeout(ctx, 5*sampleLimit)
	defer cancel()
	sample, err := s.read(ctx)
	if err != nil {
		gauges.Failed(ctx)
		s.runner.logger.DebugContext(ctx, "read gauges", slog.Any("error", err))
		return
	}
	gauges.Show(sample)
}

func (s *sampler) read(ctx context.Context) (*telemetry.Sample, error) {
	r, sample := s.runner, &telemetry.Sample{}
	err := db.InSnapshot(ctx, r.worker, "read gauges", func(ctx context.Context, tx pgx.Tx) error {
		q := r.engine.River.Queries(tx)
		if err := q.TxStatementLimit(ctx, strconv.FormatInt(sampleLimit.Milliseconds(), 10)); err != nil {
			return err //nolint:wrapcheck // InSnapshot names it
		}
		queues, err := q.QueueDepths(ctx)
		if err != nil {
			return err //nolint:wrapcheck // InSnapshot names it
		}
		tasks, err := q.TaskCounts(ctx)
		if err != nil {
			return err //nolint:wrapcheck // InSnapshot names it
		}
		ready, err := q.StepReadyCounts(ctx)
		if err != nil {
			return err //nolint:wrapcheck // InSnapshot names it
		}
		depths, ages := make(map[string]int64), make(map[string]time.Duration)
		for _, row := range queues {
			depths[row.Queue], ages[row.Queue] = row.Depth, time.Duration(row.OldestSeconds*float64(time.Second))
		}
		counts := make(map[[2]string]int64)
		for _, row := range tasks {
			counts[[2]string{row.Namespace, row.State}] = row.N
		}
		steps := make(map[string]int64)
		for _, row := range ready {
			steps[row.Namespace] = row.N
		}
		s.fill(sample, depths, ages, counts, steps)
		return nil
	})
	return sample, err
}

func (s *sampler) fill(
	sample *telemetry.Sample, depths map[string]int64, ages map[string]time.Duration, tasks map[[2]string]int64, ready map[string]int64,
) {
	for _, queue := range seen(s.queues, depths) {
		namespace := queue
		if queue == orchestration.Queue {
			namespace = ""
		}
		_, worked := s.runner.config.Namespaces[queue]
		sample.Queues = append(sample.Queues, telemetry.QueueSample{
			Queue: queue, Namespace: namespace, Depth: depths[queue], Oldest: ages[queue], Worked: worked,
		})
	}
	for _, key := range seen(s.tasks, tasks) {
		sample.Tasks = append(sample.Tasks, telemetry.TaskSample{Namespace: key[0], State: key[1], Count: tasks[key]})
	}
	for _, namespace := range seen(s.ready, ready) {
		sample.Ready = append(sample.Ready, telemetry.ReadySample{Namespace: namespace, Count: ready[namespace]})
	}
}

// seen adds what there is to what was seen before, and returns all of it.
func seen[K comparable](before map[K]bool, now map[K]int64) []K {
	for key := range now {
		before[key] = true
	}
	return slices.Collect(maps.Keys(before))
}
