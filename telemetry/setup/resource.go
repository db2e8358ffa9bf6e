package setup

import (
	"cmp"
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
)

const (
	keyService     = attribute.Key("service.name")
	keyEnvironment = attribute.Key("deployment.environment.name")
	// keyOldEnvironment is what the conventions called it until they were stable; dashboards still do.
	keyOldEnvironment = attribute.Key("deployment.environment")
	// keyContainer is the label that a Loki fed by Docker has. It makes {container="tasker-orchestration"} find what comes
	// over OTLP too.
	keyContainer = attribute.Key("container")
)

// newResource is what every signal says of the process. OTEL_RESOURCE_ATTRIBUTES wins over the configuration.
func newResource(ctx context.Context, config *Config) (*resource.Resource, error) {
	given, err := resource.New(ctx, resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	find := func(key attribute.Key) string {
		value, _ := given.Set().Value(key)
		return value.AsString()
	}
	service := cmp.Or(find(keyService), config.ServiceName, defaultService)
	environment := cmp.Or(find(keyEnvironment), find(keyOldEnvironment), config.Environment, development)
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		keyService.String(service),
		attribute.String("service.version", config.ServiceVersion),
		attribute.String("service.instance.id", config.InstanceID),
		keyEnvironment.String(environment), keyOldEnvironment.String(environment),
		keyContainer.String(service),
	))
	if err != nil {
		return nil, fmt.Errorf("describe process: %w", err)
	}
	merged, err := resource.Merge(about, given)
	if err != nil {
		return nil, fmt.Errorf("describe process: %w", err)
	}
	return merged, nil
}
