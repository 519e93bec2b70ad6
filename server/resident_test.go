package server

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

// TestTurnsGoToWhoKeepsTheOrchestrator speaks the wire as a worker that keeps orchestrators between turns.
func TestTurnsGoToWhoKeepsTheOrchestrator(t *testing.T) {
	b := start(t, "", Options{})
	connect := func() (func() *protos.WorkItem, context.CancelFunc) {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := b.client.GetWorkItems(ctx, &protos.GetWorkItemsRequest{
			Capabilities: []protos.WorkerCapability{protos.WorkerCapability_WORKER_CAPABILITY_RESIDENT},
		})
		if err != nil {
			t.Fatal(err)
		}
		return func() *protos.WorkItem { return receive(t, s) }, cancel
	}
	answer := func(w *protos.WorkItem, r *protos.OrchestratorResponse) {
		t.Helper()
		r.InstanceId, r.CompletionToken = "i", w.GetCompletionToken()
		if _, err := b.client.CompleteOrchestratorTask(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	raise := func() {
		t.Helper()
		if _, err := b.client.RaiseEvent(t.Context(), &protos.RaiseEventRequest{InstanceId: "i", Name: "e"}); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, w *protos.WorkItem, past int, after string) {
		t.Helper()
		r := w.GetOrchestratorRequest()
		if got := r.GetProperties()["perdure.after"].GetStringValue(); len(r.GetPastEvents()) != past || got != after || len(r.GetNewEvents()) == 0 {
			t.Errorf("%s: %d past and %d new events, after %q; want %d, after %q", what, len(r.GetPastEvents()), len(r.GetNewEvents()), got, past, after)
		}
	}
	next, leave := connect()
	b.startAs(t, "o", "i")
	first := next()
	want("the first turn", first, 0, "")
	answer(first, &protos.OrchestratorResponse{})
	raise()
	second := next()
	want("the second turn", second, 0, first.GetCompletionToken())
	answer(second, &protos.OrchestratorResponse{RequiresHistory: true})
	again := next()
	want("the second turn, with its history", again, 2, "")
	answer(again, &protos.OrchestratorResponse{})
	other, leaveToo := connect()
	defer leaveToo()
	raise()
	third := next()
	want("the third turn", third, 0, again.GetCompletionToken())
	leave() // without an answer
	moved := other()
	want("the third turn, for another worker", moved, 4, "")
	answer(moved, &protos.OrchestratorResponse{Actions: []*protos.OrchestratorAction{complete(`1`)}})
	b.finish(t, "i")
}

// TestResidentGoWorkers run orchestrations of many turns, with workers that keep
// all, few or none of them, and one that comes and goes.
func TestResidentGoWorkers(t *testing.T) {
	b := start(t, "", Options{})
	r := task.NewTaskRegistry()
	if err := r.AddActivityN("inc", func(ctx task.ActivityContext) (any, error) {
		var n int
		err := ctx.GetInput(&n)
		return n + 1, err
	}); err != nil {
		t.Fatal(err)
	}
	const turns, instances = 20, 30
	if err := r.AddOrchestratorN("count", func(ctx *task.OrchestrationContext) (any, error) {
		n := 0
		for range turns {
			if err := ctx.CallActivity("inc", task.WithActivityInput(n)).Await(&n); err != nil {
				return nil, err
			}
		}
		return n, nil
	}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var workers sync.WaitGroup
	listen := func(ctx context.Context, opts ...client.WorkerOption) {
		c := client.NewTaskHubGrpcClient(b.dial(t), silent)
		workers.Go(func() {
			if err := c.RunWorkItemListener(ctx, r, opts...); err != nil {
				t.Error(err)
			}
		})
	}
	brief, leave := context.WithCancel(ctx)
	listen(brief)
	listen(ctx, client.WithMaxResident(2))
	listen(ctx, client.WithMaxResident(0))
	c := client.NewClient(b.dial(t), silent)
	for i := range instances {
		if _, err := c.ScheduleNewOrchestration(ctx, "count", api.WithInstanceID(api.InstanceID(fmt.Sprint("i", i)))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.WaitForOrchestrationCompletion(ctx, "i0"); err != nil {
		t.Fatal(err)
	}
	leave()
	for i := range instances {
		m, err := c.WaitForOrchestrationCompletion(ctx, api.InstanceID(fmt.Sprint("i", i)))
		if err != nil || m.SerializedOutput != fmt.Sprint(turns) {
			t.Errorf("i%d: %v, %v", i, m, err)
		}
	}
	stop()
	workers.Wait()
	m, ok := b.hubs.byName[defaultHub].be.(backend.Metered)
	if s := m.Stats(); !ok || s.Turns+s.Activities != 0 {
		t.Errorf("after the end: %+v", s)
	}
}
