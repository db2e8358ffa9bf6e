package dag

import (
	"sort"
	"time"
)

// Snapshot is what Decide needs to know of one task. For a result it never holds the whole task: the finished steps, their
// children and the task's counters are enough.
type Snapshot struct {
	Graph *Graph
	Task  Task
	// Steps are those that the event names and the children of those that may succeed through it, by name. Cancel, Rerun
	// and Resolve see every step.
	Steps map[string]StepView
	// Children are the dependents of the steps that may succeed, by parent.
	Children map[string][]string
	// Active is the number of steps under way before the event. It is read only when NeedsActive says so.
	Active int
}

// Task is what a task's row says.
type Task struct {
	State         TaskState
	SinksLeft     int
	StepsFailed   int
	StepsRetrying int
}

// StepView is what a step's row says.
type StepView struct {
	State       StepState
	Attempts    int
	MaxAttempts int
	ParentsLeft int
	Sink        bool
}

// Plan is what to write. An empty plan means that the event changes nothing, as a replayed one does.
type Plan struct {
	// Expand lists the steps to create, parents first.
	Expand []NewStep
	// Steps lists the changes of existing steps, each at most once.
	Steps []StepChange
	// Path lists the task states to pass through; the last is the new one. Empty leaves the state.
	Path []TaskState
	// Deltas of the task's counters.
	SinksLeft, StepsFailed, StepsRetrying int
	// Restart asks for a new first enqueue: the task ended before it had steps.
	Restart bool
}

// NewStep is a step to create: one without parents is dispatched at once.
type NewStep struct {
	Name     string
	Parents  []string
	Sink     bool
	Position int
}

// StepChange moves one step. A change to enqueued is a dispatch. From and To are equal where only parents finished.
type StepChange struct {
	Step     string
	From, To StepState
	// ParentsDone is how many parents finished.
	ParentsDone int
	// RetryAt is set with waiting_for_retry.
	RetryAt time.Time
	// Reset gives the step its attempts back.
	Reset bool
}

// TouchesTask reports whether the plan writes the task's row.
func (p *Plan) TouchesTask() bool {
	return len(p.Path) > 0 || p.SinksLeft != 0 || p.StepsFailed != 0 || p.StepsRetrying != 0 || p.Restart
}

// NeedsActive reports whether deciding about the event takes the number of active steps: only when failures or retries are
// about. A healthy task is never counted.
func NeedsActive(task Task, event Event) bool {
	if task.StepsFailed > 0 || task.StepsRetrying > 0 {
		return true
	}
	switch e := event.(type) {
	case Finished:
		for i := range e.Results {
			if e.Results[i].Failure != nil {
				return true
			}
		}
	case Rerun, Resolve, Resume:
		return true
	}
	return false
}

// Decide says what an event does to a task. now is the database's. The only errors are ConflictErrors, for the events of
// operators; what comes from machines is never refused, it changes nothing when it is late.
func Decide(s Snapshot, event Event, now time.Time) (Plan, error) {
	d := decision{Snapshot: s, now: now, changes: make(map[string]*StepChange), task: s.Task, active: s.Active}
	var err error
	switch e := event.(type) {
	case Start:
		d.start()
	case Reject:
		if s.Task.State == TaskPending {
			d.plan.Path = []TaskState{TaskError}
		}
		return d.plan, nil
	case Finished:
		d.finished(e.Results)
	case RetryDue:
		d.retryDue(e.Steps)
	case Cancel:
		err = d.cancel()
	case Rerun:
		err = d.rerun(e.Steps)
	case Resolve:
		err = d.resolve(e)
	case Resume:
		d.resume(e.Ready)
	}
	if err != nil {
		return Plan{}, err
	}
	return d.close(NeedsActive(s.Task, event)), nil
}

// decision gathers a plan; task and active run ahead of the snapshot.
type decision struct {
	Snapshot
	now     time.Time
	changes map[string]*StepChange
	task    Task
	active  int
	plan    Plan
}

