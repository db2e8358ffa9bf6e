package dbtest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// ExamplePool is Pool for testable examples, which have no testing.TB. The function it returns drops the database.
func ExamplePool() (*pgxpool.Pool, func()) {
	t := &exampleTB{}
	return Pool(t), t.done
}

// exampleTB is as much of a testing.TB as Pool needs.
type exampleTB struct {
	testing.TB

	cleanups []func()
}

func (t *exampleTB) Helper()                  {}
func (t *exampleTB) Name() string             { return "Example" }
func (t *exampleTB) Context() context.Context { return context.Background() }
func (t *exampleTB) Cleanup(fn func())        { t.cleanups = append(t.cleanups, fn) }
func (t *exampleTB) Logf(string, ...any)      {}
func (t *exampleTB) Errorf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func (t *exampleTB) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

func (t *exampleTB) done() {
	for _, fn := range slices.Backward(t.cleanups) {
		fn()
	}
}
