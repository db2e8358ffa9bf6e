package promtest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// labelSet are the labels that the result of an expression may have.
type labelSet struct {
	names map[string]bool
	// open: it may have any.
	open bool
}

func setOf(names ...string) labelSet {
	s := labelSet{names: make(map[string]bool, len(names))}
	for _, name := range names {
		s.names[name] = true
	}
	return s
}

func (s labelSet) has(name string) bool { return s.open || s.names[name] }

func (s labelSet) with(names ...string) labelSet {
	out := labelSet{names: maps.Clone(s.names), open: s.open}
	if out.names == nil {
		out.names = make(map[string]bool)
	}
	for _, name := range names {
		out.names[name] = true
	}
	return out
}

func (s labelSet) without(names ...string) labelSet {
	out := s.with()
	for _, name := range names {
		delete(out.names, name)
	}
	return out
}

func (s labelSet) String() string { return fmt.Sprint(slices.Sorted(maps.Keys(s.names))) }

// labels infers the labels of an expression's result, and notes where one is used that is not there.
func (c *checker) labels(expr parser.Expr) labelSet {
	switch e := expr.(type) {
	case *parser.VectorSelector:
		return c.selector(e)
	case *parser.MatrixSelector:
		return c.labels(e.VectorSelector)
	case *parser.SubqueryExpr:
		return c.labels(e.Expr)
	case *parser.ParenExpr:
		return c.labels(e.Expr)
	case *parser.UnaryExpr:
		return c.labels(e.Expr)
	case *parser.StepInvariantExpr:
		return c.labels(e.Expr)
	case *parser.AggregateExpr:
		return c.aggregate(e)
	case *parser.Call:
		return c.call(e)
	case *parser.BinaryExpr:
		return c.binary(e)
	}
	return setOf()
}

// selector looks at a name and its matchers.
func (c *checker) selector(s *parser.VectorSelector) labelSet {
	out := labelSet{open: true}
	for _, m := range s.LabelMatchers {
		if m.Name != model.MetricNameLabel {
			continue
		}
		known, ok := c.names.find(m.Value)
		switch {
		case m.Type != labels.MatchEqual && !c.names.matching(m.Value):
			c.failf("no metric has a name like %s", m.Value)
		case m.Type == labels.MatchEqual && !ok:
			c.failf("%s is not a metric of the catalogue", m.Value)
		case known.labels != nil:
			out = setOf(known.labels...)
		}
	}
	for _, m := range s.LabelMatchers {
		if m.Name != model.MetricNameLabel && !out.has(m.Name) {
			c.failf("%s has no label %s", s.Name, m.Name)
		}
	}
	return out
}

func (c *checker) aggregate(e *parser.AggregateExpr) labelSet {
	in := c.labels(e.Expr)
	for _, label := range e.Grouping {
		if label != model.MetricNameLabel && !in.has(label) {
			c.failf("%s by %s: there is no such label, of %v", e.Op, label, in)
		}
	}
	switch {
	case keepsSeries(e.Op):
		return in
	case e.Without:
		return in.without(e.Grouping...)
	}
	return setOf(e.Grouping...)
}

// keepsSeries: the operator chooses among series.
func keepsSeries(op parser.ItemType) bool {
	return slices.Contains([]parser.ItemType{parser.TOPK, parser.BOTTOMK, parser.LIMITK, parser.LIMIT_RATIO}, op)
}

func (c *checker) call(e *parser.Call) labelSet {
	out := setOf()
	for _, arg := range e.Args {
		if t := arg.Type(); t == parser.ValueTypeVector || t == parser.ValueTypeMatrix {
			out = c.labels(arg)
		}
	}
	switch e.Func.Name {
	case "histogram_quantile":
		if !out.has("le") {
			c.failf("histogram_quantile of buckets without le: %v", out)
		}
		return out.without("le")
	case "label_replace", "label_join":
		if to, ok := e.Args[1].(*parser.StringLiteral); ok {
			return out.with(to.Val)
		}
	case "absent", "absent_over_time", "vector", "scalar":
		return setOf()
	}
	return out
}

func (c *checker) binary(e *parser.BinaryExpr) labelSet {
	left, right := c.labels(e.LHS), c.labels(e.RHS)
	m := e.VectorMatching
	if m == nil { // a number on one side
		return left.with(slices.Collect(maps.Keys(right.names))...)
	}
	if m.On {
		for _, label := range m.MatchingLabels {
			if !left.has(label) || !right.has(label) {
				c.failf("on (%s): there is no such label on both sides, of %v and %v", label, left, right)
			}
		}
	} else if e.Op != parser.LOR && !left.open && !right.open {
		l, r := left.without(m.MatchingLabels...), right.without(m.MatchingLabels...)
		if !maps.Equal(l.names, r.names) {
			c.failf("the sides of %s never match: they have the labels %v and %v", e.Op, l, r)
		}
	}
	switch {
	case e.Op == parser.LOR:
		return left.with(slices.Collect(maps.Keys(right.names))...)
	case e.Op.IsSetOperator():
		return left
	case m.Card == parser.CardManyToOne:
		return left.with(m.Include...)
	case m.Card == parser.CardOneToMany:
		return right.with(m.Include...)
	case m.On:
		return setOf(m.MatchingLabels...)
	}
	return left.without(m.MatchingLabels...)
}
