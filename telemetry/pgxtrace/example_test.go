package pgxtrace_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/telemetry/pgxtrace"
)

// Any pool can be measured, with nothing else of Tasker.
func Example() {
	ctx := context.Background()
	existing, done := dbtest.ExamplePool()
	defer done()
	config := existing.Config() // elsewhere, from pgxpool.ParseConfig

	reader := sdkmetric.NewManualReader() // elsewhere, with an exporter
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	tracer, err := pgxtrace.Watch(provider, "app")
	if err != nil {
		panic(err.Error())
	}
	pgxtrace.Attach(config, tracer)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		panic(err.Error())
	}
	defer pool.Close()

	if _, err := pool.Exec(ctx, "-- name: OneAndOne :one\nSELECT 1 + 1"); err != nil {
		panic(err.Error())
	}

	var collected metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &collected); err != nil {
		panic(err.Error())
	}
	for _, metric := range collected.ScopeMetrics[0].Metrics {
		if counter, ok := metric.Data.(metricdata.Sum[int64]); ok {
			for _, point := range counter.DataPoints {
				fmt.Println(metric.Name, valuesOf(point.Attributes), point.Value)
			}
		}
	}
	// Unordered output:
	// tasker.sql.queries.total OneAndOne ok 1
	// tasker.db.pool.checkouts.total app 1
}
