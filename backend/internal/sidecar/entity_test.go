package sidecar

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

// batch is one Entity call.
type batch struct {
	result *protos.EntityBatchResult
	err    error
	done   bool
}

func entityBatch(ctx context.Context, d *Dispatcher, name, key string) *batch {
	b := &batch{}
	go func() {
		b.result, b.err = d.Entity(ctx, name, &protos.EntityRequest{InstanceId: "@" + name + "@" + key})
		b.done = true
	}()
	synctest.Wait()
	return b
}

func entityResult(token, state string) *protos.EntityBatchResult {
	return &protos.EntityBatchResult{CompletionToken: token, EntityState: wrapperspb.String(state)}
}

func TestEntityBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		w := connect(d, &protos.GetWorkItemsRequest{MaxConcurrentEntityWorkItems: 1}, nil)
		one, two := entityBatch(t.Context(), d, "e", "1"), entityBatch(t.Context(), d, "e", "2")
		if len(w.items()) != 1 || w.items()[0].GetEntityRequestV2().GetInstanceId() != "@e@1" || w.items()[0].GetEntityRequest() != nil {
			t.Fatalf("got %v, want one batch, in the newer form", w.items())
		}
		token := w.items()[0].GetCompletionToken()
		if d.CompleteEntity(entityResult("", "x")) || d.CompleteEntity(entityResult("foreign", "x")) || d.AbandonActivity(token) ||
			d.CompleteActivity(&protos.ActivityResponse{CompletionToken: token}) {
			t.Error("an answer without the token, or of another kind, was taken")
		}
		if !d.CompleteEntity(entityResult(token, "x")) || d.CompleteEntity(entityResult(token, "y")) {
			t.Error("the first answer counts, the second is stale")
		}
		synctest.Wait()
		if !one.done || one.result.GetEntityState().GetValue() != "x" || two.done || len(w.items()) != 2 {
			t.Fatalf("%+v %+v, %d items", one, two, len(w.items()))
		}
		// A worker that lost the state, or gives the batch back, gets it again after a rest.
		d.CompleteEntity(&protos.EntityBatchResult{CompletionToken: w.items()[1].GetCompletionToken(), RequiresState: true})
		<-time.After(restMin)
		synctest.Wait()
		if len(w.items()) != 3 || !d.AbandonEntity(w.items()[2].GetCompletionToken()) {
			t.Fatalf("%d items", len(w.items()))
		}
		<-time.After(2 * restMin)
		synctest.Wait()
		if two.done || len(w.items()) != 4 || !d.CompleteEntity(entityResult(w.items()[3].GetCompletionToken(), "z")) {
			t.Fatalf("%+v, %d items", two, len(w.items()))
		}
		synctest.Wait()
		if two.result.GetEntityState().GetValue() != "z" {
			t.Errorf("%+v", two)
		}
		w.stop()
		checkEmpty(t, d)
	})
}

func TestEntityBatchOfASilentWorkerGoesToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		silent := connect(d, &protos.GetWorkItemsRequest{}, nil) // it does not know entities, say
		b := entityBatch(t.Context(), d, "e", "1")
		w := connect(d, &protos.GetWorkItemsRequest{}, nil)
		<-time.After(3 * time.Minute)
		synctest.Wait()
		var again *protos.WorkItem
		for _, g := range w.items() {
			if g.GetEntityRequestV2() != nil {
				again = g
			}
		}
		if again == nil || d.CompleteEntity(entityResult(silent.items()[0].GetCompletionToken(), "late")) {
			t.Fatal("the batch was not taken from the silent worker")
		}
		d.CompleteEntity(entityResult(again.GetCompletionToken(), "x"))
		synctest.Wait()
		if b.result.GetEntityState().GetValue() != "x" {
			t.Errorf("%+v", b)
		}
		silent.stop()
		w.stop()
		checkEmpty(t, d)
	})
}

func TestEntityFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		others := connect(d, &protos.GetWorkItemsRequest{WorkItemFilters: &protos.WorkItemFilters{
			Orchestrations: []*protos.OrchestrationFilter{{Name: "counter"}},
		}}, nil)
		w := connect(d, &protos.GetWorkItemsRequest{WorkItemFilters: &protos.WorkItemFilters{
			Entities: []*protos.EntityFilter{{Name: "Counter"}},
		}}, nil)
		demand := d.EntityDemand()
		if !demand.Wants("counter", "") || demand.Wants("other", "") {
			t.Error("the demand is not what the filters say")
		}
		b := entityBatch(t.Context(), d, "counter", "1")
		if len(others.items()) != 0 || len(w.items()) != 1 {
			t.Fatalf("%d and %d items", len(others.items()), len(w.items()))
		}
		d.CompleteEntity(entityResult(w.items()[0].GetCompletionToken(), "x"))
		if none := entityBatch(t.Context(), d, "other", "1"); none.err == nil {
			t.Errorf("what nobody hosts waits: %+v", none)
		}
		if !b.done {
			t.Error("not done")
		}
		others.stop()
		w.stop()
		checkEmpty(t, d)
	})
}
