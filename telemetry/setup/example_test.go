package setup_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/tasker-systems/tasker-go/telemetry"
	"github.com/tasker-systems/tasker-go/telemetry/setup"
)

func Example() {
	ctx := context.Background()
	environment := map[string]string{"OTEL_SERVICE_NAME": "tasker-orchestration", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
	config, err := setup.Load("config/tasker", "production", func(name string) string { return environment[name] })
	if err != nil {
		fmt.Println(err)
		return
	}
	plain := slog.DiscardHandler
	providers, err := setup.Start(ctx, config, slog.New(plain))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer providers.Shutdown(ctx)
	recorder, err := telemetry.New(providers.TelemetryConfig())
	if err != nil {
		fmt.Println(err)
		return
	}
	providers.OnExportFailure(func(signal string) { recorder.ExportFailed(ctx, signal) })
	providers.OnSpansDropped(func(reason string, spans int) { recorder.SpansDropped(ctx, reason, spans) })
	logger := slog.New(providers.LogHandler(plain))
	logger.InfoContext(ctx, "ready")
	fmt.Println(config.ServiceName, config.Traces.SampleRatio, config.Exports(), providers.MetricsHandler() != nil)
	// Output: tasker-orchestration 0.1 false true
}
