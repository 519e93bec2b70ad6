package sidecar

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/perdure/perdure/api/protos"
)

// TestTurnsWaitForTheirKeeper queues turns for a worker that keeps their
// orchestrators while it is sent something else, and gives them to others once it cannot take them.
func TestTurnsWaitForTheirKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		req := &protos.GetWorkItemsRequest{
			MaxConcurrentOrchestrationWorkItems: 2,
			Capabilities:                        []protos.WorkerCapability{protos.WorkerCapability_WORKER_CAPABILITY_RESIDENT},
		}
		ctx, leave := context.WithCancel(t.Context())
		sent, busy := make(chan *protos.WorkItem, 10), make(chan struct{})
		go func() {
			_ = d.Serve(ctx, req, nil, func(w *protos.WorkItem) error {
				sent <- w
				if w.GetActivityRequest() != nil {
					<-busy
				}
				return nil
			})
		}()
		synctest.Wait()
		next := func(id string, before Turned) *call {
			c := &call{}
			go func() {
				c.turn, c.by, c.err = d.Orchestrator(t.Context(), "o", "", &protos.OrchestratorRequest{
					InstanceId: id, PastEvents: []*protos.HistoryEvent{{EventId: 1}},
				}, before, 0)
				c.done = true
			}()
			synctest.Wait()
			return c
		}
		var two, three *call
		one := next("1", Turned{})
		finish(d, <-sent)
		two = next("2", Turned{})
		finish(d, <-sent)
		three = next("3", Turned{})
		finish(d, <-sent)
		if !one.by.Kept() || !two.by.Kept() || !three.by.Kept() {
			t.Fatal("the worker does not keep what it executed")
		}
		other := connect(d, &protos.GetWorkItemsRequest{WorkItemFilters: &protos.WorkItemFilters{
			Orchestrations: []*protos.OrchestrationFilter{{Name: "o"}},
		}}, nil)
		blocker := act(d, "x", 1, "a")
		held := <-sent // its sender is busy now
		one, two, three = next("1", one.by), next("2", two.by), next("3", three.by)
		if n := len(other.items()); n != 0 {
			t.Errorf("the other worker has %d turns that another keeps", n)
		}
		close(busy)
		synctest.Wait()
		// Two fit; the third goes to the other, with its history.
		for range 2 {
			w := <-sent
			if r := w.GetOrchestratorRequest(); len(r.GetPastEvents()) != 0 || r.GetProperties()[AfterProperty].GetStringValue() == "" {
				t.Errorf("the keeper is sent %v", r)
			}
		}
		if got := other.items(); len(got) != 1 || len(got[0].GetOrchestratorRequest().GetPastEvents()) != 1 {
			t.Fatalf("the other worker has %v", got)
		}
		// What the keeper does not answer goes to the other when it leaves.
		leave()
		synctest.Wait()
		for n := range 3 {
			finish(d, other.items()[n])
		}
		if !one.done || !two.done || !three.done {
			t.Errorf("done: %v, %v, %v", one.done, two.done, three.done)
		}
		blocker.stop()
		_ = held
		other.stop()
		checkEmpty(t, d)
	})
}
