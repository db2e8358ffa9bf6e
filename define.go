package tasker

import (
	"fmt"
	"strings"
	"time"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// Definition is a template as data: what YAML says, and what the database keeps.
type Definition = dag.Template

// Template is a workflow that a client can register: one made by [Define] or by [ParseTemplate].
type Template interface {
	// Definition returns the template as data.
	Definition() Definition
	// handlers are the functions that came with the definition, by callable.
	handlers() map[string]HandlerFunc
	// problem is what went wrong while the template was being built.
	problem() error
}

// Workflow is a template whose tasks take an In.
type Workflow[In any] struct {
	definition Definition
	functions  map[string]HandlerFunc
	err        error
}

// Definition returns the workflow as data.
func (w *Workflow[In]) Definition() Definition { return w.definition }

func (w *Workflow[In]) handlers() map[string]HandlerFunc { return w.functions }
func (w *Workflow[In]) problem() error                   { return w.err }

// Flow collects the steps of a workflow while [Define] runs.
type Flow[In any] struct{ workflow *Workflow[In] }

// Define builds a workflow. name is "namespace/name"; the namespace is also the queue its steps run on. The version is part
// of its identity: a changed graph needs a new one once tasks use the old, while handlers may change freely. Mistakes in the
// graph are reported by [NewClient].
func Define[In any](name, version string, build func(f *Flow[In]), opts ...TemplateOption) *Workflow[In] {
	namespace, short, _ := strings.Cut(name, "/")
	w := &Workflow[In]{
		definition: Definition{Namespace: namespace, Name: short, Version: version},
		functions:  make(map[string]HandlerFunc),
	}
	for _, opt := range opts {
		opt(&w.definition)
	}
	build(&Flow[In]{w})
	if problems := dag.Validate(&w.definition); len(problems) > 0 {
		w.fail(fmt.Errorf("template %s: %w", name, problems))
	}
	return w
}

// fail keeps the first error.
func (w *Workflow[In]) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// TemplateOption sets something for a whole template.
type TemplateOption func(*Definition)

// WithIdentity says when two requests are the same task; the default is [IdentityStrict].
func WithIdentity(strategy dag.IdentityStrategy) TemplateOption {
	return func(d *Definition) { d.Identity = strategy }
}

// The identity strategies, for [WithIdentity].
const (
	// IdentityStrict: same template and same context are the same task.
	IdentityStrict = dag.IdentityStrict
	// IdentityCallerProvided: every request needs an idempotency key.
	IdentityCallerProvided = dag.IdentityCallerProvided
	// IdentityAlwaysUnique: every request is its own task.
	IdentityAlwaysUnique = dag.IdentityAlwaysUnique
)

// WithInputSchema makes every request's context satisfy a JSON Schema (2020-12).
func WithInputSchema(schema map[string]any) TemplateOption {
	return func(d *Definition) { d.InputSchema = schema }
}

// WithDescription says what the template is for.
func WithDescription(text string) TemplateOption { return func(d *Definition) { d.Description = text } }

// BlockOnFailure leaves a task whose steps failed for good in blocked_by_failures, for an operator, instead of ending it in
// error.
func BlockOnFailure() TemplateOption {
	return func(d *Definition) { d.Lifecycle.OnFailure = dag.OnFailureBlock }
}

// StepOption sets something for one step.
type StepOption func(*dag.Step)

// Retry sets how often a step is executed in all, the first time included, and the base of its exponential back-off (spec
// §3.3). The default is 3 and 1 s.
func Retry(maxAttempts int, base time.Duration) StepOption {
	return func(s *dag.Step) {
		r := retry(s)
		ms := base.Milliseconds()
		r.MaxAttempts, r.BackoffBaseMS = &maxAttempts, &ms
	}
}

// Backoff sets how the delay between attempts grows, and its cap. The default is exponential and 30 s.
func Backoff(strategy dag.Backoff, longest time.Duration) StepOption {
	return func(s *dag.Step) {
		r := retry(s)
		ms := longest.Milliseconds()
		r.Backoff, r.MaxBackoffMS = strategy, &ms
	}
}

// NoRetry makes the first failure final.
func NoRetry() StepOption {
	return func(s *dag.Step) { never := false; retry(s).Retryable = &never }
}

func retry(s *dag.Step) *dag.Retry {
	if s.Retry == nil {
		s.Retry = &dag.Retry{}
	}
	return s.Retry
}

// Timeout bounds one execution of a step: its context ends, and the attempt counts as failed. The default is 30 s.
func Timeout(d time.Duration) StepOption {
	return func(s *dag.Step) { s.TimeoutSeconds = d.Seconds() }
}

// After makes a step wait for others whose results it does not take as arguments; it may read them with [StepRef.Result].
func After(steps ...Dependency) StepOption {
	return func(s *dag.Step) {
		for _, d := range steps {
			s.Dependencies = append(s.Dependencies, d.stepName())
		}
	}
}
