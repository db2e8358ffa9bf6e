package verify

import (
	"slices"
	"strings"
)

// The services, as backends see them: the one that the documents name for what works, and another for what creates tasks.
const (
	serverService = "tasker-orchestration"
	clientService = "tasker-client"
)

// exportEvery is how often metrics are exported while they are verified, in milliseconds.
const exportEvery = "500"

// environment is the variables of a process.
type environment map[string]string

// newEnvironment reads the form of [os.Environ].
func newEnvironment(pairs []string) environment {
	e := make(environment, len(pairs))
	for _, pair := range pairs {
		if name, value, ok := strings.Cut(pair, "="); ok {
			e[name] = value
		}
	}
	return e
}

// pairs is the form of [os.Environ].
func (e environment) pairs() []string {
	pairs := make([]string, 0, len(e))
	for name, value := range e {
		pairs = append(pairs, name+"="+value)
	}
	slices.Sort(pairs)
	return pairs
}

func (e environment) get(name string) string { return e[name] }

// without removes the variables whose names begin so.
func (e environment) without(prefixes ...string) {
	for name := range e {
		if slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			delete(e, name)
		}
	}
}

// otherwise sets what is not set.
func (e environment) otherwise(name, value string) {
	if e[name] == "" {
		e[name] = value
	}
}

// environmentOf is that of the processes that are verified: what the documents tell to set, over what the user's says. endpoint
// is the receiver's, which the user's own settings must not lead past; empty where they are to say where telemetry goes.
func environmentOf(pairs []string, endpoint, version string) environment {
	e := newEnvironment(pairs)
	e.without("DATABASE_URL", "OTEL_SDK_DISABLED")
	if endpoint != "" {
		e.without("OTEL_", "TELEMETRY_", "DEPLOYMENT_ENVIRONMENT")
		e["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
	}
	e["TELEMETRY_ENABLED"] = "true"
	e["OTEL_LOGS_ENABLED"] = "true"
	e["OTEL_TRACES_SAMPLER_ARG"] = "1.0"
	e["OTEL_SERVICE_NAME"] = serverService
	e["OTEL_SERVICE_VERSION"] = version
	e.otherwise("DEPLOYMENT_ENVIRONMENT", "development")
	e.otherwise("OTEL_METRIC_EXPORT_INTERVAL", exportEvery)
	return e
}

// instance adds what tells the processes of this run from all others.
func (e environment) instance(id string) {
	attributes := "service.instance.id=" + id
	if given := e["OTEL_RESOURCE_ATTRIBUTES"]; given != "" {
		attributes = given + "," + attributes
	}
	e["OTEL_RESOURCE_ATTRIBUTES"] = attributes
}
