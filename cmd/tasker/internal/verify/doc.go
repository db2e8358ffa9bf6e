// Package verify proves what Tasker exports. It runs a `tasker serve` with tasks that succeed, fail and are tried again, takes
// its database away for a moment, stops it, and holds everything that arrived over OTLP against what the catalogue of package
// telemetry promises. With the URLs of real backends it asks those, in PromQL, TraceQL and LogQL.
package verify
