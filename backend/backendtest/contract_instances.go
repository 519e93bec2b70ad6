package backendtest

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

func startIsStored(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	e := startEvent("a", "order")
	at := time.Date(2024, 2, 29, 23, 59, 58, 123456789, time.UTC)
	e.Timestamp = timestamppb.New(at)
	s := e.GetExecutionStarted()
	s.Version, s.Tags = wrapperspb.String("2.1"), map[string]string{"k": "v", "日本": ""}
	must(t, d.be.CreateOrchestrationInstance(d.ctx(), e))
	for range 2 {
		m := d.wantStatus("a", api.RUNTIME_STATUS_PENDING)
		if m.InstanceID != "a" || m.Name != "order" || m.SerializedInput != s.GetInput().GetValue() || m.SerializedOutput != "" {
			t.Errorf("stored as %s", summary(m))
		}
		if d := m.CreatedAt.Sub(at).Abs(); d >= time.Microsecond {
			t.Errorf("created at %v, %v off", m.CreatedAt, d)
		}
		if m.IsComplete() || !m.IsRunning() || m.FailureDetails != nil || !m.CompletedAt.IsZero() {
			t.Errorf("a start that looks ended: %s", summary(m))
		}
		d.reopen()
	}
	wi := d.turn("a")
	if len(wi.NewEvents) != 1 || wi.NewEvents[0].GetExecutionStarted().GetName() != "order" {
		t.Fatalf("the first turn has %v", kinds(wi.NewEvents))
	}
	got := wi.NewEvents[0].GetExecutionStarted()
	if got.GetVersion().GetValue() != "2.1" || got.GetTags()["k"] != "v" || got.GetInput().GetValue() != s.GetInput().GetValue() ||
		got.GetOrchestrationInstance().GetExecutionId().GetValue() != s.GetOrchestrationInstance().GetExecutionId().GetValue() {
		t.Errorf("the start event is %v, was %v", got, s)
	}
	if wi.LockedBy == "" || wi.RetryCount != 0 || wi.Description() != "a (1 event(s))" {
		t.Errorf("the item is %q, locked by %q, retry %d", wi.Description(), wi.LockedBy, wi.RetryCount)
	}
	_, err := d.be.GetOrchestrationMetadata(d.ctx(), "b")
	d.wantErr("an unknown id", err, api.ErrInstanceNotFound)
}

func startOfATakenID(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	ends := map[api.InstanceID][]*protos.OrchestratorAction{
		"running": nil, "waiting": {callTask(0, "a")},
		"completed": {end(0, api.RUNTIME_STATUS_COMPLETED, "")}, "failed": {end(0, api.RUNTIME_STATUS_FAILED, "")},
		"terminated": {end(0, api.RUNTIME_STATUS_TERMINATED, "")},
	}
	d.start("pending")
	for id, actions := range ends {
		d.start(id)
		d.complete(d.turn(id), actions...)
	}
	ends["pending"] = nil
	for range 2 {
		for id := range ends {
			before := summary(d.metadata(id))
			d.wantErr(string(id), d.be.CreateOrchestrationInstance(d.ctx(), startEvent(id, "other")), backend.ErrDuplicateEvent)
			if after := summary(d.metadata(id)); after != before {
				t.Errorf("a refused start changed %s to %s", before, after)
			}
		}
		d.reopen()
	}
	d.start("Pending") // ids are compared byte for byte
	d.start("pending ")
}

