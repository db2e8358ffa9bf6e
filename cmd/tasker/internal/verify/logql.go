package verify

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// loki asks a Loki.
type loki struct {
	url   string
	since time.Time
}

func (l *loki) ask(ctx context.Context, query string) (*reply, error) {
	var answer struct {
		Data struct {
			Result []struct {
				Values [][]any `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	parameters := url.Values{
		"query": {query}, "limit": {"1000"}, "start": {strconv.FormatInt(l.since.Add(-time.Second).UnixNano(), 10)},
		"end": {strconv.FormatInt(time.Now().Add(time.Second).UnixNano(), 10)},
	}
	if err := getJSON(ctx, l.url, "/loki/api/v1/query_range", parameters, &answer); err != nil {
		return nil, fmt.Errorf("ask Loki: %w", err)
	}
	found := &reply{}
	for _, stream := range answer.Data.Result {
		found.n += len(stream.Values)
	}
	found.text = fmt.Sprintf("%d lines", found.n)
	return found, nil
}

// containerNote is why the older selector may find nothing.
const containerNote = "Loki indexes the resource attribute container only where it is told to"

// logQL are the older documents' query of logs, and those that need no setting of Loki.
func logQL(about *subject) []query {
	ours := fmt.Sprintf(`{service_name=%q}`, serverService)
	id := about.example.CorrelationID
	lines := func(r *reply) error {
		if r.n < sequence.executions {
			return fmt.Errorf("%d lines, not the %d of the task's executions", r.n, sequence.executions)
		}
		return nil
	}
	return []query{
		{
			backend: lokiName, title: "lines with a correlation_id", note: containerNote,
			older: fmt.Sprintf(`{container=%q} |= "correlation_id"`, serverService), today: ours + ` |= "correlation_id"`, enough: lines,
		},
		{
			backend: lokiName, title: "one task's lines, by the body", note: containerNote,
			older: fmt.Sprintf(`{container=%q} |= %q`, serverService, id), today: fmt.Sprintf(`%s |= %q`, ours, id), enough: lines,
		},
		{
			backend: lokiName, title: "one task's lines, by correlation_id", today: fmt.Sprintf(`%s | correlation_id=%q`, ours, id),
			enough: lines,
		},
		{
			backend: lokiName, title: "from a trace to its lines", today: fmt.Sprintf(`%s | trace_id=%q`, ours, about.example.TraceID),
			enough: lines,
		},
	}
}
