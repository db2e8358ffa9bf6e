// Package otlpreceiver is an OpenTelemetry collector inside a process: it takes traces, metrics and logs over OTLP, by gRPC and
// by HTTP, keeps them in memory, and answers questions about them. Tests use it, and commands that verify what is exported.
//
//	receiver, err := otlpreceiver.Start(ctx, "127.0.0.1:0")
//	defer receiver.Stop()
//	// … a process exports to receiver.Endpoint() …
//	err = receiver.Wait(ctx, func(s *otlpreceiver.Snapshot) bool { return len(s.Spans) >= 11 })
package otlpreceiver
