package otlpreceiver

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Fault is what goes wrong with a request before it is stored. What it returns is the answer; after nil the request is stored.
// Its context ends when the client gives up, or the receiver stops.
type Fault func(ctx context.Context) error

// SetFault makes something go wrong with all the requests that come from now on; nil makes them succeed again.
func (r *Receiver) SetFault(fault Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

// Hang accepts requests and never answers.
func Hang() Fault {
	return func(ctx context.Context) error {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
}

// Slow answers after a while.
func Slow(d time.Duration) Fault {
	return func(ctx context.Context) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// Refuse answers with a status. If retryAfter is not 0, the answer asks to try again then.
func Refuse(code codes.Code, retryAfter time.Duration) Fault {
	refusal := status.Newf(code, "refused by the test")
	if retryAfter > 0 {
		detailed, err := refusal.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
		if err != nil {
			panic(fmt.Errorf("otlpreceiver: status %s takes no details: %w", code, err))
		}
		refusal = detailed
	}
	return func(context.Context) error { return refusal.Err() }
}
