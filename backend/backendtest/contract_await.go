package backendtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

func awaiterWaitsForWork(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	a := optional[backend.WorkItemAwaiter](d)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.AwaitOrchestrationWorkItem(ended)
	d.wantErr("a turn, with a context that ended", err, context.Canceled)
	_, err = a.AwaitActivityWorkItem(ended)
	d.wantErr("an activity, with a context that ended", err, context.Canceled)

	soon, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = a.AwaitOrchestrationWorkItem(soon)
	d.wantErr("a turn, where there is none", err, context.DeadlineExceeded)
	_, err = a.AwaitActivityWorkItem(soon)
	d.wantErr("an activity, where there is none", err, context.DeadlineExceeded)

	turns, tasks := make(chan *backend.OrchestrationWorkItem, 2), make(chan *backend.ActivityWorkItem, 1)
	for range 2 {
		go func() {
			wi, err := a.AwaitOrchestrationWorkItem(t.Context())
			if err != nil {
				t.Error(err)
			}
			turns <- wi
		}()
	}
	go func() {
		wi, err := a.AwaitActivityWorkItem(t.Context())
		if err != nil {
			t.Error(err)
		}
		tasks <- wi
	}()
	begun := make(chan error, 1)
	go func() { begun <- d.be.CreateOrchestrationInstance(t.Context(), startEvent("a", "o")) }()
	wi := recv(t, turns, "turn")
	if wi.State == nil {
		wi.State, err = d.be.GetOrchestrationRuntimeState(t.Context(), wi)
		must(t, err)
	}
	d.complete(wi, callTask(0, "act"))
	must(t, recv(t, begun, "answer to the start"))
	task := recv(t, tasks, "activity")
	done := make(chan error, 1)
	go func() { done <- d.result(task, "1") }()
	next := recv(t, turns, "second turn")
	if next.InstanceID != "a" || len(next.NewEvents) != 1 {
		t.Errorf("the second turn is %s", next.Description())
	}
	if next.State == nil {
		next.State, err = d.be.GetOrchestrationRuntimeState(t.Context(), next)
		must(t, err)
	}
	d.complete(next, end(1, api.RUNTIME_STATUS_COMPLETED, "1"))
	must(t, recv(t, done, "answer to the result"))
}

func awaiterWaitsForInstances(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	a := optional[backend.InstanceAwaiter](d)
	_, err := a.AwaitInstance(t.Context(), "ghost", true)
	d.wantErr("an unknown id", err, api.ErrInstanceNotFound)
	d.start("a")
	soon, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	for _, completed := range []bool{false, true} {
		_, err = a.AwaitInstance(soon, "a", completed)
		d.wantErr("a pending one", err, context.DeadlineExceeded)
	}
	begun, over, gone := make(chan *api.OrchestrationMetadata, 1), make(chan *api.OrchestrationMetadata, 1), make(chan error, 1)
	await := func(completed bool, c chan *api.OrchestrationMetadata) {
		m, err := a.AwaitInstance(t.Context(), "a", completed)
		if err != nil {
			t.Error(err)
		}
		c <- m
	}
	go await(false, begun)
	go await(true, over)
	d.complete(d.turn("a"))
	if m := recv(t, begun, "start"); m.RuntimeStatus != api.RUNTIME_STATUS_RUNNING {
		t.Errorf("it has started as %v", m.RuntimeStatus)
	}
	d.raise("a", "e", "1")
	d.complete(d.turn("a"), end(0, api.RUNTIME_STATUS_FAILED, "why"))
	if m := recv(t, over, "end"); m.RuntimeStatus != api.RUNTIME_STATUS_FAILED || m.FailureDetails.GetErrorMessage() != "why" {
		t.Errorf("it has ended as %s", summary(m))
	}
	await(true, over) // at once
	d.start("b")
	go func() {
		_, err := a.AwaitInstance(t.Context(), "b", true)
		gone <- err
	}()
	d.complete(d.turn("b"), end(0, api.RUNTIME_STATUS_COMPLETED, ""))
	must(t, d.be.PurgeOrchestrationState(t.Context(), "b"))
	if err := recv(t, gone, "word of the purge"); err != nil && !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("waiting for one that is purged: %v", err)
	}
}

func selectorPicksByName(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	s := optional[backend.WorkItemSelector](d)
	for _, name := range []string{"red", "green", "blue"} {
		must(t, d.be.CreateOrchestrationInstance(t.Context(), startEvent(api.InstanceID(name), name)))
	}
	only := func(want string) func(string, string) bool { return func(name, _ string) bool { return name == want } }
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range []string{"blue", "red"} {
		wi, err := s.SelectOrchestrationWorkItem(ctx, only(name))
		must(t, err)
		if wi.InstanceID != api.InstanceID(name) {
			t.Fatalf("asked for %s and got %s", name, wi.InstanceID)
		}
		must(t, s.ReturnOrchestrationWorkItem(ctx, wi))
		if wi, err = s.SelectOrchestrationWorkItem(ctx, only(name)); err != nil || wi.RetryCount != 0 {
			t.Fatalf("after the return: %v, retry %d", err, wi.RetryCount)
		}
		wi.State, err = d.be.GetOrchestrationRuntimeState(ctx, wi)
		must(t, err)
		d.complete(wi, callTask(0, "first "+name), callTask(1, "second "+name))
	}
	soon, stop := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer stop()
	_, err := s.SelectOrchestrationWorkItem(soon, only("red"))
	d.wantErr("one that is not there", err, context.DeadlineExceeded)
	act, err := s.SelectActivityWorkItem(ctx, only("second red"))
	must(t, err)
	if act.InstanceID != "red" || act.NewEvent.GetEventId() != 1 {
		t.Errorf("got %s", act.Description())
	}
	all, err := s.SelectOrchestrationWorkItem(ctx, nil)
	must(t, err)
	if all.InstanceID != "green" {
		t.Errorf("what is left is %s", all.InstanceID)
	}
}

