package verify

import (
	"fmt"
	"slices"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// Status is what came of a check.
type Status string

// The statuses.
const (
	Passed Status = "passed"
	Failed Status = "failed"
	// Skipped: there was nothing to see; Value says why.
	Skipped Status = "skipped"
)

// Check is one line of the checklist.
type Check struct {
	Group  string `json:"group"`
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Value is what was seen.
	Value string `json:"value,omitempty"`
	// Problems say what is wrong, one by one.
	Problems []string `json:"problems,omitempty"`
}

// The groups, in the order of the checklist.
const (
	groupTraces        = "Traces"
	groupOrchestration = "Orchestration counters"
	groupWorker        = "Worker counters"
	groupGauges        = "Gauges"
	groupDatabase      = "Database"
	groupMessaging     = "Messaging"
	groupHistograms    = "Histograms"
	groupCatalogue     = "Catalogue"
	groupFlow          = "Flow"
	groupLogs          = "Logs"
	groupShutdown      = "Shutdown"
	groupConfiguration = "Configuration"
)

var groups = []string{
	groupTraces, groupOrchestration, groupWorker, groupGauges, groupDatabase, groupMessaging, groupHistograms, groupCatalogue,
	groupFlow, groupLogs, groupShutdown, groupConfiguration,
}

// finding is what one check found.
type finding struct {
	value    string
	problems []string
	skipped  bool
}

// seenf notes the value.
func (f *finding) seenf(format string, args ...any) { f.value = fmt.Sprintf(format, args...) }

// problemf notes something wrong.
func (f *finding) problemf(format string, args ...any) {
	f.problems = append(f.problems, fmt.Sprintf(format, args...))
}

// skip notes why there was nothing to see.
func (f *finding) skip(reason string) { f.value, f.skipped = reason, true }

// check is a question to the evidence.
type check struct {
	group, name string
	examine     func(*evidence, *finding)
}

// Where checks of single metrics stand: by what they are about.
func groupOf(m *telemetry.Metric) string {
	switch {
	case m.Group == "database":
		return groupDatabase
	case m.Group == "messaging":
		return groupMessaging
	case m.Kind == telemetry.KindHistogram:
		return groupHistograms
	case m.Kind == telemetry.KindGauge:
		return groupGauges
	case m.Group == "worker":
		return groupWorker
	}
	return groupOrchestration
}

// checks are all of them, group by group.
func checks() []check {
	var all []check
	catalogue := telemetry.Catalogue()
	for i := range catalogue {
		if m := &catalogue[i]; m.Core {
			all = append(all, check{groupOf(m), m.PrometheusName(), func(e *evidence, f *finding) { examineMetric(e, m, f) }})
		}
	}
	all = slices.Concat(all, traceChecks, metricChecks, flowChecks(), logChecks, shutdownChecks, configurationChecks)
	slices.SortStableFunc(all, func(a, b check) int { return slices.Index(groups, a.group) - slices.Index(groups, b.group) })
	return all
}

// localChecks are those that need no receiver.
func localChecks() []check {
	return slices.Concat(shutdownChecks[:2], configurationChecks)
}

// examine asks all of the given questions.
func examine(e *evidence, questions []check) []Check {
	out := make([]Check, 0, len(questions))
	for _, q := range questions {
		var f finding
		q.examine(e, &f)
		result := Check{Group: q.group, Name: q.name, Status: Passed, Value: f.value, Problems: f.problems}
		switch {
		case len(f.problems) > 0:
			result.Status = Failed
		case f.skipped:
			result.Status = Skipped
		}
		out = append(out, result)
	}
	return out
}
