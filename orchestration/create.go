package orchestration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tasker-systems/tasker-go/db/dbsqlc"
)

// MaxContextBytes is the largest context of a task, as JSON text, unless tasker.settings has max_context_bytes.
const MaxContextBytes = 1 << 20

// MaxResultBytes is the largest result of a step, as JSON text.
const MaxResultBytes = 1 << 20

// Request is one task to create, in the form tasker.create_tasks reads.
type Request struct {
	ID                  uuid.UUID       `json:"id"`
	Namespace           string          `json:"namespace"`
	Name                string          `json:"name"`
	Version             string          `json:"version,omitempty"`
	Context             json.RawMessage `json:"context"`
	Priority            int             `json:"priority,omitempty"`
	IdempotencyKey      string          `json:"idempotency_key,omitempty"`
	CorrelationID       uuid.UUID       `json:"correlation_id,omitzero"`
	ParentCorrelationID uuid.UUID       `json:"parent_correlation_id,omitzero"`
	Tags                []string        `json:"tags,omitempty"`
	Initiator           string          `json:"initiator,omitempty"`
	SourceSystem        string          `json:"source_system,omitempty"`
	Reason              string          `json:"reason,omitempty"`
	RunAt               *time.Time      `json:"run_at,omitempty"`
	Traceparent         string          `json:"traceparent,omitempty"`
	Tracestate          string          `json:"tracestate,omitempty"`
	// TraceRoot is the context of the task's first span, where the creator traces.
	TraceRoot string `json:"trace_root,omitempty"`
	// CorrelationLabel is the decision of a creator that has counted the request.
	CorrelationLabel *bool `json:"correlation_label,omitempty"`
}

// Created says what became of a request.
type Created struct {
	ID uuid.UUID
	// New is false where a task with this identity existed already; ID is then that task's.
	New bool
}

// RequestError says that a request can never be accepted as it is, and why.
type RequestError struct {
	Reason string
	Hint   string
}

// Error gives the reason and what to do.
func (e *RequestError) Error() string {
	if e.Hint == "" {
		return e.Reason
	}
	return e.Reason + " (" + e.Hint + ")"
}

// SQLSTATEs of tasker.create_tasks.
const (
	codeBadRequest      = "TK400"
	codeUnknownTemplate = "TK404"
	// classDataException: a field that does not fit its type or holds what Postgres cannot store.
	classDataException = "22"
)

// Create inserts tasks through tasker.create_tasks, the function that SQL callers use. The answers come in the order of the
// requests. Nobody is notified in the transaction: the caller wakes the orchestrators after its commit.
func (e *Engine) Create(ctx context.Context, tx pgx.Tx, requests []Request, notify bool) ([]Created, error) {
	text, err := json.Marshal(requests)
	if err != nil {
		return nil, &RequestError{Reason: "task request is not valid JSON: " + err.Error()}
	}
	rows, err := e.queries(tx).TaskCreateMany(ctx, dbsqlc.TaskCreateManyParams{Requests: text, Notify: notify})
	if err != nil {
		return nil, createError(err)
	}
	created := make([]Created, len(rows))
	for i, row := range rows {
		created[i] = Created{ID: row.ID, New: row.Created}
	}
	return created, nil
}

func createError(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return fmt.Errorf("create tasks: %w", err)
	}
	switch {
	case pgErr.Code == codeUnknownTemplate:
		return &unknownTemplateError{RequestError{Reason: pgErr.Message, Hint: pgErr.Hint}}
	case pgErr.Code == codeBadRequest, strings.HasPrefix(pgErr.Code, classDataException):
		return &RequestError{Reason: pgErr.Message, Hint: pgErr.Hint}
	}
	return fmt.Errorf("create tasks: %w", err)
}

// unknownTemplateError is a RequestError that is also ErrTemplateNotFound.
type unknownTemplateError struct{ RequestError }

func (e *unknownTemplateError) Unwrap() []error { return []error{ErrTemplateNotFound, &e.RequestError} }
