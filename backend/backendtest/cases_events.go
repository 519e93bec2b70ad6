package backendtest

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/task"
)

func echo(c task.ActivityContext) (any, error) {
	var v any
	err := c.GetInput(&v)
	return v, err
}

// collect waits for n events called A and returns them in the order of their delivery.
func collect(c *task.OrchestrationContext, n int) ([]int, error) {
	got := []int{}
	for range n {
		var v int
		if err := c.WaitForSingleEvent("A", -1).Await(&v); err != nil {
			return nil, err
		}
		got = append(got, v)
	}
	return got, nil
}

func upTo(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func c01EventsBeforeStart(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := idleHost(t, hub)
	id := h.begin("o")
	for i := range 3 {
		h.raise(id, "A", i)
	}
	if err := h.RaiseEvent(t.Context(), "ghost", "x", nil); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("raise to an unknown id: %v", err)
	}
	h.work(orchestrators{"o": func(c *task.OrchestrationContext) (any, error) { return collect(c, 3) }}, nil)
	h.output(id, "[0,1,2]")
	h.noMessages(5 * time.Second) // also none for the ghost
}

func c02EventsOfOneNameAreAFIFO(t *testing.T, hubs NewHub) {
	const n = 500
	hub := hubs(t)
	g := newGate()
	defer g.release()
	h := newHost(t, hub, orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		g.pass()
		got := []int{}
		for range n {
			part, err := collect(c, 1)
			if err != nil {
				return nil, err
			}
			var v int
			if err := c.CallActivity("echo", task.WithActivityInput(part[0])).Await(&v); err != nil {
				return nil, err
			}
			got = append(got, v)
		}
		return got, nil
	}}, activities{"echo": echo})
	id := h.begin("o")
	recv(t, g.entered, "first turn")
	for i := range n {
		h.raise(id, "A", i)
	}
	g.release()
	h.output(id, jsonOf(t, upTo(n)))
}

func c04WaitersOfOneNameAreApart(t *testing.T, hubs NewHub) {
	h := newHost(t, hubs(t), orchestrators{
		// The timeout of the first, satisfied wait fires while the second waits.
		"stale": func(c *task.OrchestrationContext) (any, error) {
			var a, b string
			if err := c.WaitForSingleEvent("A", 500*time.Millisecond).Await(&a); err != nil {
				return nil, err
			}
			late := c.WaitForSingleEvent("A", time.Minute)
			if err := c.CreateTimer(time.Second).Await(nil); err != nil {
				return nil, err
			}
			c.SetCustomStatus("late")
			err := late.Await(&b)
			return a + b, err
		},
		// A wait that timed out takes no event from the next one.
		"canceled": func(c *task.OrchestrationContext) (any, error) {
			first := c.WaitForSingleEvent("A", 20*time.Millisecond)
			second := c.WaitForSingleEvent("A", time.Minute)
			if err := first.Await(nil); !errors.Is(err, task.ErrTaskCanceled) {
				return nil, errors.New("the first wait was not canceled")
			}
			c.SetCustomStatus("late")
			var v string
			err := second.Await(&v)
			return v, err
		},
	}, nil)
	stale, canceled := h.begin("stale"), h.begin("canceled")
	h.raise(stale, "A", "1")
	for id, v := range map[api.InstanceID]string{stale: "2", canceled: "3"} {
		eventually(t, 10*time.Second, "the second wait", func() bool { return h.fetch(id).SerializedCustomStatus != "" })
		h.raise(id, "A", v)
	}
	h.output(stale, `"12"`)
	h.output(canceled, `"3"`)
}

func c06ContinueAsNewKeepsABurst(t *testing.T, hubs NewHub) {
	type in struct {
		Timer bool
		N     int
		Got   []int
	}
	hub := hubs(t)
	for _, tt := range []struct {
		name string
		in   in
	}{{"30", in{N: 30}}, {"200", in{N: 200}}, {"30 with timers", in{N: 30, Timer: true}}} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate()
			defer g.release()
			h := newHost(t, hub, orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
				g.pass()
				var in in
				if err := c.GetInput(&in); err != nil {
					return nil, err
				}
				got, err := collect(c, 1)
				if err != nil {
					return nil, err
				}
				if in.Timer {
					if err := c.CreateTimer(0).Await(nil); err != nil {
						return nil, err
					}
				}
				if in.Got = append(in.Got, got...); len(in.Got) < in.N {
					c.ContinueAsNew(in, task.WithKeepUnprocessedEvents())
				}
				return in.Got, nil
			}}, nil)
			defer h.stop()
			id := h.begin("o", api.WithInput(tt.in))
			recv(t, g.entered, "first turn")
			for i := range tt.in.N {
				h.raise(id, "A", i)
			}
			g.release()
			h.output(id, jsonOf(t, upTo(tt.in.N)))
		})
	}
}

func c06ContinueAsNewDropsEventsByDefault(t *testing.T, hubs NewHub) {
	g := newGate()
	defer g.release()
	h := newHost(t, hubs(t), orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		g.pass()
		var n int
		if err := c.GetInput(&n); err != nil {
			return nil, err
		}
		if n == 0 {
			_, err := collect(c, 1)
			c.ContinueAsNew(1)
			return nil, err
		}
		err := c.WaitForSingleEvent("A", 50*time.Millisecond).Await(nil)
		return errors.Is(err, task.ErrTaskCanceled), nil
	}}, nil)
	id := h.begin("o", api.WithInput(0))
	recv(t, g.entered, "first turn")
	for i := range 3 {
		h.raise(id, "A", i)
	}
	g.release()
	h.output(id, "true")
}

