package backendtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

func waitForever(c *task.OrchestrationContext) (any, error) {
	c.SetCustomStatus("waits")
	return nil, c.WaitForSingleEvent("never", -1).Await(nil)
}

func (h *caseHost) waits(id api.InstanceID) {
	h.t.Helper()
	eventually(h.t, patience, fmt.Sprintf("%s waits", id), func() bool {
		m, err := h.FetchOrchestrationMetadata(h.t.Context(), id)
		return err == nil && m.SerializedCustomStatus == "waits"
	})
}

func c11TerminateWinsInABatch(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	var runs atomic.Int32
	gates := map[api.InstanceID]*gate{"terminate first": newGate(), "terminate last": newGate()}
	h := newHost(t, hub, orchestrators{
		"o": func(c *task.OrchestrationContext) (any, error) {
			gates[c.ID].pass()
			if err := c.WaitForSingleEvent("go", -1).Await(nil); err != nil {
				return nil, err
			}
			return nil, c.CallActivity("a").Await(nil)
		},
		"probe": func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity("nothing").Await(nil) },
	}, activities{
		"a":       func(task.ActivityContext) (any, error) { return runs.Add(1), nil },
		"nothing": func(task.ActivityContext) (any, error) { return nil, nil },
	}, parallelism(1))
	for id, g := range gates {
		defer g.release()
		h.begin("o", api.WithInstanceID(id))
		recv(t, g.entered, "first turn")
		if id == "terminate last" {
			h.raise(id, "go", nil)
		}
		must(t, h.TerminateOrchestration(t.Context(), id, "stop"))
		if id == "terminate first" {
			h.raise(id, "go", nil)
		}
		g.release()
		h.status(id, api.RUNTIME_STATUS_TERMINATED, 10*time.Second)
	}
	h.output(h.begin("probe"), "") // whatever was queued before has run now
	if n := runs.Load(); n != 0 {
		t.Errorf("%d activities ran after the terminate", n)
	}
}

func c11TerminateRacesATimer(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := newHost(t, hub, orchestrators{"eternal": func(c *task.OrchestrationContext) (any, error) {
		err := c.CreateTimer(time.Millisecond).Await(nil)
		c.ContinueAsNew(nil)
		return nil, err
	}}, nil)
	ids := make([]api.InstanceID, 200)
	for i := range ids {
		ids[i] = h.begin("eternal")
		must(t, h.TerminateOrchestration(t.Context(), ids[i], ""))
	}
	for _, id := range ids {
		h.status(id, api.RUNTIME_STATUS_TERMINATED, 10*time.Second)
	}
}

func c12TerminateASuspendedInstance(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := newHost(t, hub, orchestrators{
		"wait": waitForever,
		"parent": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CallSubOrchestrator("wait", task.WithSubOrchestrationInstanceID("child")).Await(nil)
		},
	}, nil)
	alone, parent := h.begin("wait"), h.begin("parent")
	h.waits(alone)
	h.waits("child")
	for _, id := range []api.InstanceID{alone, parent} {
		must(t, h.SuspendOrchestration(t.Context(), id, "pause"))
		eventually(t, 5*time.Second, "suspended", func() bool {
			return h.fetch(id).RuntimeStatus == api.RUNTIME_STATUS_SUSPENDED
		})
		must(t, h.TerminateOrchestration(t.Context(), id, "stop"))
	}
	for _, id := range []api.InstanceID{alone, parent, "child"} {
		h.status(id, api.RUNTIME_STATUS_TERMINATED, 6*time.Second)
	}
}

func c13TerminateBeforeTheStartTime(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	var runs atomic.Int32
	h := newHost(t, hub, orchestrators{"o": func(*task.OrchestrationContext) (any, error) {
		return runs.Add(1), nil
	}}, nil)
	id := h.begin("o", api.WithStartTime(time.Now().Add(time.Hour)))
	if m := h.fetch(id); m.RuntimeStatus != api.RUNTIME_STATUS_PENDING {
		t.Errorf("%v before the start time", m.RuntimeStatus)
	}
	must(t, h.TerminateOrchestration(t.Context(), id, "never mind"))
	h.status(id, api.RUNTIME_STATUS_TERMINATED, 3*time.Second)
	if n := runs.Load(); n != 0 {
		t.Errorf("%d runs", n)
	}
	h.noMessages(time.Second)
}

