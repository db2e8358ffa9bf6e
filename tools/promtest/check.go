package promtest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/promql/parser"
)

// policy is what a query must keep to, beside its names.
type policy struct {
	// aggregated: no series may stand for itself, since each process has its own; gauges that all processes share are not added up.
	aggregated bool
	// growth: of a counter only the growth may be asked for. Its value means little where processes come and go.
	growth bool
}

// checker collects what is wrong with an expression.
type checker struct {
	names    vocabulary
	problems []error
}

func (c *checker) failf(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

// promql parses what a Prometheus without experimental features understands.
var promql = parser.NewParser(parser.Options{})

// check tells what is wrong with a query.
func (v vocabulary) check(query string, p policy) error {
	expr, err := promql.ParseExpr(query)
	if err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	c := &checker{names: v}
	c.labels(expr)
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			c.use(s, path, p)
		}
		return nil
	})
	return errors.Join(c.problems...)
}

// gaugeFunctions and counterFunctions say what a metric is when they are applied to it.
var (
	counterFunctions = []string{"rate", "irate", "increase", "resets"}
	gaugeFunctions   = []string{"deriv", "delta", "idelta", "predict_linear", "double_exponential_smoothing"}
	growthFunctions  = slices.Concat(counterFunctions, []string{"max_over_time", "last_over_time", "absent_over_time"})
)

// use looks at what an expression does with a metric; path are the nodes around the selector, from the outside.
func (c *checker) use(s *parser.VectorSelector, path []parser.Node, p policy) {
	known, ok := c.names.find(s.Name)
	if !ok {
		return
	}
	function, aggregation := around(path)
	switch {
	case known.kind == gauge && slices.Contains(counterFunctions, function):
		c.failf("%s(%s): it is a gauge", function, s.Name)
	case known.kind == counter && slices.Contains(gaugeFunctions, function):
		c.failf("%s(%s): it is a counter", function, s.Name)
	case p.growth && known.kind == counter && !slices.Contains(growthFunctions, function):
		c.failf("%s is a counter: ask for its rate or increase", s.Name)
	}
	if !p.aggregated || known.kind == derived || function == "absent_over_time" {
		return
	}
	switch {
	case aggregation == 0:
		c.failf("%s is not aggregated: each process has series of its own", s.Name)
	case known.shared && aggregation != parser.MAX:
		c.failf("%s of %s: every process reports the same, take the max", aggregation, s.Name)
	}
}

// around finds the function and the aggregation that are nearest to the end of a path.
func around(path []parser.Node) (function string, aggregation parser.ItemType) {
	for _, node := range slices.Backward(path) {
		switch n := node.(type) {
		case *parser.Call:
			if function == "" && aggregation == 0 {
				function = n.Func.Name
			}
		case *parser.AggregateExpr:
			if aggregation == 0 && !keepsSeries(n.Op) {
				aggregation = n.Op
			}
		}
	}
	return function, aggregation
}
