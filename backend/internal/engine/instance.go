package engine

import (
	"container/list"
	"context"
	"errors"
	"fmt"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

type messageState uint8

const (
	held    messageState = iota // in memory only; its sender waits
	riding                      // a turn that consumes it is in the lane
	queued                      // its own record is in the lane
	durable                     // its record is in the inbox
)

// message is an event on its way into an instance.
type message struct {
	event *backend.HistoryEvent
	state messageState
	seq   int64      // of its inbox record, once durable
	ack   chan error // buffered; answered once, when the message is durable or lost
	task  *task      // whose result it is
	left  bool       // its sender waits no more
	place int64      // in the order of arrival, while it waits for its due time at an entity
}

func (m *message) answer(err error) {
	if m.ack != nil {
		select {
		case m.ack <- err:
		default: // answered before
		}
	}
}

// task is an activity that was scheduled durably and has no durable result.
type task struct {
	inst     *instance
	event    *backend.HistoryEvent
	exec     string
	attempt  int32
	item     *backend.ActivityWorkItem // while it is handed out
	over     bool                      // its result is not wanted any more
	detached int64                     // seq of its inbox record; its result is ignored
	since    int64                     // when it was offered, or handed out
}

// turn is a work item that was handed out and is not committed.
type turn struct {
	item  *backend.OrchestrationWorkItem
	msgs  []*message
	since int64
	done  int64 // when it came back to be committed; 0 before
}

// instance is the live part of one orchestration instance.
type instance struct {
	id  string
	key int64
	row *store.Instance // as committed; nil while the id is free or its create is not durable

	start    *message // the create that is not durable yet
	startRow *store.Instance
	startIn  *builder // the batch that stores it on its own

	loading chan struct{} // closed when the read of the row has ended
	pins    int           // calls that use the instance

	state  *backend.OrchestrationRuntimeState // nil: cold
	bytes  int                                // estimate of what state holds
	inbox  []*message
	turn   *turn
	tasks  map[int32]*task
	timers []timer    // open ones, a heap by due time
	ready  bool       // in the ready queue
	queued int64      // since when
	again  bool       // wants a turn without any message
	check  bool       // its timers must be looked at, once its history is read
	kept   []*task    // detached ones
	unread []*message // what it does not read as it was set aside; an end consumes their records
	ending bool       // a terminate ends it without its history
	rest   int64      // no turn before this time (its start, or the end of a retry delay), in µs; a terminate does not wait for it
	pause  int64      // no turn before this time at all: a commit failed
	retry  int32
	armed  int64         // the engine's heap has it with this due time or an earlier one; 0: perhaps not
	spot   *list.Element // in the idle list
	held   bool          // a suspect that waits for its trial
	trial  chan struct{} // closed with the turn that ends it
	gone   bool          // deleted or replaced: this value is dead

	ent    *entity  // nil: it is an orchestration
	turned int64    // how many turns were stored since it was read
	turnIn *builder // the batch that stores the newest turn

	sealed  *builder // the batch in which the instance or its execution ends
	ends    bool     // it is the instance that ends
	deleted *builder // the batch that deletes its row

	restored *builder // the batch in which it goes on, after it was over
}

func (i *instance) finished() bool { return i.row != nil && !i.row.Unfinished }

// refuses reports whether the event has no reader any more once the batch is
// durable: the instance is over, or the execution that waits for the result.
func (i *instance) refuses(ev *backend.HistoryEvent, b *builder) bool {
	return (i.finished() && i.restored != b) || (i.sealed == b && (i.ends || isResult(ev)))
}

// exists reports whether the id is taken, durably or by a create in progress.
func (i *instance) exists() bool { return i.row != nil || i.start != nil || i.ent != nil }

// pin returns the instance of an id, read from the store where it is not in
// memory, and keeps it there until unpin. It may not exist.
func (e *Engine) pin(ctx context.Context, id string) (*instance, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		if e.closed {
			return nil, backend.ErrNotInitialized
		}
		i := e.byID[id]
		if i == nil {
			break
		}
		if i.loading == nil {
			i.pins++
			return i, nil
		}
		wait := i.loading
		e.mu.Unlock()
		select {
		case <-wait:
			e.mu.Lock()
		case <-ctx.Done():
			e.mu.Lock()
			return nil, ctx.Err()
		}
	}
	i := &instance{id: id, loading: make(chan struct{}), ent: newEntity(id)}
	e.byID[id] = i
	e.mu.Unlock()
	row, err := e.st.ByID(ctx, id)
	var found found
	if err == nil {
		found, err = e.read(ctx, row)
	}
	e.mu.Lock()
	close(i.loading)
	i.loading = nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		delete(e.byID, id)
		return nil, fmt.Errorf("read instance %s: %w", id, err)
	}
	if e.closed || e.byID[id] != i { // closed meanwhile, and open anew perhaps
		return nil, backend.ErrNotInitialized
	}
	i.pins++
	if err == nil {
		e.revive(i, row, found)
	}
	return i, nil
}

// pinFresh is pin for an id that no stored instance can have.
func (e *Engine) pinFresh(ctx context.Context, id string) (*instance, error) {
	e.mu.Lock()
	if e.closed || e.byID[id] != nil {
		e.mu.Unlock()
		return e.pin(ctx, id)
	}
	defer e.mu.Unlock()
	i := &instance{id: id, pins: 1}
	e.byID[id] = i
	return i, nil
}

