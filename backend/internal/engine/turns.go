package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// makeReady offers the instance to a worker when it has something to do. It
// reports whether a turn that takes its messages is under way or about to start,
// so that a message may be held. The mutex is held.
func (e *Engine) makeReady(i *instance) bool {
	if i.ent != nil {
		return e.readyEntity(i)
	}
	if i.turn != nil {
		return true
	}
	if e.fenced {
		return false
	}
	if i.row != nil && i.row.Stalled != "" {
		if m := i.terminate(); m != nil {
			e.endStalled(i, m)
		}
		return false
	}
	if i.ready {
		if n := len(i.inbox); n > 0 && i.inbox[n-1].event.GetExecutionTerminated() != nil {
			i.ready = e.push(i) // now without waiting for a worker that hosts it
		}
		return !i.ready || e.turns > 0
	}
	if !i.wantsTurn(e.now()) {
		e.arm(i) // it rests, and must be woken for what came meanwhile
		return false
	}
	i.ready = e.push(i)
	return !i.ready || e.turns > 0 // workers are at it, and one of them will come to it soon
}

// push hands an instance to one who waits, or queues it and returns true. The mutex is held.
func (e *Engine) push(i *instance) bool {
	k := i.workKey()
	if w, ok := e.ready.waiter(k); ok {
		e.meter.Waited(backend.OrchestrationWork, 0)
		e.take(i)
		w <- i
		return false
	}
	e.ready.push(k, i)
	i.queued = e.now()
	return true
}

// workKey is who may run the next turn: the engine itself ends a terminated instance.
func (i *instance) workKey() workKey {
	row := i.row
	if row == nil {
		row = i.startRow
	}
	if row == nil || i.hasTerminate() {
		return workKey{free: true}
	}
	return workKey{name: row.Name, version: deref(row.Version)}
}

// take and leave begin and end the turn of an instance. The mutex is held.
func (e *Engine) take(i *instance) {
	i.turn = &turn{since: e.now()}
	e.turns++
}

func (e *Engine) leave(i *instance) {
	if i.turn == nil {
		return
	}
	i.turn = nil
	if i.ent != nil {
		e.batches--
	} else {
		e.turns--
	}
}

func (i *instance) wantsTurn(now int64) bool {
	if i.blocked() || i.notBefore() > now {
		return false
	}
	return len(i.inbox) > 0 || i.again || i.check || (len(i.timers) > 0 && i.timers[0].due <= now)
}

// blocked reports whether no passing of time gives the instance a turn.
func (i *instance) blocked() bool {
	stalled := i.row != nil && i.row.Stalled != ""
	return i.gone || i.finished() || !i.exists() || ((stalled || i.held || (i.turn == nil && i.lacksLocks())) && !i.hasTerminate())
}

// lacksLocks reports whether the instance waits for locks of entities that a rewind asks for anew.
func (i *instance) lacksLocks() bool {
	return i.state != nil && i.state.LacksLocks(func(section string) bool {
		return slices.ContainsFunc(i.inbox, func(m *message) bool {
			return m.event.GetEntityLockGranted().GetCriticalSectionId() == section
		})
	})
}

// notBefore is when the instance may have its next turn.
func (i *instance) notBefore() int64 {
	if i.rest > i.pause && !i.hasTerminate() {
		return i.rest
	}
	return i.pause
}

// hasTerminate reports whether a terminate waits: it does not wait for a start time or a retry delay.
func (i *instance) hasTerminate() bool { return i.terminate() != nil }

// terminate is the first terminate that waits, or nil.
func (i *instance) terminate() *message {
	for _, m := range i.inbox {
		if m.event.GetExecutionTerminated() != nil {
			return m
		}
	}
	return nil
}

// next takes the next ready instance. The mutex is held.
func (e *Engine) next(want wants) *instance {
	for {
		i, ok := e.ready.pop(want)
		if !ok {
			return nil
		}
		if !i.ready {
			continue
		}
		i.ready = false
		if i.turn != nil || !i.wantsTurn(e.now()) {
			e.arm(i)
			e.settle(i)
			continue
		}
		e.meter.Waited(backend.OrchestrationWork, e.since(i.queued))
		i.queued = 0
		e.take(i)
		return i
	}
}

// GetOrchestrationWorkItem hands out a ready instance, if there is one.
func (e *Engine) GetOrchestrationWorkItem(ctx context.Context) (*backend.OrchestrationWorkItem, error) {
	for {
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			return nil, backend.ErrNotInitialized
		}
		i := e.next(nil)
		e.mu.Unlock()
		if i == nil {
			return nil, backend.ErrNoWorkItems
		}
		if wi, err := e.begin(ctx, i); wi != nil || err != nil {
			return wi, err
		}
	}
}

