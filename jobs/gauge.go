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
	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/telemetry"
)

const (
	// sampleEvery is how old the gauges may be; sampleLimit is what a statement of theirs may take, and sampleMax what it
	// counts up to.
	sampleEvery = 15 * time.Second
	sampleLimit = time.Second
	sampleMax   = 100_000
)

// sampler reads the gauges, for all scrapes at once. What it has seen once it shows as zero when it is gone.
type sampler struct {
	runner *Runner
	shown  telemetry.Sample
	missed [3]int

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

// take reads each part by itself: one that takes too long must not keep the others.
func (s *sampler) take(ctx context.Context) {
	s.part(ctx, 0, s.readQueues, func() { s.shown.Queues = nil })
	s.part(ctx, 1, s.readTasks, func() { s.shown.Tasks = nil })
	s.part(ctx, 2, s.readReady, func() { s.shown.Ready = nil })
	sample := s.shown
	s.runner.telemetry.Gauges.Show(&sample)
}

// part reads one part. After the second time in a row that it cannot be read it shows nothing: a stale value is worse than a
// gap.
func (s *sampler) part(ctx context.Context, i int, read func(context.Context, *dbsqlc.Queries) error, hide func()) {
	r := s.runner
	ctx, cancel := context.WithTimeout(ctx, 3*sampleLimit)
	defer cancel()
	err := db.InSnapshot(ctx, r.worker, "read gauges", func(ctx context.Context, tx pgx.Tx) error {
		q := r.engine.River.Queries(tx)
		if err := q.TxStatementLimit(ctx, strconv.FormatInt(sampleLimit.Milliseconds(), 10)); err != nil {
			return err //nolint:wrapcheck // InSnapshot names it
		}
		return read(ctx, q)
	})
	if err == nil {
		s.missed[i] = 0
		return
	}
	if ctx.Err() == nil {
		r.telemetry.Gauges.Failed(ctx)
		r.logger.DebugContext(ctx, "read gauges", slog.Any("error", err))
	}
	if s.missed[i]++; s.missed[i] > 1 {
		hide()
	}
}

func (s *sampler) readQueues(ctx context.Context, q *dbsqlc.Queries) error {
	rows, err := q.QueueDepths(ctx, sampleMax)
	if err != nil {
		return err //nolint:wrapcheck // InSnapshot names it
	}
	depths, ages := make(map[string]int64), make(map[string]time.Duration)
	for _, row := range rows {
		depths[row.Queue], ages[row.Queue] = row.Depth, time.Duration(row.OldestSeconds*float64(time.Second))
	}
	s.shown.Queues = nil
	for _, queue := range seen(s.queues, depths) {
		namespace := queue
		if queue == orchestration.Queue {
			namespace = ""
		}
		_, worked := s.runner.config.Namespaces[queue]
		s.shown.Queues = append(s.shown.Queues, telemetry.QueueSample{
			Queue: queue, Namespace: namespace, Depth: depths[queue], Oldest: ages[queue], Worked: worked,
		})
	}
	return nil
}

func (s *sampler) readTasks(ctx context.Context, q *dbsqlc.Queries) error {
	rows, err := q.TaskCounts(ctx, sampleMax)
	if err != nil {
		return err //nolint:wrapcheck // InSnapshot names it
	}
	counts := make(map[[2]string]int64)
	for _, row := range rows {
		counts[[2]string{row.Namespace, row.State}] = row.N
	}
	s.shown.Tasks = nil
	for _, key := range seen(s.tasks, counts) {
		s.shown.Tasks = append(s.shown.Tasks, telemetry.TaskSample{Namespace: key[0], State: key[1], Count: counts[key]})
	}
	return nil
}

func (s *sampler) readReady(ctx context.Context, q *dbsqlc.Queries) error {
	rows, err := q.StepReadyCounts(ctx, sampleMax)
	if err != nil {
		return err //nolint:wrapcheck // InSnapshot names it
	}
	counts := make(map[string]int64)
	for _, row := range rows {
		counts[row.Namespace] = row.N
	}
	s.shown.Ready = nil
	for _, namespace := range seen(s.ready, counts) {
		s.shown.Ready = append(s.shown.Ready, telemetry.ReadySample{Namespace: namespace, Count: counts[namespace]})
	}
	return nil
}

// seen adds what there is to what was seen before, and returns all of it.
func seen[K comparable](before map[K]bool, now map[K]int64) []K {
	for key := range now {
		before[key] = true
	}
	return slices.Collect(maps.Keys(before))
}
