package dag_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tasker-systems/tasker-go/orchestration/dag"
)

func TestDelayGrowsAsTheStrategySays(t *testing.T) {
	t.Parallel()
	tests := []struct {
		backoff dag.Backoff
		units   []int // of the base, after the first failure, the second, ...
	}{
		{"", []int{1, 2, 4, 8, 16, 32}},
		{dag.BackoffExponential, []int{1, 2, 4, 8, 16, 32}},
		{dag.BackoffFibonacci, []int{1, 1, 2, 3, 5, 8, 13, 21}},
		{dag.BackoffLinear, []int{1, 2, 3, 4, 5, 6}},
		{dag.BackoffNone, []int{0, 0, 0, 0, 0, 0}},
	}
	for _, tt := range tests {
		t.Run("backoff "+string(tt.backoff), func(t *testing.T) {
			t.Parallel()
			policy := dag.Policy{Backoff: tt.backoff, Base: 250 * time.Millisecond, Max: time.Hour}
			for i, units := range tt.units {
				require.Equal(t, time.Duration(units)*policy.Base, policy.Delay(i+1, 0), "failure %d", i+1)
			}
		})
	}
}

func TestDelayIsCappedByTheLargestBackoff(t *testing.T) {
	t.Parallel()
	for _, backoff := range []dag.Backoff{dag.BackoffExponential, dag.BackoffFibonacci, dag.BackoffLinear} {
		policy := dag.Policy{Backoff: backoff, Base: time.Second, Max: 4500 * time.Millisecond}
		require.Equal(t, policy.Max, policy.Delay(6, 0), backoff)
		require.Equal(t, time.Second, policy.Delay(1, 0), "%s: below the cap nothing changes", backoff)

		tight := dag.Policy{Backoff: backoff, Base: time.Second, Max: 300 * time.Millisecond}
		require.Equal(t, tight.Max, tight.Delay(1, 0), "%s: the cap wins over the base", backoff)
	}
}

func TestDelaySaturatesHoweverOftenAStepFailed(t *testing.T) {
	t.Parallel()
	for _, backoff := range []dag.Backoff{dag.BackoffExponential, dag.BackoffFibonacci, dag.BackoffLinear} {
		policy := dag.Policy{Backoff: backoff, Base: time.Hour, Max: time.Hour, Jitter: 1}
		for _, failures := range []int{64, 128, 1024, 1025, 1 << 40, math.MaxInt} {
			require.Equal(t, time.Hour, policy.Delay(failures, 0), "%s after %d", backoff, failures)
			require.Equal(t, time.Duration(0), policy.Delay(failures, -1), "%s after %d", backoff, failures)
		}
	}
}

func TestDelayTreatsACountBelowOneAsTheFirstFailure(t *testing.T) {
	t.Parallel()
	for _, backoff := range []dag.Backoff{dag.BackoffExponential, dag.BackoffFibonacci, dag.BackoffLinear} {
		policy := dag.Policy{Backoff: backoff, Base: time.Second, Max: time.Minute}
		for _, failures := range []int{0, -1, math.MinInt} {
			require.Equal(t, time.Second, policy.Delay(failures, 0), "%s after %d", backoff, failures)
		}
	}
}

func TestDelayIsZeroWithoutABase(t *testing.T) {
	t.Parallel()
	for _, backoff := range []dag.Backoff{dag.BackoffExponential, dag.BackoffFibonacci, dag.BackoffLinear} {
		policy := dag.Policy{Backoff: backoff, Max: time.Minute, Jitter: 0.5}
		require.Zero(t, policy.Delay(math.MaxInt, 0.9), backoff)
	}
}

func TestJitterMovesTheDelayByItsShareAtMost(t *testing.T) {
	t.Parallel()
	policy := dag.Policy{Backoff: dag.BackoffLinear, Base: 10 * time.Second, Max: time.Minute, Jitter: 0.1}
	tests := []struct {
		name   string
		jitter float64
		want   time.Duration
	}{
		{"half up", 0.5, 10500 * time.Millisecond},
		{"least", -1, 9 * time.Second},
		{"most", 1, 11 * time.Second},
		{"none", 0, 10 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.InDelta(t, float64(tt.want), float64(policy.Delay(1, tt.jitter)), 1)
		})
	}
	require.InDelta(t, float64(66*time.Second), float64(policy.Delay(100, 1)), 1, "jitter is taken of the capped delay")
	still := dag.Policy{Backoff: dag.BackoffLinear, Base: 10 * time.Second, Max: time.Minute}
	require.Equal(t, 10*time.Second, still.Delay(1, 0.99), "without jitter the random number is ignored")
}

