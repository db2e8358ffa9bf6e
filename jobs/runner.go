package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/db/dbsqlc"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/pgxtrace"
)

// Config describes one process's part in carrying tasks. Every field is required unless its comment gives a default.
type Config struct {
	// ID names this process in leases, attempts and River; unique among live processes.
	ID string
	// Pool is the caller's; the runner makes pools of its own from its configuration.
	Pool   *pgxpool.Pool
	Engine *orchestration.Engine
	// Orchestrate makes this process advance tasks.
	Orchestrate bool
	// Namespaces are the queues that this process works, with the number of steps it runs at once in each.
	Namespaces map[string]int
	// Handlers are the handlers by callable.
	Handlers map[string]Handler
	Logger   *slog.Logger
	// Lease is how long a step stays this process's without a sign of life; it is renewed three times in that time.
	Lease time.Duration
	// Tick is how often the reaper and the promoter look, beside what is known to be due.
	Tick time.Duration
	// ClaimGrace is how long a dispatched step may be without a live carrier before the sweep gives it another.
	ClaimGrace time.Duration
	// StopGrace is how long Stop lets handlers finish before it hands their steps back.
	StopGrace time.Duration
	// PollInterval is River's safety net where a notification is lost.
	PollInterval time.Duration
	// PollOnly does without LISTEN and NOTIFY and without session settings: for PgBouncer in transaction mode.
	PollOnly bool
	// LeaderElectionDisabled leaves River's maintenance to other clients of the same tables.
	LeaderElectionDisabled bool
}

const (
	orchestrationPoolSize = 8
	// workerPoolSize is enough for every claim and result that is under way at once, so that heartbeats and notifications,
	// which share the pool, never wait behind steps.
	workerPoolSize    = 8
	orchestratorSlots = 200
	largestBatch      = 256
	// never is far enough for River's rescuer, which would discard stuck jobs of kinds that this process does not know.
	never = 10 * 365 * 24 * time.Hour
)

// Runner is the running part of a process: its River client, committers, leases and loops.
type Runner struct {
	config    Config
	engine    *orchestration.Engine
	logger    *slog.Logger
	telemetry *telemetry.Telemetry
	pool      *pgxpool.Pool
	worker    *pgxpool.Pool
	carrier   *pgxpool.Pool
	river     *river.Client[pgx.Tx]
	heard     heard
	// unobserve ends what is reported whenever metrics are collected.
	unobserve []func() error

	claims   *committer[orchestration.Claim, *orchestration.Claimed]
	advances *committer[orchestration.Item, stored]
	stores   *committer[orchestration.Item, stored]
	leases   *leases
	notifier *notifier
	promoter *promoter
	// lastChance is full while a step runs that is given up with the next loss.
	lastChance chan struct{}
	// Ended hears of tasks that ended in this process.
	ended func(ids []uuid.UUID)

	// draining: no step is continued; stopping: the grace is over, and steps are handed back.
	draining, stopping atomic.Bool
	cancel             context.CancelFunc
	loops              sync.WaitGroup
}

// NewRunner makes a runner that is not running. ended is called, quickly, with tasks that this process brought to an end.
func NewRunner(ctx context.Context, config Config, ended func(ids []uuid.UUID)) (*Runner, error) {
	if config.Engine.Telemetry == nil {
		nowhere, err := telemetry.New(nil)
		if err != nil {
			return nil, fmt.Errorf("make telemetry: %w", err)
		}
		config.Engine.Telemetry = nowhere
	}
	config.Engine.Holder = orchestration.Holder{Worker: config.ID, Lease: config.Lease}
	r := &Runner{
		config: config, engine: config.Engine, logger: config.Logger, telemetry: config.Engine.Telemetry, ended: ended,
		lastChance: make(chan struct{}, 1),
	}
	if err := r.openPools(ctx); err != nil {
		r.closePools()
		return nil, err
	}
	r.claims = newCommitter("claim", r.commitClaims, r.telemetry.Batch)
	r.advances = newCommitter("advance", r.commitAdvances, r.telemetry.Batch)
	r.advances.failed = r.unsent
	r.stores = r.advances
	if !config.Orchestrate {
		r.stores = newCommitter("result", r.commitStores, r.telemetry.Batch)
		r.stores.failed = r.unsent
	}
	r.leases = newLeases(config.Lease, config.Logger)
	r.leases.renew = r.renew
	r.notifier = newNotifier(r.worker, r.engine, config.Logger)
	r.promoter = newPromoter(r)
	if err := r.newRiver(); err != nil {
		r.closePools()
		return nil, err
	}
	return r, nil
}