func c08ChildIDsDifferBetweenGenerations(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := newHost(t, hub, orchestrators{
		"child": func(c *task.OrchestrationContext) (any, error) {
			var n int
			err := c.GetInput(&n)
			return n * 10, err
		},
		"o": func(c *task.OrchestrationContext) (any, error) {
			in := []int{}
			if err := c.GetInput(&in); err != nil {
				return nil, err
			}
			var v int
			if err := c.CallSubOrchestrator("child", task.WithSubOrchestratorInput(len(in))).Await(&v); err != nil {
				return nil, err
			}
			if in = append(in, v); len(in) < 3 {
				c.ContinueAsNew(in)
			}
			return in, nil
		},
	}, nil)
	h.output(h.begin("o", api.WithInput([]int{})), "[0,10,20]")
}

func c09ActionsBeforeContinueAsNewTakeEffect(t *testing.T, hubs NewHub) {
	const n = 40
	hub := hubs(t)
	for _, ends := range []bool{false, true} { // the next generation at once, or only when told
		t.Run(fmt.Sprintf("ends %v", ends), func(t *testing.T) {
			var runs atomic.Int32
			ran := make(chan struct{}, 3*n)
			h := newHost(t, hub, orchestrators{
				"target": func(c *task.OrchestrationContext) (any, error) { return collect(c, n) },
				"o": func(c *task.OrchestrationContext) (any, error) {
					var again bool
					if err := c.GetInput(&again); err != nil {
						return nil, err
					}
					if again {
						if ends {
							return "end", nil
						}
						return "end", c.WaitForSingleEvent("go", -1).Await(nil)
					}
					c.CallActivity("log")
					c.CallActivity("log")
					err := c.SendEvent("target", "A", 7)
					c.ContinueAsNew(true)
					return nil, err
				},
			}, activities{"log": func(task.ActivityContext) (any, error) {
				runs.Add(1)
				ran <- struct{}{}
				return nil, nil
			}})
			defer h.stop()
			target := api.InstanceID("target")
			h.begin("target", api.WithInstanceID(target))
			ids := make([]api.InstanceID, n)
			for i := range ids {
				ids[i] = h.begin("o", api.WithInput(false))
			}
			late := time.After(5 * time.Second)
			for range 2 * n {
				select {
				case <-ran:
					continue
				case <-late:
					t.Errorf("%d of %d activities ran", runs.Load(), 2*n)
				}
				break
			}
			for _, id := range ids {
				if !ends {
					h.raise(id, "go", nil)
				}
				h.output(id, `"end"`)
			}
			sevens := make([]int, n)
			for i := range sevens {
				sevens[i] = 7
			}
			h.output(target, jsonOf(t, sevens))
			if got := runs.Load(); got > 2*n {
				t.Errorf("%d runs, want %d", got, 2*n)
			}
			must(t, h.PurgeOrchestrationState(t.Context(), target))
		})
	}
}

func c09ActionsOfTheLastTurnTakeEffect(t *testing.T, hubs NewHub) {
	const n = 10
	ran, children := make(chan struct{}, 8*n), make(chan struct{}, 8*n)
	h := newHost(t, hubs(t), orchestrators{
		"target": func(c *task.OrchestrationContext) (any, error) { return collect(c, 2*n) },
		"child":  func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity("child").Await(nil) },
		"o": func(c *task.OrchestrationContext) (any, error) {
			var fails bool
			if err := c.GetInput(&fails); err != nil {
				return nil, err
			}
			if err := c.CallActivity("nothing").Await(nil); err != nil {
				return nil, err
			}
			c.CallActivity("log")
			c.CallActivity("log")
			c.CallSubOrchestrator("child")
			if err := c.SendEvent("target", "A", 7); err != nil {
				return nil, err
			}
			if fails {
				return nil, errors.New("in the end")
			}
			return "end", nil
		},
	}, activities{
		"nothing": func(task.ActivityContext) (any, error) { return nil, nil },
		"log":     func(task.ActivityContext) (any, error) { ran <- struct{}{}; return nil, nil },
		"child":   func(task.ActivityContext) (any, error) { children <- struct{}{}; return nil, nil },
	})
	h.begin("target", api.WithInstanceID("target"))
	for k := range 2 * n {
		h.begin("o", api.WithInput(k%2 == 0), api.WithInstanceID(api.InstanceID(fmt.Sprint("o", k))))
	}
	for range 4 * n {
		recv(t, ran, "activity of a last turn")
	}
	for range 2 * n {
		recv(t, children, "child of a last turn")
	}
	h.end("target", patience)
	for k := range 2 * n {
		want := api.RUNTIME_STATUS_COMPLETED
		if k%2 == 0 {
			want = api.RUNTIME_STATUS_FAILED
		}
		h.status(api.InstanceID(fmt.Sprint("o", k)), want, patience)
	}
}
