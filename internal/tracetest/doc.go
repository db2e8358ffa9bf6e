// Package tracetest runs Tasker in processes of their own, sends what they record over real OTLP to a receiver, and checks that
// traces and metrics stay whole: when processes are killed, when tasks come from SQL, when a process stops under load, and when
// the collector does not answer. It has tests only.
package tracetest
