package verify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The backends.
const (
	prometheusName = "Prometheus"
	tempoName      = "Tempo"
	lokiName       = "Loki"
)

// query is a question to a backend, in the words of older documents and in those that work today.
type query struct {
	backend, title string
	// older is the text of older documents, with ids of this run; empty where they have none. today is about this run alone.
	older, today string
	// enough says what is missing in the answer to today's form; nil takes every answer.
	enough func(*reply) error
	// note says why the older form may find nothing, or be refused.
	note string
	// optional: an empty answer is no failure; note says why.
	optional bool
}

// Answer is a query with what came back.
type Answer struct {
	Backend string `json:"backend"`
	Title   string `json:"title"`
	Older   string `json:"older,omitempty"`
	Today   string `json:"today"`
	Note    string `json:"note,omitempty"`
	// OlderResult and Result are what came back for the one form and the other.
	OlderResult string `json:"older_result,omitempty"`
	Result      string `json:"result,omitempty"`
	Verdict     string `json:"verdict,omitempty"`
	// Status is empty where the backend was not asked.
	Status Status `json:"status,omitempty"`
}

// subject is what queries are about.
type subject struct {
	// selector selects the series of this run in PromQL; empty for all series.
	selector string
	// tasks are those of the sequence, also the one created by SQL.
	tasks int
	// histograms are asked for mean and p95, by their names without unit.
	histograms []string
	// example is one task, failed the one that ends in error.
	example, failed Example
}

// mainHistograms are those that older documents look at.
var mainHistograms = []string{
	"tasker_task_initialization_duration", "tasker_task_finalization_duration", "tasker_step_result_processing_duration",
	"tasker_step_execution_duration", "tasker_step_claim_duration", "tasker_step_result_submission_duration",
}

// subjectOf are the tasks of a run.
func subjectOf(s *stage) *subject {
	about := &subject{selector: fmt.Sprintf(`instance=~"%s-.*"`, s.instance), histograms: mainHistograms}
	for i := range s.tasks {
		switch t := &s.tasks[i]; t.workflow {
		case &failing:
			about.failed = exampleOf(t)
		case &sequence:
			if about.tasks++; about.tasks == 1 {
				about.example = exampleOf(t)
			}
		}
	}
	return about
}

// queries are those about a run.
func (about *subject) queries() []query {
	return slices.Concat(promQL(about), traceQL(about), logQL(about))
}

// documented are the queries for the document, where no backend was asked: those of any run.
func documented() []Answer {
	some := Example{CorrelationID: "…", TaskUUID: "…", TraceID: "…"}
	queries := (&subject{histograms: []string{"tasker_step_execution_duration"}, example: some, failed: some}).queries()
	answers := make([]Answer, len(queries))
	for i := range queries {
		answers[i] = queries[i].answer()
	}
	return answers
}

func (q *query) answer() Answer {
	return Answer{Backend: q.backend, Title: q.title, Older: q.older, Today: q.today, Note: q.note}
}

// reply is what a backend answered.
type reply struct {
	// n is how many series, traces or lines it found; value is the sum of the series.
	n     int
	value float64
	// names are the metrics' or traces'.
	names map[string]bool
	// text says it in words.
	text string
}

// rejectedError is a query that a backend refuses.
type rejectedError struct {
	status int
	text   string
}

// Error is the backend's own text, in one line.
func (e *rejectedError) Error() string {
	text := strings.Join(strings.Fields(e.text), " ")
	if runes := []rune(text); len(runes) > 160 {
		text = string(runes[:159]) + "…"
	}
	return fmt.Sprintf("HTTP %d: %s", e.status, text)
}

// backend answers queries.
type backend interface {
	ask(ctx context.Context, query string) (*reply, error)
}

const (
	// askFor is how long a backend is asked again: what it got may be hidden from queries for half a minute.
	askFor = time.Minute
	askGap = time.Second
)

// backends are those whose URLs are given.
func backends(options *Options, began time.Time) map[string]backend {
	all := make(map[string]backend)
	if options.Prometheus != "" {
		all[prometheusName] = &prometheus{url: options.Prometheus}
	}
	if options.Tempo != "" {
		all[tempoName] = &tempo{url: options.Tempo, since: began}
	}
	if options.Loki != "" {
		all[lokiName] = &loki{url: options.Loki, since: began}
	}
	return all
}

// patient asks backends until they know, up to a limit for each.
type patient struct {
	backends map[string]backend
	limit    time.Duration
	gap      time.Duration
	// until is when a backend that was asked first is given up.
	until map[string]time.Time
}

// askAll asks each query whose backend there is.
func askAll(ctx context.Context, options *Options, queries []query, began time.Time) []Answer {
	p := &patient{backends: backends(options, began), limit: askFor, gap: askGap, until: make(map[string]time.Time)}
	return p.askAll(ctx, queries)
}

func (p *patient) askAll(ctx context.Context, queries []query) []Answer {
	answers := make([]Answer, 0, len(queries))
	for i := range queries {
		if b := p.backends[queries[i].backend]; b != nil {
			answers = append(answers, p.ask(ctx, b, &queries[i]))
		}
	}
	return answers
}

// ask asks today's form until the answer is enough, then the older one once.
func (p *patient) ask(ctx context.Context, b backend, q *query) Answer {
	a := q.answer()
	if p.until[q.backend].IsZero() {
		p.until[q.backend] = time.Now().Add(p.limit)
	}
	lacks := p.insist(ctx, b, q, &a)
	var olderLacks error
	if q.older != "" {
		a.OlderResult, olderLacks = askOlder(ctx, b, q)
	}
	a.Status = Passed
	switch {
	case lacks != nil && q.optional && errors.Is(lacks, errNothing):
		a.Status, a.Verdict = Skipped, "nothing: "+q.note
	case lacks != nil:
		a.Status, a.Verdict = Failed, lacks.Error()
	case q.older == "" || olderLacks == nil:
		a.Verdict = "works"
	default:
		a.Verdict = "works in today's form"
		if q.note != "" {
			a.Verdict += ": " + q.note
		}
	}
	return a
}

// askOlder asks in the older words: once, as today's have been answered by now.
func askOlder(ctx context.Context, b backend, q *query) (string, error) {
	found, err := b.ask(ctx, q.older)
	switch {
	case err != nil:
		return err.Error(), err
	case found.n == 0 && q.enough != nil:
		return found.text, errNothing
	}
	return found.text, nil
}

// errNothing is an answer without data.
var errNothing = errors.New("nothing was found")

// insist asks today's form again and again, and returns what its answer lacks in the end.
func (p *patient) insist(ctx context.Context, b backend, q *query, a *Answer) error {
	for {
		found, err := b.ask(ctx, q.today)
		if err == nil {
			a.Result = found.text
			if q.enough != nil {
				err = q.enough(found)
			}
		} else {
			a.Result = err.Error()
		}
		rejected, refused := errors.AsType[*rejectedError](err)
		final := err == nil || refused && rejected.status == http.StatusBadRequest || q.optional
		if final || time.Now().After(p.until[q.backend]) {
			return err
		}
		if pauseErr := pause(ctx, p.gap); pauseErr != nil {
			return err
		}
	}
}
