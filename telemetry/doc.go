// Package telemetry watches: the catalogue of metrics, the instruments behind it, and the spans of a task's trace.
//
// It needs the OpenTelemetry API alone. Providers are injected through [Config]; without them everything here does nothing
// at almost no cost. Package telemetry/setup makes providers with exporters for commands, and package telemetry/pgxtrace
// watches any pgx pool.
//
// Two rules keep it cheap. Labels come from closed sets, so that the options of a measurement are built once for each
// combination and spread from then on. And what a transaction did is told after its commit, from what it returned: a
// transaction that is rolled back or runs again tells nothing twice.
package telemetry
