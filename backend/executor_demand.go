package backend

import (
	"context"
	"errors"
	"sync"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend/internal/sidecar"
)

// dispatching is the optional interface of an executor that may not be able to run all work now.
type dispatching interface {
	dispatcher() *sidecar.Dispatcher
}

func (e *grpcExecutor) dispatcher() *sidecar.Dispatcher { return e.work }

// selectWorkItem waits for an item that is in demand, whatever happens to the demand meanwhile.
func selectWorkItem[T any](
	ctx context.Context, d sidecar.Demand, get func(context.Context, func(name, version string) bool) (*T, error),
) (*T, error) {
	for {
		round, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(d.More(), cancel) // asked before Wants, so that no growth is missed
		item, err := get(round, d.Wants)
		stop()
		again := err != nil && round.Err() != nil && ctx.Err() == nil
		cancel()
		if !again {
			return item, err
		}
	}
}

// notBegun reports whether err says that a work item was not begun, so that it counts as no attempt.
func notBegun(err error) bool { return errors.Is(err, sidecar.ErrNotBegun) }

// workerLost reports whether err says that a worker went away with the item.
func workerLost(err error) bool { return errors.Is(err, sidecar.ErrWorkerLost) }

// hopeless reports whether err says that another try would be of no use.
func hopeless(err error) bool { return errors.Is(err, sidecar.ErrConvicted) }

// maxOversize bounds how many stalled instances are remembered; the others go on after a restart.
const maxOversize = 100_000

// oversize remembers the instances that were stalled because no worker could take
// their history, and how large a message that makes.
type oversize struct {
	mu  sync.Mutex
	ids map[api.InstanceID]int
}

// remember keeps the id where err is an OversizeError, and returns err as the reason for a stall.
func (o *oversize) remember(id api.InstanceID, err error) error {
	var tooLarge *sidecar.OversizeError
	if !errors.As(err, &tooLarge) {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ids == nil {
		o.ids = map[api.InstanceID]int{}
	}
	if len(o.ids) < maxOversize {
		o.ids[id] = tooLarge.Bytes
	}
	return &stallError{err, tooLarge}
}

// take forgets those of up to so many bytes, and returns them.
func (o *oversize) take(bytes int) (ids []api.InstanceID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, n := range o.ids {
		if n <= bytes {
			ids = append(ids, id)
			delete(o.ids, id)
		}
	}
	return ids
}

// stallError asks for an instance to be set aside instead of tried again.
type stallError struct {
	error
	tooLarge *sidecar.OversizeError
}

func (e *stallError) Unwrap() error { return e.error }

// stalled is told that an instance was set aside: a worker that can take it may have come meanwhile.
func (e *grpcExecutor) stalled(ctx context.Context, err *stallError) {
	if e.work.Takes(err.tooLarge) {
		e.reviveUpTo(ctx, err.tooLarge.Bytes)
	}
}

// revive lets the instances go on that wait for a worker that can take as much as this one.
func (e *grpcExecutor) revive(ctx context.Context, req *protos.GetWorkItemsRequest) {
	e.reviveUpTo(ctx, e.work.Reach(ctx, req))
}

func (e *grpcExecutor) reviveUpTo(ctx context.Context, bytes int) {
	st, ok := e.be.(InstanceStaller)
	if !ok {
		return
	}
	for _, id := range e.oversize.take(bytes) {
		if err := st.ReviveInstance(ctx, id); err != nil && !errors.Is(err, api.ErrInstanceNotFound) {
			e.log.Warnf("%s stays stalled: %v", id, err)
		}
	}
}