func startThatIsRefused(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	noTime, badTime, noID, never := startEvent("a", "o"), startEvent("a", "o"), startEvent("", "o"), startEvent("a", "o")
	noTime.Timestamp = nil
	badTime.Timestamp = &timestamppb.Timestamp{Nanos: -1}
	never.GetExecutionStarted().ScheduledStartTimestamp = &timestamppb.Timestamp{Seconds: 1 << 60}
	for name, e := range map[string]*backend.HistoryEvent{
		"nil": nil, "empty": {}, "no start": raised("a", "1"), "no time": noTime, "bad time": badTime, "no id": noID,
		"impossible start time": never,
	} {
		if err := d.be.CreateOrchestrationInstance(d.ctx(), e); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	_, err := d.be.GetOrchestrationMetadata(d.ctx(), "a")
	d.wantErr("a refused start", err, api.ErrInstanceNotFound)
	d.noTurn()
}

func startAtATime(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	soon := time.Now().Add(600 * time.Millisecond)
	for id, at := range map[api.InstanceID]time.Time{
		"past": time.Now().Add(-time.Hour), "soon": soon, "late": time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	} {
		e := startEvent(id, "o")
		e.GetExecutionStarted().ScheduledStartTimestamp = timestamppb.New(at)
		must(t, d.be.CreateOrchestrationInstance(d.ctx(), e))
		d.raise(id, "early", "1")
	}
	d.turn("past")
	d.noTurn()
	d.reopen()
	wi := d.turn("soon")
	if early := time.Until(soon); early > 0 {
		t.Errorf("started %v early", early)
	}
	if len(wi.NewEvents) != 2 || wi.NewEvents[0].GetExecutionStarted() == nil {
		t.Errorf("the first turn has %v", kinds(wi.NewEvents))
	}
	m := d.wantStatus("late", api.RUNTIME_STATUS_PENDING)
	if m.ScheduledStartAt.Year() != 9999 {
		t.Errorf("it starts at %v", m.ScheduledStartAt)
	}
}

func eventsKeepTheirOrder(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	for n := range 20 {
		d.raise("a", "e", fmt.Sprint(n))
		if n == 10 {
			d.reopen()
		}
	}
	wi := d.turn("a")
	if len(wi.NewEvents) != 21 || wi.NewEvents[0].GetExecutionStarted() == nil {
		t.Fatalf("the first turn has %v", kinds(wi.NewEvents))
	}
	d.raise("a", "e", "20") // while the turn is out
	d.complete(wi)
	for n, e := range wi.NewEvents[1:] {
		if got := e.GetEventRaised().GetInput().GetValue(); got != fmt.Sprint(n) {
			t.Errorf("event %d is %s", n, got)
		}
	}
	next := d.turn("a")
	if len(next.NewEvents) != 1 || next.NewEvents[0].GetEventRaised().GetInput().GetValue() != "20" {
		t.Errorf("the second turn has %v", next.NewEvents)
	}
	if got := kinds(next.State.OldEvents()); len(got) != 22 || got[1] != "ExecutionStartedEvent" {
		t.Errorf("the history has %d events: %v", len(got), got)
	}
	d.complete(next)
	d.noTurn()
}

func eventsForNobody(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.wantErr("an unknown id", d.be.AddNewOrchestrationEvent(d.ctx(), "ghost", raised("e", "1")), api.ErrInstanceNotFound)
	d.start("over")
	d.complete(d.turn("over"), end(0, api.RUNTIME_STATUS_COMPLETED, "1"))
	before := d.metadata("over")
	for range 3 {
		d.raise("over", "late", "1") // accepted, and dropped
	}
	d.noTurn()
	if after := d.metadata("over"); summary(after) != summary(before) || !after.LastUpdatedAt.Equal(before.LastUpdatedAt) {
		t.Errorf("an event changed what is over: %s, %v", summary(after), after.LastUpdatedAt)
	}
	d.start("ghost")
	if wi := d.turn("ghost"); len(wi.NewEvents) != 1 {
		t.Errorf("a refused event was kept: %v", kinds(wi.NewEvents))
	}
	d.reopen()
	d.start("probe")
	d.turn("probe")
	d.turn("ghost")
	d.noTurn()
}

func eventsThatAreRefused(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	noTime, over, act := raised("e", "1"), event(), event()
	noTime.Timestamp = nil
	over.EventType = &protos.HistoryEvent_ExecutionCompleted{ExecutionCompleted: &protos.ExecutionCompletedEvent{}}
	act.EventType = &protos.HistoryEvent_TaskScheduled{TaskScheduled: &protos.TaskScheduledEvent{Name: "act"}}
	for name, e := range map[string]*backend.HistoryEvent{
		"nil": nil, "empty": event(), "no time": noTime, "a completion": over, "a decision": act,
	} {
		if err := d.be.AddNewOrchestrationEvent(d.ctx(), "a", e); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if wi := d.turn("a"); len(wi.NewEvents) != 1 {
		t.Errorf("a refused event came through: %v", kinds(wi.NewEvents))
	}
}

func metadataOfEachEnd(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	for id, a := range map[api.InstanceID]*protos.OrchestratorAction{
		"completed": end(0, api.RUNTIME_STATUS_COMPLETED, `{"a":[1,"é"]}`), "empty": end(0, api.RUNTIME_STATUS_COMPLETED, ""),
		"failed": end(0, api.RUNTIME_STATUS_FAILED, "why"), "terminated": end(0, api.RUNTIME_STATUS_TERMINATED, "stop"),
		"canceled": end(0, api.RUNTIME_STATUS_CANCELED, ""),
	} {
		began := time.Now().Add(-time.Second)
		d.start(id)
		wi := d.turn(id)
		wi.State.CustomStatus = wrapperspb.String(`"half way"`)
		d.complete(wi, a)
		c := a.GetCompleteOrchestration()
		for range 2 {
			m := d.wantStatus(id, c.GetOrchestrationStatus())
			if m.SerializedOutput != c.GetResult().GetValue() || m.SerializedCustomStatus != `"half way"` || m.SerializedInput == "" {
				t.Errorf("stored as %s", summary(m))
			}
			if !m.IsComplete() || m.CompletedAt.Before(began) || m.LastUpdatedAt.Before(began) || m.CompletedAt.After(time.Now().Add(time.Second)) {
				t.Errorf("%s: complete: %v, at %v, updated %v", id, m.IsComplete(), m.CompletedAt, m.LastUpdatedAt)
			}
			f, want := m.FailureDetails, c.GetFailureDetails()
			if f.GetErrorMessage() != want.GetErrorMessage() || f.GetStackTrace().GetValue() != want.GetStackTrace().GetValue() ||
				f.GetInnerFailure().GetErrorType() != want.GetInnerFailure().GetErrorType() {
				t.Errorf("%s failed with %v, want %v", id, f, want)
			}
			d.reopen()
		}
	}
	d.noTurn()
}
