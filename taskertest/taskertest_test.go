package taskertest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go"
	"github.com/tasker-systems/tasker-go/internal/dbtest"
	"github.com/tasker-systems/tasker-go/orchestration/dag"
	"github.com/tasker-systems/tasker-go/taskertest"
)

type order struct {
	Amount int `json:"amount"`
}

var errCarrier = errors.New("the carrier does not answer")

// shop is what a user would test: charge is tried again after an hour, ship calls somebody else.
var shop = tasker.Define("shop/order", "1.0.0", func(f *tasker.Flow[order]) {
	reserve := tasker.Step(f, "reserve", func(_ context.Context, in order) (int, error) { return in.Amount, nil })
	charge := tasker.Step1(f, "charge", func(_ context.Context, _ order, reserved int) (int, error) { return reserved * 2, nil },
		reserve, tasker.Retry(4, time.Hour), tasker.Backoff(dag.BackoffNone, time.Hour))
	tasker.Step1(f, "ship", func(context.Context, order, int) (string, error) { return "", tasker.Permanent(errCarrier) }, charge)
}, tasker.WithIdentity(tasker.IdentityAlwaysUnique))

func TestAStubStandsInForAStep(t *testing.T) {
	t.Parallel()
	h := taskertest.New(t, dbtest.Pool(t), nil, shop)
	failed := taskertest.Go(h, shop, order{Amount: 3})
	failed.RequireState(dag.TaskError)
	require.Equal(t, "ship: the carrier does not answer (permanent)", failed.Problem)

	h.StubResult("ship", "parcel-1")
	run := taskertest.Go(h, shop, order{Amount: 3})
	run.RequireState(dag.TaskComplete)
	run.RequireOrder("reserve", "charge", "ship")
	run.RequireAttempts("ship", 1)
	require.Equal(t, 6, taskertest.Output[int](run, "charge"))
	require.Equal(t, "parcel-1", taskertest.Output[string](run, "ship"))

	h.Stub("ship", func(_ context.Context, step *tasker.StepContext) (any, error) {
		var charged int
		err := step.Result("charge", &charged)
		return charged + 1, err
	})
	require.Equal(t, 9, taskertest.Output[int](taskertest.Go(h, shop, order{Amount: 4}), "ship"))
}

func TestBackOffsCostNoTime(t *testing.T) {
	t.Parallel()
	h := taskertest.New(t, dbtest.Pool(t), nil, shop)
	h.StubResult("ship", "parcel")
	h.FailTimes("charge", 3)
	began := time.Now()
	run := taskertest.Go(h, shop, order{Amount: 1})
	require.Less(t, time.Since(began), 20*time.Second, "three hours of back-off")
	run.RequireState(dag.TaskComplete)
	run.RequireAttempts("charge", 4)
	run.RequireAttempts("reserve", 1)

	h.FailTimes("charge", 4)
	run = taskertest.Go(h, shop, order{Amount: 1})
	run.RequireState(dag.TaskError)
	run.RequireAttempts("charge", 4)
	require.Contains(t, run.Problem, "charge: taskertest: injected failure (4 of 4 attempts)")
}

func TestADelayedTaskRunsAtOnce(t *testing.T) {
	t.Parallel()
	h := taskertest.New(t, dbtest.Pool(t), nil, shop)
	h.StubResult("ship", "parcel")
	began := time.Now()
	run := taskertest.Go(h, shop, order{Amount: 1}, tasker.RunAt(began.Add(24*time.Hour)))
	run.RequireState(dag.TaskComplete)
	require.Less(t, time.Since(began), 20*time.Second)

	later, err := tasker.Create(t.Context(), h.Client(), shop, order{}, tasker.RunAt(time.Now().Add(time.Hour)))
	require.NoError(t, err)
	h.Advance(time.Hour + time.Minute)
	h.Settle(later.ID).RequireState(dag.TaskComplete)
}

