package engine

import (
	"context"
	"testing"
	"time"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/memstore"
	authoring "github.com/perdure/perdure/task"
)

// TestNoWakesOfTheDead: what waited with a long timeout, and got its event, costs
// no memory until the timeout.
func TestNoWakesOfTheDead(t *testing.T) {
	const n = 3 * minStale
	for _, limit := range []int{0, 1} { // resident, and evicted between the turns
		r := authoring.NewTaskRegistry()
		if err := r.AddOrchestratorN("o", func(c *authoring.OrchestrationContext) (any, error) {
			return nil, c.WaitForSingleEvent("go", time.Hour).Await(nil)
		}); err != nil {
			t.Fatal(err)
		}
		log := backend.DefaultLogger()
		e := New(memstore.New(), log, Options{MaxResident: limit})
		x := authoring.NewTaskExecutor(r)
		w := backend.NewTaskHubWorker(e, backend.NewOrchestrationWorker(e, x, log, backend.WithMaxParallelism(8)),
			backend.NewActivityTaskWorker(e, x, log), log)
		if err := w.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := backend.NewClient(e)
		wakes := func() int {
			e.mu.Lock()
			defer e.mu.Unlock()
			return len(e.wakes) + len(e.stale)
		}
		for range n {
			id, err := c.ScheduleNewOrchestration(t.Context(), "o")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.WaitForOrchestrationStart(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if err := c.RaiseEvent(t.Context(), id, "go", nil); err != nil {
				t.Fatal(err)
			}
			if _, err := c.WaitForOrchestrationCompletion(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		if got := wakes(); got > 2*minStale+2 {
			t.Errorf("with a budget of %d bytes there are %d wakes after %d instances", limit, got, n)
		}
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
}