// AwaitOrchestrationWorkItem blocks until it can hand out an instance.
func (e *Engine) AwaitOrchestrationWorkItem(ctx context.Context) (*backend.OrchestrationWorkItem, error) {
	return e.SelectOrchestrationWorkItem(ctx, nil)
}

// SelectOrchestrationWorkItem blocks until it can hand out an instance that is wanted.
func (e *Engine) SelectOrchestrationWorkItem(ctx context.Context, want wants) (*backend.OrchestrationWorkItem, error) {
	for {
		i, err := e.await(ctx, &e.ready, e.next, want)
		if err != nil {
			return nil, err
		}
		if wi, err := e.begin(ctx, i); wi != nil || err != nil {
			return wi, err
		}
	}
}

// await takes the next instance of a queue, and blocks until there is one.
func (e *Engine) await(
	ctx context.Context, q *workQueue[*instance], next func(wants) *instance, want wants,
) (*instance, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, backend.ErrNotInitialized
	}
	if i := next(want); i != nil {
		e.mu.Unlock()
		return i, nil
	}
	w := q.wait(want)
	e.mu.Unlock()
	select {
	case i, ok := <-w:
		if !ok {
			return nil, backend.ErrNotInitialized
		}
		return i, nil
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if q.leave(w) {
		return nil, ctx.Err()
	}
	if i, ok := <-w; ok { // handed over at the same moment
		e.leave(i)
		e.makeReady(i)
	}
	return nil, ctx.Err()
}

func dropWaiter[T any](list *[]chan T, w chan T) bool {
	for n, other := range *list {
		if other == w {
			*list = append((*list)[:n:n], (*list)[n+1:]...)
			return true
		}
	}
	return false
}

// begin makes the work item of an instance whose turn is taken. It returns nil
// where there is nothing to do after all.
func (e *Engine) begin(ctx context.Context, i *instance) (*backend.OrchestrationWorkItem, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i.state == nil && i.row != nil {
		row := i.row
		e.mu.Unlock()
		s, bytes, err := e.loadState(ctx, row)
		e.mu.Lock()
		switch {
		case i.gone || i.finished():
			e.leave(i)
			return nil, nil
		case err != nil && ctx.Err() != nil:
			e.leave(i)
			e.makeReady(i)
			return nil, ctx.Err()
		case err != nil:
			e.leave(i)
			if errors.Is(err, store.ErrCorrupt) {
				e.setAside(i, err)
				return nil, nil
			}
			// The store does not answer: that concerns not this instance alone, and passes.
			e.log.Warnf("read %s: %v", i.id, err)
			i.pause = e.now() + e.outagePause().Microseconds()
			e.makeReady(i)
			return nil, nil
		}
		e.adopt(i, s, bytes)
	}
	if i.gone || i.finished() {
		e.leave(i)
		return nil, nil
	}
	if i.lacksLocks() && !i.hasTerminate() { // it was read from the store just now
		e.leave(i)
		e.settle(i)
		return nil, nil
	}
	e.unidle(i)
	if i.state == nil {
		i.state = backend.NewOrchestrationRuntimeState(api.InstanceID(i.id), nil)
		e.resident += residentBase - i.bytes
		i.bytes = residentBase
	}
	t := i.turn
	t.msgs, i.inbox = e.portion(i.inbox)
	i.check = false
	now := e.Now()
	for _, ev := range i.dueTimers(now.UnixMicro()) {
		e.meter.TimerFired(max(now.Sub(ev.GetTimerCreated().GetFireAt().AsTime()), 0))
		t.msgs = append(t.msgs, &message{event: backend.NewTimerFired(ev, now), state: durable})
	}
	if len(t.msgs) == 0 && !i.again {
		e.leave(i)
		e.arm(i)
		e.settle(i)
		return nil, nil
	}
	e.nextItem++
	wi := &backend.OrchestrationWorkItem{
		InstanceID: api.InstanceID(i.id), RetryCount: i.retry, State: i.state,
		LockedBy: e.self + "," + strconv.FormatInt(e.nextItem, 10), NewEvents: make([]*backend.HistoryEvent, len(t.msgs)),
	}
	for n, m := range t.msgs {
		wi.NewEvents[n] = m.event
	}
	t.item = wi
	return wi, nil
}

