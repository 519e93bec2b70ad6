package backend

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// entityLedger is what an execution has going with entities. Its zero value is
// that of an execution which never used one.
type entityLedger struct {
	calls    map[string]struct{} // request ids without an answer
	legacy   map[string]struct{} // the same, of calls that were sent as events
	sections map[string]*section // critical sections that were not left, by id
	lost     int                 // how many of them were lost to a failure that was rewound
}

// section is a critical section: the entities whose lock was asked for and not given back.
type section struct {
	set     []string // in the order of locking
	granted bool
	lost    bool // it was granted, and is asked for anew
	legacy  bool // asked for by an event
}

// accept takes an event of the execution; ErrDuplicateEvent for an answer that nothing waits for.
func (l *entityLedger) accept(e *HistoryEvent) error {
	switch t := e.GetEventType().(type) {
	case *protos.HistoryEvent_EventSent, *protos.HistoryEvent_EventRaised:
		l.acceptLegacy(e)
	case *protos.HistoryEvent_EntityOperationCalled:
		l.called(t.EntityOperationCalled.GetRequestId())
	case *protos.HistoryEvent_EntityOperationCompleted:
		return l.answered(t.EntityOperationCompleted.GetRequestId())
	case *protos.HistoryEvent_EntityOperationFailed:
		return l.answered(t.EntityOperationFailed.GetRequestId())
	case *protos.HistoryEvent_EntityLockRequested:
		l.requested(t.EntityLockRequested.GetCriticalSectionId(), lockOrder(t.EntityLockRequested.GetLockSet()))
	case *protos.HistoryEvent_EntityLockGranted:
		s := l.sections[t.EntityLockGranted.GetCriticalSectionId()]
		if s == nil || s.granted {
			return fmt.Errorf("%w: lock of critical section %q, which is not asked for",
				ErrDuplicateEvent, t.EntityLockGranted.GetCriticalSectionId())
		}
		if l.find(s); e.GetEventId() == RewoundGrant {
			s.lost = true
			l.lost++
			return nil
		}
		s.granted = true
	case *protos.HistoryEvent_EntityUnlockSent:
		l.unlocked(t.EntityUnlockSent.GetCriticalSectionId(), normalEntityID(t.EntityUnlockSent.GetTargetInstanceId().GetValue()))
	}
	return nil
}

func (l *entityLedger) called(requestID string) {
	if l.calls == nil {
		l.calls = map[string]struct{}{}
	}
	l.calls[requestID] = struct{}{}
}

func (l *entityLedger) answered(requestID string) error {
	if _, open := l.calls[requestID]; !open {
		return fmt.Errorf("%w: answer to request %q, which is not open", ErrDuplicateEvent, requestID)
	}
	delete(l.calls, requestID)
	return nil
}

func (l *entityLedger) requested(id string, set []string) {
	if l.sections == nil {
		l.sections = map[string]*section{}
	}
	l.sections[id] = &section{set: set}
}

func (l *entityLedger) unlocked(id, target string) {
	s := l.sections[id]
	if s == nil {
		return
	}
	if s.set = slices.DeleteFunc(s.set, func(o string) bool { return o == target }); len(s.set) == 0 {
		l.find(s)
		delete(l.sections, id)
	}
}

// LockLedger follows the locks of one execution through its history.
type LockLedger struct{ entityLedger }

// Add takes the next event of the history.
func (l *LockLedger) Add(e *HistoryEvent) { _ = l.accept(e) }

// Unlocks gives back all locks that the execution holds or waits for.
func (l *LockLedger) Unlocks(owner api.InstanceID, now time.Time) (all []OrchestratorMessage) {
	l.release(owner, timestamppb.New(now), func(target string, e *HistoryEvent) {
		all = append(all, NewOrchestratorMessage(target, "", e))
	})
	return all
}

// Held reports whether the execution is in the critical section, or waits for it, in the newer kind of messages.
func (l *LockLedger) Held(section string) bool {
	s := l.sections[section]
	return s != nil && !s.legacy
}

// Requests asks anew for all locks that the execution holds or waits for.
func (l *LockLedger) Requests(owner api.InstanceID, now time.Time) (all []OrchestratorMessage) {
	for _, id := range slices.Sorted(maps.Keys(l.sections)) {
		if s := l.sections[id]; !s.legacy {
			all = append(all, NewOrchestratorMessage(s.set[0], "", NewEntityLockRequest(id, string(owner), s.set, 0, timestamppb.New(now))))
		}
	}
	return all
}

// release gives back all locks that the execution holds or waits for, by send.
// A lock that was not granted yet may be anywhere on its way: a single unlock
// without a target follows it.
func (l *entityLedger) release(owner api.InstanceID, ts *timestamppb.Timestamp, send func(target string, e *HistoryEvent)) {
	for _, id := range slices.Sorted(maps.Keys(l.sections)) {
		s := l.sections[id]
		if !s.granted {
			send(s.set[0], NewEntityUnlock(id, string(owner), "", ts))
			continue
		}
		for _, target := range s.set {
			send(target, NewEntityUnlock(id, string(owner), target, ts))
		}
	}
	l.sections, l.lost = nil, 0
}

// find notes that a section is not lost any more.
func (l *entityLedger) find(s *section) {
	if s.lost {
		s.lost = false
		l.lost--
	}
}

// LacksLocks reports whether the execution is in a critical section whose locks it lost to a failure
// that was rewound, and has not got back, nor arrived: no code of it may run until then.
func (s *OrchestrationRuntimeState) LacksLocks(arrived func(section string) bool) bool {
	if s.entities.lost == 0 {
		return false
	}
	for id, c := range s.entities.sections {
		if c.lost && !arrived(id) {
			return true
		}
	}
	return false
}

// NewEntityUnlock is the message that gives back the lock of one entity. With
// an empty target it goes on to the entities behind it in the lock set, as far
// as the request came, and takes a request that waits back.
func NewEntityUnlock(section, owner, target string, ts *timestamppb.Timestamp) *HistoryEvent {
	u := &protos.EntityUnlockSentEvent{CriticalSectionId: section, ParentInstanceId: wrapperspb.String(owner)}
	if target != "" {
		u.TargetInstanceId = wrapperspb.String(target)
	}
	return &HistoryEvent{
		EventId: -1, Timestamp: ts, EventType: &protos.HistoryEvent_EntityUnlockSent{EntityUnlockSent: u},
	}
}

// lockOrder is the order in which a set is locked, the same for all who lock, and without repetitions.
func lockOrder(set []string) []string {
	ordered := make([]string, len(set))
	for i, id := range set {
		ordered[i] = normalEntityID(id)
	}
	slices.Sort(ordered)
	return slices.Compact(ordered)
}

// normalEntityID has the name in lower case; an ill-formed id is left as it is.
func normalEntityID(id string) string {
	if e, err := api.EntityIDFromString(id); err == nil {
		return e.String()
	}
	return id
}
