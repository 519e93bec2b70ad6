package backendtest

import (
	"errors"
	"slices"
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

// family starts "p", which waits for its children "c1" and "c2"; c1 waits for "g".
func family(d *desk) {
	d.t.Helper()
	d.start("p")
	d.complete(d.turn("p"), callChild(0, "c1"), callChild(1, "c2"))
	d.complete(d.turn("c1"), callChild(0, "g"))
	d.complete(d.turn("c2"))
	d.complete(d.turn("g"))
}

func managerPurgesTrees(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	m := optional[backend.InstanceManager](d)
	purge := func(id api.InstanceID, recursive, force bool, want int) {
		t.Helper()
		if n, err := m.PurgeInstance(t.Context(), id, recursive, force); n != want || err != nil {
			t.Errorf("purge %s: %d %v, want %d", id, n, err, want)
		}
	}
	there := func(want ...api.InstanceID) {
		t.Helper()
		var got []api.InstanceID
		for _, id := range []api.InstanceID{"c1", "c2", "g", "p"} {
			if _, err := d.be.GetOrchestrationMetadata(t.Context(), id); err == nil {
				got = append(got, id)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("left are %v, want %v", got, want)
		}
	}
	_, err := m.PurgeInstance(t.Context(), "ghost", true, true)
	d.wantErr("an unknown id", err, api.ErrInstanceNotFound)
	family(d)
	_, err = m.PurgeInstance(t.Context(), "p", true, false)
	d.wantErr("a running tree", err, api.ErrNotCompleted)
	there("c1", "c2", "g", "p")
	d.raise("p", "e", "1")
	d.complete(d.turn("p"), end(2, api.RUNTIME_STATUS_COMPLETED, ""))
	d.raise("c2", "e", "1")
	d.complete(d.turn("c2"), end(2, api.RUNTIME_STATUS_COMPLETED, ""))
	purge("p", true, false, 2) // and leaves the unfinished child with what hangs on it
	there("c1", "g")
	purge("c1", false, true, 1)
	there("g")
	purge("g", true, true, 1)
	d.noTurn()
	d.noTask()

	family(d)
	out := d.turn // a turn and an activity are out while the tree goes
	d.raise("g", "e", "1")
	turn := out("g")
	purge("p", true, true, 4)
	d.wantErr("a turn of a purged instance", d.be.CompleteOrchestrationWorkItem(t.Context(), turn), backend.ErrWorkItemLockLost)
	d.reopen()
	there()
	d.noTurn()
}

func managerTerminates(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	m := optional[backend.InstanceManager](d)
	why := `"enough"`
	d.wantErr("an unknown id", m.ForceTerminate(t.Context(), "ghost", nil), api.ErrInstanceNotFound)
	d.start("pending")
	d.start("out")
	d.complete(d.turn("out"), callTask(0, "act"))
	act := d.task()
	d.raise("out", "e", "1")
	turn := d.turn("out")
	d.apply(turn, end(1, api.RUNTIME_STATUS_COMPLETED, "1"))
	for _, id := range []api.InstanceID{"pending", "out"} {
		must(t, m.ForceTerminate(t.Context(), id, &why))
	}
	for range 2 {
		for _, id := range []api.InstanceID{"pending", "out"} {
			if got := d.wantStatus(id, api.RUNTIME_STATUS_TERMINATED); got.SerializedOutput != why || got.CompletedAt.IsZero() {
				t.Errorf("terminated as %s", summary(got))
			}
		}
		d.wantErr("the turn that was out", d.be.CompleteOrchestrationWorkItem(t.Context(), turn), backend.ErrWorkItemLockLost)
		if err := d.result(act, "1"); err != nil && !errors.Is(err, backend.ErrWorkItemLockLost) {
			t.Errorf("the activity that was out: %v", err)
		}
		d.takeAll()
		d.noTask()
		d.reopen()
	}
	m = optional[backend.InstanceManager](d)
	d.start("over")
	d.complete(d.turn("over"), end(0, api.RUNTIME_STATUS_COMPLETED, "1"))
	must(t, m.ForceTerminate(t.Context(), "over", &why)) // a recorded completion stands
	d.wantStatus("over", api.RUNTIME_STATUS_COMPLETED)
}

// takeAll wants that whatever turns are offered, none is of an instance that is over.
func (d *desk) takeAll() {
	d.t.Helper()
	clear(d.turns)
	must(d.t, d.takeTurn())
	for id := range d.turns {
		if d.metadata(id).IsComplete() {
			d.t.Errorf("%s is over, and has a turn", id)
		}
	}
	clear(d.turns)
}

func managerRewinds(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	m := optional[backend.InstanceManager](d)
	d.wantErr("an unknown id", m.RewindInstance(t.Context(), "ghost", ""), api.ErrInstanceNotFound)
	d.start("a")
	d.wantErr("a pending one", m.RewindInstance(t.Context(), "a", ""), api.ErrNotFailed)
	d.complete(d.turn("a"), callTask(0, "good"))
	must(t, d.result(d.task(), "1"))
	d.complete(d.turn("a"), callTask(1, "bad"))
	bad := d.task()
	bad.Result = taskFailed(1, "out of order")
	must(t, d.be.CompleteActivityWorkItem(t.Context(), bad))
	d.complete(d.turn("a"), end(2, api.RUNTIME_STATUS_FAILED, "why"))
	must(t, m.RewindInstance(t.Context(), "a", "repaired"))
	d.wantStatus("a", api.RUNTIME_STATUS_RUNNING)
	d.wantErr("again", m.RewindInstance(t.Context(), "a", ""), api.ErrNotFailed)
	d.reopen()
	again := d.task()
	if again.NewEvent.GetEventId() != 1 {
		t.Errorf("it runs %s again", again.Description())
	}
	d.noTask()
	must(t, d.result(again, "2"))
	wi := d.turn("a")
	want := []string{
		"OrchestratorStartedEvent", "ExecutionStartedEvent", "TaskScheduledEvent",
		"OrchestratorStartedEvent", "TaskCompletedEvent", "TaskScheduledEvent",
	}
	if got := kinds(wi.State.OldEvents()); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("it goes on after %v", got)
	}
	if got := wi.NewEvents[0].GetTaskCompleted().GetTaskScheduledId(); got != 1 {
		t.Errorf("it goes on with %v", wi.NewEvents)
	}
	d.complete(wi, end(2, api.RUNTIME_STATUS_COMPLETED, "3"))
	if got := d.wantStatus("a", api.RUNTIME_STATUS_COMPLETED); got.FailureDetails != nil {
		t.Errorf("completed as %s", summary(got))
	}
}