// portion is what one turn takes of the messages: all, but no more than a
// message to a remote worker can hold.
func (e *Engine) portion(inbox []*message) (now, later []*message) {
	bytes := 0
	for n, m := range inbox {
		if bytes += payloadSize(m.event); n > 0 && bytes > e.opts.MaxPayload {
			return inbox[:n:n], slices.Clone(inbox[n:])
		}
	}
	return inbox, nil
}

// payloadSize is roughly the size of an event, cheaper than to encode it.
func payloadSize(ev *backend.HistoryEvent) int {
	const rest = 64
	switch t := ev.GetEventType().(type) {
	case *protos.HistoryEvent_TaskCompleted:
		return rest + len(t.TaskCompleted.GetResult().GetValue())
	case *protos.HistoryEvent_EventRaised:
		return rest + len(t.EventRaised.GetName()) + len(t.EventRaised.GetInput().GetValue())
	case *protos.HistoryEvent_SubOrchestrationInstanceCompleted:
		return rest + len(t.SubOrchestrationInstanceCompleted.GetResult().GetValue())
	case *protos.HistoryEvent_TimerFired:
		return rest
	}
	return proto.Size(ev)
}

// GetOrchestrationRuntimeState returns the state of the item's instance.
func (e *Engine) GetOrchestrationRuntimeState(
	_ context.Context, wi *backend.OrchestrationWorkItem,
) (*backend.OrchestrationRuntimeState, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, err := e.lockedTurn(wi)
	if err != nil {
		return nil, err
	}
	return i.state, nil
}

// lockedTurn finds the instance whose turn the item is. The mutex is held.
func (e *Engine) lockedTurn(wi *backend.OrchestrationWorkItem) (*instance, error) {
	if e.closed {
		return nil, backend.ErrNotInitialized
	}
	if wi == nil {
		return nil, fmt.Errorf("%w: the work item is nil", api.ErrInvalidInput)
	}
	i := e.byID[string(wi.InstanceID)]
	if i == nil || i.turn == nil || i.turn.item == nil || i.turn.item.LockedBy != wi.LockedBy {
		return nil, fmt.Errorf("%w: %s", backend.ErrWorkItemLockLost, wi.InstanceID)
	}
	return i, nil
}

// AbandonOrchestrationWorkItem undoes a turn: its messages go back in their
// order, and its state is dropped, as user code may have run ahead of it.
func (e *Engine) AbandonOrchestrationWorkItem(_ context.Context, wi *backend.OrchestrationWorkItem) error {
	return e.abandon(wi, func(i *instance) {
		i.retry++
		if d := wi.GetAbandonDelay(); d > 0 {
			i.rest = e.now() + d.Microseconds()
			if slices.ContainsFunc(i.turn.msgs, func(m *message) bool { return m.event.GetExecutionTerminated() != nil }) {
				i.pause = i.rest // the terminate itself failed
			}
		}
	})
}

// ReturnOrchestrationWorkItem undoes a turn that no worker has begun: it is no attempt.
func (e *Engine) ReturnOrchestrationWorkItem(_ context.Context, wi *backend.OrchestrationWorkItem) error {
	return e.abandon(wi, func(*instance) {})
}

func (e *Engine) abandon(wi *backend.OrchestrationWorkItem, then func(*instance)) error {
	e.mu.Lock()
	i, err := e.lockedTurn(wi)
	if err != nil {
		e.mu.Unlock()
		dropState(wi)
		return err
	}
	then(i)
	s := e.undo(i)
	e.mu.Unlock()
	s.Release()
	return nil
}

// undo puts the messages of the instance's turn back and drops its state,
// which the caller releases without the mutex. The mutex is held.
func (e *Engine) undo(i *instance) *backend.OrchestrationRuntimeState {
	t, s := i.turn, i.state
	e.leave(i)
	i.state = nil
	e.resident -= i.bytes
	i.bytes, i.timers = 0, nil
	i.check = i.ent == nil && i.row != nil // its timers, of which some may have been due meanwhile, are read again
	msgs := make([]*message, 0, len(t.msgs)+len(i.inbox))
	for _, m := range t.msgs {
		if m.event.GetTimerFired() != nil && m.seq == 0 {
			continue // derived from the history when it is read again
		}
		if m.state == riding {
			m.state = held
			if m.seq != 0 {
				m.state = durable
			}
		}
		msgs = append(msgs, m)
	}
	i.inbox = append(msgs, i.inbox...)
	e.makeReady(i)
	e.arm(i)
	return s
}
