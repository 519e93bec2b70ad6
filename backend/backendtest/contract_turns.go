package backendtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

func turnHoldsItsInstance(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	d.start("b")
	a, b := d.turn("a"), d.turn("b")
	d.noTurn()
	if a.LockedBy == b.LockedBy {
		t.Errorf("both turns are locked by %q: an item cannot be told from another", a.LockedBy)
	}
	d.raise("a", "e", "1")
	d.noTurn() // the instance is out
	s, err := d.be.GetOrchestrationRuntimeState(d.ctx(), b)
	must(t, err)
	if s.InstanceID() != "b" || len(s.OldEvents()) != 0 || !s.IsValid() {
		t.Errorf("the state of the first turn: %v, %d events", s, len(s.OldEvents()))
	}
	d.complete(b, end(0, api.RUNTIME_STATUS_COMPLETED, "1"))
	d.noTurn()
	d.complete(a)
	if next := d.turn("a"); len(next.NewEvents) != 1 {
		t.Errorf("the second turn has %v", kinds(next.NewEvents))
	}
}

// turnIsStoredWhole looks at all that one turn does, before and after it is completed.
func turnIsStoredWhole(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("target")
	d.complete(d.turn("target"))
	d.start("a")
	wi := d.turn("a")
	d.apply(wi, callTask(0, "act"), setTimer(1, time.Now().Add(time.Hour)), callChild(2, "kid"), sendEvent(3, "target", "1"))
	d.noTask() // nothing of it shows before the commit
	d.noTurn()
	if _, err := d.be.GetOrchestrationMetadata(d.ctx(), "kid"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("the child before the commit: %v", err)
	}
	d.wantStatus("a", api.RUNTIME_STATUS_PENDING)
	want := make([]*backend.HistoryEvent, len(wi.State.NewEvents()))
	for n, e := range wi.State.NewEvents() {
		want[n] = proto.Clone(e).(*backend.HistoryEvent)
	}
	must(t, d.be.CompleteOrchestrationWorkItem(d.ctx(), wi))
	check := func() {
		t.Helper()
		d.wantStatus("a", api.RUNTIME_STATUS_RUNNING)
		if act := d.task(); act.InstanceID != "a" || act.NewEvent.GetTaskScheduled().GetName() != "act" {
			t.Errorf("the activity is %s", act.Description())
		}
		if m := d.wantStatus("kid", api.RUNTIME_STATUS_PENDING); m.ParentInstanceID != "a" {
			t.Errorf("the child's parent is %q", m.ParentInstanceID)
		}
		if got := kinds(d.turn("target").NewEvents); !slices.Equal(got, []string{"EventRaisedEvent"}) {
			t.Errorf("the target has %v", got)
		}
		d.turn("kid")
	}
	check()
	d.reopen()
	check()
	d.raise("a", "go", "1")
	got := d.turn("a").State.OldEvents()
	if len(got) != len(want) {
		t.Fatalf("the history is %v, was %v", kinds(got), kinds(want))
	}
	for n := range got {
		if !proto.Equal(got[n], want[n]) {
			t.Errorf("event %d is %v, was %v", n, got[n], want[n])
		}
	}
}