// unpin lets go of a pinned instance. It takes the mutex.
func (e *Engine) unpin(i *instance) {
	e.mu.Lock()
	i.pins--
	e.settle(i)
	e.mu.Unlock()
}

// settle forgets an instance that nothing needs in memory; one whose activities
// run may lose its state. The mutex is held.
func (e *Engine) settle(i *instance) {
	if i.pins > 0 || i.loading != nil || i.gone {
		return
	}
	if i.ent != nil {
		e.settleEntity(i)
		return
	}
	switch {
	case i.turn != nil || len(i.inbox) > 0 || i.ready || i.again || i.check || i.start != nil:
	case i.state != nil:
		e.idle(i)
	case len(i.kept)+len(i.tasks) == 0:
		e.forget(i)
	}
}

func (e *Engine) forget(i *instance) {
	if e.byID[i.id] == i {
		delete(e.byID, i.id)
	}
	if e.byKey[i.key] == i {
		delete(e.byKey, i.key)
	}
	if i.ent != nil {
		e.resident -= i.bytes
		i.bytes = 0
	}
	i.gone = true
}

// found is what the store holds of an unfinished instance beside its row.
type found struct {
	inbox []store.InboxRow
	state *backend.OrchestrationRuntimeState // where the instance is not parked
	bytes int
	err   error // the history cannot be read: the instance is set aside
}

func (e *Engine) read(ctx context.Context, row *store.Instance) (found, error) {
	var f found
	var err error
	if f.inbox, err = e.st.Inbox(ctx, row.Key); err != nil || !row.Unfinished || newEntity(row.ID) != nil {
		return f, err
	}
	if row.Due == 0 && row.Status != int32(api.RUNTIME_STATUS_PENDING) {
		f.state, f.bytes, err = e.loadState(ctx, row)
		if err != nil && !errors.Is(err, store.ErrCorrupt) {
			return f, err // the store does not answer: nothing is known of the instance
		}
		f.err = err
	}
	return f, nil
}

// revive puts what the store holds of an instance into memory: its messages
// and open tasks are offered again. The mutex is held.
func (e *Engine) revive(i *instance, row *store.Instance, f found) {
	stalled := row.Stalled != ""
	if stalled { // it gets another chance; its row says so with its next turn
		retry := *row
		retry.Stalled = ""
		row = &retry
	}
	i.row, i.key = row, row.Key
	e.byKey[i.key] = i
	if i.ent != nil {
		e.reviveEntity(i, f.inbox)
		return
	}
	if !e.recovering && i.sleeps() && !stalled {
		i.armed = row.Due // since it was parked
	}
	e.suspect(i)
	if row.Status == int32(api.RUNTIME_STATUS_PENDING) {
		i.rest = row.ScheduledAt
	}
	for _, r := range f.inbox {
		ev, err := backend.UnmarshalHistoryEvent(r.Event)
		if err != nil {
			for _, r := range f.inbox {
				i.unread = append(i.unread, &message{state: durable, seq: r.Seq})
			}
			e.setAside(i, fmt.Errorf("inbox record %d: %w", r.Seq, err))
			return
		}
		if ev.GetTaskScheduled() != nil { // detached: it runs even when its instance is over
			t := &task{inst: i, event: ev, detached: r.Seq}
			i.kept = append(i.kept, t)
			e.offerTask(t)
			continue
		}
		if row.Unfinished {
			i.inbox = append(i.inbox, &message{event: ev, state: durable, seq: r.Seq})
		}
	}
	if !row.Unfinished {
		return
	}
	if f.err != nil {
		e.setAside(i, f.err)
		return
	}
	if f.state != nil {
		e.adopt(i, f.state, f.bytes)
	}
	e.makeReady(i)
}

// adopt makes a state read from the store the instance's own. The mutex is held.
func (e *Engine) adopt(i *instance, s *backend.OrchestrationRuntimeState, bytes int) {
	i.state = s
	e.resident += bytes - i.bytes
	i.bytes = bytes
	i.timers = i.timers[:0]
	s.OpenTimers(func(ev *backend.HistoryEvent) { i.addTimer(ev) })
	if i.tasks == nil {
		i.tasks = map[int32]*task{}
	}
	var open []*backend.HistoryEvent
	s.OpenTasks(func(ev *backend.HistoryEvent) {
		if i.tasks[ev.GetEventId()] == nil && !i.hasResult(ev.GetEventId()) {
			open = append(open, ev)
		}
	})
	sortEvents(open)
	for _, ev := range open {
		e.addTask(i, ev)
	}
	if i.row != nil && i.row.Due == 0 && len(i.tasks) == 0 && len(i.inbox) == 0 && i.turn == nil {
		i.again = true // stored, but its first turn or its consequences were not
	}
	e.arm(i)
}

// hasResult reports whether a result for the task waits in the inbox.
func (i *instance) hasResult(id int32) bool {
	for _, m := range i.inbox {
		if t := m.event.GetTaskCompleted(); t != nil && t.GetTaskScheduledId() == id {
			return true
		}
		if t := m.event.GetTaskFailed(); t != nil && t.GetTaskScheduledId() == id {
			return true
		}
	}
	return false
}