// openPools gives each kind of work its own connections, so that none waits behind another.
func (r *Runner) openPools(ctx context.Context) error {
	queues := len(r.config.Namespaces) + 1
	for _, p := range []struct {
		pool **pgxpool.Pool
		name string
		size int
	}{{&r.pool, poolOrchestration, orchestrationPoolSize}, {&r.worker, poolWorker, workerPoolSize}, {&r.carrier, poolRiver, queues + 4}} {
		config := r.config.Pool.Config()
		config.MaxConns, config.MinConns, config.MinIdleConns = int32(p.size), 0, 0
		config.ConnConfig.RuntimeParams["application_name"] = "tasker " + p.name
		if !r.config.PollOnly {
			// A process that vanishes from the network inside a transaction would keep its locks until TCP gives up, in hours.
			config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(r.config.Lease.Milliseconds(), 10)
		}
		if !r.config.PollOnly && p.name != poolRiver {
			// Every statement finds its rows by key. Plans made for one row while the tables were empty must not be kept when
			// they are large, and planning anew each time would cost as much as running.
			for _, setting := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin"} {
				config.ConnConfig.RuntimeParams[setting] = "off"
			}
			config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
			config.ConnConfig.RuntimeParams["jit"] = "off"
			// A row that somebody holds must not hold a whole batch for long: it fails, is halved, and goes on without.
			config.ConnConfig.RuntimeParams["lock_timeout"] = "3s"
			config.ConnConfig.RuntimeParams["statement_timeout"] = "25s"
		}
		tracer := pgxtrace.New(r.telemetry.Database, &pgxtrace.Config{Pool: p.name})
		pgxtrace.AttachInstead(config, tracer)
		pool, err := pgxpool.NewWithConfig(ctx, config)
		if err != nil {
			return fmt.Errorf("open %s pool: %w", p.name, err)
		}
		*p.pool = pool
		if err := r.observe(func() (func() error, error) { return tracer.Observe(pool) }); err != nil {
			return fmt.Errorf("observe %s pool: %w", p.name, err)
		}
	}
	return r.observe(r.telemetry.Gauges.Observe)
}

// The pools' names, in metrics and in pg_stat_activity.
const (
	poolOrchestration = "orchestration"
	poolWorker        = "worker"
	poolRiver         = "river"
)

// observe keeps what ends an observation.
func (r *Runner) observe(begin func() (func() error, error)) error {
	stop, err := begin()
	if err == nil {
		r.unobserve = append(r.unobserve, stop)
	}
	return err
}

func (r *Runner) closePools() {
	for _, stop := range r.unobserve {
		if err := stop(); err != nil {
			r.logger.Warn("end observation", slog.Any("error", err))
		}
	}
	for _, pool := range []*pgxpool.Pool{r.carrier, r.worker, r.pool} {
		if pool != nil {
			pool.Close()
		}
	}
}

func (r *Runner) newRiver() error {
	queues := make(map[string]river.QueueConfig, len(r.config.Namespaces)+1)
	for namespace, workers := range r.config.Namespaces {
		queues[namespace] = river.QueueConfig{MaxWorkers: workers}
	}
	if r.config.Orchestrate {
		queues[orchestration.Queue] = river.QueueConfig{MaxWorkers: orchestratorSlots}
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &enqueueWorker{runner: r})
	river.AddWorker(workers, &executeWorker{runner: r})
	river.AddWorker(workers, &resultWorker{runner: r})
	client, err := river.NewClient[pgx.Tx](&driver{riverpgxv5.New(r.carrier), &r.heard, r.telemetry}, &river.Config{
		ID: r.config.ID, Schema: string(r.engine.River), Logger: r.logger, Queues: queues, Workers: workers,
		FetchCooldown: time.Millisecond, FetchPollInterval: r.config.PollInterval, PollOnly: r.config.PollOnly,
		JobTimeout: -1, RescueStuckJobsAfter: never, SkipUnknownJobCheck: true,
		LeaderElectionDisabled: r.config.LeaderElectionDisabled,
		ReindexerIndexNames: []string{
			"river_job_kind", "river_job_pkey", "river_job_prioritized_fetching_index",
			"river_job_state_and_finalized_at_index", "river_job_unique_idx",
		},
	})
	if err != nil {
		return fmt.Errorf("make River client: %w", err)
	}
	r.river = client
	return nil
}

