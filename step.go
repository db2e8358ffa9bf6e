package tasker

import (
	"context"
	"fmt"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// StepRef is a step of a workflow, as its dependents name it.
type StepRef[Out any] struct{ name string }

// Dependency is a step that another can wait for: any [StepRef].
type Dependency interface{ stepName() string }

func (r *StepRef[Out]) stepName() string { return r.name }

// Name is the step's name.
func (r *StepRef[Out]) Name() string { return r.name }

// Result returns the step's result inside the handler of a step that depends on it.
func (r *StepRef[Out]) Result(ctx context.Context) (Out, error) {
	var out Out
	step, err := fromContext(ctx)
	if err != nil {
		return out, err
	}
	err = step.Result(r.name, &out)
	return out, err
}

// Step adds a step without dependencies.
func Step[In, Out any](f *Flow[In], name string, fn func(context.Context, In) (Out, error), opts ...StepOption) *StepRef[Out] {
	return add[In, Out](f, name, nil, opts, func(ctx context.Context, in In, _ *StepContext) (Out, error) { return fn(ctx, in) })
}

// Step1 adds a step that takes the result of one other.
func Step1[In, A, Out any](f *Flow[In], name string, fn func(context.Context, In, A) (Out, error),
	a *StepRef[A], opts ...StepOption,
) *StepRef[Out] {
	return add[In, Out](f, name, []Dependency{a}, opts, func(ctx context.Context, in In, s *StepContext) (out Out, err error) {
		var pa A
		if err := s.results(read(a, &pa)); err != nil {
			return out, err
		}
		return fn(ctx, in, pa)
	})
}

// Step2 adds a step that takes the results of two others.
func Step2[In, A, B, Out any](f *Flow[In], name string, fn func(context.Context, In, A, B) (Out, error),
	a *StepRef[A], b *StepRef[B], opts ...StepOption,
) *StepRef[Out] {
	return add[In, Out](f, name, []Dependency{a, b}, opts, func(ctx context.Context, in In, s *StepContext) (out Out, err error) {
		var pa A
		var pb B
		if err := s.results(read(a, &pa), read(b, &pb)); err != nil {
			return out, err
		}
		return fn(ctx, in, pa, pb)
	})
}

// Step3 adds a step that takes the results of three others.
//
//nolint:revive // the parents are the arguments
func Step3[In, A, B, C, Out any](f *Flow[In], name string, fn func(context.Context, In, A, B, C) (Out, error),
	a *StepRef[A], b *StepRef[B], c *StepRef[C], opts ...StepOption,
) *StepRef[Out] {
	return add[In, Out](f, name, []Dependency{a, b, c}, opts, func(ctx context.Context, in In, s *StepContext) (out Out, err error) {
		var pa A
		var pb B
		var pc C
		if err := s.results(read(a, &pa), read(b, &pb), read(c, &pc)); err != nil {
			return out, err
		}
		return fn(ctx, in, pa, pb, pc)
	})
}

// Step4 adds a step that takes the results of four others.
//
//nolint:revive // the parents are the arguments
func Step4[In, A, B, C, D, Out any](f *Flow[In], name string, fn func(context.Context, In, A, B, C, D) (Out, error),
	a *StepRef[A], b *StepRef[B], c *StepRef[C], d *StepRef[D], opts ...StepOption,
) *StepRef[Out] {
	return add[In, Out](f, name, []Dependency{a, b, c, d}, opts, func(ctx context.Context, in In, s *StepContext) (out Out, err error) {
		var pa A
		var pb B
		var pc C
		var pd D
		if err := s.results(read(a, &pa), read(b, &pb), read(c, &pc), read(d, &pd)); err != nil {
			return out, err
		}
		return fn(ctx, in, pa, pb, pc, pd)
	})
}

// StepAll adds a step that takes the results of any number of steps of one type, in their order: a wide fan-in.
func StepAll[In, A, Out any](f *Flow[In], name string, fn func(context.Context, In, []A) (Out, error),
	parents []*StepRef[A], opts ...StepOption,
) *StepRef[Out] {
	dependencies := make([]Dependency, len(parents))
	for i, p := range parents {
		dependencies[i] = p
	}
	return add[In, Out](f, name, dependencies, opts, func(ctx context.Context, in In, s *StepContext) (out Out, err error) {
		results := make([]A, len(parents))
		for i, p := range parents {
			if err := s.Result(p.name, &results[i]); err != nil {
				return out, err
			}
		}
		return fn(ctx, in, results)
	})
}

// parent is one result to read before a step runs.
type parent struct {
	name string
	into any
}

func read[A any](ref *StepRef[A], into *A) parent { return parent{ref.name, into} }

func (s *StepContext) results(parents ...parent) error {
	for _, p := range parents {
		if err := s.Result(p.name, p.into); err != nil {
			return err
		}
	}
	return nil
}

// add appends the step and its handler. The callable carries no version: a handler may be deployed anew while tasks of older
// versions are under way.
func add[In, Out any](f *Flow[In], name string, parents []Dependency, opts []StepOption,
	fn func(context.Context, In, *StepContext) (Out, error),
) *StepRef[Out] {
	w := f.workflow
	step := dag.Step{Name: name, Typed: true}
	for _, p := range parents {
		step.Dependencies = append(step.Dependencies, p.stepName())
	}
	for _, opt := range opts {
		opt(&step)
	}
	step.Handler.Callable = fmt.Sprintf("%s/%s.%s", w.definition.Namespace, w.definition.Name, name)
	w.definition.Steps = append(w.definition.Steps, step)
	w.functions[step.Handler.Callable] = func(ctx context.Context, s *StepContext) (any, error) {
		var in In
		if err := s.Context(&in); err != nil {
			return nil, err
		}
		return fn(ctx, in, s)
	}
	return &StepRef[Out]{name}
}