func (d *decision) start() {
	if d.task.State != TaskPending {
		return
	}
	for position, name := range d.Graph.Order() {
		parents := d.Graph.Parents(name)
		d.plan.Expand = append(d.plan.Expand, NewStep{
			Name: name, Parents: parents, Sink: len(d.Graph.Children(name)) == 0, Position: position,
		})
		if len(parents) == 0 {
			d.active++
		}
	}
	d.task.SinksLeft = d.Graph.Sinks()
	d.task.State = TaskStepsInProcess
	d.plan.Path = []TaskState{TaskStepsInProcess}
}

// finished closes steps whose execution ended. A step that is not under way any more was cancelled, resolved or counted
// before: its result changes nothing.
func (d *decision) finished(results []Result) {
	for _, r := range results {
		step, ok := d.Steps[r.Step]
		if !ok || d.changes[r.Step] != nil || !running(step.State) || d.task.State.Closed() {
			continue
		}
		d.active--
		policy := d.policy(r.Step)
		switch {
		case r.Failure == nil:
			d.succeed(r.Step, StepComplete)
		case r.Failure.Permanent || policy.Spent(step.Attempts, step.MaxAttempts):
			d.change(r.Step, StepError)
			d.task.StepsFailed++
		default:
			c := d.change(r.Step, StepWaitingForRetry)
			c.RetryAt = d.now.Add(r.Failure.delay(policy, step.Attempts, r.Jitter))
			d.task.StepsRetrying++
		}
	}
}

func running(s StepState) bool {
	return s == StepInProgress || s == StepEnqueuedForOrchestration || s == StepEnqueuedAsErrorForOrchestration
}

// policy is the template's; a step that the template does not know has the default.
func (d *decision) policy(step string) Policy {
	if s := d.Graph.Step(step); s != nil {
		return s.Policy()
	}
	return (&Step{}).Policy()
}

// succeed closes a step and tells its children; a child that waits for nothing more is dispatched.
func (d *decision) succeed(name string, state StepState) {
	d.change(name, state)
	if d.Steps[name].Sink {
		d.task.SinksLeft--
	}
	for _, child := range d.Children[name] {
		if d.Steps[child].State != StepPending {
			continue
		}
		c := d.change(child, d.changed(child))
		c.ParentsDone++
		if d.Steps[child].ParentsLeft-c.ParentsDone == 0 {
			c.To = StepEnqueued
			d.active++
		}
	}
}

func (d *decision) retryDue(steps []string) {
	if d.task.State.Closed() {
		return
	}
	for _, name := range steps {
		if d.Steps[name].State == StepWaitingForRetry && d.changes[name] == nil {
			d.change(name, StepEnqueued)
			d.task.StepsRetrying--
			d.active++
		}
	}
}

func (d *decision) resume(ready []string) {
	for _, name := range ready {
		if step := d.Steps[name]; step.State == StepPending && !d.task.State.Terminal() {
			d.change(name, StepEnqueued).ParentsDone = step.ParentsLeft
			d.active++
		}
	}
}

func (d *decision) cancel() error {
	if d.task.State.Terminal() {
		return conflict("the task is already %s; only a task that has not ended can be cancelled", d.task.State)
	}
	for name, step := range d.Steps {
		if !step.State.Closed() {
			d.change(name, StepCancelled)
		}
	}
	d.task.StepsFailed, d.task.StepsRetrying, d.active = 0, 0, 0
	d.task.State = TaskCancelled
	d.plan.Path = []TaskState{TaskCancelled}
	return nil
}

