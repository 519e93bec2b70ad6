package backendtest

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/task"
)

// RunBenchmarks measures a backend, with 64 workers of each kind, as sub-benchmarks of b:
//
//   - Start: one acknowledged start, 16 callers at a time; nothing runs it
//   - Orchestration: one orchestration of five activities in a row, 64 at a time
//   - Step: one more activity in a row of one orchestration
//   - Branch: one more activity of one fan-out
//   - Event: one event raised and received, one at a time
//   - Timer: one orchestration that waits for a timer of 10 ms, 256 at a time
//   - Reopen: a hub with 1,000 orchestrations that wait is opened
func RunBenchmarks(b *testing.B, hubs NewHub) {
	b.Helper()
	for _, x := range []struct {
		name string
		run  func(*testing.B, Hub)
	}{
		{"Start", benchStart},
		{"Orchestration", benchOrchestration},
		{"Step", benchStep},
		{"Branch", benchBranch},
		{"Event", benchEvent},
		{"Timer", benchTimer},
		{"Reopen", benchReopen},
	} {
		b.Run(x.name, func(b *testing.B) { x.run(b, hubs(b)) })
	}
}

func benchHost(b *testing.B, hub Hub) *caseHost {
	b.Helper()
	return newHost(b, hub, orchestrators{
		"five": func(c *task.OrchestrationContext) (any, error) { return nil, steps(c, 5) },
		"row": func(c *task.OrchestrationContext) (any, error) {
			n := 0
			if err := c.GetInput(&n); err != nil {
				return nil, err
			}
			return nil, steps(c, n)
		},
		"fan": func(c *task.OrchestrationContext) (any, error) {
			n := 0
			if err := c.GetInput(&n); err != nil {
				return nil, err
			}
			all := make([]task.Task, n)
			for i := range all {
				all[i] = c.CallActivity("nothing")
			}
			return nil, c.WhenAll(all...).Await(nil)
		},
		"events": func(c *task.OrchestrationContext) (any, error) {
			n := 0
			if err := c.GetInput(&n); err != nil {
				return nil, err
			}
			for range n {
				if err := c.WaitForSingleEvent("e", -1).Await(nil); err != nil {
					return nil, err
				}
			}
			return nil, nil
		},
		"timer": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CreateTimer(10 * time.Millisecond).Await(nil)
		},
		"wait": waitForever,
	}, activities{"nothing": func(task.ActivityContext) (any, error) { return nil, nil }}, parallelism(64))
}

func steps(c *task.OrchestrationContext, n int) error {
	for range n {
		if err := c.CallActivity("nothing").Await(nil); err != nil {
			return err
		}
	}
	return nil
}

// each calls f b.N times, at most n at a time.
func each(b *testing.B, n int, f func(i int) error) {
	b.Helper()
	var g errgroup.Group
	g.SetLimit(n)
	for i := range b.N {
		g.Go(func() error { return f(i) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

func (h *caseHost) complete(name string, opts ...api.NewOrchestrationOptions) error {
	id, err := h.ScheduleNewOrchestration(h.t.Context(), name, opts...)
	if err != nil {
		return err
	}
	m, err := h.WaitForOrchestrationCompletion(h.t.Context(), id)
	if err == nil && m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
		err = fmt.Errorf("%s is %s: %v", id, api.StatusName(m.RuntimeStatus), m.FailureDetails)
	}
	return err
}

func benchStart(b *testing.B, hub Hub) {
	h := idleHost(b, hub)
	b.ResetTimer()
	each(b, 16, func(int) error {
		_, err := h.ScheduleNewOrchestration(b.Context(), "o")
		return err
	})
}

func benchOrchestration(b *testing.B, hub Hub) {
	h := benchHost(b, hub)
	b.ResetTimer()
	each(b, 64, func(int) error { return h.complete("five") })
}

func benchStep(b *testing.B, hub Hub) {
	h := benchHost(b, hub)
	b.ResetTimer()
	must(b, h.complete("row", api.WithInput(b.N)))
}

func benchBranch(b *testing.B, hub Hub) {
	h := benchHost(b, hub)
	b.ResetTimer()
	must(b, h.complete("fan", api.WithInput(b.N)))
}

func benchEvent(b *testing.B, hub Hub) {
	h := benchHost(b, hub)
	id := h.begin("events", api.WithInput(b.N))
	b.ResetTimer()
	for range b.N {
		h.raise(id, "e", nil)
	}
	h.end(id, patience)
}

func benchTimer(b *testing.B, hub Hub) {
	h := benchHost(b, hub)
	b.ResetTimer()
	each(b, 256, func(int) error { return h.complete("timer") })
}

func benchReopen(b *testing.B, hub Hub) {
	h := benchHost(b, hub)
	for n := range 1000 {
		h.begin("wait", api.WithInstanceID(api.InstanceID(fmt.Sprint("w", n))))
	}
	h.waits("w999")
	h.stop()
	b.ResetTimer()
	for range b.N {
		h = idleHost(b, hub)
		b.StopTimer()
		h.stop()
		b.StartTimer()
	}
}