func turnIsAbandoned(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	d.raise("a", "e", "1")
	wi := d.turn("a")
	d.apply(wi, callTask(0, "act"), end(1, api.RUNTIME_STATUS_COMPLETED, "1"))
	d.raise("a", "e", "2")
	must(t, d.be.AbandonOrchestrationWorkItem(d.ctx(), wi))
	d.noTask()
	d.wantStatus("a", api.RUNTIME_STATUS_PENDING)
	again := d.turn("a")
	if got := kinds(again.NewEvents); !slices.Equal(got, []string{"ExecutionStartedEvent", "EventRaisedEvent", "EventRaisedEvent"}) {
		t.Errorf("the messages after the abandon: %v", got)
	}
	if again.RetryCount != 1 || again.LockedBy == wi.LockedBy || len(again.State.NewEvents()) != 0 || again.State.IsCompleted() {
		t.Errorf("retry %d, locked by %q, state %v with %d events", again.RetryCount, again.LockedBy, again.State, len(again.State.NewEvents()))
	}
	d.wantErr("complete the abandoned one", d.be.CompleteOrchestrationWorkItem(d.ctx(), wi), backend.ErrWorkItemLockLost)
	began := time.Now()
	must(t, d.be.AbandonOrchestrationWorkItem(d.ctx(), again)) // the second rests for a second
	d.noTurn()
	third := d.turn("a")
	if rest := time.Since(began); rest < again.GetAbandonDelay() || third.RetryCount != 2 {
		t.Errorf("offered again after %v, the delay is %v, retry %d", rest, again.GetAbandonDelay(), third.RetryCount)
	}
	d.complete(third)
	d.raise("a", "e", "3")
	if last := d.turn("a"); last.RetryCount != 0 {
		t.Errorf("a turn that worked did not reset the retries: %d", last.RetryCount)
	}
}

func turnLockIsLost(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	first := d.turn("a")
	forged := *first
	forged.LockedBy = "somebody else"
	d.wantErr("complete with a foreign lock", d.be.CompleteOrchestrationWorkItem(d.ctx(), &forged), backend.ErrWorkItemLockLost)
	d.complete(first)
	d.wantErr("complete again", d.be.CompleteOrchestrationWorkItem(d.ctx(), first), backend.ErrWorkItemLockLost)
	d.wantErr("abandon what is complete", d.be.AbandonOrchestrationWorkItem(d.ctx(), first), backend.ErrWorkItemLockLost)
	d.raise("a", "e", "1")
	old := d.turn("a")
	d.apply(old, end(0, api.RUNTIME_STATUS_COMPLETED, `"old"`))
	d.reopen() // somebody else has taken over
	current := d.turn("a")
	d.wantErr("complete from before", d.be.CompleteOrchestrationWorkItem(d.ctx(), old), backend.ErrWorkItemLockLost)
	d.wantStatus("a", api.RUNTIME_STATUS_RUNNING)
	d.complete(current, end(0, api.RUNTIME_STATUS_COMPLETED, `"new"`))
	if m := d.wantStatus("a", api.RUNTIME_STATUS_COMPLETED); m.SerializedOutput != `"new"` {
		t.Errorf("the output is %s", m.SerializedOutput)
	}
	d.wantErr("abandon from before", d.be.AbandonOrchestrationWorkItem(d.ctx(), old), backend.ErrWorkItemLockLost)
	d.noTurn()
}

func turnContinuesAsNew(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	e := startEvent("a", "o")
	e.GetExecutionStarted().Tags = map[string]string{"k": "v"}
	must(t, d.be.CreateOrchestrationInstance(d.ctx(), e))
	exec := d.metadata("a").ExecutionID
	d.start("taken")
	for round := range 3 {
		wi := d.turn("a")
		d.raise("a", "next", fmt.Sprint(round))
		again := end(0, api.RUNTIME_STATUS_CONTINUED_AS_NEW, fmt.Sprintf(`"round %d"`, round))
		again.GetCompleteOrchestration().CarryoverEvents = []*backend.HistoryEvent{raised("kept", fmt.Sprint(round))}
		d.complete(wi, setTimer(1, time.Now().Add(-time.Hour)), callChild(2, "taken"), again)
		m := d.wantStatus("a", api.RUNTIME_STATUS_RUNNING)
		if m.SerializedInput != fmt.Sprintf(`"round %d"`, round) || m.Tags["k"] != "v" {
			t.Errorf("round %d: %s", round, summary(m))
		}
		if exec != "" && m.ExecutionID == exec {
			t.Errorf("round %d has the execution id of the one before", round)
		}
		exec = m.ExecutionID
		if round == 1 {
			d.reopen()
		}
		next := d.turn("a")
		if got := kinds(next.NewEvents); !slices.Equal(got, []string{"EventRaisedEvent"}) {
			t.Errorf("round %d: the messages are %v: something of the old execution, or an event lost", round, got)
		}
		want := []string{"OrchestratorStartedEvent", "ExecutionStartedEvent", "EventRaisedEvent"}
		if got := kinds(next.State.OldEvents()); !slices.Equal(got, want) {
			t.Errorf("round %d: the history is %v", round, got)
		}
		must(t, d.be.AbandonOrchestrationWorkItem(d.ctx(), next))
	}
}