func (d *decision) rerun(names []string) error {
	if d.task.State.Closed() {
		return conflict("the task is %s; nothing of it can be retried", d.task.State)
	}
	if d.task.State == TaskError && len(d.Steps) == 0 {
		d.task.State = TaskPending
		d.plan.Path, d.plan.Restart = []TaskState{TaskPending}, true
		return nil
	}
	if len(names) == 0 {
		for name, step := range d.Steps {
			if step.State == StepError {
				names = append(names, name)
			}
		}
		if len(names) == 0 {
			return conflict("no step of the task has failed; there is nothing to retry")
		}
	}
	for _, name := range names {
		step, ok := d.Steps[name]
		switch {
		case d.changes[name] != nil: // named twice
			continue
		case !ok:
			return unknownStepIn(name)
		case step.State == StepError:
			d.task.StepsFailed--
		case step.State == StepWaitingForRetry:
			d.task.StepsRetrying--
		default:
			return conflict("step %q is %s; only one in error or waiting_for_retry can be retried", name, step.State)
		}
		d.change(name, StepEnqueued).Reset = true
		d.active++
	}
	return nil
}

func (d *decision) resolve(e Resolve) error {
	step, ok := d.Steps[e.Step]
	switch {
	case d.task.State.Closed():
		return conflict("the task is %s; none of its steps can be resolved", d.task.State)
	case !ok:
		return unknownStepIn(e.Step)
	case step.State.Closed():
		return conflict("step %q is already %s", e.Step, step.State)
	case step.ParentsLeft > 0:
		return conflict("step %q still waits for %d of its dependencies; resolve those first", e.Step, step.ParentsLeft)
	}
	switch {
	case step.State == StepError:
		d.task.StepsFailed--
	case step.State == StepWaitingForRetry:
		d.task.StepsRetrying--
	case step.State.Active():
		d.active--
	}
	state := StepResolvedManually
	if e.HasResult {
		state = StepComplete
	}
	d.succeed(e.Step, state)
	return nil
}

// changed is the state the step will have so far.
func (d *decision) changed(name string) StepState {
	if c := d.changes[name]; c != nil {
		return c.To
	}
	return d.Steps[name].State
}

func (d *decision) change(name string, to StepState) *StepChange {
	c := d.changes[name]
	if c == nil {
		c = &StepChange{Step: name, From: d.Steps[name].State}
		d.changes[name] = c
	}
	c.To = to
	return c
}

// close derives the task's state from its counters, and sorts the changes so that a plan is a function of its inputs.
func (d *decision) close(counted bool) Plan {
	for _, c := range d.changes {
		d.plan.Steps = append(d.plan.Steps, *c)
	}
	sort.Slice(d.plan.Steps, func(i, j int) bool { return d.plan.Steps[i].Step < d.plan.Steps[j].Step })
	if len(d.changes) > 0 && d.task.State != TaskCancelled {
		d.settle(counted)
	}
	d.plan.SinksLeft = d.task.SinksLeft - d.Task.SinksLeft
	d.plan.StepsFailed = d.task.StepsFailed - d.Task.StepsFailed
	d.plan.StepsRetrying = d.task.StepsRetrying - d.Task.StepsRetrying
	return d.plan
}

// settle is spec §3.8: complete when every sink is; halted when something failed and nothing moves.
func (d *decision) settle(counted bool) {
	switch {
	case d.task.SinksLeft == 0:
		d.enter(TaskComplete)
	case !counted || d.active > 0:
		d.enter(TaskStepsInProcess)
	case d.task.StepsRetrying > 0:
		d.enter(TaskWaitingForRetry)
	case d.task.StepsFailed > 0:
		d.enter(TaskBlockedByFailures)
		if d.Graph.Template.Lifecycle.OnFailure != OnFailureBlock {
			d.enter(TaskError)
		}
	default:
		d.enter(TaskWaitingForDependencies)
	}
}

func (d *decision) enter(state TaskState) {
	if d.task.State == state || (d.task.State == TaskError && state == TaskBlockedByFailures) {
		return
	}
	if !d.task.State.CanBecome(state) {
		if !d.task.State.CanBecome(TaskStepsInProcess) {
			return // a closed task stays as it is, whatever its counters say
		}
		d.enter(TaskStepsInProcess)
	}
	d.task.State = state
	d.plan.Path = append(d.plan.Path, state)
}
