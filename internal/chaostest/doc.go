// Package chaostest kills, freezes and cuts off real Tasker processes and their Postgres under load, and then proves that
// nothing was lost and nothing happened twice. It has tests only: `go test` runs their short forms, `make chaos` the long ones
// (CHAOS=long), and CHAOS_SEED repeats a run's choices.
//
// The test binary is the process under test: started again with TASKER_CHAOS_ROLE set, it runs a tasker.Client until it is
// killed or asked to stop. What happened is judged from outside the engine:
//
//	TX  handlers write to a table of Tasker's database in the transaction that completes their step: once per step, exactly
//	LG  handlers write to a ledger in another database, before their result counts: at most once per dispatch
//	HS  each result is a hash of the step's name and its parents' results: the same as computed here
//	AK  every acknowledged task exists, every key once
//	U   all of that, every task ended as designed, the doctor finds nothing, no process died by itself, no data race
package chaostest
