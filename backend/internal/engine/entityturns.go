package engine

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// A batch has at most maxBatchOps operations with about maxBatchBytes of
// payload, so that it fits into a message to a worker.
const (
	maxBatchOps   = 500
	maxBatchBytes = 1 << 20
)

// readyEntity is makeReady for an entity: an operation goes to a worker, the
// steps of locks the engine does itself. The mutex is held.
func (e *Engine) readyEntity(i *instance) bool {
	switch {
	case i.turn != nil:
		return true
	case e.fenced || e.closed || i.gone || i.held || (i.row != nil && i.row.Stalled != ""):
		return false
	}
	i.mature(e.now())
	runs, operation := i.runnable()
	if !runs || max(i.rest, i.pause) > e.now() {
		e.arm(i)
		return false
	}
	if !operation {
		e.takeEntity(i)
		i.pins++
		e.wg.Go(func() {
			e.stepEntity(i)
			e.unpin(i)
		})
		return true
	}
	if i.ready {
		return e.batches > 0
	}
	k := workKey{name: e.entityRow(i).Name}
	if w, ok := e.entities.waiter(k); ok {
		e.meter.Waited(backend.EntityWork, 0)
		e.takeEntity(i)
		w <- i
		return true
	}
	i.ready, i.queued = true, e.now()
	e.entities.push(k, i)
	return e.batches > 0
}

func (e *Engine) takeEntity(i *instance) {
	i.turn = &turn{}
	e.batches++
}

// armEntity makes sure that the entity is woken when it next has something to do. The mutex is held.
func (e *Engine) armEntity(i *instance) {
	next := int64(0)
	if len(i.ent.later) > 0 {
		next = dueOf(i.ent.later[0].event)
	}
	if len(i.inbox) > 0 {
		if rest := max(i.rest, i.pause); rest > e.now() && (next == 0 || rest < next) {
			next = rest
		}
	}
	if i.key == 0 || next == 0 || (i.armed != 0 && i.armed <= next) {
		return
	}
	i.armed = next
	e.wakeAt(next, i.key)
}

// nextEntity takes the next entity that has operations. The mutex is held.
func (e *Engine) nextEntity(want wants) *instance {
	for {
		i, ok := e.entities.pop(want)
		if !ok {
			return nil
		}
		if !i.ready {
			continue
		}
		i.ready = false
		if _, operation := i.runnable(); i.gone || i.turn != nil || !operation || i.held || max(i.rest, i.pause) > e.now() {
			e.makeReady(i)
			e.settle(i)
			continue
		}
		e.meter.Waited(backend.EntityWork, e.since(i.queued))
		i.queued = 0
		e.takeEntity(i)
		return i
	}
}

// GetEntityWorkItem hands out a batch, if there is one.
func (e *Engine) GetEntityWorkItem(context.Context) (*backend.EntityWorkItem, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for !e.closed {
		i := e.nextEntity(nil)
		if i == nil {
			return nil, backend.ErrNoWorkItems
		}
		if wi := e.beginEntity(i); wi != nil {
			return wi, nil
		}
	}
	return nil, backend.ErrNotInitialized
}

// SelectEntityWorkItem blocks until it can hand out a batch that is wanted.
func (e *Engine) SelectEntityWorkItem(ctx context.Context, want wants) (*backend.EntityWorkItem, error) {
	for {
		i, err := e.await(ctx, &e.entities, e.nextEntity, want)
		if err != nil {
			return nil, err
		}
		e.mu.Lock()
		wi := e.beginEntity(i)
		e.mu.Unlock()
		if wi != nil {
			return wi, nil
		}
	}
}

// beginEntity makes the batch of an entity whose turn is taken; nil where there
// is nothing to do after all. The mutex is held.
func (e *Engine) beginEntity(i *instance) *backend.EntityWorkItem {
	if i.gone {
		e.leave(i)
		return nil
	}
	e.unidle(i)
	ops := maxBatchOps
	if i.retry > 0 {
		ops = 1 // the one that fails shall be alone
	}
	en := i.ent
	en.inbox = i.inbox
	p := en.plan(en.inbox, ops, maxBatchBytes, timestamppb.New(e.Now()))
	if len(p.ops) == 0 {
		e.leave(i)
		e.makeReady(i)
		e.settle(i)
		return nil
	}
	e.nextItem++
	row := e.entityRow(i)
	wi := &backend.EntityWorkItem{
		InstanceID: api.InstanceID(i.id), ExecutionID: row.ExecutionID, RetryCount: i.retry,
		LockedBy: fmt.Sprintf("%s,%d", e.self, e.nextItem),
	}
	if row.Output != nil {
		wi.State = wrapperspb.String(*row.Output)
	}
	for _, m := range p.ops {
		wi.Operations = append(wi.Operations, m.event)
	}
	en.item, i.turn.msgs = wi, p.drawn
	return wi
}

// entityRow is the entity's row, or the one that it will have. The mutex is held.
func (e *Engine) entityRow(i *instance) *store.Instance {
	if i.row != nil {
		return i.row
	}
	return e.newborn(i)
}

