// Package setup makes the OpenTelemetry providers of a command: where its traces, metrics and logs go, what stands in every log
// line, and that nothing is lost when it stops.
//
//	config, err := setup.Load("config/tasker", os.Getenv("TASKER_ENV"), os.Getenv)
//	providers, err := setup.Start(ctx, config, plain)
//	defer providers.Shutdown(context.WithoutCancel(ctx))
//	logger := slog.New(providers.LogHandler(plain.Handler()))
//	recorder, err := telemetry.New(providers.TelemetryConfig())
//	providers.OnExportFailure(func(signal string) { recorder.ExportFailed(ctx, signal) })
//	providers.OnSpansDropped(func(reason string, spans int) { recorder.SpansDropped(ctx, reason, spans) })
//	mux.Handle("GET /metrics", providers.MetricsHandler())
//
// Libraries don't need it: they take providers from whoever runs them.
package setup
