package otlpspan

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Config says how spans are sent.
type Config struct {
	// Client takes them to the collector.
	Client otlptrace.Client
	// Resource is what they are spans of.
	Resource *resource.Resource
	// Queue is how many spans may wait; those that come when so many do are dropped.
	Queue int
	// Size is how many are sent at once, at most.
	Size int
	// Delay is how long a span waits for others.
	Delay time.Duration
	// Timeout bounds the sending of a batch.
	Timeout time.Duration
	// Made is called for each span that is handed in, also for one that is dropped.
	Made func()
	// Dropped is called, now and then, with the number of spans that the queue had no room for.
	Dropped func(spans int)
	// Send is called for each batch, with its number of spans, and calls upload.
	Send func(ctx context.Context, spans int, upload func(context.Context) error)
}

// Sender collects spans that are over and sends them.
type Sender struct {
	config Config
	cancel context.CancelFunc
	// full tells that there is a full batch, flush asks for all to be sent, stop for all to be sent and no more to be taken.
	full  chan struct{}
	flush chan chan struct{}
	stop  chan struct{}
	done  chan struct{}

	mu sync.Mutex
	// filling is the batch that spans are added to, waiting are those that are full, spare is one that was sent.
	filling, spare *batch
	waiting        []*batch
	queued         int
	dropped        int
	closed         bool
}

// Start connects the client, in the background, and begins to send.
func Start(ctx context.Context, config *Config) (*Sender, error) {
	if err := config.Client.Start(ctx); err != nil {
		return nil, fmt.Errorf("start client: %w", err)
	}
	s := &Sender{
		config: *config, filling: &batch{}, full: make(chan struct{}, 1), flush: make(chan chan struct{}),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	s.config.Size = max(1, min(s.config.Size, s.config.Queue))
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go s.run(sending)
	return s, nil
}

// add encodes a span into the batch that is being filled. That takes less time than handing it to somebody else would.
func (s *Sender) add(scope *instrumentation.Scope, r *record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.config.Made()
	if s.queued >= s.config.Queue {
		s.dropped++
		return
	}
	s.queued++
	s.filling.add(scope, r)
	if s.filling.spans < s.config.Size {
		return
	}
	s.waiting = append(s.waiting, s.fill())
	select {
	case s.full <- struct{}{}:
	default:
	}
}

// fill begins to fill another batch, and returns the one before.
func (s *Sender) fill() *batch {
	b := s.filling
	s.filling, s.spare = s.spare, nil
	if s.filling == nil {
		s.filling = &batch{}
	}
	return b
}

func (s *Sender) run(ctx context.Context) {
	defer close(s.done)
	defer s.cancel()
	tick := time.NewTicker(s.config.Delay)
	defer tick.Stop()
	for {
		select {
		case <-s.full:
			s.send(ctx, false)
		case <-tick.C:
			s.send(ctx, true)
		case flushed := <-s.flush:
			s.send(ctx, true)
			close(flushed)
		case <-s.stop:
			s.send(ctx, true)
			return
		}
	}
}

// send sends the batches that are full now, and the last one too if all are to go. What comes meanwhile waits for its turn.
func (s *Sender) send(ctx context.Context, all bool) {
	for n := s.pending(all); n > 0 && ctx.Err() == nil; n-- {
		s.report()
		b := s.take()
		s.upload(ctx, b)
		b.reset()
		s.mu.Lock()
		s.spare = b
		s.mu.Unlock()
	}
	s.report()
}

// pending tells how many batches are full; with all, the one that is being filled counts as such.
func (s *Sender) pending(all bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all && s.filling.spans > 0 {
		s.waiting = append(s.waiting, s.fill())
	}
	return len(s.waiting)
}

// take takes the next full batch out of the queue.
func (s *Sender) take() *batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.waiting[0]
	s.waiting[0], s.waiting = nil, s.waiting[1:]
	s.queued -= b.spans
	return b
}

// report tells of what was dropped since it last did.
func (s *Sender) report() {
	s.mu.Lock()
	dropped := s.dropped
	s.dropped = 0
	s.mu.Unlock()
	if dropped > 0 {
		s.config.Dropped(dropped)
	}
}

func (s *Sender) upload(ctx context.Context, b *batch) {
	if s.config.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.config.Timeout)
		defer cancel()
	}
	s.config.Send(ctx, b.spans, func(ctx context.Context) error {
		return s.config.Client.UploadTraces(ctx, []*tracepb.ResourceSpans{b.message(s.config.Resource)})
	})
}

// OnStart has nothing to do.
func (*Sender) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd takes a span of the SDK.
func (s *Sender) OnEnd(span sdktrace.ReadOnlySpan) {
	if !span.SpanContext().IsSampled() {
		return
	}
	scope := span.InstrumentationScope()
	s.add(&scope, &record{
		name: span.Name(), kind: span.SpanKind(), context: span.SpanContext(), parent: span.Parent(), began: span.StartTime(),
		ended: span.EndTime(), attributes: span.Attributes(), droppedAttributes: span.DroppedAttributes(), events: span.Events(),
		droppedEvents: span.DroppedEvents(), links: span.Links(), droppedLinks: span.DroppedLinks(), status: span.Status(),
	})
}

// ForceFlush sends what there is.
func (s *Sender) ForceFlush(ctx context.Context) error {
	flushed := make(chan struct{})
	select {
	case s.flush <- flushed:
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-flushed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Shutdown sends what there is, as long as ctx allows, and disconnects the client. Spans that end later are not taken. It is
// called once.
func (s *Sender) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	select {
	case <-s.done:
	case <-ctx.Done():
		s.cancel()
		<-s.done
	}
	err := ctx.Err()
	if stopped := s.config.Client.Stop(ctx); !errors.Is(stopped, err) {
		err = errors.Join(err, stopped)
	}
	return err
}
