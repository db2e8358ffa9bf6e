package dag

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// IdentityStrategy says when two requests are the same task.
type IdentityStrategy string

// The identity strategies. A given idempotency key wins over each.
const (
	// IdentityStrict: same template and same context are the same task. The default.
	IdentityStrict IdentityStrategy = "strict"
	// IdentityCallerProvided: the caller must give an idempotency key.
	IdentityCallerProvided IdentityStrategy = "caller_provided"
	// IdentityAlwaysUnique: every request is its own task.
	IdentityAlwaysUnique IdentityStrategy = "always_unique"
)

// StepType is the kind of a step. Only standard steps are understood today; the others of the format are refused by name.
type StepType string

// StepStandard is a step that runs its handler once its parents succeeded.
const StepStandard StepType = "standard"

// OnFailure says what becomes of a task that a failed step has brought to a halt.
type OnFailure string

// What may become of a halted task.
const (
	// OnFailureError ends the task in error. The default.
	OnFailureError OnFailure = "error"
	// OnFailureBlock leaves it in blocked_by_failures for an operator.
	OnFailureBlock OnFailure = "block"
)

// Template is a workflow: a graph of steps under a namespace, a name and a version. The tags are its YAML and JSON form.
type Template struct {
	Name        string `json:"name" yaml:"name"`
	Namespace   string `json:"namespace_name" yaml:"namespace_name"`
	Version     string `json:"version" yaml:"version"`
	Description string `json:"description,omitempty" yaml:"description"`
	// Metadata is documentation: author, tags and the like.
	Metadata map[string]any   `json:"metadata,omitempty" yaml:"metadata"`
	Identity IdentityStrategy `json:"identity_strategy,omitempty" yaml:"identity_strategy"`
	// InputSchema is a JSON Schema (2020-12) that the context of each task must satisfy; empty accepts anything.
	InputSchema  map[string]any         `json:"input_schema,omitempty" yaml:"input_schema"`
	Lifecycle    Lifecycle              `json:"lifecycle,omitzero" yaml:"lifecycle"`
	Steps        []Step                 `json:"steps" yaml:"steps"`
	Environments map[string]Environment `json:"environments,omitempty" yaml:"environments"`
}

// Lifecycle holds the settings for a task as a whole.
type Lifecycle struct {
	OnFailure OnFailure `json:"on_failure,omitempty" yaml:"on_failure"`
}

// Step is one node of a template.
type Step struct {
	Name         string   `json:"name" yaml:"name"`
	Description  string   `json:"description,omitempty" yaml:"description"`
	Type         StepType `json:"type,omitempty" yaml:"type"`
	Handler      Handler  `json:"handler" yaml:"handler"`
	Dependencies []string `json:"dependencies,omitempty" yaml:"dependencies"`
	// Retry is nil for the default policy.
	Retry *Retry `json:"retry,omitempty" yaml:"retry"`
	// TimeoutSeconds bounds one execution; 0 means DefaultTimeout.
	TimeoutSeconds float64 `json:"timeout_seconds,omitempty" yaml:"timeout_seconds"`
	// Typed steps get exactly their dependencies' results; others may ask for any ancestor's.
	Typed bool `json:"typed,omitempty" yaml:"-"`
}

// Handler names the code of a step and its static settings.
type Handler struct {
	Callable       string         `json:"callable" yaml:"callable"`
	Initialization map[string]any `json:"initialization,omitempty" yaml:"initialization"`
}

// Retry is a retry policy as written: a nil field takes its default.
type Retry struct {
	Retryable     *bool    `json:"retryable,omitempty" yaml:"retryable"`
	MaxAttempts   *int     `json:"max_attempts,omitempty" yaml:"max_attempts"`
	Backoff       Backoff  `json:"backoff,omitempty" yaml:"backoff"`
	BackoffBaseMS *int64   `json:"backoff_base_ms,omitempty" yaml:"backoff_base_ms"`
	MaxBackoffMS  *int64   `json:"max_backoff_ms,omitempty" yaml:"max_backoff_ms"`
	Jitter        *float64 `json:"jitter,omitempty" yaml:"jitter"`
}

// Environment overrides steps where a process runs in that environment.
type Environment struct {
	Steps []Override `json:"steps" yaml:"steps"`
}

// Override changes one step, or every step under the name ALL. Initialization is merged key by key; retry and timeout replace;
// the callable stays.
type Override struct {
	Name           string   `json:"name" yaml:"name"`
	Handler        *Handler `json:"handler,omitempty" yaml:"handler"`
	Retry          *Retry   `json:"retry,omitempty" yaml:"retry"`
	TimeoutSeconds float64  `json:"timeout_seconds,omitempty" yaml:"timeout_seconds"`
}

// DefaultTimeout bounds an execution of a step that does not say.
const DefaultTimeout = 30 * time.Second

// Timeout is how long one execution of the step may take.
func (s *Step) Timeout() time.Duration {
	if s.TimeoutSeconds <= 0 {
		return DefaultTimeout
	}
	return time.Duration(s.TimeoutSeconds * float64(time.Second))
}

// ID names the template as people write it: namespace/name@version.
func (t *Template) ID() string { return t.Namespace + "/" + t.Name + "@" + t.Version }

// In returns the template as the environment changes it, in the order the overrides are written, and without its
// environments. An unknown environment changes nothing.
func (t *Template) In(environment string) Template {
	changed := *t
	changed.Environments = nil
	changed.Steps = append([]Step(nil), t.Steps...)
	for _, o := range t.Environments[environment].Steps {
		for i := range changed.Steps {
			if o.Name == "ALL" || o.Name == changed.Steps[i].Name {
				changed.Steps[i].override(o)
			}
		}
	}
	return changed
}

func (s *Step) override(o Override) {
	if o.Handler != nil {
		merged := make(map[string]any, len(s.Handler.Initialization)+len(o.Handler.Initialization))
		maps.Copy(merged, s.Handler.Initialization)
		maps.Copy(merged, o.Handler.Initialization)
		s.Handler.Initialization = merged
	}
	if o.Retry != nil {
		s.Retry = o.Retry
	}
	if o.TimeoutSeconds > 0 {
		s.TimeoutSeconds = o.TimeoutSeconds
	}
}

// Canonical is the template's one JSON form: equal templates have equal bytes.
func (t *Template) Canonical() ([]byte, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode template %s: %w", t.ID(), err)
	}
	return text, nil
}
