package promtest

import (
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/rulefmt"
)

// loadRules reads rule files, strictly.
func loadRules(paths ...string) ([]rulefmt.Rule, error) {
	var out []rulefmt.Rule
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read rules: %w", err)
		}
		groups, problems := rulefmt.Parse(text, false, model.UTF8Validation, promql, promslog.NewNopLogger())
		if len(problems) > 0 {
			return nil, fmt.Errorf("read rules %s: %w", path, errors.Join(problems...))
		}
		for _, group := range groups.Groups {
			out = append(out, group.Rules...)
		}
	}
	return out, nil
}

// record adds the names that recording rules make.
func (v vocabulary) record(rules []rulefmt.Rule) error {
	for _, rule := range rules {
		if rule.Record == "" {
			continue
		}
		expr, err := promql.ParseExpr(rule.Expr)
		if err != nil {
			return fmt.Errorf("rule %s: %w", rule.Record, err)
		}
		c := &checker{names: v}
		labels := c.labels(expr)
		made := series{kind: derived, labels: []string{}}
		for name := range labels.names {
			made.labels = append(made.labels, name)
		}
		for name := range rule.Labels {
			made.labels = append(made.labels, name)
		}
		if err := errors.Join(c.problems...); err != nil {
			return fmt.Errorf("rule %s: %w", rule.Record, err)
		}
		v[rule.Record] = made
	}
	return nil
}