func turnSuspends(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	d.complete(d.turn("a"))
	suspend, resume := event(), event()
	suspend.EventType = &protos.HistoryEvent_ExecutionSuspended{ExecutionSuspended: &protos.ExecutionSuspendedEvent{}}
	resume.EventType = &protos.HistoryEvent_ExecutionResumed{ExecutionResumed: &protos.ExecutionResumedEvent{}}
	must(t, d.be.AddNewOrchestrationEvent(d.ctx(), "a", suspend))
	d.complete(d.turn("a"))
	d.wantStatus("a", api.RUNTIME_STATUS_SUSPENDED)
	d.reopen()
	d.wantStatus("a", api.RUNTIME_STATUS_SUSPENDED)
	d.raise("a", "e", "1") // it is delivered; the orchestrator sets it aside
	must(t, d.be.AddNewOrchestrationEvent(d.ctx(), "a", resume))
	wi := d.turn("a")
	for len(wi.NewEvents) < 2 { // both in one turn, or one after the other
		d.complete(wi)
		wi = d.turn("a")
		break
	}
	d.complete(wi, end(0, api.RUNTIME_STATUS_COMPLETED, "1"))
	d.wantStatus("a", api.RUNTIME_STATUS_COMPLETED)
}

func turnSendsEvents(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	d.start("b")
	d.complete(d.turn("b"))
	d.start("over")
	d.complete(d.turn("over"), end(0, api.RUNTIME_STATUS_COMPLETED, ""))
	d.complete(d.turn("a"), sendEvent(0, "b", "1"), sendEvent(1, "ghost", "2"), sendEvent(2, "b", "3"),
		sendEvent(3, "over", "4"), sendEvent(4, "a", "5"))
	wi := d.turn("b")
	var got []string
	for _, e := range wi.NewEvents {
		if r := e.GetEventRaised(); r != nil {
			got = append(got, r.GetName()+r.GetInput().GetValue())
		}
	}
	if !slices.Equal(got, []string{"sent1", "sent3"}) {
		t.Errorf("received %v", got)
	}
	if self := d.turn("a"); len(self.NewEvents) != 1 || self.NewEvents[0].GetEventRaised().GetInput().GetValue() != "5" {
		t.Errorf("an event to itself came as %v", self.NewEvents)
	}
	d.noTurn()
}

