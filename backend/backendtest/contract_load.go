package backendtest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

// exclusive is an executor that finds out whether two turns of one instance run at once.
type exclusive struct {
	backend.Executor
	t     *testing.T
	turns sync.Map // of *atomic.Int32 by instance
}

func (x *exclusive) ExecuteOrchestrator(
	ctx context.Context, id api.InstanceID, old, fresh []*protos.HistoryEvent,
) (*backend.ExecutionResults, error) {
	v, _ := x.turns.LoadOrStore(id, &atomic.Int32{})
	n := v.(*atomic.Int32)
	if n.Add(1) != 1 {
		x.t.Errorf("two turns of %s at once", id)
	}
	defer n.Add(-1)
	return x.Executor.ExecuteOrchestrator(ctx, id, old, fresh)
}

// manyWorkersShareTheWork checks, with 32 workers of each kind and replays at every turn:
//
//  1. one instance has one turn at a time;
//  2. each activity that completes was run by one worker, and its result was used once;
//  3. every instance completes with the right output.
func manyWorkersShareTheWork(t *testing.T, hubs NewHub) {
	const instances, steps = 60, 5
	var mu sync.Mutex
	ran := map[string]int{}
	r := task.NewTaskRegistry()
	must(t, r.AddActivityN("inc", func(c task.ActivityContext) (any, error) {
		var v int
		err := c.GetInput(&v)
		mu.Lock()
		defer mu.Unlock()
		ran[c.IdempotencyKey()]++
		return v + 1, err
	}))
	must(t, r.AddOrchestratorN("o", func(c *task.OrchestrationContext) (any, error) {
		sum := 0
		for range steps {
			var a, b int
			x, y := c.CallActivity("inc", task.WithActivityInput(sum)), c.CallActivity("inc", task.WithActivityInput(0))
			if err := c.WhenAll(x, y).Await(nil); err != nil {
				return nil, err
			}
			if err := x.Await(&a); err != nil {
				return nil, err
			}
			if err := y.Await(&b); err != nil {
				return nil, err
			}
			sum = a + b
		}
		var v int
		err := c.WaitForSingleEvent("more", -1).Await(&v)
		return sum + v, err
	}))
	h := idleHost(t, hubs(t))
	h.workWith(&exclusive{Executor: task.NewTaskExecutor(r), t: t}, parallelism(32))
	ids := make([]api.InstanceID, instances)
	var wg sync.WaitGroup
	for n := range ids {
		ids[n] = api.InstanceID(fmt.Sprint("i", n))
		wg.Go(func() {
			if _, err := h.ScheduleNewOrchestration(t.Context(), "o", api.WithInstanceID(ids[n])); err != nil {
				t.Error(err)
			}
			if err := h.RaiseEvent(t.Context(), ids[n], "more", n); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for n, id := range ids {
		h.output(id, fmt.Sprint(2*steps+n))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ran) != instances*steps*2 {
		t.Errorf("%d activities ran, want %d", len(ran), instances*steps*2)
	}
	for key, n := range ran {
		if n != 1 {
			t.Errorf("activity %s ran %d times without any fault", key, n)
		}
	}
}
