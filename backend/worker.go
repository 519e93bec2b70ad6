package backend

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/perdure/perdure/api"
)

// TaskWorker fetches work items and processes them, several at a time.
type TaskWorker interface {
	// Start begins to fetch in the background; it does not block. A second Start is ignored.
	Start(context.Context)
	// ProcessNext takes one item and returns true once its processing has
	// started, false where there was none, an error where the context ended. It
	// blocks while all slots are taken.
	ProcessNext(context.Context) (bool, error)
	// StopAndDrain stops fetching and blocks until the outstanding items are done.
	StopAndDrain()
}

// TaskProcessor is what a TaskWorker does with one kind of work item.
type TaskProcessor interface {
	Name() string
	FetchWorkItem(context.Context) (WorkItem, error)
	ProcessWorkItem(context.Context, WorkItem) error
	AbandonWorkItem(context.Context, WorkItem) error
	CompleteWorkItem(context.Context, WorkItem) error
}

// awaiter is the optional interface of a TaskProcessor that can wait for an item.
type awaiter interface {
	awaitWorkItem(context.Context) (WorkItem, error)
}

// WorkerOptions are the settings of a TaskWorker.
type WorkerOptions struct {
	// MaxParallelWorkItems is how many items are processed at a time (default 1).
	MaxParallelWorkItems int32
	// Meter is told of each item; nil for none.
	Meter Meter
	// Tracer is where spans go; nil for otel.GetTracerProvider().
	Tracer trace.TracerProvider
}

// NewTaskWorkerOptions sets one thing of WorkerOptions.
type NewTaskWorkerOptions func(*WorkerOptions)

// NewWorkerOptions returns the defaults.
func NewWorkerOptions() *WorkerOptions { return &WorkerOptions{MaxParallelWorkItems: 1} }

// WithMaxParallelism sets how many items are processed at a time; less than 1 counts as 1.
func WithMaxParallelism(n int32) NewTaskWorkerOptions {
	return func(o *WorkerOptions) { o.MaxParallelWorkItems = max(n, 1) }
}

// Polling serves only a backend that cannot wait for work.
const (
	pollMin = 10 * time.Millisecond
	pollMax = time.Second
	// Between two tries to record an item in an outage of the database.
	completeMin = 200 * time.Millisecond
	completeMax = 5 * time.Second
	// maxIdleFetchers is how many fetchers wait after a burst of work.
	maxIdleFetchers = 16
	// abandonLimit bounds the abandon of an item whose own context has ended.
	abandonLimit = 10 * time.Second
)

type taskWorker struct {
	p       TaskProcessor
	log     Logger
	meter   Meter
	tracing tracing
	max     int

	slots chan struct{} // one token per item in process

	mu       sync.Mutex
	running  bool
	stopping bool
	fetchers int
	waiting  int // fetchers that wait for an item
	fetchCtx context.Context
	stop     context.CancelFunc // ends fetching
	workCtx  context.Context
	cancel   context.CancelFunc // ends the items' contexts
	items    sync.WaitGroup
	loops    sync.WaitGroup
}

// NewTaskWorker returns a worker that runs p. The backend is not used: p knows it.
func NewTaskWorker(_ Backend, p TaskProcessor, logger Logger, opts ...NewTaskWorkerOptions) TaskWorker {
	return newTaskWorker(p, logger, opts...)
}

func newTaskWorker(p TaskProcessor, logger Logger, opts ...NewTaskWorkerOptions) *taskWorker {
	o := NewWorkerOptions()
	for _, f := range opts {
		f(o)
	}
	n := int(max(o.MaxParallelWorkItems, 1))
	w := &taskWorker{p: p, log: logger, meter: o.Meter, tracing: tracingBy(o.Tracer), max: n, slots: make(chan struct{}, n)}
	w.workCtx, w.cancel = context.WithCancel(context.Background())
	return w
}

// Start grows fetchers one at a time: each fetcher that got an item makes sure
// that another waits, up to one for each slot, so that an idle worker holds a
// single goroutine and a busy one hands items over without a hop.
func (w *taskWorker) Start(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running {
		return
	}
	w.running, w.stopping = true, false
	if w.workCtx.Err() != nil {
		w.workCtx, w.cancel = context.WithCancel(context.Background())
	}
	w.fetchCtx, w.stop = context.WithCancel(ctx)
	w.addFetcher()
}

func (w *taskWorker) addFetcher() { // w.mu is held
	w.fetchers++
	w.waiting++
	w.loops.Add(1)
	go w.fetchLoop(w.fetchCtx, w.workCtx)
}

