package setup

import (
	"context"
	"fmt"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
)

func (p *Providers) startLogs(ctx context.Context, about *resource.Resource) error {
	c := &p.config.Logs
	if !c.on() {
		return nil
	}
	exporter, err := newLogExporter(ctx, &c.Exporter)
	if err != nil {
		return fmt.Errorf("make exporter of logs: %w", err)
	}
	p.loggers = sdklog.NewLoggerProvider(sdklog.WithResource(about), sdklog.WithProcessor(
		sdklog.NewBatchProcessor(logOutlet{exporter, p.logs}, sdklog.WithMaxQueueSize(c.Batch.Queue),
			sdklog.WithExportMaxBatchSize(c.Batch.Size), sdklog.WithExportInterval(c.Batch.Delay),
			sdklog.WithExportTimeout(c.Batch.Timeout))))
	p.logs.end = p.loggers.Shutdown
	return nil
}

func newLogExporter(ctx context.Context, e *Exporter) (sdklog.Exporter, error) {
	switch {
	case e.Name != exporterOTLP:
		return autoexport.NewLogExporter(ctx) //nolint:wrapcheck // the caller says what was attempted
	case e.Protocol == ProtocolHTTP:
		return otlploghttp.New(ctx, otlploghttp.WithEndpointURL(e.Endpoint)) //nolint:wrapcheck // as above
	default:
		return otlploggrpc.New(ctx, otlploggrpc.WithEndpointURL(e.Endpoint)) //nolint:wrapcheck // as above
	}
}

// logOutlet sends log records through the outlet.
type logOutlet struct {
	sdklog.Exporter

	outlet *outlet
}

// Export sends a batch.
func (l logOutlet) Export(ctx context.Context, records []sdklog.Record) error {
	return l.outlet.send(ctx, len(records), func(ctx context.Context) error {
		return l.Exporter.Export(ctx, records)
	})
}