// Start begins to work. It returns once River fetches jobs.
func (r *Runner) Start(ctx context.Context) error {
	loops, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	r.loops.Go(func() { r.notifier.run(loops) })
	r.loops.Go(func() { r.leases.run(loops) })
	r.loops.Go(func() { r.register(loops) })
	if r.telemetry.Counting() {
		r.loops.Go(func() { newSampler(r).run(loops) })
	}
	if r.config.Orchestrate {
		r.loops.Go(func() { r.promoter.run(loops) })
	}
	if len(r.config.Namespaces) > 0 && !r.config.PollOnly {
		r.loops.Go(func() {
			Listen(loops, r.config.Pool.Config().ConnConfig, InterruptChannel, r.logger, func() {}, r.interrupted)
		})
	}
	// River's context is not the caller's: cancelling that must not tear handlers down without the grace of Stop.
	if err := r.river.Start(context.WithoutCancel(ctx)); err != nil {
		r.shutdown(ctx)
		return fmt.Errorf("start River client: %w", err)
	}
	return nil
}

// Stop ends the process's part politely: no new jobs, running handlers get StopGrace to finish, then their contexts end and
// their steps are handed back. Cancelling ctx ends the grace at once.
func (r *Runner) Stop(ctx context.Context) error {
	r.draining.Store(true)
	grace, cancel := context.WithTimeout(ctx, r.config.StopGrace)
	defer cancel()
	err := r.river.Stop(grace)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		r.stopping.Store(true)
		hard, cancelHard := context.WithTimeout(context.WithoutCancel(ctx), deafGrace+commitTimeout)
		defer cancelHard()
		err = r.river.StopAndCancel(hard)
	}
	r.shutdown(ctx)
	if err != nil {
		return fmt.Errorf("stop River client: %w", err)
	}
	return nil
}

// shutdown ends what Start began, last the notifier, which sends what the others left.
func (r *Runner) shutdown(ctx context.Context) {
	r.claims.close()
	r.stores.close()
	r.advances.close()
	r.cancel()
	r.loops.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), notifyTimeout)
	defer cancel()
	if err := r.engine.River.Queries(r.worker).ProcessDelete(ctx, r.config.ID); err != nil {
		r.logger.DebugContext(ctx, "sign off", slog.Any("error", err))
	}
	r.closePools()
}

// River returns the River client, for those who want to mount its UI or insert jobs of their own.
func (r *Runner) River() *river.Client[pgx.Tx] { return r.river }

// InTx runs fn in a transaction on the runner's own connections.
func (r *Runner) InTx(ctx context.Context, name string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return db.InTx(ctx, r.pool, name, fn)
}

