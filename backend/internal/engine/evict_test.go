package engine

import (
	"context"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/memstore"
	authoring "github.com/perdure/perdure/task"
)

// TestOpenActivitiesKeepNoState: orchestrations whose activities take long leave
// memory as those do that wait for events, and go on with the results; so do their timers.
func TestOpenActivitiesKeepNoState(t *testing.T) {
	const n = 100
	r := authoring.NewTaskRegistry()
	open := make(chan struct{})
	if err := r.AddOrchestratorN("o", func(c *authoring.OrchestrationContext) (any, error) {
		slow, timer, v := c.CallActivity("slow"), c.CreateTimer(10*time.Millisecond), 0
		if c.WhenAny(slow, timer) == timer {
			c.SetCustomStatus("waits")
		}
		err := slow.Await(&v)
		return v, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.AddActivityN("slow", func(authoring.ActivityContext) (any, error) { <-open; return 7, nil }); err != nil {
		t.Fatal(err)
	}
	log := backend.DefaultLogger()
	e := New(memstore.New(), log, Options{MaxResident: 1})
	x := authoring.NewTaskExecutor(r)
	w := backend.NewTaskHubWorker(e, backend.NewOrchestrationWorker(e, x, log, backend.WithMaxParallelism(4)),
		backend.NewActivityTaskWorker(e, x, log, backend.WithMaxParallelism(4)), log)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := backend.NewClient(e)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var ids []api.InstanceID
	for range n {
		id, err := c.ScheduleNewOrchestration(ctx, "o")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		for m, err := c.WaitForOrchestrationStart(ctx, id); m.SerializedCustomStatus != "waits"; m, err = c.FetchOrchestrationMetadata(ctx, id) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.RaiseEvent(ctx, ids[0], "any", nil); err != nil { // its commit makes room
		t.Fatal(err)
	}
	e.mu.Lock()
	if most := 5 * residentBase; e.resident > most {
		t.Errorf("%d waiting orchestrations keep %d bytes, want at most %d", n, e.resident, most)
	}
	e.mu.Unlock()
	close(open)
	for _, id := range ids {
		m, err := c.WaitForOrchestrationCompletion(ctx, id)
		if err != nil || m.SerializedOutput != "7" {
			t.Errorf("%s: %v, %v", id, m, err)
		}
	}
	if err := w.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}
