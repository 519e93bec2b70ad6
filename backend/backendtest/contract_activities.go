package backendtest

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

func activityRunsOnce(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	a := callTask(0, "act")
	a.GetScheduleTask().Version = wrapperspb.String("3")
	d.complete(d.turn("a"), a)
	wi := d.task()
	s := wi.NewEvent.GetTaskScheduled()
	if wi.InstanceID != "a" || s.GetName() != "act" || s.GetInput().GetValue() != "0" || s.GetVersion().GetValue() != "3" ||
		wi.NewEvent.GetEventId() != 0 || wi.Description() != "a/act#0" || wi.LockedBy == "" {
		t.Errorf("the activity is %+v", wi)
	}
	if info := wi.Info(); info.InstanceID != "a" || info.TaskID != 0 || info.Attempt != 1 {
		t.Errorf("its info is %+v", info)
	}
	d.noTask()
	d.noTurn()
	must(t, d.result(wi, `"done"`))
	d.wantErr("complete again", d.result(wi, `"twice"`), backend.ErrWorkItemLockLost)
	d.wantErr("abandon what is complete", d.be.AbandonActivityWorkItem(d.ctx(), wi), backend.ErrWorkItemLockLost)
	for _, reopen := range []bool{true, false} { // an acknowledged result is durable
		if reopen {
			d.reopen()
		}
		d.noTask()
	}
	turn := d.turn("a")
	if len(turn.NewEvents) != 1 || turn.NewEvents[0].GetTaskCompleted().GetResult().GetValue() != `"done"` {
		t.Errorf("the result comes as %v", turn.NewEvents)
	}
	d.complete(turn)
	d.noTurn()
	d.noTask()
}

func activitiesStartInOrder(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	var actions []*protos.OrchestratorAction
	for n := range int32(30) {
		actions = append(actions, callTask(n, "act"))
	}
	d.complete(d.turn("a"), actions...)
	seen := map[int64]bool{}
	for n := range int32(30) {
		wi := d.task()
		if wi.NewEvent.GetEventId() != n || seen[wi.SequenceNumber] {
			t.Fatalf("activity %d comes as number %d, sequence %d", wi.NewEvent.GetEventId(), n, wi.SequenceNumber)
		}
		seen[wi.SequenceNumber] = true
	}
	d.noTask()
}

func activityIsAbandoned(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	d.complete(d.turn("a"), callTask(0, "act"))
	first := d.task()
	must(t, d.be.AbandonActivityWorkItem(d.ctx(), first))
	d.noTurn()
	second := d.task()
	if second.NewEvent.GetEventId() != 0 {
		t.Errorf("offered again: %s", second.Description())
	}
	d.wantErr("complete what was abandoned", d.result(first, "1"), backend.ErrWorkItemLockLost)
	must(t, d.result(second, "2"))
	if wi := d.turn("a"); wi.NewEvents[0].GetTaskCompleted().GetResult().GetValue() != "2" {
		t.Errorf("the result is %v", wi.NewEvents)
	}
}

