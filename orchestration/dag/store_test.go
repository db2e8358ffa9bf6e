package dag_test

import (
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// store holds one task as the database does. It loads what orchestration/load.go loads, and applies plans as
// orchestration/apply.go and queries/steps.sql do; what they would refuse fails the test.
type store struct {
	t     require.TestingT
	graph *dag.Graph
	now   time.Time

	task  dag.Task
	log   []dag.TaskState
	names []string
	steps map[string]*row
	// counted holds the executions whose outcome was counted.
	counted map[execution]bool
}

// row is a step's.
type row struct {
	view    dag.StepView
	claimNo int
	stored  *dag.Failure
	retryAt time.Time
	log     []dag.StepState
	// ran counts the executions since the step's last fresh start.
	ran int
}

// execution is one dispatch of a step.
type execution struct {
	step    string
	claimNo int
}

// item is one piece of news about the task: an outcome, the notice that an outcome is stored, or a back-off that is over.
type item struct {
	execution

	due     bool
	outcome *outcome
}

type outcome struct {
	failure *dag.Failure
	jitter  float64
}

func newStore(t require.TestingT, flow dag.Template) *store {
	return &store{
		t: t, graph: compile(t, flow), now: noon, task: dag.Task{State: dag.TaskPending}, log: []dag.TaskState{dag.TaskPending},
		steps: make(map[string]*row), counted: make(map[execution]bool),
	}
}

// in lists the steps in one of the states, in a fixed order.
func (s *store) in(states ...dag.StepState) []string {
	var found []string
	for _, name := range s.names {
		if slices.Contains(states, s.steps[name].view.State) {
			found = append(found, name)
		}
	}
	return found
}

func (s *store) active() int {
	return len(s.in(those(dag.StepStates(), dag.StepState.Active)...))
}

// move is a change that no decision makes: a claim, a stored outcome, a hand-back.
func (s *store) move(name string, to dag.StepState) *row {
	r := s.steps[name]
	require.True(s.t, r.view.State.CanBecome(to), "step %s: %s to %s", name, r.view.State, to)
	r.view.State = to
	r.log = append(r.log, to)
	return r
}

// claim is StepClaimMany.
func (s *store) claim(name string) {
	r := s.move(name, dag.StepInProgress)
	r.view.Attempts++
	r.ran++
	require.LessOrEqual(s.t, r.ran, max(s.graph.Step(name).Policy().MaxAttempts, 1), "step %s runs too often", name)
}

// keep is StepFinishMany: the outcome waits at the step for an orchestrator.
func (s *store) keep(name string, failure *dag.Failure) item {
	state := dag.StepEnqueuedForOrchestration
	if failure != nil {
		state = dag.StepEnqueuedAsErrorForOrchestration
	}
	r := s.move(name, state)
	r.stored = failure
	return item{execution: execution{name, r.claimNo}}
}

// giveBack is StepGiveBackMany.
func (s *store) giveBack(name string) {
	r := s.move(name, dag.StepEnqueued)
	r.claimNo++
	r.view.Attempts--
	r.ran--
}

// advance is Engine.Advance: it sorts out what is late, decides about the rest, and applies the plan.
func (s *store) advance(items ...item) {
	results, due := s.file(items)
	var event dag.Event
	switch {
	case len(results) > 0:
		event = dag.Finished{Results: results}
	case len(due) > 0:
		event = dag.RetryDue{Steps: due}
	default:
		return
	}
	p := s.decide(s.load(event, results, due), event)
	for _, r := range results {
		done := execution{r.Step, s.steps[r.Step].claimNo}
		require.False(s.t, s.counted[done], "two outcomes of %v", done)
		s.counted[done] = true
		require.True(s.t, slices.ContainsFunc(p.Steps, func(c dag.StepChange) bool { return c.Step == r.Step && c.To != c.From }),
			"the outcome of %v is lost", done)
	}
	s.apply(&p)
	for _, r := range results {
		require.Equal(s.t, s.fate(r), s.steps[r.Step].view.State, "%s after %+v", r.Step, r.Failure)
	}
	s.replay(event)
}

// fate is what becomes of a step by spec §3.4.
func (s *store) fate(r dag.Result) dag.StepState {
	policy, ran := s.graph.Step(r.Step).Policy(), s.steps[r.Step].ran
	switch {
	case r.Failure == nil:
		return dag.StepComplete
	case r.Failure.Permanent || !policy.Retryable || ran >= policy.MaxAttempts:
		return dag.StepError
	}
	return dag.StepWaitingForRetry
}

// file is the fence of load.go.
func (s *store) file(items []item) (results []dag.Result, due []string) {
	seen := make(map[string]bool)
	for _, i := range items {
		r := s.steps[i.step]
		fenced := r.claimNo == i.claimNo
		switch state := r.view.State; {
		case seen[i.step]:
			continue
		case i.due && state == dag.StepWaitingForRetry:
			due = append(due, i.step)
		case i.outcome != nil && fenced && state == dag.StepInProgress:
			results = append(results, dag.Result{Step: i.step, Failure: i.outcome.failure, Jitter: i.outcome.jitter})
		case !i.due && i.outcome == nil && fenced && state == dag.StepEnqueuedForOrchestration:
			results = append(results, dag.Result{Step: i.step})
		case !i.due && i.outcome == nil && fenced && state == dag.StepEnqueuedAsErrorForOrchestration:
			results = append(results, dag.Result{Step: i.step, Failure: r.stored})
		default:
			continue
		}
		seen[i.step] = true
	}
	return results, due
}

// load makes the snapshot for a machine's event: the steps it names and the children of successes. What Decide must not read
// is wrong on purpose.
func (s *store) load(event dag.Event, results []dag.Result, due []string) dag.Snapshot {
	snapshot := dag.Snapshot{
		Graph: s.graph, Task: s.task, Steps: make(map[string]dag.StepView), Children: make(map[string][]string), Active: -1 << 20,
	}
	if dag.NeedsActive(s.task, event) {
		snapshot.Active = s.active()
	}
	for _, name := range due {
		snapshot.Steps[name] = s.steps[name].view
	}
	for _, r := range results {
		snapshot.Steps[r.Step] = s.steps[r.Step].view
		if r.Failure == nil {
			s.loadChildren(&snapshot, r.Step)
		}
	}
	return snapshot
}

func (s *store) loadChildren(snapshot *dag.Snapshot, parent string) {
	for _, child := range s.graph.Children(parent) {
		snapshot.Steps[child] = s.steps[child].view
		snapshot.Children[parent] = append(snapshot.Children[parent], child)
	}
}

// whole makes the snapshot for an operator's event: every step.
func (s *store) whole(event dag.Event) dag.Snapshot {
	snapshot := dag.Snapshot{
		Graph: s.graph, Task: s.task, Steps: make(map[string]dag.StepView), Children: make(map[string][]string), Active: s.active(),
	}
	for name, r := range s.steps {
		snapshot.Steps[name] = r.view
	}
	if resolve, ok := event.(dag.Resolve); ok && s.steps[resolve.Step] != nil {
		s.loadChildren(&snapshot, resolve.Step)
	}
	return snapshot
}

// decide asks twice, the second time with everything the other way round: a plan depends on what happened, not on the order
// in which the rows came.
func (s *store) decide(snapshot dag.Snapshot, event dag.Event) dag.Plan {
	p, err := dag.Decide(snapshot, event, s.now)
	require.NoError(s.t, err)
	for parent := range snapshot.Children {
		slices.Reverse(snapshot.Children[parent])
	}
	switch e := event.(type) {
	case dag.Finished:
		e.Results = slices.Clone(e.Results)
		slices.Reverse(e.Results)
		event = e
	case dag.RetryDue:
		e.Steps = slices.Clone(e.Steps)
		slices.Reverse(e.Steps)
		event = e
	}
	again, err := dag.Decide(snapshot, event, s.now)
	require.NoError(s.t, err)
	require.Equal(s.t, p, again)
	return p
}

// replay brings an event that was applied again, past the fence: nothing changes.
func (s *store) replay(event dag.Event) {
	snapshot := s.whole(event)
	if finished, ok := event.(dag.Finished); ok {
		for _, r := range finished.Results {
			s.loadChildren(&snapshot, r.Step)
		}
	}
	p, err := dag.Decide(snapshot, event, s.now)
	require.Equal(s.t, dag.Plan{}, p, "replayed %#v", event)
	if err != nil {
		var conflict *dag.ConflictError
		require.ErrorAs(s.t, err, &conflict)
	}
}

// begin is a tasker_enqueue job: Start, or Reject where the context is not valid.
func (s *store) begin(event dag.Event) {
	p := s.decide(s.load(event, nil, nil), event)
	s.apply(&p)
	s.replay(event)
}

// operate is Engine.Operate.
func (s *store) operate(event dag.Event) error {
	p, err := dag.Decide(s.whole(event), event, s.now)
	if err != nil {
		require.Equal(s.t, dag.Plan{}, p)
		return err
	}
	s.apply(&p)
	s.replay(event)
	return nil
}

func (s *store) apply(p *dag.Plan) {
	for i := range p.Expand {
		s.insert(&p.Expand[i], i)
	}
	changed := make(map[string]bool)
	for i := range p.Steps {
		require.False(s.t, changed[p.Steps[i].Step], "one statement changes a row once")
		changed[p.Steps[i].Step] = true
		s.change(&p.Steps[i])
	}
	if !p.TouchesTask() {
		return
	}
	for _, next := range p.Path {
		require.True(s.t, s.task.State.CanBecome(next), "task: %s to %s", s.task.State, next)
		s.task.State = next
		s.log = append(s.log, next)
	}
	s.task.SinksLeft += p.SinksLeft
	s.task.StepsFailed += p.StepsFailed
	s.task.StepsRetrying += p.StepsRetrying
	require.Equal(s.t, p.Restart, s.task.State == dag.TaskPending, "only a restart makes a task pending again")
}

func (s *store) insert(n *dag.NewStep, position int) {
	require.NotContains(s.t, s.steps, n.Name, "a step exists once")
	require.Equal(s.t, position, n.Position)
	for _, parent := range n.Parents {
		require.Contains(s.t, s.steps, parent, "parents first")
	}
	r := &row{log: []dag.StepState{dag.StepPending}, view: dag.StepView{
		State: dag.StepPending, ParentsLeft: len(n.Parents), MaxAttempts: s.graph.Step(n.Name).Policy().MaxAttempts, Sink: n.Sink,
	}}
	s.steps[n.Name] = r
	s.names = append(s.names, n.Name)
	if len(n.Parents) == 0 {
		s.move(n.Name, dag.StepEnqueued).claimNo++
	}
}

func (s *store) change(c *dag.StepChange) {
	r := s.steps[c.Step]
	require.NotNil(s.t, r, c.Step)
	require.Equal(s.t, r.view.State, c.From, "compare and set of %s", c.Step)
	if c.To == c.From {
		require.Positive(s.t, c.ParentsDone, "%s: a change changes something", c.Step)
	} else {
		s.move(c.Step, c.To)
	}
	r.view.ParentsLeft -= c.ParentsDone
	if c.To == dag.StepEnqueued {
		r.claimNo++
	}
	if c.Reset {
		r.view.Attempts, r.ran = 0, 0
	}
	r.retryAt = time.Time{}
	if c.To == dag.StepWaitingForRetry {
		r.retryAt = c.RetryAt
		require.WithinRange(s.t, c.RetryAt, s.now, s.now.Add(dag.MaxHint), "%s waits too long", c.Step)
	} else {
		require.Zero(s.t, c.RetryAt, "%s does not wait", c.Step)
	}
}
