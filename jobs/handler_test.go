package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

// nothing is an error of a type whose nil pointers cannot say what they are: a classic slip.
type nothing struct{ text string }

func (n *nothing) Error() string { return n.text }

// spiteful panics with what panics when it is printed.
type spiteful struct{}

func (spiteful) Error() string { panic("not even that") }

func returning(result string, err error) Handler {
	return func(context.Context, *orchestration.Claimed) (json.RawMessage, error) {
		return json.RawMessage(result), err
	}
}

func TestHoweverAHandlerEndsItsOutcomeSaysSo(t *testing.T) {
	t.Parallel()
	after := 7 * time.Second
	wished := &StepError{Err: errors.New("declined"), Code: "CARD\x00", Permanent: true, RetryAfter: &after}
	tests := map[string]struct {
		handler Handler
		expect  dag.Failure
	}{
		"an error":                   {returning("", errors.New("no luck")), dag.Failure{Type: "handler_error", Message: "no luck"}},
		"an error beside a result":   {returning("1", errors.New("no luck")), dag.Failure{Type: "handler_error", Message: "no luck"}},
		"an error with wishes":       {returning("", fmt.Errorf("pay: %w", wished)), dag.Failure{Type: "handler_error", Message: "pay: declined", Code: `CARD\0`, Permanent: true, RetryAfter: &after}},
		"an error that is a nil":     {returning("", (*nothing)(nil)), dag.Failure{Type: "handler_panic", Permanent: true}},
		"an error that panics":       {returning("", spiteful{}), dag.Failure{Type: "handler_panic", Permanent: true}},
		"an empty error":             {returning("", errors.New("")), dag.Failure{Type: "handler_error"}},
		"an error of odd characters": {returning("", errors.New("a\x00b\xffc")), dag.Failure{Type: "handler_error", Message: `a\0b` + "\uFFFDc"}},
		"a result that is no JSON":   {returning("{", nil), dag.Failure{Type: "invalid_result", Permanent: true}},
		"a result with a zero":       {returning(`"\u0000"`, nil), dag.Failure{Type: "invalid_result", Permanent: true}},
		"a result without encoding":  {returning("", &InvalidResultError{Err: errors.New("chan int")}), dag.Failure{Type: "invalid_result", Permanent: true, Message: "result cannot be encoded as JSON: chan int"}},
		"a result too large":         {returning(`"`+strings.Repeat("x", orchestration.MaxResultBytes)+`"`, nil), dag.Failure{Type: "invalid_result", Permanent: true}},
		"a panic":                    {func(context.Context, *orchestration.Claimed) (json.RawMessage, error) { panic("boom") }, dag.Failure{Type: "handler_panic", Permanent: true, Message: "boom"}},
		"a panic with nil":           {func(context.Context, *orchestration.Claimed) (json.RawMessage, error) { panic(nil) }, dag.Failure{Type: "handler_panic", Permanent: true}}, //nolint:govet // that is what is tested
		"a panic that panics":        {func(context.Context, *orchestration.Claimed) (json.RawMessage, error) { panic(spiteful{}) }, dag.Failure{Type: "handler_panic", Permanent: true}},
		"Goexit": {func(context.Context, *orchestration.Claimed) (json.RawMessage, error) {
			runtime.Goexit()
			return nil, nil
		}, dag.Failure{Type: "handler_panic", Permanent: true, Message: errExited.Error()}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := run(t.Context(), test.handler, nil, time.Minute)
			require.NotNil(t, o.Failure)
			require.Equal(t, test.expect.Type, o.Failure.Type, o.Failure.Message)
			require.Equal(t, test.expect.Permanent, o.Failure.Permanent)
			require.Equal(t, test.expect.Code, o.Failure.Code)
			require.Equal(t, test.expect.RetryAfter, o.Failure.RetryAfter)
			if test.expect.Message != "" {
				require.Equal(t, test.expect.Message, o.Failure.Message)
			}
			requireStorable(t, o.Failure)
		})
	}
}

// requireStorable demands that Postgres can store a failure.
func requireStorable(t *testing.T, f *dag.Failure) {
	t.Helper()
	text, err := json.Marshal(f)
	require.NoError(t, err)
	require.NoError(t, orchestration.CheckJSON("failure", text, 1<<20))
}

func TestAPanicKeepsItsStackAndNamesTheHandler(t *testing.T) {
	t.Parallel()
	o := run(t.Context(), func(context.Context, *orchestration.Claimed) (json.RawMessage, error) { return deep(2000) }, nil, time.Minute)
	require.Equal(t, "handler_panic", o.Failure.Type)
	require.Contains(t, o.Failure.Stack, "jobs.deep")
	require.LessOrEqual(t, len(o.Failure.Stack), maxStackBytes+20)
	requireStorable(t, o.Failure)
}

func deep(n int) (json.RawMessage, error) {
	if n == 0 {
		panic("at the bottom")
	}
	return deep(n - 1)
}

func TestAHugeErrorIsCutWithAMarkerAtACharacter(t *testing.T) {
	t.Parallel()
	o := run(t.Context(), returning("", errors.New("x"+strings.Repeat("é", 5<<20))), nil, time.Minute)
	require.LessOrEqual(t, len(o.Failure.Message), maxErrorBytes+20)
	require.True(t, strings.HasSuffix(o.Failure.Message, "… (cut)"))
	require.True(t, utf8.ValidString(o.Failure.Message))
	requireStorable(t, o.Failure)
}

func TestAResultIsKeptAsItIsAndNoneIsNull(t *testing.T) {
	t.Parallel()
	for text, expect := range map[string]string{"": "null", "null": "null", `{"n": 12345678901234567890}`: `{"n": 12345678901234567890}`} {
		o := run(t.Context(), returning(text, nil), nil, time.Minute)
		require.Nil(t, o.Failure)
		require.Equal(t, expect, string(o.Result))
	}
}

func TestAHandlerThatOutlivesItsTimeoutFailsWithIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		o := run(t.Context(), func(ctx context.Context, _ *orchestration.Claimed) (json.RawMessage, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("call: %w", ctx.Err())
		}, nil, 3*time.Second)
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Equal(t, "handler_timeout", o.Failure.Type)
		require.False(t, o.Failure.Permanent, "the next attempt may be quicker")
	})
}

func TestAHandlerThatFinishesInTheLastMomentCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := run(t.Context(), func(ctx context.Context, _ *orchestration.Claimed) (json.RawMessage, error) {
			<-ctx.Done()
			return json.RawMessage("1"), nil
		}, nil, time.Second)
		require.Nil(t, o.Failure)
	})
}

func TestADeafHandlerIsLeftBehind(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{"after its timeout": ErrTimeout, "when the process stops": ErrStopping} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if !errors.Is(cause, ErrTimeout) {
					time.AfterFunc(time.Second, func() { cancel(cause) })
				}
				end, start := make(chan struct{}), time.Now()
				o := run(ctx, func(context.Context, *orchestration.Claimed) (json.RawMessage, error) {
					<-end
					return json.RawMessage("1"), nil
				}, nil, 2*time.Second)
				require.ErrorContains(t, errors.New(o.Failure.Message), cause.Error()+", and the handler ignored it")
				require.Equal(t, errors.Is(cause, ErrTimeout), o.Failure.Type == "handler_timeout")
				require.LessOrEqual(t, time.Since(start), 2*time.Second+deafGrace)
				close(end)
				synctest.Wait()
			})
		})
	}
}
