package promtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

// suite is a file of tests in promtool's format, as far as it is used here.
type suite struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	// GroupEvalOrder are the groups that come first, in their order.
	GroupEvalOrder []string   `yaml:"group_eval_order"`
	Tests          []scenario `yaml:"tests"`
}

// scenario is a course of series, and the alerts that fire meanwhile.
type scenario struct {
	Name        string         `yaml:"name"`
	Interval    model.Duration `yaml:"interval"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	Alerts []expectation `yaml:"alert_rule_test"`
}

// expectation are the alerts of one name that fire at a time.
type expectation struct {
	At       model.Duration `yaml:"eval_time"`
	Alert    string         `yaml:"alertname"`
	Expected []struct {
		Labels      map[string]string `yaml:"exp_labels"`
		Annotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

// loadSuite reads a file of tests. Paths of rules in it are relative to its folder.
func loadSuite(path string) (*suite, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read tests of alerts: %w", err)
	}
	s := &suite{EvaluationInterval: model.Duration(time.Minute)}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(s); err != nil {
		return nil, fmt.Errorf("read tests of alerts: %w", err)
	}
	for i := range s.RuleFiles {
		s.RuleFiles[i] = filepath.Join(filepath.Dir(path), s.RuleFiles[i])
	}
	return s, nil
}

// run plays a scenario with Prometheus' engine and rules, and tells where it goes another way than expected.
func (s *suite) run(sc *scenario) (err error) {
	var input strings.Builder
	fmt.Fprintf(&input, "load %s\n", sc.Interval)
	for _, series := range sc.InputSeries {
		fmt.Fprintf(&input, "  %s %s\n", series.Series, series.Values)
	}
	loader, err := promqltest.NewLazyLoader(input.String(), promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		return fmt.Errorf("load series: %w", err)
	}
	defer func() { err = errors.Join(err, loader.Close()) }()
	groups, err := s.groups(loader, sc)
	if err != nil {
		return err
	}
	var problems []error
	end := time.Duration(slices.MaxFunc(sc.Alerts, func(a, b expectation) int { return int(a.At - b.At) }).At)
	for at := time.Duration(0); at <= end; at += time.Duration(s.EvaluationInterval) {
		if err := step(loader, groups, at); err != nil {
			return fmt.Errorf("at %v: %w", at, err)
		}
		for i := range sc.Alerts {
			if e := &sc.Alerts[i]; time.Duration(e.At) == at {
				problems = append(problems, e.compare(groups))
			}
		}
	}
	return errors.Join(problems...)
}

// groups loads the rules, in an order that does not change.
func (s *suite) groups(loader *promqltest.LazyLoader, sc *scenario) ([]*rules.Group, error) {
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(loader.QueryEngine(), loader.Storage()), Appendable: loader.Storage(), Queryable: loader.Storage(),
		Context: context.Background(), NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
		Logger: promslog.NewNopLogger(), Parser: promql,
	})
	loaded, problems := manager.LoadGroups(time.Duration(sc.Interval), labels.EmptyLabels(), "", nil, false, s.RuleFiles...)
	if len(problems) > 0 {
		return nil, fmt.Errorf("load rules: %w", errors.Join(problems...))
	}
	var groups []*rules.Group
	for _, key := range slices.Sorted(maps.Keys(loaded)) {
		group := loaded[key]
		for _, rule := range group.Rules() {
			if alert, ok := rule.(*rules.AlertingRule); ok {
				alert.SetRestored(true)
			}
		}
		groups = append(groups, group)
	}
	rank := func(g *rules.Group) int {
		if i := slices.Index(s.GroupEvalOrder, g.Name()); i >= 0 {
			return i
		}
		return len(s.GroupEvalOrder)
	}
	slices.SortStableFunc(groups, func(a, b *rules.Group) int { return rank(a) - rank(b) })
	return groups, nil
}

// step evaluates all rules at a time.
func step(loader *promqltest.LazyLoader, groups []*rules.Group, at time.Duration) (err error) {
	now := time.Unix(0, 0).UTC().Add(at)
	loader.WithSamplesTill(now, func(problem error) { err = problem })
	if err != nil {
		return fmt.Errorf("append samples: %w", err)
	}
	for _, group := range groups {
		group.Eval(loader.Context(), now)
		for _, rule := range group.Rules() {
			if problem := rule.LastError(); problem != nil {
				err = errors.Join(err, fmt.Errorf("rule %s: %w", rule.Name(), problem))
			}
		}
	}
	return err
}

// compare tells how the alerts that fire differ from those that are expected, labels and annotations.
func (e *expectation) compare(groups []*rules.Group) error {
	var want []string
	for _, expected := range e.Expected {
		l := labels.NewBuilder(labels.FromMap(expected.Labels)).Set(labels.AlertName, e.Alert).Labels()
		want = append(want, describe(l, labels.FromMap(expected.Annotations)))
	}
	slices.Sort(want)
	got, known := firing(groups, e.Alert)
	switch {
	case !known:
		return fmt.Errorf("there is no alert %s", e.Alert)
	case !slices.Equal(want, got):
		return fmt.Errorf("%s at %s:\nexpected %s\nfiring   %s", e.Alert, e.At, show(want), show(got))
	}
	return nil
}

// firing are the alerts of a name that fire now.
func firing(groups []*rules.Group, name string) (alerts []string, known bool) {
	for _, group := range groups {
		for _, rule := range group.Rules() {
			alert, ok := rule.(*rules.AlertingRule)
			if !ok || alert.Name() != name {
				continue
			}
			known = true
			for _, active := range alert.ActiveAlerts() {
				if active.State == rules.StateFiring {
					alerts = append(alerts, describe(active.Labels, active.Annotations))
				}
			}
		}
	}
	slices.Sort(alerts)
	return alerts, known
}

func describe(l, annotations labels.Labels) string {
	return fmt.Sprintf("labels %s annotations %s", l, annotations)
}

func show(alerts []string) string {
	if len(alerts) == 0 {
		return "nothing"
	}
	return strings.Join(alerts, "\n         ")
}