func turnStartsChildren(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	d.complete(d.turn("a"), callChild(0, "good"), callChild(1, "bad"), callChild(2, ""))
	parent := d.metadata("a")
	d.complete(d.turn("good"), end(0, api.RUNTIME_STATUS_COMPLETED, "7"))
	wi := d.turn("a")
	if got := wi.NewEvents[0].GetSubOrchestrationInstanceCompleted(); len(wi.NewEvents) != 1 || got.GetTaskScheduledId() != 0 || got.GetResult().GetValue() != "7" {
		t.Errorf("the parent hears %v", wi.NewEvents)
	}
	d.complete(wi)
	d.reopen()
	bad := d.turn("bad")
	if p := bad.NewEvents[0].GetExecutionStarted().GetParentInstance(); p.GetOrchestrationInstance().GetInstanceId() != "a" || p.GetTaskScheduledId() != 1 ||
		p.GetOrchestrationInstance().GetExecutionId().GetValue() != parent.ExecutionID {
		t.Errorf("the child's parent is %v", p)
	}
	d.complete(bad, end(0, api.RUNTIME_STATUS_FAILED, "why"))
	wi = d.turn("a")
	if got := wi.NewEvents[0].GetSubOrchestrationInstanceFailed(); len(wi.NewEvents) != 1 || got.GetTaskScheduledId() != 1 || got.GetFailureDetails().GetErrorMessage() != "why" {
		t.Errorf("the parent hears %v", wi.NewEvents)
	}
	d.complete(wi)
	_ = d.takeTurn()
	var third api.InstanceID
	for id := range d.turns {
		third = id
	}
	if third == "" || len(d.turns) != 1 {
		t.Fatalf("a child without an id: %v", d.turns)
	}
	if m := d.metadata(third); m.ParentInstanceID != "a" {
		t.Errorf("the parent of %s is %q", third, m.ParentInstanceID)
	}
	// The id of a child that is there fails the task, and leaves the child alone.
	d.complete(d.turn(third), end(0, api.RUNTIME_STATUS_TERMINATED, "stop"))
	d.start("taken")
	d.complete(d.turn("taken"))
	d.complete(d.turn("a"), callChild(3, "taken"))
	wi = d.turn("a")
	if got := wi.NewEvents[0].GetSubOrchestrationInstanceFailed(); got.GetTaskScheduledId() != 3 {
		t.Errorf("a taken id: the parent hears %v", wi.NewEvents)
	}
	d.complete(wi, end(9, api.RUNTIME_STATUS_COMPLETED, ""))
	d.wantStatus("taken", api.RUNTIME_STATUS_RUNNING)
	d.noTurn()
}

func timersFireInTime(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	at := time.Now().Add(300 * time.Millisecond)
	d.complete(d.turn("a"), setTimer(0, at), setTimer(1, time.Now().Add(-time.Hour)), setTimer(2, time.Unix(0, 0)),
		setTimer(3, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)))
	fired := map[int32]bool{}
	for len(fired) < 3 {
		wi := d.turn("a")
		for _, e := range wi.NewEvents {
			f := e.GetTimerFired()
			switch id := f.GetTimerId(); {
			case f == nil || fired[id] || id == 3:
				t.Fatalf("unexpected: %v", e)
			case id == 0 && time.Now().Before(at):
				t.Errorf("fired %v early", time.Until(at))
			default:
				fired[id] = true
			}
		}
		d.complete(wi)
		if len(fired) == 2 && time.Now().Before(at) {
			d.noTurn()
		}
	}
	d.noTurn()
}

func timersSurvive(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	for id, delay := range map[api.InstanceID]time.Duration{"soon": 200 * time.Millisecond, "late": time.Hour} {
		d.start(id)
		d.complete(d.turn(id), setTimer(0, time.Now().Add(delay)))
	}
	d.reopen()
	wi := d.turn("soon")
	if got := kinds(wi.NewEvents); !slices.Equal(got, []string{"TimerFiredEvent"}) {
		t.Errorf("after the timer: %v", got)
	}
	d.reopen() // it is not consumed yet
	d.complete(d.turn("soon"))
	d.reopen() // it is
	d.noTurn()
}

// timersOfLittleMemory lets an instance be evicted between the moment its timer is due and its turn.
func timersOfLittleMemory(t *testing.T, hubs NewHub) {
	d := openDesk(t, hubs(t), Settings{MaxResident: 60 << 10})
	var others []*backend.OrchestrationWorkItem
	for n := range 5 {
		id := api.InstanceID(fmt.Sprint("other ", n))
		d.start(id)
		others = append(others, d.turn(id))
	}
	d.start("a")
	at := time.Now().Add(20 * time.Millisecond)
	d.complete(d.turn("a"), setTimer(0, at))
	<-time.After(time.Until(at) + 20*time.Millisecond)
	for _, wi := range others { // memory fills up
		big := callTask(0, "act")
		big.GetScheduleTask().Input = wrapperspb.String(strings.Repeat("x", 5000))
		d.complete(wi, big)
	}
	if got := kinds(d.turn("a").NewEvents); !slices.Equal(got, []string{"TimerFiredEvent"}) {
		t.Errorf("after the timer: %v", got)
	}
}