func activityResultThatIsRefused(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	d.complete(d.turn("a"), callTask(0, "act"))
	wi := d.task()
	for name, result := range map[string]*backend.HistoryEvent{"nil": nil, "empty": event(), "no result": raised("e", "1")} {
		wi.Result = result
		if err := d.be.CompleteActivityWorkItem(d.ctx(), wi); err == nil || errors.Is(err, backend.ErrWorkItemLockLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.noTurn()
	wi.Result = event()
	wi.Result.EventType = &protos.HistoryEvent_TaskFailed{TaskFailed: &protos.TaskFailedEvent{
		FailureDetails: &protos.TaskFailureDetails{ErrorType: "T", ErrorMessage: "m", IsNonRetriable: true},
	}}
	must(t, d.be.CompleteActivityWorkItem(d.ctx(), wi))
	turn := d.turn("a")
	if f := turn.NewEvents[0].GetTaskFailed().GetFailureDetails(); f.GetErrorMessage() != "m" || !f.GetIsNonRetriable() {
		t.Errorf("the failure comes as %v", turn.NewEvents)
	}
}

func activityOfAnEndedInstance(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	d.complete(d.turn("a"), callTask(0, "running"), callTask(1, "queued"), callTask(2, "queued"))
	running := d.task()
	lost := make(chan struct{})
	running.OnLost(func() { close(lost) })
	d.raise("a", "e", "1")
	d.complete(d.turn("a"), end(3, api.RUNTIME_STATUS_COMPLETED, "1"))
	if _, ok := d.be.(backend.WorkItemAwaiter); ok { // a backend that waits also tells
		recv(t, lost, "word that the activity is not wanted any more")
	}
	d.noTask() // the queued ones do not start
	if err := d.result(running, "1"); err != nil && !errors.Is(err, backend.ErrWorkItemLockLost) {
		t.Errorf("a late result: %v", err)
	}
	d.noTurn()
	d.reopen()
	d.noTask()
	d.noTurn()
	must(t, d.be.PurgeOrchestrationState(d.ctx(), "a"))
	if err := d.result(running, "1"); err == nil {
		t.Error("a result of a purged instance was taken")
	}
}

// activityOfAnOldGeneration leaves an activity behind by continue-as-new: its
// result must not be taken for the task of the same number in the new generation.
func activityOfAnOldGeneration(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	d.complete(d.turn("a"), callTask(0, "old"))
	old := d.task()
	d.raise("a", "e", "1")
	d.complete(d.turn("a"), end(1, api.RUNTIME_STATUS_CONTINUED_AS_NEW, "2"))
	d.raise("a", "e", "2")
	d.complete(d.turn("a"), callTask(0, "new"))
	if err := d.result(old, `"old"`); err != nil && !errors.Is(err, backend.ErrWorkItemLockLost) {
		t.Errorf("the late result: %v", err)
	}
	d.noTurn()
	current := d.task()
	if name := current.NewEvent.GetTaskScheduled().GetName(); name != "new" {
		t.Fatalf("the activity is %s", name)
	}
	must(t, d.result(current, `"new"`))
	wi := d.turn("a")
	if len(wi.NewEvents) != 1 || wi.NewEvents[0].GetTaskCompleted().GetResult().GetValue() != `"new"` {
		t.Errorf("the result is %v", wi.NewEvents)
	}
}

func activitiesSurvive(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	d.complete(d.turn("a"), callTask(0, "done"), callTask(1, "running"), callTask(2, "queued"))
	must(t, d.result(d.task(), "0"))
	d.task() // runs, and never reports
	d.reopen()
	for want := int32(1); want <= 2; want++ {
		wi := d.task()
		if wi.NewEvent.GetEventId() != want {
			t.Errorf("offered %s, want number %d", wi.Description(), want)
		}
		must(t, d.result(wi, "1"))
	}
	d.noTask()
	results := 0
	for results < 3 {
		wi := d.turn("a")
		results += len(wi.NewEvents)
		d.complete(wi)
	}
	if results != 3 {
		t.Errorf("%d results, want 3", results)
	}
}

func activityLocksAreLost(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("a")
	d.complete(d.turn("a"), callTask(0, "act"))
	old := d.task()
	forged := &backend.ActivityWorkItem{
		SequenceNumber: old.SequenceNumber, InstanceID: "a", NewEvent: old.NewEvent, LockedBy: "somebody else",
	}
	d.wantErr("complete with a foreign lock", d.result(forged, "1"), backend.ErrWorkItemLockLost)
	d.reopen()
	current := d.task()
	d.noTurn()
	if err := d.result(old, `"old"`); err == nil && current.LockedBy != old.LockedBy {
		t.Error("a result from before was taken")
	}
}

func purgeDeletesWhatIsOver(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.wantErr("an unknown id", d.be.PurgeOrchestrationState(d.ctx(), "ghost"), api.ErrInstanceNotFound)
	d.start("a")
	d.wantErr("a pending one", d.be.PurgeOrchestrationState(d.ctx(), "a"), api.ErrNotCompleted)
	d.complete(d.turn("a"), callTask(0, "act"))
	d.wantErr("a running one", d.be.PurgeOrchestrationState(d.ctx(), "a"), api.ErrNotCompleted)
	d.wantStatus("a", api.RUNTIME_STATUS_RUNNING)
	must(t, d.result(d.task(), "1"))
	d.complete(d.turn("a"), end(1, api.RUNTIME_STATUS_FAILED, "why"))
	must(t, d.be.PurgeOrchestrationState(d.ctx(), "a"))
	for range 2 {
		_, err := d.be.GetOrchestrationMetadata(d.ctx(), "a")
		d.wantErr("what was purged", err, api.ErrInstanceNotFound)
		d.wantErr("purge again", d.be.PurgeOrchestrationState(d.ctx(), "a"), api.ErrInstanceNotFound)
		d.wantErr("event for it", d.be.AddNewOrchestrationEvent(d.ctx(), "a", raised("e", "1")), api.ErrInstanceNotFound)
		d.reopen()
	}
	d.start("a") // the id is free, and nothing of the old one is left
	wi := d.turn("a")
	if len(wi.NewEvents) != 1 || len(wi.State.OldEvents()) != 0 {
		t.Errorf("the new one has %v and the history %v", kinds(wi.NewEvents), kinds(wi.State.OldEvents()))
	}
	if h, ok := d.be.(backend.HistoryReader); ok {
		must(t, h.ReadHistory(d.ctx(), "a", func(events []*backend.HistoryEvent) error {
			t.Errorf("the new one has a history: %v", kinds(events))
			return nil
		}))
	}
}
