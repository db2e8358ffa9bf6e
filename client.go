package tasker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"github.com/tasker-systems/tasker-go/db"
	"github.com/tasker-systems/tasker-go/jobs"
	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/telemetry"
)

// Client creates, inspects and controls tasks, and after [Client.Start] takes part in running them. It is safe for
// concurrent use.
type Client struct {
	pool     *pgxpool.Pool
	config   *Config
	handlers map[string]jobs.Handler
	watch    *telemetry.Telemetry
	waiters  *waiters

	mu     sync.Mutex
	engine *orchestration.Engine
	runner *jobs.Runner
}

// NewClient makes a client on the caller's pool, which it never closes. It does not touch the database: that begins with the
// first call. The errors are those of the configuration and of templates, all at once.
func NewClient(pool *pgxpool.Pool, config *Config) (*Client, error) {
	filled, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	handlers, err := filled.handlers()
	if err != nil {
		return nil, err
	}
	watch, err := telemetry.New(filled.Telemetry)
	if err != nil {
		return nil, fmt.Errorf("config: telemetry: %w", err)
	}
	c := &Client{pool: pool, config: filled, handlers: handlers, watch: watch}
	c.waiters = newWaiters(c)
	return c, nil
}

// open checks the schema once and makes the engine.
func (c *Client) open(ctx context.Context) (*orchestration.Engine, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.engine != nil {
		return c.engine, nil
	}
	river, err := db.CheckSchema(ctx, c.pool)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	c.engine = &orchestration.Engine{
		River: river, Templates: &orchestration.Templates{Environment: c.config.Environment}, MaxLosses: c.config.MaxLosses,
		Telemetry: c.watch,
	}
	return c.engine, nil
}

// Register stores the client's templates in the database. Start does it too; a client that only creates tasks may want to.
func (c *Client) Register(ctx context.Context) error {
	engine, err := c.open(ctx)
	if err != nil {
		return err
	}
	return db.InTx(ctx, c.pool, "register templates", func(ctx context.Context, tx pgx.Tx) error {
		for _, t := range c.config.Templates {
			if _, err := engine.Templates.Register(ctx, engine.River.Queries(tx), t.Definition()); err != nil {
				return err
			}
		}
		return nil
	})
}

// errStarted says that Start was called twice.
var errStarted = errors.New("tasker: the client is already started")

// Start registers the templates and begins to orchestrate and work, as the configuration says. It returns when jobs are being
// fetched. ctx bounds the start alone; [Client.Stop] ends the work.
func (c *Client) Start(ctx context.Context) error {
	if err := c.Register(ctx); err != nil {
		return err
	}
	namespaces := make(map[string]int, len(c.config.Namespaces))
	for name, ns := range c.config.Namespaces {
		if namespaces[name] = ns.MaxWorkers; ns.MaxWorkers == 0 {
			namespaces[name] = defaultMaxWorkers
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runner != nil {
		return errStarted
	}
	runner, err := jobs.NewRunner(ctx, jobs.Config{
		ID: c.config.ID, Pool: c.pool, Engine: c.engine, Orchestrate: c.config.Orchestrate, Namespaces: namespaces,
		Handlers: c.wrapped(), Logger: c.config.Logger, Lease: c.config.Lease, Tick: c.config.Tick,
		ClaimGrace: c.config.ClaimGrace, StopGrace: c.config.StopGrace, PollInterval: c.config.PollInterval,
		PollOnly: c.config.PollOnly, LeaderElectionDisabled: c.config.LeaderElectionDisabled,
	}, c.waiters.signal)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := runner.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	c.runner = runner
	return nil
}

// wrapped gives handlers what CompleteTx needs.
func (c *Client) wrapped() map[string]jobs.Handler {
	all := make(map[string]jobs.Handler, len(c.handlers))
	for name, handler := range c.handlers {
		all[name] = func(ctx context.Context, step *orchestration.Claimed) (json.RawMessage, error) {
			return handler(context.WithValue(ctx, completeKey{}, c.completeTx), step)
		}
	}
	return all
}

// Stop ends the work politely: no new jobs; running handlers get the configured grace, then their contexts end and their
// steps are handed back to other workers. Cancelling ctx ends the grace at once. A client that was not
// started stops at once; stop it too, once something waited: it ends the connection that listens.
func (c *Client) Stop(ctx context.Context) error {
	c.mu.Lock()
	runner := c.runner
	c.runner = nil
	c.mu.Unlock()
	c.waiters.close()
	if runner == nil {
		return nil
	}
	if err := runner.Stop(ctx); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// River returns the River client of a started client, to mount River UI or to insert jobs of your own; nil otherwise.
func (c *Client) River() *river.Client[pgx.Tx] {
	if runner := c.running(); runner != nil {
		return runner.River()
	}
	return nil
}

func (c *Client) running() *jobs.Runner {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runner
}

// after does what must follow a commit of this client.
func (c *Client) after(ctx context.Context, engine *orchestration.Engine, effects *orchestration.Effects) {
	if runner := c.running(); runner != nil {
		runner.After(ctx, effects)
		return
	}
	c.watch.Passed(ctx, &effects.Pass, time.Now())
	c.waiters.signal(effects.Ended)
	jobs.Wake(ctx, c.pool, engine, c.config.Logger, effects)
}

// completeTx stores a result in a handler's own transaction; the job that brings it to an orchestrator commits with it.
func (c *Client) completeTx(
	ctx context.Context, tx pgx.Tx, step *orchestration.Claimed, outcome orchestration.Outcome,
) (orchestration.Verdict, error) {
	engine, err := c.open(ctx)
	if err != nil {
		return orchestration.VerdictStale, err
	}
	limit := strconv.FormatInt(c.config.Lease.Milliseconds(), 10)
	if err := engine.River.Queries(tx).TxIdleLimit(ctx, limit); err != nil {
		return orchestration.VerdictStale, fmt.Errorf("limit transaction: %w", err)
	}
	effects, err := engine.StoreResults(ctx, tx, []orchestration.Item{{
		Kind: orchestration.ItemResult, TaskID: step.TaskID, Dispatch: step.Dispatch, Outcome: &outcome, JobID: step.JobID,
	}})
	if err != nil {
		return orchestration.VerdictStale, err
	}
	return effects.Verdicts[step.Dispatch], nil
}

// wakeOrchestrators tells them that a transaction of this client gave them work.
func (c *Client) wakeOrchestrators(ctx context.Context, engine *orchestration.Engine) {
	c.after(ctx, engine, &orchestration.Effects{Queues: map[string]bool{orchestration.Queue: true}, Ended: []uuid.UUID{}})
}
