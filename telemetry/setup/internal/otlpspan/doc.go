// Package otlpspan makes the spans that a process makes most of, and sends spans, at a fraction of what OpenTelemetry's SDK and
// exporter take for it.
//
// A span becomes bytes of the protocol when it ends: there is no list of spans that waits to be turned into messages and those
// into bytes, and nothing for the garbage collector to follow meanwhile. What is costly to write again stays with the
// libraries: [Sender] is a processor of the SDK, so that the spans of other scopes come from there, and an [otlptrace.Client]
// connects, compresses, authenticates and tries again. [Recorder] makes spans without the SDK, for the one scope that makes
// nine of ten.
package otlpspan
