package engine

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// An entity is an instance without an orchestration. In its row Output is the
// state, Tags the lock, and the status is RUNNING while it has a state, else
// PENDING. It is never active by its row: recovery finds it by its messages.

// entityPrefix begins the ids of all entities, and of nothing else.
const entityPrefix = "@"

// entity is what an instance has besides where it is an entity.
type entity struct {
	lock    *entityLock
	later   deferred       // messages that are not due yet
	calls   map[string]int // by caller: how many of its calls are in the inbox
	unlocks int            // how many unlocks are in the inbox
	arrived int64          // how many messages were pushed

	item  *backend.EntityWorkItem // while a batch is out
	inbox []*message              // what the inbox was when the batch was made

	birth  *store.Instance // the row that the first message inserts
	bornIn *builder        // the batch that inserts it
	usedIn *builder        // the newest batch that has something for it
	endsIn *builder        // the batch that deletes its row
}

// entityLock says who has locked an entity.
type entityLock struct {
	Owner   string `json:"owner"`   // the orchestration's id
	Section string `json:"section"` // the critical section's id
	Next    string `json:"next"`    // the entity that is locked after this one; "" for none
}

func newEntity(id string) *entity {
	if !api.IsEntityID(api.InstanceID(id)) {
		return nil
	}
	return &entity{calls: map[string]int{}}
}

func encodeLock(l *entityLock) []byte {
	if l == nil {
		return nil
	}
	b, _ := json.Marshal(l) // strings only
	return b
}

func decodeLock(tags []byte) (*entityLock, error) {
	if tags == nil {
		return nil, nil
	}
	l := &entityLock{}
	if err := json.Unmarshal(tags, l); err != nil {
		return nil, fmt.Errorf("%w: lock: %w", store.ErrCorrupt, err)
	}
	return l, nil
}

// push puts a message behind those that wait, or aside until it is due.
func (i *instance) push(m *message, now int64) {
	if i.ent == nil || dueOf(m.event) <= now {
		i.inbox = append(i.inbox, m)
		i.ent.count(m, 1)
		return
	}
	i.ent.arrived++
	m.place = i.ent.arrived
	heap.Push(&i.ent.later, m)
}

// count keeps what the entity knows of its inbox.
func (en *entity) count(m *message, n int) {
	if en == nil {
		return
	}
	switch t := m.event.GetEventType().(type) {
	case *protos.HistoryEvent_EntityOperationCalled:
		caller := t.EntityOperationCalled.GetParentInstanceId().GetValue()
		if en.calls[caller] += n; en.calls[caller] == 0 {
			delete(en.calls, caller)
		}
	case *protos.HistoryEvent_EntityUnlockSent:
		en.unlocks += n
	}
}

// dueOf is when a message may be delivered, in µs and rounded up; 0 for at once.
func dueOf(ev *backend.HistoryEvent) int64 {
	var at *timestamppb.Timestamp
	switch t := ev.GetEventType().(type) {
	case *protos.HistoryEvent_EntityOperationSignaled:
		at = t.EntityOperationSignaled.GetScheduledTime()
	case *protos.HistoryEvent_EntityOperationCalled:
		at = t.EntityOperationCalled.GetScheduledTime()
	}
	if at == nil {
		return 0
	}
	return at.GetSeconds()*1e6 + (int64(at.GetNanos())+999)/1000
}

// deferred is a heap of messages by their due time, those of one time in order of arrival.
type deferred []*message

func (d deferred) Len() int { return len(d) }
func (d deferred) Less(a, b int) bool {
	x, y := dueOf(d[a].event), dueOf(d[b].event)
	if x != y {
		return x < y
	}
	return d[a].place < d[b].place
}
func (d deferred) Swap(a, b int) { d[a], d[b] = d[b], d[a] }
func (d *deferred) Push(x any)   { *d = append(*d, x.(*message)) }
func (d *deferred) Pop() any {
	old := *d
	m := old[len(old)-1]
	*d = old[:len(old)-1]
	return m
}

// mature moves what is due into the inbox.
func (i *instance) mature(now int64) {
	for en := i.ent; len(en.later) > 0 && dueOf(en.later[0].event) <= now; {
		m := heap.Pop(&en.later).(*message)
		i.inbox = append(i.inbox, m)
		en.count(m, 1)
	}
}

// removeFirst takes messages out of the mailbox that are its first ones, as is
// so while there are no locks; it reports false, and does nothing, where they are not.
func (i *instance) removeFirst(msgs []*message) bool {
	if len(msgs) > len(i.inbox) || !slices.Equal(msgs, i.inbox[:len(msgs)]) {
		return false
	}
	for n, m := range msgs {
		i.ent.count(m, -1)
		i.inbox[n] = nil
	}
	if i.inbox = i.inbox[len(msgs):]; len(i.inbox) == 0 {
		i.inbox = nil
	}
	return true
}

// remove takes messages out of the mailbox.
func (i *instance) remove(gone map[*message]bool) {
	i.inbox = slices.DeleteFunc(slices.Clone(i.inbox), func(m *message) bool {
		if gone[m] {
			i.ent.count(m, -1)
		}
		return gone[m]
	})
	if slices.ContainsFunc(i.ent.later, func(m *message) bool { return gone[m] }) {
		i.ent.later = slices.DeleteFunc(i.ent.later, func(m *message) bool { return gone[m] })
		heap.Init(&i.ent.later)
	}
}

// entityPlan is what may be done with the messages of an entity at one time.
type entityPlan struct {
	drawn []*message // what is consumed, in order
	ops   []*message // the operations among them
	lock  *entityLock
	out   []backend.OrchestratorMessage // of lock requests and unlocks
}

