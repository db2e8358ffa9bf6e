// Package jobs carries tasks through River: the three kinds of jobs, their workers, the group committer that turns many
// results into one transaction, the wake-up of other processes after a commit, and the loops that keep leases alive and bring
// back what was lost. The rules are orchestration's and dag's; this package only moves things.
package jobs
