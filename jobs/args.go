package jobs

import "github.com/google/uuid"

// The kinds of River jobs. Every process registers all three, so that no leader ever meets an unknown one.
const (
	KindEnqueue = "tasker_enqueue"
	KindExecute = "tasker_execute"
	KindResult  = "tasker_result"
)

// enqueueArgs expands a pending task.
type enqueueArgs struct {
	TaskID uuid.UUID `json:"task_id"`
}

func (enqueueArgs) Kind() string { return KindEnqueue }

// executeArgs is one dispatch of a step. The handler's name lets a worker leave alone what it cannot run, and people see in
// River UI what a job does.
type executeArgs struct {
	StepID  uuid.UUID `json:"step_id"`
	ClaimNo int32     `json:"claim_no"`
	Handler string    `json:"handler"`
	// Losses is how often the step has lost its worker: see Runner.awaitTurn.
	Losses int `json:"losses,omitempty"`
}

func (executeArgs) Kind() string { return KindExecute }

// resultArgs brings a stored result to an orchestrator.
type resultArgs struct {
	TaskID  uuid.UUID `json:"task_id"`
	StepID  uuid.UUID `json:"step_id"`
	ClaimNo int32     `json:"claim_no"`
}

func (resultArgs) Kind() string { return KindResult }