func (r *Runner) commitClaims(ctx context.Context, claims []orchestration.Claim) ([]*orchestration.Claimed, func(), error) {
	var held map[orchestration.Dispatch]*orchestration.Claimed
	err := db.InTx(ctx, r.worker, "claim", func(ctx context.Context, tx pgx.Tx) (err error) {
		held, err = r.engine.Claim(ctx, tx, r.config.ID, r.config.Lease, claims)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	out := make([]*orchestration.Claimed, len(claims))
	for i, claim := range claims {
		out[i] = held[claim.Dispatch]
	}
	return out, func() {}, nil
}

func (r *Runner) commitAdvances(ctx context.Context, items []orchestration.Item) ([]stored, func(), error) {
	return r.commitItems(ctx, r.pool, "advance", items, r.engine.Advance)
}

func (r *Runner) commitStores(ctx context.Context, items []orchestration.Item) ([]stored, func(), error) {
	return r.commitItems(ctx, r.worker, "result", items, r.engine.StoreResults)
}

func (r *Runner) commitItems(ctx context.Context, pool *pgxpool.Pool, name string, items []orchestration.Item,
	fn func(context.Context, pgx.Tx, []orchestration.Item) (*orchestration.Effects, error),
) ([]stored, func(), error) {
	var effects *orchestration.Effects
	var told telemetry.Pass
	err := db.InTx(ctx, pool, name, func(ctx context.Context, tx pgx.Tx) (err error) {
		effects, err = fn(ctx, tx, items)
		if err == nil && len(effects.Pass.Progress) > 0 {
			told = effects.Pass
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if len(effects.Pass.Progress) == 0 {
		effects.Pass = told // that of a run whose commit was in doubt, and has happened
	}
	committed := time.Now()
	r.wake(effects)
	out := make([]stored, len(items))
	for i := range items {
		out[i] = stored{effects.Verdicts[items[i].Dispatch], effects.Next[items[i].Dispatch]}
	}
	return out, func() { r.telemetry.Passed(context.WithoutCancel(ctx), &effects.Pass, committed) }, nil
}

// unsent counts items whose transaction failed, and with it the jobs that it would have inserted.
func (r *Runner) unsent(items int, err error) {
	r.telemetry.SendFailed(context.Background(), orchestration.Queue, pgxtrace.ErrorType(err), items)
}

// stored is what became of an outcome, and the step to go on with, if any.
type stored struct {
	verdict orchestration.Verdict
	next    *orchestration.Claimed
}

// After does what must follow a commit. Nothing of it can fail the commit.
func (r *Runner) After(ctx context.Context, effects *orchestration.Effects) {
	r.wake(effects)
	r.telemetry.Passed(ctx, &effects.Pass, time.Now())
}

// wake wakes whoever has work now.
func (r *Runner) wake(effects *orchestration.Effects) {
	if !r.config.PollOnly {
		r.notifier.wake(effects)
	}
	if len(effects.Ended) > 0 {
		r.ended(effects.Ended)
	}
	if effects.Retry > 0 {
		r.promoter.arm(effects.Retry)
	}
	for _, step := range effects.Interrupt {
		r.leases.lose(step)
	}
}

// interrupted hears of dispatches that were closed elsewhere. What is missed here, the next heartbeat tells.
func (r *Runner) interrupted(payload string) {
	for text := range strings.SplitSeq(payload, ",") {
		id, claim, _ := strings.Cut(text, ":")
		step, err := uuid.Parse(id)
		number, convErr := strconv.ParseInt(claim, 10, 32)
		if err == nil && convErr == nil {
			r.leases.lose(orchestration.Dispatch{StepID: step, ClaimNo: int32(number)})
		}
	}
}

func (r *Runner) renew(ctx context.Context, held []orchestration.Dispatch) (map[orchestration.Dispatch]bool, error) {
	var kept map[uuid.UUID]bool
	err := db.InTx(ctx, r.worker, "heartbeat", func(ctx context.Context, tx pgx.Tx) (err error) {
		kept, err = r.engine.Heartbeat(ctx, tx, r.config.Lease, held)
		return err
	})
	if err != nil {
		return nil, err
	}
	still := make(map[orchestration.Dispatch]bool, len(held))
	for _, step := range held {
		if renewed, ok := kept[step.StepID]; ok {
			still[step] = renewed
		}
	}
	return still, nil
}

// register keeps this process's row in tasker.processes fresh: who serves what.
func (r *Runner) register(ctx context.Context) {
	p := dbsqlc.ProcessHeartbeatParams{ID: r.config.ID, Queues: []string{}, Handlers: []string{}}
	for namespace := range r.config.Namespaces {
		p.Queues = append(p.Queues, namespace)
	}
	if r.config.Orchestrate {
		p.Queues = append(p.Queues, orchestration.Queue)
	}
	for name := range r.config.Handlers {
		p.Handlers = append(p.Handlers, name)
	}
	sort.Strings(p.Queues)
	sort.Strings(p.Handlers)
	ticker := time.NewTicker(processBeat)
	defer ticker.Stop()
	for {
		beat, cancel := context.WithTimeout(ctx, processBeat)
		if err := r.engine.River.Queries(r.worker).ProcessHeartbeat(beat, p); err != nil && ctx.Err() == nil {
			r.logger.WarnContext(ctx, "register process", slog.Any("error", err))
		}
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// processBeat is how often a process says that it lives; processAlive is how long it is believed.
const (
	processBeat  = 5 * time.Second
	processAlive = 20 * time.Second
)
