// Package orchestration moves tasks forward inside a transaction that its caller opened and will commit.
//
// # The life of a task
//
// A task is created with one tasker_enqueue job (tasker.create_task). Advance expands it into steps and dispatches those
// without parents: a dispatch raises the step's claim number and inserts a tasker_execute job that names it. A worker claims
// the step (Claim), runs its handler, and stores the outcome: together with what follows from it where an orchestrator lives
// in the worker's process (Advance with a fresh outcome), else for the orchestrators to read (StoreResults inserts a
// tasker_result job, which comes back to Advance). Advance closes the step, decrements its children's parents_left,
// dispatches those that reach zero, and finishes the task when no sink is left. Retries wait in the step's row, not in a job;
// Promote, Reap and Sweep bring back what is due, lost or orphaned.
//
// # Batches
//
// Every function takes a slice. Results of one task inside a batch are folded, and a task's row is written once per batch,
// only when something on it changes.
//
// # Locks
//
// Only advancing a task takes its row: tasks by ascending id, then steps by ascending id (ids ascend with the topological
// order). Claim, Heartbeat, StoreResults and Reap touch step rows alone, in the same order or skipping locked ones. So no two
// transactions can wait for each other. FOR NO KEY UPDATE everywhere.
//
// # Fences
//
// Everything a worker writes names the claim number it was dispatched with; every state change compares the state it leaves.
// What comes late changes nothing.
package orchestration
