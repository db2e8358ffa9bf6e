package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// LabelMode says which tasks have correlation_id as a label of their metrics. Every such task adds about a hundred series to
// a backend and tens of kilobytes to a process, for good.
type LabelMode string

// The modes.
const (
	// LabelOff gives it to none.
	LabelOff LabelMode = "off"
	// LabelExemplars gives it to measurements under a sampled span, for exemplars: the provider must have a view that
	// filters it out of the labels, as those of telemetry/setup have.
	LabelExemplars LabelMode = "exemplars"
	// LabelBounded gives it to some, as many as are harmless: a burst, then one a second, until the budget is spent.
	LabelBounded LabelMode = "bounded"
	// LabelAll gives it to all. For tests: the provider's cardinality limit is soon reached.
	LabelAll LabelMode = "all"
)

// UnmarshalText reads a mode by its name.
func (m *LabelMode) UnmarshalText(text []byte) error {
	switch mode := LabelMode(text); mode {
	case LabelOff, LabelBounded, LabelAll:
		*m = mode
		return nil
	case LabelExemplars: // for providers, not for people
	}
	return fmt.Errorf("%q is not one of off, bounded, all", text)
}

const (
	// admissionBurst tasks may be admitted at once, admissionsPerMinute from then on.
	admissionBurst      = 200
	admissionsPerMinute = 60
	// setsPerTask are the label sets that a task takes of the instrument that takes most, beside one for each step: a job has
	// three combinations of queue and kind.
	setsPerTask = 3
)

// gate decides which tasks have their correlation_id on metrics. It is asked once, where a task is created; the answer
// travels with the task. So all the processes label the same tasks, and what is refused stands in the plain series: totals
// are exact whatever is refused.
type gate struct {
	mode      LabelMode
	decisions *counter
	logger    *slog.Logger

	mu     sync.Mutex
	budget int
	tokens float64
	filled time.Time
	spent  sync.Once
	// passed are the tasks that this process labels: it has a budget of its own for what others admitted.
	passed map[uuid.UUID]bool
}

func newGate(config *Config, decisions *counter) *gate {
	g := &gate{
		mode: config.CorrelationLabel, decisions: decisions, logger: config.Logger, budget: config.CorrelationBudget,
		tokens: admissionBurst, filled: time.Now(), passed: make(map[uuid.UUID]bool),
	}
	if g.budget <= 0 {
		g.budget = defaultBudget
	}
	return g
}

// admit decides about a new task that will have the given number of steps.
func (g *gate) admit(correlation uuid.UUID, steps int) bool {
	return g.mode == LabelAll || g.mode == LabelBounded && g.spend(correlation, steps, true)
}

// count counts a decision.
func (g *gate) count(ctx context.Context, admitted bool) {
	if g.mode != LabelAll && g.mode != LabelBounded {
		return
	}
	decision := "refused"
	if admitted {
		decision = "admitted"
	}
	g.decisions.add(ctx, 1, values{decision})
}

// labels tells whether this process labels a task that was admitted.
func (g *gate) labels(correlation uuid.UUID, steps int) bool {
	return g.mode == LabelAll || g.mode == LabelBounded && g.spend(correlation, steps, false)
}

func (g *gate) spend(correlation uuid.UUID, steps int, fresh bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if passes, known := g.passed[correlation]; known {
		return passes
	}
	cost := setsPerTask + steps
	if g.budget < cost {
		g.spent.Do(g.warn)
		return false
	}
	passes := !fresh || g.take()
	if passes {
		g.budget -= cost
		g.passed[correlation] = true
	}
	return passes
}

// take takes a token out of the bucket.
func (g *gate) take() bool {
	now := time.Now()
	g.tokens = min(admissionBurst, g.tokens+now.Sub(g.filled).Minutes()*admissionsPerMinute)
	g.filled = now
	if g.tokens < 1 {
		return false
	}
	g.tokens--
	return true
}

// warn says once that the budget is spent.
func (g *gate) warn() {
	if g.logger != nil {
		g.logger.Warn("the budget of correlation_id labels is spent: further tasks are counted without, " +
			"and found by trace and log; telemetry.metrics.correlation_id_budget sets it")
	}
}
