package setup

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// outletBundle is an outlet that exports with what comes next.
type outletBundle struct {
	*outlet

	written  strings.Builder
	failures int
}

func newOutletBundle() *outletBundle {
	b := &outletBundle{}
	b.outlet = &outlet{
		signal: "traces", logger: slog.New(slog.NewTextHandler(&b.written, nil)), aborted: make(chan struct{}),
		failed: func() { b.failures++ },
	}
	return b
}

func (b *outletBundle) export(t *testing.T, err error) {
	t.Helper()
	require.NoError(t, b.send(t.Context(), 10, func(context.Context) error { return err }))
}

func TestFailuresAreWarnedOfOnceAMinuteWithTheirNumber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newOutletBundle()
		down := errors.New("connection refused")
		for range 60 {
			b.export(t, down)
			<-time.After(time.Second)
		}
		assert.Equal(t, 1, strings.Count(b.written.String(), "\n"))
		assert.Contains(t, b.written.String(), `level=WARN msg="telemetry is not exported" signal=traces failures=1 error="connection refused"`)
		b.export(t, down)
		assert.Equal(t, 2, strings.Count(b.written.String(), "\n"))
		assert.Contains(t, b.written.String(), "failures=60")
		assert.Equal(t, 61, b.failures)
		assert.Equal(t, failing, b.state())
		b.export(t, nil)
		assert.Equal(t, working, b.state())
		assert.Equal(t, int64(10), b.sent.Load())
	})
}

func TestAClosedOutletEndsWhatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newOutletBundle()
		b.made.Store(10)
		b.end = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		sent := make(chan error)
		go func() {
			sent <- b.send(context.Background(), 10, func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		began := time.Now()
		b.close(t.Context(), 5*time.Second)
		assert.Equal(t, 5*time.Second, time.Since(began))
		require.NoError(t, <-sent)
		assert.Contains(t, b.written.String(), `"telemetry is lost at shutdown" signal=traces lost=10 error="context deadline exceeded"`)
	})
}

func TestPatienceIsShortWithWhatFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		own, other health
		want       time.Duration
	}{
		"nothing is known":                     {unknown, unknown, flushTimeout},
		"it works":                             {working, failing, flushTimeout},
		"it fails":                             {failing, working, failingTimeout},
		"it has not been tried, another fails": {unknown, failing, failingTimeout},
		"it has not been tried, another works": {unknown, working, flushTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &Providers{traces: &outlet{health: test.other}, metrics: &outlet{health: test.own}, logs: &outlet{}}
			assert.Equal(t, test.want, p.patience(p.metrics, flushTimeout))
		})
	}
}