func TestTemplatesOfYAMLRunWithTheirHandlers(t *testing.T) {
	t.Parallel()
	template, err := tasker.ParseTemplate("mail.yaml", []byte(
		"name: mail\nnamespace_name: shop\nversion: 1.0.0\nsteps: [{name: send, handler: {callable: mail.send}}]\n"))
	require.NoError(t, err)
	handlers := map[string]tasker.HandlerFunc{
		"mail.send": func(_ context.Context, step *tasker.StepContext) (any, error) {
			var in map[string]string
			err := step.Context(&in)
			return "sent to " + in["to"], err
		},
	}
	h := taskertest.New(t, dbtest.Pool(t), handlers, template)
	run := h.Create(tasker.Request{Namespace: "shop", Name: "mail", Context: map[string]string{"to": "ada"}})
	require.Equal(t, "sent to ada", taskertest.Output[string](run, "send"))
}

func TestAHandlerIsCalledWithoutADatabase(t *testing.T) {
	t.Parallel()
	handler := func(_ context.Context, step *tasker.StepContext) (any, error) {
		var in order
		var charged int
		if err := errors.Join(step.Context(&in), step.Result("charge", &charged)); err != nil {
			return nil, err
		}
		require.Equal(t, 1, step.Attempt())
		require.True(t, step.IsLastAttempt())
		require.Empty(t, step.Dependencies())
		require.Empty(t, step.Config())
		require.NotEmpty(t, step.IdempotencyKey())
		return in.Amount + charged, nil
	}
	result, err := taskertest.Call(t.Context(), handler, order{Amount: 2}, map[string]any{"charge": 5})
	require.NoError(t, err)
	require.Equal(t, 7, result)
	_, err = taskertest.Call(t.Context(), handler, order{}, nil)
	require.ErrorContains(t, err, `has no result of "charge"`)
	_, err = taskertest.Call(t.Context(), handler, make(chan int), nil)
	require.ErrorContains(t, err, "encode context")
	_, err = taskertest.Call(t.Context(), handler, order{}, map[string]any{"charge": make(chan int)})
	require.ErrorContains(t, err, "encode result of charge")
}

// fatal catches what a requirement reports.
type fatal struct {
	testing.TB

	text string
}

func (f *fatal) Helper() {}

// Fatalf ends as a test does, without what comes after.
func (f *fatal) Fatalf(format string, args ...any) {
	f.text = strings.TrimSpace(fmt.Sprintf(format, args...))
	panic(f)
}

// report runs a requirement that must not hold, and returns what it says.
func (f *fatal) report(requirement func()) (text string) {
	defer func() {
		if caught := recover(); caught != nil && caught != any(f) {
			panic(caught)
		}
		text = f.text
	}()
	f.text = "nothing: the requirement holds"
	requirement()
	return f.text
}

func TestRequirementsThatDoNotHoldFailTheTestWithWhatHappened(t *testing.T) {
	t.Parallel()
	f := &fatal{TB: t}
	h := taskertest.New(f, dbtest.Pool(t), nil, shop)
	run := taskertest.Go(h, shop, order{Amount: 1})
	const steps = "reserve                  complete, 1 attempts\n  charge                   complete, 1 attempts\n" +
		"  ship                     error, 1 attempts: the carrier does not answer"
	for want, fails := range map[string]func(){
		"task is error, want complete":                        func() { run.RequireState(dag.TaskComplete) },
		`step "charge" did not finish before "reserve" began`: func() { run.RequireOrder("charge", "reserve") },
		`step "ship" did not finish before "nowhere" began`:   func() { run.RequireOrder("ship", "nowhere") },
		`step "charge" did not run 2 times`:                   func() { run.RequireAttempts("charge", 2) },
		`step "nowhere" did not run 0 times`:                  func() { run.RequireAttempts("nowhere", 0) },
		`step "ship" has no result`:                           func() { taskertest.Output[string](run, "ship") },
	} {
		require.Equal(t, want+"\n  "+steps, f.report(fails))
	}
	require.Contains(t, f.report(func() { taskertest.Output[string](run, "charge") }), `decode result of step "charge"`)
	unknown := tasker.Define("shop/unknown", "1", func(f *tasker.Flow[order]) {
		tasker.Step(f, "one", func(context.Context, order) (int, error) { return 1, nil })
	})
	require.Contains(t, f.report(func() { taskertest.Go(h, unknown, order{}) }), "taskertest: create: unknown template shop/unknown")
}