func c15TerminateStopsActivities(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	var runs atomic.Int32
	started, cancelled := make(chan struct{}, 30), make(chan struct{}, 30)
	h := newHost(t, hub, orchestrators{
		"fan": func(c *task.OrchestrationContext) (any, error) {
			tasks := make([]task.Task, 30)
			for i := range tasks {
				tasks[i] = c.CallActivity("a")
			}
			return nil, c.WhenAll(tasks...).Await(nil)
		},
		"probe": func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity("nothing").Await(nil) },
	}, activities{
		"a": func(c task.ActivityContext) (any, error) {
			if runs.Add(1) < 3 {
				return nil, nil
			}
			started <- struct{}{}
			<-c.Context().Done()
			cancelled <- struct{}{}
			return nil, c.Context().Err()
		},
		"nothing": func(task.ActivityContext) (any, error) { return nil, nil },
	}, parallelism(1))
	id := h.begin("fan")
	recv(t, started, "blocked activity")
	must(t, h.TerminateOrchestration(t.Context(), id, "stop"))
	select {
	case <-cancelled:
	case <-time.After(time.Second):
		t.Error("the running activity is not cancelled after a second")
	}
	h.status(id, api.RUNTIME_STATUS_TERMINATED, 5*time.Second)
	h.output(h.begin("probe"), "") // queued behind the activities of the fan-out
	if n := runs.Load(); n > 4 {
		t.Errorf("%d activities started, want at most one after the third", n)
	}
	if n := h.count(id, func(e *protos.HistoryEvent) bool { return e.GetTaskFailed() != nil }); n != 0 {
		t.Errorf("%d activities failed", n)
	}
	if l := h.log.taken(); len(l) != 0 {
		t.Errorf("log: %q", l)
	}
}

func c17RecursivePurgeIsIdempotent(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	var tries atomic.Int32
	policy := &task.RetryPolicy{MaxAttempts: 3, InitialRetryInterval: time.Millisecond}
	h := newHost(t, hub, orchestrators{
		"parent": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CallSubOrchestrator("kid", task.WithSubOrchestrationInstanceID("kid")).Await(nil)
		},
		"kid": func(*task.OrchestrationContext) (any, error) { return nil, nil },
		"patient": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CallSubOrchestrator("flaky", task.WithSubOrchestrationInstanceID("flaky"),
				task.WithSubOrchestrationRetryPolicy(policy)).Await(nil)
		},
		"flaky": func(*task.OrchestrationContext) (any, error) {
			if tries.Add(1) < 3 {
				return nil, errors.New("again")
			}
			return nil, nil
		},
	}, nil)
	purge := func(id api.InstanceID, want int) {
		t.Helper()
		if n, err := h.Purge(t.Context(), id); n != want || err != nil {
			t.Errorf("purge of %s: %d, %v; want %d", id, n, err, want)
		}
		if _, err := h.Purge(t.Context(), id); !errors.Is(err, api.ErrInstanceNotFound) {
			t.Errorf("second purge of %s: %v", id, err)
		}
	}
	parent := h.begin("parent")
	h.output(parent, "")
	purge("kid", 1)
	purge(parent, 1)
	patient := h.begin("patient")
	h.output(patient, "")
	purge(patient, 2)
}

