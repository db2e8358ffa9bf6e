package faulttest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrCrashed is all that a crashed Process hears from its database.
var ErrCrashed = errors.New("faulttest: the process has crashed")

// Beginner opens transactions: a pool or a connection.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Process is a process's only way to its database, and it dies at a chosen point. Points are counted from 1 in the order in which
// the process meets them: one before and one after every statement, and one before and one after every COMMIT. At its death, the
// open transaction is rolled back, as the server does when a connection ends, and nothing works any more.
type Process struct {
	db    Beginner
	dieAt int

	mu     sync.Mutex
	points int
	where  string
	passed []string
}

// NewProcess makes a process that dies at the given point; at 0 it lives.
func NewProcess(db Beginner, dieAt int) *Process { return &Process{db: db, dieAt: dieAt} }

// Crashed reports whether the process has met its point, and describes it.
func (p *Process) Crashed() (where string, crashed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.where, p.where != ""
}

// Points describes the points passed, in order.
func (p *Process) Points() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed
}

// Begin opens a transaction that the process's death ends.
func (p *Process) Begin(ctx context.Context) (pgx.Tx, error) {
	if _, crashed := p.Crashed(); crashed {
		return nil, ErrCrashed
	}
	tx, err := p.db.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return &mortal{Tx: tx, process: p}, nil
}

// dies counts a point and reports whether the process dies there, or is dead already.
func (p *Process) dies(where string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.where != "" {
		return true
	}
	p.points++
	p.passed = append(p.passed, where)
	if p.points == p.dieAt {
		p.where = where
	}
	return p.where != ""
}

// mortal is a transaction of a Process.
type mortal struct {
	pgx.Tx
	process *Process
}

func (m *mortal) dies(ctx context.Context, side, statement string) bool {
	if !m.process.dies(side + " " + title(statement)) {
		return false
	}
	_ = m.Tx.Rollback(context.WithoutCancel(ctx)) // it may have committed
	return true
}

// title is the name that sqlc gives a statement, or its beginning.
func title(statement string) string {
	if _, rest, ok := strings.Cut(statement, "-- name: "); ok {
		name, _, _ := strings.Cut(rest, " ")
		return name
	}
	line, _, _ := strings.Cut(strings.TrimSpace(statement), "\n")
	return line[:min(len(line), 40)]
}

func (m *mortal) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if m.dies(ctx, "before", sql) {
		return pgconn.CommandTag{}, ErrCrashed
	}
	tag, err := m.Tx.Exec(ctx, sql, args...)
	if err == nil && m.dies(ctx, "after", sql) {
		return pgconn.CommandTag{}, ErrCrashed
	}
	return tag, err
}

func (m *mortal) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if m.dies(ctx, "before", sql) {
		return nil, ErrCrashed
	}
	rows, err := m.Tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return &mortalRows{Rows: rows, tx: m, sql: sql, ctx: ctx}, nil
}

func (m *mortal) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if m.dies(ctx, "before", sql) {
		return crashedRow{}
	}
	return &mortalRow{Row: m.Tx.QueryRow(ctx, sql, args...), tx: m, sql: sql, ctx: ctx}
}

// SendBatch and CopyFrom are not used by Tasker; nested transactions neither.

func (m *mortal) Commit(ctx context.Context) error {
	if m.dies(ctx, "before", "commit") {
		return ErrCrashed
	}
	if err := m.Tx.Commit(ctx); err != nil {
		return err
	}
	if m.dies(ctx, "after", "commit") {
		return ErrCrashed
	}
	return nil
}

func (m *mortal) Rollback(ctx context.Context) error {
	return m.Tx.Rollback(ctx)
}

// mortalRows meet the point after their statement when they end.
type mortalRows struct {
	pgx.Rows
	tx   *mortal
	sql  string
	ctx  context.Context
	done bool
	err  error
}

func (r *mortalRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *mortalRows) Close() {
	r.Rows.Close()
	if r.done || r.Rows.Err() != nil {
		return
	}
	r.done = true
	if r.tx.dies(r.ctx, "after", r.sql) {
		r.err = ErrCrashed
	}
}

func (r *mortalRows) Err() error {
	if r.err != nil {
		return r.err
	}
	return r.Rows.Err()
}

type mortalRow struct {
	pgx.Row
	tx  *mortal
	sql string
	ctx context.Context
}

func (r *mortalRow) Scan(dest ...any) error {
	err := r.Row.Scan(dest...)
	if (err == nil || errors.Is(err, pgx.ErrNoRows)) && r.tx.dies(r.ctx, "after", r.sql) {
		return ErrCrashed
	}
	return err
}

type crashedRow struct{}

func (crashedRow) Scan(...any) error { return ErrCrashed }
