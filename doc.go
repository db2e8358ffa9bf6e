// Package tasker runs workflows, DAGs of steps, on nothing but Postgres. Each hop of a step is a River job in your own
// database; a task is one run of a template, started from Go inside your own transaction or from SQL, and never lost.
//
// A workflow is plain functions; their arguments are the dependencies:
//
//	var Fulfil = tasker.Define("orders/fulfil", "1.0.0", func(f *tasker.Flow[Order]) {
//		paid := tasker.Step(f, "charge", charge, tasker.Retry(5, time.Second))
//		held := tasker.Step(f, "reserve", reserve)
//		tasker.Step2(f, "ship", ship, paid, held) // func ship(context.Context, Order, Receipt, Hold) (Label, error)
//	})
//
// A [Client] with Namespaces works steps, one with Orchestrate moves tasks forward, and one with neither creates and inspects
// them. A handler runs at least once, and exactly one result of each step counts; docs/guarantees.md says under which
// conditions.
package tasker