// plan walks through the inbox in order, as far as maxOps operations and
// maxBytes of them (but one at least, where maxOps allows it). While the entity
// is locked it passes over what is not its owner's; an unlock makes it go back
// to what it passed over.
func (en *entity) plan(inbox []*message, maxOps, maxBytes int, now *timestamppb.Timestamp) entityPlan {
	p := entityPlan{lock: en.lock}
	calls, unlocks, size := map[string]int{}, 0, 0 // consumed so far
	var drawn []bool                               // as far as it was walked
	draw := func(n int) {
		drawn[n] = true
		p.drawn = append(p.drawn, inbox[n])
	}
	passed := -1 // the first message that was passed over
	for n := 0; n < len(inbox); n++ {
		if n == len(drawn) {
			drawn = append(drawn, false)
		} else if drawn[n] {
			continue
		}
		m := inbox[n]
		if p.lock != nil && en.calls[p.lock.Owner]-calls[p.lock.Owner] == 0 && en.unlocks == unlocks {
			break // nothing behind can go on
		}
		switch t := m.event.GetEventType().(type) {
		case *protos.HistoryEvent_EntityLockRequested:
			if p.lock != nil {
				break
			}
			draw(n)
			p.grant(t.EntityLockRequested, now)
			continue
		case *protos.HistoryEvent_EntityUnlockSent:
			draw(n)
			unlocks++
			if p.release(t.EntityUnlockSent, now) {
				if passed >= 0 {
					n, passed = passed-1, -1
				}
				continue
			}
			for q := range n { // a request that waits is taken back
				r := inbox[q].event.GetEntityLockRequested()
				if r != nil && !drawn[q] && r.GetCriticalSectionId() == t.EntityUnlockSent.GetCriticalSectionId() {
					draw(q)
				}
			}
			continue
		default:
			owner := m.event.GetEntityOperationCalled().GetParentInstanceId()
			if p.lock != nil && (owner == nil || owner.GetValue() != p.lock.Owner) {
				break
			}
			bytes := proto.Size(m.event)
			if len(p.ops) >= maxOps || (len(p.ops) > 0 && size+bytes > maxBytes) {
				return p
			}
			draw(n)
			size += bytes
			p.ops = append(p.ops, m)
			if owner != nil {
				calls[owner.GetValue()]++
			}
			continue
		}
		if passed < 0 {
			passed = n
		}
	}
	return p
}

// grant locks the entity and passes the request on, or tells the owner.
func (p *entityPlan) grant(r *protos.EntityLockRequestedEvent, now *timestamppb.Timestamp) {
	owner, set, next := r.GetParentInstanceId().GetValue(), r.GetLockSet(), int(r.GetPosition())+1
	p.lock = &entityLock{Owner: owner, Section: r.GetCriticalSectionId()}
	if next >= len(set) {
		p.out = append(p.out, backend.NewOrchestratorMessage(owner, "", backend.NewEntityLockGranted(r.GetCriticalSectionId(), now)))
		return
	}
	p.lock.Next = set[next]
	p.out = append(p.out, backend.NewOrchestratorMessage(set[next], "",
		backend.NewEntityLockRequest(r.GetCriticalSectionId(), owner, set, next, now)))
}

// release unlocks the entity, and where the unlock has no target passes it on.
// It reports whether the unlock is that of the lock.
func (p *entityPlan) release(u *protos.EntityUnlockSentEvent, now *timestamppb.Timestamp) bool {
	l := p.lock
	if l == nil || l.Section != u.GetCriticalSectionId() {
		return false
	}
	p.lock = nil
	if u.GetTargetInstanceId() == nil && l.Next != "" {
		p.out = append(p.out, backend.NewOrchestratorMessage(l.Next, "", backend.NewEntityUnlock(l.Section, l.Owner, "", now)))
	}
	return true
}

// runnable reports whether anything of the inbox may go on, and whether that is an operation.
func (i *instance) runnable() (something, operation bool) {
	en := i.ent
	if len(i.inbox) == 0 {
		return false, false
	}
	l := en.lock
	if l != nil && en.calls[l.Owner] == 0 && en.unlocks == 0 {
		return false, false
	}
	for _, m := range i.inbox {
		switch t := m.event.GetEventType().(type) {
		case *protos.HistoryEvent_EntityUnlockSent:
			return true, false
		case *protos.HistoryEvent_EntityLockRequested:
			if l == nil {
				return true, false
			}
		case *protos.HistoryEvent_EntityOperationCalled:
			if l == nil || t.EntityOperationCalled.GetParentInstanceId().GetValue() == l.Owner {
				return true, true
			}
		default:
			if l == nil {
				return true, true
			}
		}
	}
	return false, false
}

func isEntityMessage(ev *backend.HistoryEvent) bool {
	switch ev.GetEventType().(type) {
	case *protos.HistoryEvent_EntityOperationSignaled, *protos.HistoryEvent_EntityOperationCalled,
		*protos.HistoryEvent_EntityLockRequested, *protos.HistoryEvent_EntityUnlockSent:
		return true
	}
	return false
}

// checkEntityEvent is the door for messages to entities. It returns the id and the message in their one form.
func checkEntityEvent(id api.InstanceID, ev *backend.HistoryEvent) (api.InstanceID, *backend.HistoryEvent, error) {
	parsed, err := api.EntityIDFromString(string(id))
	if err != nil {
		return id, nil, err
	}
	if ev.GetEventRaised() != nil {
		ev, err = backend.NewLegacyEntitySignal(parsed, ev)
	} else if ev.GetEntityOperationSignaled() == nil {
		err = fmt.Errorf("%w: entity %s takes no %T", api.ErrInvalidInput, id, ev.GetEventType())
	}
	return api.InstanceID(parsed.String()), ev, err
}