func (w *taskWorker) fetchLoop(ctx, workCtx context.Context) {
	defer func() {
		w.mu.Lock()
		w.fetchers--
		w.mu.Unlock()
		w.loops.Done()
	}()
	for {
		select {
		case w.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wi, err := w.await(ctx)
		if err != nil {
			<-w.slots
			if ctx.Err() != nil {
				return
			}
			w.log.Errorf("%s: fetch: %v", w.p.Name(), err)
			if !pause(ctx, pollMax) {
				return
			}
			continue
		}
		w.mu.Lock()
		w.waiting--
		if w.waiting == 0 && w.fetchers < w.max && !w.stopping {
			w.addFetcher()
		}
		w.items.Add(1)
		w.mu.Unlock()
		w.handle(workCtx, wi)
		w.mu.Lock()
		enough := w.waiting >= maxIdleFetchers
		if !enough {
			w.waiting++
		}
		w.mu.Unlock()
		if enough {
			return
		}
	}
}

// await blocks until there is an item, polling where the processor cannot wait.
func (w *taskWorker) await(ctx context.Context) (WorkItem, error) {
	if a, ok := w.p.(awaiter); ok {
		wi, err := a.awaitWorkItem(ctx)
		if !errors.Is(err, errors.ErrUnsupported) {
			return wi, err
		}
	}
	for d := pollMin; ; d = min(d*3/2, pollMax) {
		wi, err := w.p.FetchWorkItem(ctx)
		if err == nil && wi != nil {
			return wi, nil
		}
		if err != nil && !errors.Is(err, ErrNoWorkItems) {
			return nil, err
		}
		if !pause(ctx, d) {
			return nil, ctx.Err()
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *taskWorker) ProcessNext(ctx context.Context) (bool, error) {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	wi, err := w.p.FetchWorkItem(ctx)
	if err != nil || wi == nil {
		<-w.slots
		if err == nil || errors.Is(err, ErrNoWorkItems) {
			return false, nil
		}
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopping {
		<-w.slots
		w.abandon(ctx, wi)
		return false, nil
	}
	w.items.Add(1)
	go w.handle(w.workCtx, wi)
	return true, nil
}

// handle processes one item and frees its slot. User code runs behind the
// executor, which turns its panics into failures; what is recovered here is a
// fault of the host, and costs one attempt.
func (w *taskWorker) handle(ctx context.Context, wi WorkItem) {
	item, outcome := originOf(wi), WorkAbandoned
	watch := w.stopwatch(item)
	ctx, span := w.trace(ctx, item)
	defer func() {
		if r := recover(); r != nil {
			w.log.Errorf("%s: %s: panic: %v\n%s", w.p.Name(), wi.Description(), r, debug.Stack())
			w.abandon(ctx, wi)
		}
		watch.stop(outcome)
		span.end(outcome)
		<-w.slots
		w.items.Done()
	}()
	err := w.p.ProcessWorkItem(ctx, wi)
	span.look(wi)
	switch {
	case err == nil:
	case errors.Is(err, ErrWorkItemLockLost):
		outcome = WorkDropped
		w.log.Debugf("%s: %s: dropped: %v", w.p.Name(), wi.Description(), err)
		return
	case notBegun(err):
		outcome = WorkReturned
		w.abandon(ctx, wi)
		return
	default:
		if ctx.Err() == nil && !workerLost(err) { // a worker may have had thousands of items
			w.log.Errorf("%s: %s: %v", w.p.Name(), wi.Description(), err)
		}
		w.abandon(ctx, wi)
		return
	}
	outcome = WorkDone
	if a, ok := wi.(*ActivityWorkItem); ok && a.Result.GetTaskFailed() != nil {
		outcome = WorkFailed
	}
	// The work is done: it is recorded even when the shutdown has run out of patience.
	if err := w.complete(ctx, wi); errors.Is(err, ErrWorkItemLockLost) {
		outcome = WorkDropped
		w.log.Debugf("%s: %s: dropped: %v", w.p.Name(), wi.Description(), err)
	} else if err != nil {
		outcome = WorkAbandoned
		w.log.Errorf("%s: %s: complete: %v", w.p.Name(), wi.Description(), err)
		w.abandon(ctx, wi)
	}
}

// complete tries again while the database is not available: the work is done,
// and is not to be done once more for that. The slot stays taken, so that an
// outage is not filled with work that cannot be recorded.
func (w *taskWorker) complete(ctx context.Context, wi WorkItem) error {
	for d := completeMin; ; d = min(d*2, completeMax) {
		err := w.p.CompleteWorkItem(context.WithoutCancel(ctx), wi)
		if !errors.Is(err, api.ErrUnavailable) || !pause(ctx, d) {
			return err
		}
	}
}

func (w *taskWorker) abandon(ctx context.Context, wi WorkItem) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonLimit)
	defer cancel()
	if err := w.p.AbandonWorkItem(ctx, wi); err != nil && !errors.Is(err, ErrWorkItemLockLost) {
		w.log.Warnf("%s: %s: abandon: %v", w.p.Name(), wi.Description(), err)
	}
}

func (w *taskWorker) StopAndDrain() { _ = w.shutdown(context.Background()) }

// shutdown stops fetching at once, lets the items finish, cancels their contexts
// a little before ctx's deadline and returns by it; the error says that items were left.
func (w *taskWorker) shutdown(ctx context.Context) error {
	w.mu.Lock()
	w.stopping, w.running = true, false
	if w.stop != nil {
		w.stop()
	}
	cancel := w.cancel
	w.mu.Unlock()
	done := make(chan struct{})
	go func() {
		w.loops.Wait() // no fetcher adds an item any more
		w.items.Wait()
		close(done)
	}()
	grace := ctx
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		var stop context.CancelFunc
		grace, stop = context.WithDeadline(ctx, deadline.Add(-min(left/4, 2*time.Second)))
		defer stop()
	}
	select {
	case <-done:
		cancel()
		return nil
	case <-grace.Done():
	}
	cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: work items still running: %w", w.p.Name(), ctx.Err())
	}
}