func (e *Engine) newborn(i *instance) *store.Instance {
	if i.ent.birth == nil {
		id, _ := api.EntityIDFromString(i.id)
		i.ent.birth = &store.Instance{
			ID: i.id, Partition: partitionOf(i.id), Name: id.Name, ExecutionID: backend.NewExecutionID(),
			Status: int32(api.RUNTIME_STATUS_PENDING), Unfinished: true, Due: store.Far,
			CreatedAt: e.Now().UnixNano(), UpdatedAt: e.now(),
		}
	}
	return i.ent.birth
}

// bear returns the key under which the batch stores what is for the instance.
// It adds the row of an entity that has none. The mutex is held.
func (e *Engine) bear(i *instance, b *builder) int64 {
	en := i.ent
	if en == nil {
		return i.key
	}
	en.usedIn = b
	if i.row != nil && en.endsIn != b {
		return i.row.Key
	}
	row := e.newborn(i)
	if row.Key == 0 {
		e.nextKey++
		row.Key = e.nextKey
	}
	if en.bornIn != b {
		en.bornIn = b
		b.insert(row)
	}
	return row.Key
}

// born is the outcome of a batch with bear. The mutex is held.
func (e *Engine) born(i *instance, err error) {
	if i.ent == nil || i.ent.bornIn == nil || err != nil {
		return
	}
	if i.row == nil {
		i.row, i.key = i.ent.birth, i.ent.birth.Key
		e.byKey[i.key] = i
	}
	i.ent.birth, i.ent.bornIn = nil, nil
	e.arm(i)
}

// lockedEntity finds the entity whose batch the item is. The mutex is held.
func (e *Engine) lockedEntity(wi *backend.EntityWorkItem) (*instance, error) {
	if e.closed {
		return nil, backend.ErrNotInitialized
	}
	if wi == nil {
		return nil, fmt.Errorf("%w: the work item is nil", api.ErrInvalidInput)
	}
	i := e.byID[string(wi.InstanceID)]
	if i == nil || i.ent == nil || i.turn == nil || i.ent.item == nil || i.ent.item.LockedBy != wi.LockedBy {
		return nil, fmt.Errorf("%w: %s", backend.ErrWorkItemLockLost, wi.InstanceID)
	}
	return i, nil
}

// ReturnEntityWorkItem puts a batch back that was not begun.
func (e *Engine) ReturnEntityWorkItem(_ context.Context, wi *backend.EntityWorkItem) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, err := e.lockedEntity(wi)
	if err == nil {
		e.undoEntity(i)
	}
	return err
}

// AbandonEntityWorkItem puts a batch back.
func (e *Engine) AbandonEntityWorkItem(_ context.Context, wi *backend.EntityWorkItem) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, err := e.lockedEntity(wi)
	if err != nil {
		return err
	}
	i.retry++
	delay := backend.OrchestrationWorkItem{RetryCount: wi.RetryCount}
	if d := delay.GetAbandonDelay(); d > 0 {
		i.rest = e.now() + d.Microseconds()
	}
	e.undoEntity(i)
	return nil
}

// undoEntity ends a batch that was not stored; its messages are where they were. The mutex is held.
func (e *Engine) undoEntity(i *instance) {
	for _, m := range i.turn.msgs {
		if m.state == riding {
			m.state = held
			if m.seq != 0 {
				m.state = durable
			}
		}
	}
	e.leaveEntity(i)
	e.makeReady(i)
	e.arm(i)
	e.settle(i)
}

func (e *Engine) leaveEntity(i *instance) {
	i.ent.item, i.ent.inbox = nil, nil
	e.leave(i)
}

// hasWork reports whether an entity must stay in memory.
func (i *instance) hasWork() bool {
	return i.turn != nil || len(i.inbox) > 0 || i.ready || len(i.ent.later) > 0
}

// settleEntity forgets an entity that nothing needs in memory, or keeps it for
// a while. The mutex is held.
func (e *Engine) settleEntity(i *instance) {
	if i.hasWork() {
		return
	}
	if i.row == nil {
		e.forget(i)
		return
	}
	bytes := entityBase + len(i.row.ID) + len(deref(i.row.Output))
	e.resident += bytes - i.bytes
	i.bytes = bytes
	e.idle(i)
}

// entityBase is roughly what an idle entity takes beside its id and state.
const entityBase = 1 << 10

// reviveEntity puts what the store holds of an entity into memory. The mutex is held.
func (e *Engine) reviveEntity(i *instance, inbox []store.InboxRow) {
	var err error
	if i.ent.lock, err = decodeLock(i.row.Tags); err != nil {
		e.setAside(i, err)
		return
	}
	now := e.now()
	for _, r := range inbox {
		ev, err := backend.UnmarshalHistoryEvent(r.Event)
		if err != nil {
			e.setAside(i, fmt.Errorf("inbox record %d: %w", r.Seq, err))
			return
		}
		i.push(&message{event: ev, state: durable, seq: r.Seq}, now)
	}
	if runs, _ := i.runnable(); runs {
		e.suspect(i)
	}
	e.makeReady(i)
	e.arm(i)
}
