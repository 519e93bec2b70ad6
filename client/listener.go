package client

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// listener takes work items from one stream after the other.
type listener struct {
	client            *TaskHubGrpcClient
	executor          backend.Executor
	opts              workerOptions
	request           *protos.GetWorkItemsRequest
	turns, activities chan struct{} // slots: a server may send more than it was asked for
	entities          chan struct{}

	mu       sync.Mutex
	draining bool
	running  int
	idle     chan struct{} // closed when it is draining and nothing runs
}

// stream is one connection and what it brought. end cancels both.
type stream struct {
	grpc.ServerStreamingClient[protos.WorkItem]
	ctx       context.Context
	end       context.CancelFunc
	residents *residents
}

// connect ends its attempt with ctx, but not the stream that it made.
func (l *listener) connect(ctx context.Context) (*stream, error) {
	l.client.hurry()
	if _, err := l.client.hub.Hello(ctx, &emptypb.Empty{}); err != nil {
		return nil, err
	}
	streamCtx, end := context.WithCancel(context.WithoutCancel(ctx))
	items, err := l.client.hub.GetWorkItems(
		metadata.AppendToOutgoingContext(streamCtx, messageKey, strconv.Itoa(maxMessage)), l.request, anySize)
	if err != nil {
		end()
		return nil, err
	}
	return &stream{items, streamCtx, end, newResidents(l.opts.resident)}, nil
}

// drainGrace is how long work whose context was cancelled may take to notice.
const drainGrace = time.Second

// run receives from s, and from new streams after it, until ctx ends. Then it drains.
func (l *listener) run(ctx context.Context, s *stream) error {
	pause := reconnect()
	for ctx.Err() == nil {
		err := error(nil)
		if s == nil {
			s, err = l.connect(ctx)
		}
		if err == nil {
			var some bool
			some, err = l.receive(ctx, s)
			if s = nil; some {
				pause.Reset()
			}
		}
		if ctx.Err() != nil {
			break
		}
		d := pause.NextBackOff()
		l.client.log.Warnf("work item stream ended, connecting again in %v: %v", d, err)
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	if s != nil {
		s.end()
	}
	l.drain()
	if l.wait(drainGrace) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Errorf("drain: %d work items did not end within %v", l.running, l.opts.drain)
}

// receive runs what the stream brings until it breaks, or ctx has ended and
// what was running is done. It reports whether anything came.
func (l *listener) receive(ctx context.Context, s *stream) (some bool, err error) {
	stop := make(chan struct{})
	var drainer sync.WaitGroup
	drainer.Go(func() {
		select {
		case <-ctx.Done():
			l.drain()
			l.wait(l.opts.drain)
			s.end()
		case <-stop:
		}
	})
	silence := time.AfterFunc(l.opts.silence, s.end)
	defer func() {
		silence.Stop()
		s.end()
		s.residents.close()
		close(stop)
		drainer.Wait()
	}()
	for {
		item, err := s.Recv()
		if err != nil {
			return some, err
		}
		some = true
		silence.Reset(l.opts.silence)
		l.accept(s, item)
	}
}

// accept starts the item, or gives it back where the listener is draining.
func (l *listener) accept(s *stream, w *protos.WorkItem) {
	if w.GetHealthPing() != nil || w.GetRequest() == nil {
		return
	}
	l.mu.Lock()
	ok := !l.draining
	if ok {
		l.running++
	}
	l.mu.Unlock()
	if !ok {
		l.abandon(s, w)
		return
	}
	go func() {
		defer l.done()
		slots := l.activities
		if w.GetOrchestratorRequest() != nil {
			slots = l.turns
		} else if w.GetEntityRequestV2() != nil {
			slots = l.entities
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			l.process(s, w)
		case <-s.ctx.Done():
		}
	}()
}

func (l *listener) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	l.checkIdle()
}

func (l *listener) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	l.checkIdle()
}

// checkIdle wants the mutex to be held.
func (l *listener) checkIdle() {
	if !l.draining || l.running > 0 {
		return
	}
	select {
	case <-l.idle:
	default:
		close(l.idle)
	}
}

// wait reports whether nothing runs any more, within d, once draining has begun.
func (l *listener) wait(d time.Duration) bool {
	limit := time.NewTimer(d)
	defer limit.Stop()
	select {
	case <-l.idle:
		return true
	case <-limit.C:
		return false
	}
}
