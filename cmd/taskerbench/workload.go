package main

import (
	"context"
	"fmt"

	"github.com/tasker-systems/tasker-go"
)

// input is nothing: the steps do nothing either.
type input struct{}

func begin(context.Context, input) (int, error)           { return 1, nil }
func next(_ context.Context, _ input, n int) (int, error) { return n + 1, nil }
func sum(_ context.Context, _ input, all []int) (int, error) {
	total := 0
	for _, n := range all {
		total += n
	}
	return total, nil
}

var always = tasker.WithIdentity(tasker.IdentityAlwaysUnique)

// linear is a chain of four.
var linear = tasker.Define("bench/linear", "1.0.0", func(f *tasker.Flow[input]) {
	one := tasker.Step(f, "one", begin)
	two := tasker.Step1(f, "two", next, one)
	three := tasker.Step1(f, "three", next, two)
	tasker.Step1(f, "four", next, three)
}, always)

// fan is one, a hundred, one.
var fan = tasker.Define("bench/fan", "1.0.0", func(f *tasker.Flow[input]) {
	one := tasker.Step(f, "one", begin)
	var middle []*tasker.StepRef[int]
	for i := range 100 {
		middle = append(middle, tasker.Step1(f, fmt.Sprintf("middle_%d", i), next, one))
	}
	tasker.StepAll(f, "last", sum, middle)
}, always)

// wide is very many parents of one join; its version carries the width, which is part of the graph.
func wide(width int) *tasker.Workflow[input] {
	return tasker.Define("bench/wide", fmt.Sprintf("1.0.%d", width), func(f *tasker.Flow[input]) {
		var parents []*tasker.StepRef[int]
		for i := range width {
			parents = append(parents, tasker.Step(f, fmt.Sprintf("parent_%d", i), begin))
		}
		tasker.StepAll(f, "join", sum, parents)
	}, always)
}