// The reference's truth table, spec §3.2, seen from the failure: attempts is at least one by then.
func TestAStepIsSpentWhenItsAttemptsAreUsedUp(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		retryable   bool
		maxAttempts int
		attempts    int
		spent       bool
	}{
		{"negative counts as one", true, -3, 1, true},
		{"not retryable, first of one", false, 1, 1, true},
		{"not retryable, first of three", false, 3, 1, true},
		{"not retryable, first of none", false, 0, 1, true},
		{"one of none", true, 0, 1, true},
		{"one of one", true, 1, 1, true},
		{"one of three", true, 3, 1, false},
		{"three of three", true, 3, 3, true},
		{"two of three", true, 3, 2, false},
		{"more than allowed", true, 3, 4, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			policy := dag.Policy{Retryable: tt.retryable}
			require.Equal(t, tt.spent, policy.Spent(tt.attempts, tt.maxAttempts))
		})
	}
}

func TestAnUnwrittenPolicyHasTheDefaults(t *testing.T) {
	t.Parallel()
	want := dag.Policy{
		Retryable: true, MaxAttempts: 3, Backoff: dag.BackoffExponential, Base: time.Second, Max: 30 * time.Second, Jitter: 0.1,
	}
	bare := node("a")
	require.Equal(t, want, bare.Policy())
	empty := node("a")
	empty.Retry = &dag.Retry{}
	require.Equal(t, want, empty.Policy())
}

func TestAWrittenPolicyWinsEvenWhereItSaysZero(t *testing.T) {
	t.Parallel()
	step := node("a")
	step.Retry = &dag.Retry{
		Retryable: new(false), MaxAttempts: new(0), Backoff: dag.BackoffFibonacci,
		BackoffBaseMS: new(int64(0)), MaxBackoffMS: new(int64(0)), Jitter: new(0.0),
	}
	require.Equal(t, dag.Policy{Backoff: dag.BackoffFibonacci}, step.Policy())
	step.Retry = &dag.Retry{
		Retryable: new(true), MaxAttempts: new(7), Backoff: dag.BackoffLinear,
		BackoffBaseMS: new(int64(20)), MaxBackoffMS: new(int64(900)), Jitter: new(0.25),
	}
	require.Equal(t, dag.Policy{
		Retryable: true, MaxAttempts: 7, Backoff: dag.BackoffLinear, Base: 20 * time.Millisecond, Max: 900 * time.Millisecond, Jitter: 0.25,
	}, step.Policy())
}

func TestTheHandlersDelayWinsAndIsCappedAtAMinute(t *testing.T) {
	t.Parallel()
	graph := pair(t, dag.OnFailureError)
	tests := []struct {
		name string
		hint *time.Duration
		want time.Duration
	}{
		{"a day is a minute", new(24 * time.Hour), time.Minute},
		{"a minute is a minute", new(time.Minute), time.Minute},
		{"beyond the policy's cap", new(45 * time.Second), 45 * time.Second},
		{"negative is at once", new(-time.Second), 0},
		{"no hint leaves it to the policy", nil, 2 * time.Second},
		{"zero is at once", new(time.Duration(0)), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := dag.Snapshot{
				Graph: graph, Task: dag.Task{State: dag.TaskStepsInProcess, SinksLeft: 1}, Active: 1,
				Steps: map[string]dag.StepView{"left": {State: dag.StepInProgress, Attempts: 2, MaxAttempts: 3}},
			}
			p := plan(t, s, dag.Finished{Results: []dag.Result{{
				Step: "left", Failure: &dag.Failure{Type: "handler_error", RetryAfter: tt.hint}, Jitter: 0.9,
			}}})
			require.Equal(t, noon.Add(tt.want), p.Steps[0].RetryAt)
		})
	}
}

func TestAStoredFailureReadsBackAsItWas(t *testing.T) {
	t.Parallel()
	was := dag.Failure{
		Type: "handler_error", Code: "CARD_DECLINED", Message: "no", Stack: "main.go:1", Permanent: true, RetryAfter: new(time.Second),
	}
	text, err := json.Marshal(was)
	require.NoError(t, err)
	var is dag.Failure
	require.NoError(t, json.Unmarshal(text, &is))
	require.Equal(t, was, is)

	var lost dag.Failure // as queries/leases.sql writes it
	require.NoError(t, json.Unmarshal([]byte(`{"type": "worker_lost", "permanent": true, "message": "lost 3 times"}`), &lost))
	require.Equal(t, dag.Failure{Type: "worker_lost", Permanent: true, Message: "lost 3 times"}, lost)
}
