// Package dag holds Tasker's rules, and nothing else: what a template may say, which steps may run, when a failure is tried
// again, what becomes of a task. It is pure: standard library only, no clock, no randomness, no database. The caller loads a
// Snapshot, asks Decide, and applies the Plan.
package dag
