package backend

import (
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

func lockRequested(section string, set ...string) *HistoryEvent {
	return &HistoryEvent{EventId: 1, EventType: &protos.HistoryEvent_EntityLockRequested{
		EntityLockRequested: &protos.EntityLockRequestedEvent{CriticalSectionId: section, LockSet: set},
	}}
}

func granted(section string, id int32) *HistoryEvent {
	e := NewEntityLockGranted(section, timestamppb.Now())
	e.EventId = id
	return e
}

func unlockSent(section, target string) *HistoryEvent {
	return &HistoryEvent{EventId: 2, EventType: &protos.HistoryEvent_EntityUnlockSent{
		EntityUnlockSent: &protos.EntityUnlockSentEvent{CriticalSectionId: section, TargetInstanceId: wrapperspb.String(target)},
	}}
}

// TestLocksOfARewoundExecution follows a critical section from its rewind to its end.
func TestLocksOfARewoundExecution(t *testing.T) {
	none := func(string) bool { return false }
	s := NewOrchestrationRuntimeState("i", []*HistoryEvent{
		lockRequested("kept", "@e@a"), granted("kept", -1),
		lockRequested("lost", "@e@b", "@e@a", "@e@c"), granted("lost", RewoundGrant),
	})
	if len(s.OldEvents()) != 4 || !s.LacksLocks(none) {
		t.Fatalf("after the rewind: %v, lacks locks: %v", s.OldEvents(), s.LacksLocks(none))
	}
	if s.LacksLocks(func(section string) bool { return section == "lost" }) {
		t.Error("the grant has arrived, and is not seen")
	}
	if !s.LacksLocks(func(section string) bool { return section == "kept" }) {
		t.Error("the grant of another section is taken for its own")
	}
	if err := s.AddEvent(granted("lost", -1)); err != nil || s.LacksLocks(none) {
		t.Errorf("with its locks: %v, lacks locks: %v", err, s.LacksLocks(none))
	}
	if err := s.AddEvent(granted("lost", -1)); !errors.Is(err, ErrDuplicateEvent) {
		t.Errorf("a second grant: %v", err)
	}

	// One that is ended before it has them again takes its request back.
	s = NewOrchestrationRuntimeState("i", []*HistoryEvent{lockRequested("lost", "@e@b", "@e@a"), granted("lost", RewoundGrant)})
	s.releaseLocks(timestamppb.Now())
	if m := s.PendingMessages(); len(m) != 1 || m[0].TargetInstanceID != "@e@a" || m[0].HistoryEvent.GetEntityUnlockSent().GetTargetInstanceId() != nil {
		t.Errorf("it sends %v", m)
	}
	if s.LacksLocks(none) {
		t.Error("it still waits for its locks")
	}

	// A rewind asks for what was not given back, in the order of locking.
	var l LockLedger
	for _, e := range []*HistoryEvent{
		lockRequested("left", "@e@a"), granted("left", -1), unlockSent("left", "@e@a"),
		lockRequested("open", "@e@c", "@e@b", "@e@a"), granted("open", -1), unlockSent("open", "@e@a"),
		lockRequested("waits", "@e@d"),
	} {
		l.Add(e)
	}
	var got []string
	for _, m := range l.Requests("i", time.Now()) {
		r := m.HistoryEvent.GetEntityLockRequested()
		got = append(got, slices.Concat([]string{m.TargetInstanceID, r.GetCriticalSectionId()}, r.GetLockSet())...)
		if r.GetParentInstanceId().GetValue() != "i" || r.GetPosition() != 0 {
			t.Errorf("request %v", r)
		}
	}
	if want := []string{"@e@b", "open", "@e@b", "@e@c", "@e@d", "waits", "@e@d"}; !slices.Equal(got, want) {
		t.Errorf("it asks for %q, want %q", got, want)
	}
	if l.Held("left") || !l.Held("open") || !l.Held("waits") {
		t.Errorf("held: %v %v %v", l.Held("left"), l.Held("open"), l.Held("waits"))
	}
}
