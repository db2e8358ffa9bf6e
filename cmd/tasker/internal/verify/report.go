package verify

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tasker-systems/tasker-go/telemetry"
)

// Report is what came of a run.
type Report struct {
	Date time.Time `json:"date"`
	// Took is how long it took, in milliseconds.
	Took     int64    `json:"took_ms"`
	Versions Versions `json:"versions"`
	// Tasks is how many were asked for; Runs says what else ran.
	Tasks int    `json:"tasks"`
	Runs  string `json:"runs"`
	// Example is one of them, to look for.
	Example Example `json:"example"`
	Checks  []Check `json:"checks"`
	// Queries are those of the backends. Where none was asked they have no results.
	Queries []Answer `json:"queries"`
}

// Versions are those of what ran.
type Versions struct {
	Tasker   string `json:"tasker"`
	Go       string `json:"go"`
	System   string `json:"system"`
	Postgres string `json:"postgres"`
}

// Example is a task by all the ids that it is found by.
type Example struct {
	CorrelationID string `json:"correlation_id"`
	TaskUUID      string `json:"task_uuid"`
	TraceID       string `json:"trace_id"`
}

func newReport(s *stage, e *evidence, began time.Time) *Report {
	r := &Report{
		Date: began.UTC(), Took: time.Since(began).Milliseconds(), Tasks: s.options.Tasks,
		Versions: Versions{Tasker: s.options.Version, Go: runtime.Version(), System: system(), Postgres: s.version},
		Runs:     "one more created by SQL, one that fails, one that is tried again",
	}
	if e.outage != nil {
		r.Runs += fmt.Sprintf(", an outage of the database of %.1f s, one task after it", e.outage.took.Seconds())
	} else {
		r.Runs += ", one right before the end"
	}
	for i := range e.tasks {
		if t := &e.tasks[i]; t.workflow == &sequence {
			r.Example = exampleOf(t)
			break
		}
	}
	return r
}

func exampleOf(t *task) Example {
	return Example{CorrelationID: t.correlation.String(), TaskUUID: t.id.String(), TraceID: telemetry.TraceID(t.id).String()}
}

// system is the operating system, without the name of the machine.
func system() string {
	name := runtime.GOOS + "/" + runtime.GOARCH
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return name
	}
	for line := range strings.Lines(string(text)) {
		if pretty, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(pretty, `"`) + " (" + name + ")"
		}
	}
	return name
}

// Count is how many checks and queries have a status.
func (r *Report) Count(status Status) int {
	n := 0
	for i := range r.Checks {
		if r.Checks[i].Status == status {
			n++
		}
	}
	for i := range r.Queries {
		if r.Queries[i].Status == status {
			n++
		}
	}
	return n
}

// Result is the outcome in a few words.
func (r *Report) Result() string {
	text := fmt.Sprintf("%d passed, %d failed", r.Count(Passed), r.Count(Failed))
	if n := r.Count(Skipped); n > 0 {
		text += fmt.Sprintf(", %d not seen", n)
	}
	return text
}

// Of are the checks of a group.
func (r *Report) Of(group string) []Check {
	var out []Check
	for i := range r.Checks {
		if r.Checks[i].Group == group {
			out = append(out, r.Checks[i])
		}
	}
	return out
}

// marks carry the status without colour.
var marks = map[Status]string{Passed: "✓", Failed: "✗", Skipped: "–"}

// maxProblems is how many problems of a check are shown: a thousand spans may have the same one.
const maxProblems = 5

// Shown are the problems that are shown.
func (c *Check) Shown() []string {
	if len(c.Problems) <= maxProblems {
		return c.Problems
	}
	return append(c.Problems[:maxProblems:maxProblems], fmt.Sprintf("… and %d more", len(c.Problems)-maxProblems))
}

// WriteText prints the checklist.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "tasker %s, %s, %s, PostgreSQL %s\n", r.Versions.Tasker, r.Versions.Go, r.Versions.System, r.Versions.Postgres)
	fmt.Fprintf(&b, "%d tasks of %s in rapid succession; %s\n", r.Tasks, sequence.name, r.Runs)
	fmt.Fprintf(&b, "one of them: correlation id %s, trace id %s\n", r.Example.CorrelationID, r.Example.TraceID)
	for _, group := range groups {
		checks := r.Of(group)
		if len(checks) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", group)
		width := 0
		for i := range checks {
			width = max(width, utf8.RuneCountInString(checks[i].Name))
		}
		for i := range checks {
			c := &checks[i]
			fmt.Fprintf(&b, "  %s %s%s  %s\n", marks[c.Status], c.Name, strings.Repeat(" ", width-utf8.RuneCountInString(c.Name)), c.Value)
			for _, problem := range c.Shown() {
				fmt.Fprintf(&b, "      %s\n", problem)
			}
		}
	}
	r.writeQueries(&b)
	fmt.Fprintf(&b, "\n%s in %.1f s\n", r.Result(), float64(r.Took)/1000)
	_, err := io.WriteString(w, b.String())
	return err //nolint:wrapcheck // writing to the terminal
}

// writeQueries prints what backends answered.
func (r *Report) writeQueries(b *strings.Builder) {
	backend := ""
	for i := range r.Queries {
		q := &r.Queries[i]
		if q.Status == "" {
			continue
		}
		if q.Backend != backend {
			backend = q.Backend
			fmt.Fprintf(b, "\n%s\n", backend)
		}
		fmt.Fprintf(b, "  %s %s: %s\n", marks[q.Status], q.Title, q.Verdict)
		if q.Older != "" {
			fmt.Fprintf(b, "      older  %s\n             → %s\n", q.Older, q.OlderResult)
		}
		fmt.Fprintf(b, "      today  %s\n             → %s\n", q.Today, q.Result)
	}
}
