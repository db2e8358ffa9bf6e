package dag

import (
	"math"
	"time"
)

// Backoff is how the delay grows from one failed attempt to the next.
type Backoff string

// The backoff strategies of spec §3.3.
const (
	BackoffNone        Backoff = "none"
	BackoffLinear      Backoff = "linear"
	BackoffExponential Backoff = "exponential"
	BackoffFibonacci   Backoff = "fibonacci"
)

// Defaults of a retry policy.
const (
	DefaultMaxAttempts = 3
	DefaultBackoffBase = time.Second
	DefaultMaxBackoff  = 30 * time.Second
	DefaultJitter      = 0.1
	// MaxHint caps a delay that a handler asks for.
	MaxHint = 60 * time.Second
)

// Policy is a complete retry policy.
type Policy struct {
	Retryable bool
	// MaxAttempts counts every execution, the first included; below 1 counts as 1.
	MaxAttempts int
	Backoff     Backoff
	Base        time.Duration
	Max         time.Duration
	// Jitter is the largest share of the delay that is added or taken away, 0 to 1.
	Jitter float64
}

// Policy is the step's retry policy with every default filled in.
func (s *Step) Policy() Policy {
	p := Policy{
		Retryable: true, MaxAttempts: DefaultMaxAttempts, Backoff: BackoffExponential,
		Base: DefaultBackoffBase, Max: DefaultMaxBackoff, Jitter: DefaultJitter,
	}
	r := s.Retry
	if r == nil {
		return p
	}
	if r.Retryable != nil {
		p.Retryable = *r.Retryable
	}
	if r.MaxAttempts != nil {
		p.MaxAttempts = *r.MaxAttempts
	}
	if r.Backoff != "" {
		p.Backoff = r.Backoff
	}
	if r.BackoffBaseMS != nil {
		p.Base = time.Duration(*r.BackoffBaseMS) * time.Millisecond
	}
	if r.MaxBackoffMS != nil {
		p.Max = time.Duration(*r.MaxBackoffMS) * time.Millisecond
	}
	if r.Jitter != nil {
		p.Jitter = *r.Jitter
	}
	return p
}

// Delay is the time between the failures-th failed attempt (1 is the first) and the next attempt:
//
//	none 0 · linear base·k · exponential base·2^(k−1) · fibonacci base·fib(k) with 1, 1, 2, 3, 5
//
// capped by Max, then moved by jitter, which is uniform in [-1, 1) and comes from the caller. It never overflows.
func (p Policy) Delay(failures int, jitter float64) time.Duration {
	k := max(failures, 1)
	var factor float64
	switch p.Backoff {
	case BackoffNone:
		return 0
	case BackoffLinear:
		factor = float64(k)
	case BackoffFibonacci:
		factor = fibonacci(k)
	case BackoffExponential:
		factor = math.Exp2(float64(min(k, 1024) - 1))
	default:
		factor = math.Exp2(float64(min(k, 1024) - 1))
	}
	delay := math.Min(float64(p.Base)*factor, float64(p.Max))
	return time.Duration(max(delay+delay*p.Jitter*jitter, 0))
}

// Spent reports whether a step that failed in its attempts-th execution may not be tried again.
func (p Policy) Spent(attempts, maxAttempts int) bool {
	return !p.Retryable || attempts >= max(maxAttempts, 1)
}

// fibonacci saturates beyond where the cap has long won.
func fibonacci(k int) float64 {
	a, b := 0.0, 1.0
	for range min(k, 128) {
		a, b = b, a+b
	}
	return a
}

// Failure is why an execution ended without a result. It is stored with the step and the attempt.
type Failure struct {
	// Type is one of a closed set: handler_error, handler_panic, handler_timeout, handler_not_found, invalid_result,
	// worker_lost, invalid_context.
	Type string `json:"type"`
	// Code is the handler's own code, such as CARD_DECLINED.
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"`
	// Permanent failures are not tried again, whatever the policy says.
	Permanent bool `json:"permanent,omitempty"`
	// RetryAfter is the delay the handler asked for; nil leaves it to the policy.
	RetryAfter *time.Duration `json:"retry_after_ns,omitempty"`
}

// delay is how long the step waits before its next attempt.
func (f *Failure) delay(p Policy, attempts int, jitter float64) time.Duration {
	if f.RetryAfter != nil {
		return min(max(*f.RetryAfter, 0), MaxHint)
	}
	return p.Delay(attempts, jitter)
}
