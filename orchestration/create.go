package orchestration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

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
	switch pgErr.Code {
	case codeUnknownTemplate:
		return &unknownTemplateError{RequestError{Reason: pgErr.Message, Hint: pgErr.Hint}}
	case codeBadRequest, "22P02", "22P05", "22023":
		return &RequestError{Reason: pgErr.Message, Hint: pgErr.Hint}
	}
	return fmt.Errorf("create tasks: %w", err)
}

// unknownTemplateError is a RequestError that is also ErrTemplateNotFound.
type unknownTemplateError struct{ RequestError }

func (e *unknownTemplateError) Unwrap() []error { return []error{ErrTemplateNotFound, &e.RequestError} }

// CheckJSON verifies that Postgres can store the text as jsonb and that it has at most max bytes: the checks that would
// otherwise fail in the middle of a transaction. what names it in the error.
func CheckJSON(what string, text []byte, limit int) error {
	switch {
	case len(text) > limit:
		return &RequestError{
			Reason: fmt.Sprintf("%s has %d bytes, more than the %d allowed", what, len(text), limit),
			Hint:   "store large data elsewhere and pass a reference",
		}
	case !utf8.Valid(text):
		return &RequestError{Reason: what + " is not valid UTF-8"}
	}
	return storable(what, text)
}

// maxDepth and maxExponent keep within what jsonb takes, with room.
const (
	maxDepth    = 512
	maxExponent = 1000
)

// storable walks the tokens; the decoder replaces lone surrogates silently, so the text is searched for them as well.
func storable(what string, text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	depth := 0
	for values := 0; ; {
		token, err := decoder.Token()
		if err != nil {
			if values == 0 || depth > 0 || decoder.More() || decoder.InputOffset() < int64(len(bytes.TrimRight(text, " \t\r\n"))) {
				return &RequestError{Reason: what + " is not valid JSON: " + err.Error()}
			}
			break
		}
		if depth == 0 {
			if values++; values > 1 {
				return &RequestError{Reason: what + " is not valid JSON: more than one value"}
			}
		}
		switch v := token.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
			if depth > maxDepth {
				return &RequestError{Reason: fmt.Sprintf("%s is nested more than %d deep", what, maxDepth)}
			}
		case json.Number:
			if exponent(string(v)) > maxExponent {
				return &RequestError{Reason: fmt.Sprintf("%s has the number %.40s, which is out of range", what, v)}
			}
		}
	}
	if at := unstorable(text); at >= 0 {
		return &RequestError{
			Reason: fmt.Sprintf(`%s has the character %s at byte %d, which Postgres cannot store`, what, text[at:at+6], at),
			Hint:   "remove it, or encode the data as base64",
		}
	}
	return nil
}

// exponent returns the size of a number's exponent, without its sign.
func exponent(number string) int {
	_, e, found := bytes.Cut(bytes.ToLower([]byte(number)), []byte("e"))
	if !found {
		return 0
	}
	size := 0
	for _, c := range e {
		if c >= '0' && c <= '9' {
			if size = size*10 + int(c-'0'); size > maxExponent {
				break
			}
		}
	}
	return size
}

// unstorable finds \u0000 and lone surrogates in valid JSON, as the offset of the escape; -1 for none.
func unstorable(text []byte) int {
	for i := 0; i+1 < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if text[i+1] != 'u' {
			i++
			continue
		}
		switch code := hex4(text[i+2:]); {
		case code == 0, code >= 0xDC00 && code <= 0xDFFF:
			return i
		case code >= 0xD800 && code <= 0xDBFF:
			if len(text) < i+12 || text[i+6] != '\\' || text[i+7] != 'u' {
				return i
			}
			if low := hex4(text[i+8:]); low < 0xDC00 || low > 0xDFFF {
				return i
			}
			i += 11
		default:
			i += 5
		}
	}
	return -1
}

func hex4(text []byte) int {
	code := 0
	for _, c := range text[:4] {
		code <<= 4
		switch {
		case c >= '0' && c <= '9':
			code |= int(c - '0')
		case c >= 'a' && c <= 'f':
			code |= int(c-'a') + 10
		case c >= 'A' && c <= 'F':
			code |= int(c-'A') + 10
		}
	}
	return code
}