func c18ResultForAPurgedInstance(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("start again %v", again), func(t *testing.T) {
			var runs atomic.Int32
			started, open, returns := make(chan struct{}, 2), make(chan struct{}), make(chan struct{}, 2)
			h := newHost(t, hub, orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
				var v int
				err := c.CallActivity("a").Await(&v)
				return v, err
			}}, activities{"a": func(task.ActivityContext) (any, error) {
				n := runs.Add(1)
				started <- struct{}{}
				if n == 1 {
					<-open
				}
				returns <- struct{}{}
				return n, nil
			}})
			needs[backend.InstanceManager](h)
			defer h.stop()
			unblock := sync.OnceFunc(func() { close(open) })
			defer unblock()
			const id = "purged"
			h.begin("o", api.WithInstanceID(id))
			recv(t, started, "activity")
			if _, err := h.Purge(t.Context(), id); !errors.Is(err, api.ErrNotCompleted) {
				t.Errorf("purge of a running instance: %v", err)
			}
			must(t, h.TerminateOrchestration(t.Context(), id, "stop"))
			h.status(id, api.RUNTIME_STATUS_TERMINATED, 5*time.Second)
			if n, err := h.Purge(t.Context(), id); n != 1 || err != nil {
				t.Errorf("purge: %d %v", n, err)
			}
			if again {
				h.begin("o", api.WithInstanceID(id))
				recv(t, started, "second activity")
			}
			unblock()
			recv(t, returns, "late result")
			if again {
				h.output(id, "2")
				if n, err := h.Purge(t.Context(), id); n != 1 || err != nil {
					t.Errorf("purge: %d %v", n, err)
				}
			}
			h.stop() // the late result is handled by now
			if l := h.log.taken(); len(l) != 0 {
				t.Errorf("log: %q", l)
			}
			if want := map[bool]int32{false: 1, true: 2}[again]; runs.Load() != want {
				t.Errorf("%d runs, want %d", runs.Load(), want)
			}
			h = idleHost(t, hub) // what is stored is nothing
			if p, err := h.Query(t.Context(), api.InstanceQuery{}); err != nil || len(p.Instances) > 0 {
				t.Errorf("left: %v %v", p, err)
			}
			h.noMessages(time.Second)
		})
	}
}

func c20ForceWithoutTheHistory(t *testing.T, hubs NewHub) {
	for name, how := range map[string]Damage{"damaged": UnreadableHistory, "large": HugeHistory} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := hubs(t)
			all := orchestrators{"o": waitForever, "short": func(*task.OrchestrationContext) (any, error) { return 1, nil }}
			h := newHost(t, hub, all, nil)
			ids := []api.InstanceID{"terminated", "purged"}
			for _, id := range ids {
				h.begin("o", api.WithInstanceID(id))
				h.waits(id)
			}
			h.stop()
			for _, id := range ids {
				hub.damage(t, id, how)
			}
			h = newHost(t, hub, all, nil)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			fast := func(what string, f func() error) {
				t.Helper()
				began := time.Now()
				must(t, f())
				if d := time.Since(began); d > 2*time.Second {
					t.Errorf("%s took %v", what, d)
				}
			}
			fast("terminate", func() error { return h.ForceTerminate(ctx, "terminated") })
			h.status("terminated", api.RUNTIME_STATUS_TERMINATED, time.Second)
			fast("purge of the terminated", func() error { _, err := h.Purge(ctx, "terminated"); return err })
			fast("purge", func() error { _, err := h.ForcePurge(ctx, "purged"); return err })
			for _, id := range ids {
				h.begin("short", api.WithInstanceID(id))
				h.output(id, "1")
			}
		})
	}
}

// A terminate needs no history: it ends an instance whose history cannot be read, with its children.
func c20TerminateADamagedInstance(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	all := orchestrators{"wait": waitForever, "parent": func(c *task.OrchestrationContext) (any, error) {
		return nil, childCall(c, "wait", "child").Await(nil)
	}}
	h := newHost(t, hub, all, nil)
	h.begin("parent", api.WithInstanceID("bad"))
	h.waits("child")
	h.stop()
	hub.damage(t, "bad", UnreadableHistory)
	h = newHost(t, hub, all, nil)
	h.raise("bad", "kept for later", nil)
	eventually(t, patience, "bad is set aside", func() bool { return h.fetch("bad").Stalled != "" })
	must(t, h.Terminate(t.Context(), "bad", api.WithOutput("stop")))
	for range 2 {
		for _, id := range []api.InstanceID{"bad", "child"} {
			if m := h.status(id, api.RUNTIME_STATUS_TERMINATED, patience); m.SerializedOutput != `"stop"` || m.Stalled != "" {
				t.Errorf("%s: output %s, stalled %q", id, m.SerializedOutput, m.Stalled)
			}
		}
		h.noMessages(time.Second)
		h.stop()
		h = newHost(t, hub, all, nil)
	}
	if n, err := h.Purge(t.Context(), "bad"); n != 2 || err != nil {
		t.Errorf("purge: %d %v", n, err)
	}
}
