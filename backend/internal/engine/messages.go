package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// holdLimit is how long a message may wait for the turn that consumes it
// before it gets a record of its own.
const holdLimit = 10 * time.Millisecond

// CreateOrchestrationInstance starts an instance; a taken id is refused whatever its status.
func (e *Engine) CreateOrchestrationInstance(ctx context.Context, ev *backend.HistoryEvent) error {
	return e.CreateOrReplaceInstance(ctx, ev, nil)
}

// CreateOrReplaceInstance starts an instance; a taken id is replaced where the
// policy lists its status.
func (e *Engine) CreateOrReplaceInstance(
	ctx context.Context, ev *backend.HistoryEvent, policy *protos.OrchestrationIdReusePolicy,
) error {
	return e.start(ctx, ev, policy, e.pin)
}

// CreateFreshInstance starts an instance without looking whether its id is
// taken; where it is, the store refuses it.
func (e *Engine) CreateFreshInstance(ctx context.Context, ev *backend.HistoryEvent) error {
	return e.start(ctx, ev, nil, e.pinFresh)
}

func (e *Engine) start(
	ctx context.Context, ev *backend.HistoryEvent, policy *protos.OrchestrationIdReusePolicy,
	pin func(context.Context, string) (*instance, error),
) error {
	if !e.isOpen() {
		return backend.ErrNotInitialized
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	start := ev.GetExecutionStarted()
	if start == nil {
		return fmt.Errorf("%w: the event is %T, not ExecutionStarted", api.ErrInvalidInput, ev.GetEventType())
	}
	id := start.GetOrchestrationInstance().GetInstanceId()
	for _, err := range []error{e.checkID(id), e.checkEvent(ev), checkPolicy(policy)} {
		if err != nil {
			return err
		}
	}
	row, err := e.newRow(ev)
	if err != nil {
		return err
	}
	for looked := false; ; looked = true {
		i, err := pin(ctx, id)
		if err != nil {
			e.refuses(err)
			return err
		}
		err = e.create(ctx, i, row, ev, policy, looked)
		e.unpin(i)
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}

func checkPolicy(p *protos.OrchestrationIdReusePolicy) error {
	var running, terminated bool
	for _, s := range p.GetReplaceableStatus() {
		switch s {
		case api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_PENDING, api.RUNTIME_STATUS_SUSPENDED:
			running = true
		case api.RUNTIME_STATUS_TERMINATED:
			terminated = true
		}
	}
	if running && !terminated {
		return fmt.Errorf("%w: Invalid reusable statuses: cannot exclude 'Terminated' while also allowing reuse of running instances",
			api.ErrInvalidInput)
	}
	return nil
}

// newRow makes the row of a new instance from its start event.
func (e *Engine) newRow(ev *backend.HistoryEvent) (*store.Instance, error) {
	s := ev.GetExecutionStarted()
	tags, err := encodeTags(s.GetTags())
	if err != nil {
		return nil, err
	}
	id := s.GetOrchestrationInstance().GetInstanceId()
	parent := s.GetParentInstance()
	row := &store.Instance{
		ID: id, Partition: partitionOf(id), Name: s.GetName(), Version: text(s.GetVersion()),
		ExecutionID: s.GetOrchestrationInstance().GetExecutionId().GetValue(),
		Status:      int32(api.RUNTIME_STATUS_PENDING), Unfinished: true,
		CreatedAt: nanos(ev.GetTimestamp().AsTime()), UpdatedAt: e.now(), Tags: tags, Input: text(s.GetInput()),
		ParentID:   parent.GetOrchestrationInstance().GetInstanceId(),
		ParentExec: parent.GetOrchestrationInstance().GetExecutionId().GetValue(), ParentTask: parent.GetTaskScheduledId(),
	}
	if at := s.GetScheduledStartTimestamp(); at != nil {
		if err := at.CheckValid(); err != nil {
			return nil, fmt.Errorf("%w: scheduled start: %w", api.ErrInvalidInput, err)
		}
		if due := micros(at.AsTime().Add(time.Microsecond - 1)); due > e.now() { // rounded up: never early
			row.ScheduledAt, row.Due = due, due
		}
	}
	return row, nil
}

func (e *Engine) create(
	ctx context.Context, i *instance, row *store.Instance, ev *backend.HistoryEvent,
	policy *protos.OrchestrationIdReusePolicy, looked bool,
) error {
	m := &message{event: ev, ack: make(chan error, 1)}
	e.mu.Lock()
	if i.gone { // purged or replaced meanwhile; pin says so where the engine is closed
		e.mu.Unlock()
		return errMoved
	}
	replaces := false
	if i.exists() {
		status := api.RUNTIME_STATUS_PENDING
		if i.row != nil {
			status = protos.OrchestrationStatus(i.row.Status)
		}
		for _, s := range policy.GetReplaceableStatus() {
			replaces = replaces || s == status
		}
		if !replaces && !looked && len(policy.GetReplaceableStatus()) > 0 && i.turn != nil && i.turn.done != 0 {
			// Its turn is being committed: the caller may have read already that it ended the instance.
			e.mu.Unlock()
			_ = e.submit(&op{build: func(*builder) error { return nil }, apply: func(error) {}}) // behind that commit
			return errMoved
		}
		if !replaces {
			e.mu.Unlock()
			return fmt.Errorf("%w: %w: %s (%s)", backend.ErrDuplicateEvent, api.ErrDuplicateInstance, i.id, api.StatusName(status))
		}
		if start := i.start; i.row == nil { // what is replaced must be durable
			e.mu.Unlock()
			_ = e.submit(e.startOp(i, start)) // its starter gets the error
			return errMoved
		}
	}
	if replaces {
		return e.replace(ctx, i, row, ev)
	}
	e.nextKey++
	row.Key = e.nextKey
	i.key, i.start, i.startRow, i.rest = row.Key, m, row, row.ScheduledAt
	e.byKey[i.key] = i
	i.inbox = append([]*message{m}, i.inbox...)
	wait := e.makeReady(i)
	e.mu.Unlock()
	return e.settleMessage(ctx, i, m, wait, func() *op { return e.createOp(i, m) })
}

// createOp stores a start whose first turn did not come along in time.
func (e *Engine) createOp(i *instance, m *message) *op {
	skipped := false
	return &op{
		build: func(b *builder) error {
			if i.gone && i.start == m { // the engine was closed: it may be open anew by now
				skipped = false
				return backend.ErrNotInitialized
			}
			if skipped = i.start != m || m.state != queued; skipped {
				if i.start == m {
					m.seq = 0 // an earlier build of this op may have set it
				}
				return nil // a turn or an event stores it, and answers
			}
			return e.buildStart(i, b)
		},
		apply: func(err error) {
			if skipped {
				return
			}
			e.applyStart(i, m, err)
			m.answer(err)
		},
	}
}

// startOp stores a start at once, unless a turn that does so is on its way.
func (e *Engine) startOp(i *instance, m *message) *op {
	skipped := false
	return &op{
		build: func(b *builder) error {
			if skipped = i.gone || i.start != m || m.state == riding; skipped {
				return nil
			}
			return e.buildStart(i, b)
		},
		apply: func(err error) {
			if !skipped {
				e.applyStart(i, m, err)
			}
		},
	}
}

// buildStart adds the row and the start event of an instance, once a batch.
func (e *Engine) buildStart(i *instance, b *builder) error {
	if i.startIn == b {
		return nil
	}
	seq, err := b.store(i.key, i.start.event)
	if err != nil {
		return err
	}
	i.startIn, i.start.seq = b, seq
	b.insert(i.startRow)
	return nil
}

// applyStart is the outcome of a batch with buildStart; m is the start. The mutex is held.
func (e *Engine) applyStart(i *instance, m *message, err error) {
	if i.start != m || i.startIn == nil {
		return
	}
	if err != nil {
		e.dropStart(i, m, err)
		return
	}
	i.row, i.start, i.startRow, i.startIn = i.startRow, nil, nil, nil
	if m.state != riding {
		m.state = durable
	}
	e.arm(i)
	m.answer(nil)
}

// dropStart forgets a create that could not be stored, and all that came after it. The mutex is held.
func (e *Engine) dropStart(i *instance, m *message, err error) {
	if i.start != m {
		return
	}
	for _, other := range i.inbox {
		other.answer(err)
	}
	m.answer(err)
	if t := i.turn; t != nil { // it is out: its worker will find its lock lost
		for _, other := range t.msgs {
			other.answer(err)
		}
		e.leave(i)
	}
	i.inbox, i.start, i.startRow, i.startIn = nil, nil, nil, nil
	i.ready, i.state = false, nil // the turn's worker has it, if there is any
	e.resident -= i.bytes
	i.bytes = 0
	e.forget(i)
}

// replace ends what has the id, stores the new instance in the same batch and
// puts it in the old one's place. It is called with the mutex held and releases it.
func (e *Engine) replace(ctx context.Context, i *instance, row *store.Instance, ev *backend.HistoryEvent) error {
	e.nextKey++
	row.Key = e.nextKey
	old := i.row.Key
	e.mu.Unlock()
	locks, err := e.unlocksOf(ctx, i, "REPLACED")
	defer locks.release()
	if err != nil {
		return err
	}
	next := &instance{id: i.id, key: row.Key, rest: row.ScheduledAt, pins: 1}
	m := &message{event: ev, state: durable}
	err = e.submit(&op{
		build: func(b *builder) error {
			if i.gone || i.row == nil || i.row.Key != old || i.deleted == b {
				return errMoved
			}
			if err := locks.build(b); err != nil {
				return err
			}
			var err error
			if m.seq, err = b.store(row.Key, ev); err != nil {
				return err
			}
			b.remove(i)
			b.insert(row)
			return nil
		},
		apply: func(err error) {
			if err != nil {
				return
			}
			locks.deliver()
			e.release(i)
			e.forget(i)
			next.row, next.inbox = row, []*message{m}
			e.byID[next.id], e.byKey[next.key] = next, next
			e.notify(next.id)
			e.makeReady(next)
			e.arm(next)
		},
	})
	if err != nil {
		return err
	}
	e.unpin(next)
	return nil
}

// AddNewOrchestrationEvent delivers an event.
func (e *Engine) AddNewOrchestrationEvent(ctx context.Context, id api.InstanceID, ev *backend.HistoryEvent) error {
	if !e.isOpen() {
		return backend.ErrNotInitialized
	}
	if err := errors.Join(ctx.Err(), e.checkEvent(ev)); err != nil {
		return err
	}
	if err := checkForm(string(id)); err != nil {
		return err
	}
	if api.IsEntityID(id) {
		var err error
		if id, ev, err = checkEntityEvent(id, ev); err != nil {
			return err
		}
	}
	if !backend.IsMessage(ev) {
		return fmt.Errorf("%w: %T is no message to an instance", api.ErrInvalidInput, ev.GetEventType())
	}
	for {
		i, err := e.pin(ctx, string(id))
		if err != nil {
			return err
		}
		err = e.deliver(ctx, i, &message{event: ev, ack: make(chan error, 1)})
		e.unpin(i)
		if !errors.Is(err, errReplaced) {
			return err
		}
	}
}

// errReplaced says that another instance took the id while an event was on its way to it.
var errReplaced = errors.New("the instance was replaced")

// deliver puts a message into an instance and blocks until it is durable.
func (e *Engine) deliver(ctx context.Context, i *instance, m *message) error {
	e.mu.Lock()
	switch {
	case i.gone && e.byID[i.id] != nil && e.byID[i.id] != i:
		e.mu.Unlock()
		return errReplaced
	case i.gone || !i.exists():
		e.mu.Unlock()
		return fmt.Errorf("%w: %s", api.ErrInstanceNotFound, i.id)
	case i.finished():
		e.mu.Unlock()
		return nil // dropped: nobody will read it
	}
	i.push(m, e.now())
	wait := e.makeReady(i)
	e.mu.Unlock()
	return e.settleMessage(ctx, i, m, wait, func() *op { return e.messageOp(i, m) })
}

// settleMessage waits for the turn that consumes the message, where there is
// one to come, and else gives it a record of its own.
func (e *Engine) settleMessage(ctx context.Context, i *instance, m *message, wait bool, record func() *op) error {
	if wait {
		t := time.NewTimer(holdLimit)
		defer t.Stop()
		select {
		case err := <-m.ack:
			return err
		case <-t.C:
		}
	}
	e.mu.Lock()
	own := m.state == held
	if own {
		m.state = queued
	}
	e.mu.Unlock()
	if own {
		_ = e.submit(record()) // its outcome is the answer
	}
	select {
	case err := <-m.ack:
		return err
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case err := <-m.ack: // at the same moment
		return err
	default:
		m.left = true
		return ctx.Err()
	}
}

// messageOp stores one message in the inbox.
func (e *Engine) messageOp(i *instance, m *message) *op {
	var start *message
	skipped := false
	return &op{
		build: func(b *builder) error {
			if i.gone && i.ent != nil {
				return backend.ErrNotInitialized // an entity is never over: the engine is
			}
			if i.gone || !i.exists() {
				return fmt.Errorf("%w: %s", api.ErrInstanceNotFound, i.id)
			}
			m.seq = 0 // an earlier build of this op may have set it
			if skipped = m.state == riding; skipped || i.refuses(m.event, b) {
				return nil // a turn consumes it, and answers; or nobody will read it
			}
			if start = i.start; start != nil && start.state == held {
				if err := e.buildStart(i, b); err != nil {
					return err
				}
			}
			var err error
			m.seq, err = b.store(e.bear(i, b), m.event)
			return err
		},
		apply: func(err error) {
			if skipped {
				return
			}
			if start != nil {
				e.applyStart(i, start, err)
			}
			e.born(i, err)
			if err != nil {
				m.seq = 0
				e.withdraw(i, m)
				e.reopen(m)
			} else if m.state == queued {
				m.state = durable
			}
			m.answer(err)
		},
	}
}

// withdraw takes a message back that could not be stored. The mutex is held.
func (e *Engine) withdraw(i *instance, m *message) {
	if i.ent != nil {
		i.remove(map[*message]bool{m: true})
		return
	}
	for n, other := range i.inbox {
		if other == m {
			i.inbox = append(i.inbox[:n:n], i.inbox[n+1:]...)
			return
		}
	}
}