func statuses(s ...protos.OrchestrationStatus) *protos.OrchestrationIdReusePolicy {
	return &protos.OrchestrationIdReusePolicy{ReplaceableStatus: s}
}

func replacerFollowsThePolicy(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	r := optional[backend.InstanceReplacer](d)
	replace := func(id api.InstanceID, p *protos.OrchestrationIdReusePolicy) error {
		return r.CreateOrReplaceInstance(t.Context(), startEvent(id, "next"), p)
	}
	must(t, replace("free", statuses(api.RUNTIME_STATUS_COMPLETED)))
	for _, status := range []protos.OrchestrationStatus{
		api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED, api.RUNTIME_STATUS_RUNNING,
	} {
		id := api.InstanceID(api.StatusName(status))
		d.start(id)
		if status == api.RUNTIME_STATUS_RUNNING {
			d.complete(d.turn(id), callTask(0, "act"))
		} else {
			d.complete(d.turn(id), end(0, status, "old"))
		}
		for _, p := range []*protos.OrchestrationIdReusePolicy{nil, statuses(), statuses(api.RUNTIME_STATUS_CANCELED)} {
			err := replace(id, p)
			d.wantErr("start under a policy that forbids it", err, api.ErrDuplicateInstance)
			d.wantErr("start under a policy that forbids it", err, backend.ErrDuplicateEvent)
		}
		d.wantStatus(id, status)
		must(t, replace(id, statuses(status, api.RUNTIME_STATUS_TERMINATED)))
		for range 2 {
			m := d.wantStatus(id, api.RUNTIME_STATUS_PENDING)
			if m.Name != "next" || m.SerializedOutput != "" || m.FailureDetails != nil {
				t.Errorf("replaced by %s", summary(m))
			}
			d.reopen()
			r = optional[backend.InstanceReplacer](d)
		}
		wi := d.turn(id)
		if len(wi.NewEvents) != 1 || len(wi.State.OldEvents()) != 0 {
			t.Errorf("%s begins with %v after %v", id, kinds(wi.NewEvents), kinds(wi.State.OldEvents()))
		}
		d.complete(wi, end(0, api.RUNTIME_STATUS_COMPLETED, ""))
	}
	d.noTask()
}

// replacerEndsTheOldOne replaces an instance whose turn and activity are out.
func replacerEndsTheOldOne(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	r := optional[backend.InstanceReplacer](d)
	d.start("a")
	d.complete(d.turn("a"), callTask(0, "act"))
	act := d.task()
	d.raise("a", "e", "1")
	old := d.turn("a")
	d.apply(old, end(1, api.RUNTIME_STATUS_COMPLETED, `"old"`))
	must(t, r.CreateOrReplaceInstance(t.Context(), startEvent("a", "next"),
		statuses(api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_TERMINATED)))
	d.wantErr("the old turn", d.be.CompleteOrchestrationWorkItem(t.Context(), old), backend.ErrWorkItemLockLost)
	if err := d.result(act, `"old"`); err != nil && !errors.Is(err, backend.ErrWorkItemLockLost) {
		t.Errorf("the old activity: %v", err)
	}
	wi := d.turn("a")
	if len(wi.NewEvents) != 1 || wi.NewEvents[0].GetExecutionStarted().GetName() != "next" {
		t.Errorf("the new one begins with %v", wi.NewEvents)
	}
	d.complete(wi, end(0, api.RUNTIME_STATUS_COMPLETED, `"new"`))
	if m := d.wantStatus("a", api.RUNTIME_STATUS_COMPLETED); m.SerializedOutput != `"new"` {
		t.Errorf("the output is %s", m.SerializedOutput)
	}
}

func freshStart(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	f := optional[backend.FreshCreator](d)
	must(t, f.CreateFreshInstance(t.Context(), startEvent("a", "o")))
	d.wantStatus("a", api.RUNTIME_STATUS_PENDING)
	if err := f.CreateFreshInstance(t.Context(), startEvent("a", "other")); err == nil {
		t.Error("a taken id was accepted")
	}
	d.complete(d.turn("a"), end(0, api.RUNTIME_STATUS_COMPLETED, ""))
	d.reopen()
	f = optional[backend.FreshCreator](d)
	if err := f.CreateFreshInstance(t.Context(), startEvent("a", "other")); err == nil {
		t.Error("a taken id was accepted")
	}
	if m := d.wantStatus("a", api.RUNTIME_STATUS_COMPLETED); m.Name != "o" {
		t.Errorf("it is %s now", m.Name)
	}
}
