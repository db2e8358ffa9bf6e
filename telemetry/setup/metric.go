package setup

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/tasker-systems/tasker-go/telemetry"
)

const (
	// plainSets is how many label sets an instrument has room for beside the correlation labels.
	plainSets = 2000
	// maxPoints bounds an export: a histogram's point with its exemplars takes up to 2 kB, and collectors take 4 MB at once.
	maxPoints = 1000
)

func (p *Providers) startMetrics(ctx context.Context, about *resource.Resource) error {
	c := &p.config.Metrics
	readers, err := p.metricReaders(ctx)
	if err != nil {
		return fmt.Errorf("make exporter of metrics: %w", err)
	}
	if len(readers) == 0 {
		return nil
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(about)}
	for _, reader := range readers {
		options = append(options, sdkmetric.WithReader(reader))
	}
	if !labels(c.CorrelationLabel) {
		options = append(options, sdkmetric.WithView(withoutCorrelation()...))
	}
	// All labels of a task are lost in what comes after the limit. With all tasks labelled nothing keeps below it, and the SDK's
	// own limit may stand.
	if c.CorrelationLabel != telemetry.LabelAll {
		options = append(options, sdkmetric.WithCardinalityLimit(cmp.Or(max(c.CorrelationBudget, 0), defaultBudget)+plainSets))
	}
	p.meters = sdkmetric.NewMeterProvider(options...)
	p.metrics.end = p.meters.Shutdown
	if err := runtime.Start(runtime.WithMeterProvider(p.meters)); err != nil {
		return fmt.Errorf("start runtime metrics: %w", err)
	}
	return nil
}

// labels tells whether a mode lets any task have the label.
func labels(mode telemetry.LabelMode) bool {
	return mode == telemetry.LabelBounded || mode == telemetry.LabelAll
}

// withoutCorrelation keeps correlation_id from being a label of the metrics that may have it. Their exemplars still have it. It
// must stay the only key that does: an exemplar has room for 128 characters. Other metrics are spared the filter, which costs
// as much as the measurement.
func withoutCorrelation() []sdkmetric.View {
	const label = "correlation_id"
	var views []sdkmetric.View
	for _, m := range telemetry.Catalogue() {
		if slices.Contains(m.Labels, label) {
			views = append(views, sdkmetric.NewView(
				sdkmetric.Instrument{Name: m.Name}, sdkmetric.Stream{AttributeFilter: attribute.NewDenyKeysFilter(label)},
			))
		}
	}
	return views
}

func (p *Providers) metricReaders(ctx context.Context) ([]sdkmetric.Reader, error) {
	c := &p.config.Metrics
	var readers []sdkmetric.Reader
	if c.Prometheus {
		// A registry of its own: the global one is for who wants to share it.
		registry := prometheus.NewRegistry()
		reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo(),
			otelprometheus.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
		if err != nil {
			return nil, err //nolint:wrapcheck // the caller says what was attempted
		}
		readers = append(readers, reader)
		p.metricsHandler = metricsHandler(registry)
	}
	if !c.Exporter.on() {
		return readers, nil
	}
	if c.Exporter.Name != exporterOTLP {
		reader, err := autoexport.NewMetricReader(ctx)
		return append(readers, reader), err
	}
	exporter, err := newMetricExporter(ctx, &c.Exporter)
	if err != nil {
		return nil, err
	}
	return append(readers, sdkmetric.NewPeriodicReader(metricOutlet{exporter, p.metrics},
		sdkmetric.WithInterval(c.Interval), sdkmetric.WithTimeout(c.Timeout), sdkmetric.WithMaxExportBatchSize(maxPoints))), nil
}

// metricsHandler serves the OpenMetrics format to those who ask for it, since only that has exemplars. A metric that cannot be
// shown does not hide the others.
func metricsHandler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true})
}

func newMetricExporter(ctx context.Context, e *Exporter) (sdkmetric.Exporter, error) {
	if e.Protocol == ProtocolHTTP {
		return otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(e.Endpoint)) //nolint:wrapcheck // the caller says what was attempted
	}
	return otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpointURL(e.Endpoint)) //nolint:wrapcheck // as above
}

// metricOutlet sends metrics through the outlet.
type metricOutlet struct {
	sdkmetric.Exporter

	outlet *outlet
}

// Export sends a batch.
func (m metricOutlet) Export(ctx context.Context, metrics *metricdata.ResourceMetrics) error {
	return m.outlet.send(ctx, 0, func(ctx context.Context) error {
		return m.Exporter.Export(ctx, metrics)
	})
}
