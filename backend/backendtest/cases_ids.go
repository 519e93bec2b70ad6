package backendtest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

func c21OneStarterWins(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	var runs atomic.Int32
	h := newHost(t, hub, orchestrators{"o": func(*task.OrchestrationContext) (any, error) {
		return runs.Add(1), nil
	}, "wait": waitForever}, nil)
	needs[backend.InstanceReplacer](h)
	race := func(n int, name string, opts ...api.NewOrchestrationOptions) (won int) {
		t.Helper()
		errs := make(chan error, n)
		for range n {
			go func() {
				_, err := h.ScheduleNewOrchestration(t.Context(), name, append(opts, api.WithInstanceID("one"))...)
				errs <- err
			}()
		}
		for range n {
			switch err := recv(t, errs, "answer"); {
			case err == nil:
				won++
			case !errors.Is(err, api.ErrDuplicateInstance) || !errors.Is(err, backend.ErrDuplicateEvent):
				t.Error(err)
			}
		}
		return won
	}
	reuse := func(s ...protos.OrchestrationStatus) api.NewOrchestrationOptions {
		return api.WithOrchestrationIdReusePolicy(&protos.OrchestrationIdReusePolicy{ReplaceableStatus: s})
	}
	if won := race(40, "o"); won != 1 {
		t.Errorf("%d starts won", won)
	}
	h.output("one", "1")
	if won := race(10, "o", reuse(api.RUNTIME_STATUS_FAILED)); won != 0 {
		t.Errorf("%d starts replaced a completed instance under a policy for failed ones", won)
	}
	if won := race(40, "wait", reuse(api.RUNTIME_STATUS_COMPLETED)); won != 1 {
		t.Errorf("%d starts replaced the completed instance", won)
	}
	h.waits("one")
	if won := race(1, "o", reuse(api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_TERMINATED)); won != 1 {
		t.Error("a running instance was not replaced")
	}
	h.output("one", "2")
	if n := runs.Load(); n != 2 {
		t.Errorf("%d runs, want 2", n)
	}
}

func c23TakenChildIDFailsTheTask(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := newHost(t, hub, orchestrators{
		"wait":  waitForever,
		"short": func(*task.OrchestrationContext) (any, error) { return 5, nil },
		"parent": func(c *task.OrchestrationContext) (any, error) {
			var id string
			if err := c.GetInput(&id); err != nil {
				return nil, err
			}
			var v int
			err := c.CallSubOrchestrator("short", task.WithSubOrchestrationInstanceID(id)).Await(&v)
			if err == nil {
				return v, nil
			}
			return fmt.Sprint(err), nil
		},
		"grandparent": func(c *task.OrchestrationContext) (any, error) {
			var s string
			err := c.CallSubOrchestrator("parent", task.WithSubOrchestratorInput(string(c.ID))).Await(&s)
			return s, err
		},
	}, nil)
	names := func(id api.InstanceID, taken string) {
		t.Helper()
		m := h.status(id, api.RUNTIME_STATUS_COMPLETED, 5*time.Second)
		if !strings.Contains(m.SerializedOutput, taken) {
			t.Errorf("%s does not name %s", m.SerializedOutput, taken)
		}
	}
	h.begin("wait", api.WithInstanceID("shared"))
	h.waits("shared")
	names(h.begin("parent", api.WithInput("shared")), "shared")
	names(h.begin("parent", api.WithInput("own"), api.WithInstanceID("own")), "own")
	names(h.begin("grandparent", api.WithInstanceID("ancestor")), "ancestor")

	h.begin("short", api.WithInstanceID("over"))
	h.output("over", "5")
	h.output(h.begin("parent", api.WithInput("over")), "5") // replaced

	if m := h.fetch("shared"); m.RuntimeStatus != api.RUNTIME_STATUS_RUNNING || m.Name != "wait" {
		t.Errorf("the first owner of the id is %s %v", m.Name, m.RuntimeStatus)
	}
}

func c23TwoParentsRaceForAChildID(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := newHost(t, hub, orchestrators{
		"wait": waitForever,
		"parent": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CallSubOrchestrator("wait", task.WithSubOrchestrationInstanceID("shared")).Await(nil)
		},
	}, nil)
	a, b := h.begin("parent"), h.begin("parent")
	h.waits("shared")
	var failed api.InstanceID
	eventually(t, 5*time.Second, "one parent failed", func() bool {
		for _, id := range []api.InstanceID{a, b} {
			if h.fetch(id).RuntimeStatus == api.RUNTIME_STATUS_FAILED {
				failed = id
			}
		}
		return failed != ""
	})
	if m := h.fetch("shared"); m.ParentInstanceID == failed || m.RuntimeStatus != api.RUNTIME_STATUS_RUNNING {
		t.Errorf("the child belongs to %s, %v; %s failed", m.ParentInstanceID, m.RuntimeStatus, failed)
	}
}

func c24IDs(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := newHost(t, hub, orchestrators{
		"o": func(c *task.OrchestrationContext) (any, error) {
			var v string
			err := c.WaitForSingleEvent("e", -1).Await(&v)
			return v, err
		},
		"parent": func(c *task.OrchestrationContext) (any, error) {
			var id []byte // a string would lose invalid UTF-8
			var v string
			if err := c.GetInput(&id); err != nil {
				return nil, err
			}
			err := c.CallSubOrchestrator("o", task.WithSubOrchestrationInstanceID(string(id))).Await(&v)
			return v, err
		},
	}, nil)
	good := []api.InstanceID{
		"café 日本 🎉", "cafe\u0301", "caf\u00e9", "a|b@c/d", " ", " Case", "Case", "case", "%", "_",
		api.InstanceID(strings.Repeat("x", 100)), api.InstanceID(strings.Repeat("日", 100)),
	}
	for _, id := range good {
		h.begin("o", api.WithInstanceID(id))
	}
	for _, id := range good {
		h.raise(id, "e", id)
		h.output(id, jsonOf(t, id))
		if m := h.fetch(id); m.InstanceID != id {
			t.Errorf("%q reads as %q", id, m.InstanceID)
		}
		p, err := h.Query(t.Context(), api.InstanceQuery{IDPrefix: string(id)})
		if err != nil || len(p.Instances) == 0 {
			t.Errorf("query for %q: %v", id, err)
		} else {
			for _, m := range p.Instances {
				if !strings.HasPrefix(string(m.InstanceID), string(id)) {
					t.Errorf("query for %q gives %q", id, m.InstanceID)
				}
			}
		}
		if n, err := h.Purge(t.Context(), id); n != 1 || err != nil {
			t.Errorf("purge %q: %d %v", id, n, err)
		}
		parent := h.begin("parent", api.WithInput([]byte(id)))
		eventually(t, patience, "the child", func() bool {
			_, err := h.FetchOrchestrationMetadata(t.Context(), id)
			return err == nil
		})
		h.raise(id, "e", "child")
		h.output(parent, `"child"`)
		if n, err := h.Purge(t.Context(), parent); n != 2 || err != nil {
			t.Errorf("purge parent of %q: %d %v", id, n, err)
		}
	}
	for _, id := range []api.InstanceID{api.InstanceID(strings.Repeat("x", 5000)), "a\x00b", "\xff"} {
		if _, err := h.ScheduleNewOrchestration(t.Context(), "o", api.WithInstanceID(id)); !errors.Is(err, api.ErrInvalidInput) {
			t.Errorf("start of %.10q: %v", id, err)
		}
		if err := h.RaiseEvent(t.Context(), id, "e", nil); !errors.Is(err, api.ErrInstanceNotFound) && !errors.Is(err, api.ErrInvalidInput) {
			t.Errorf("raise to %.10q: %v", id, err)
		}
		parent := h.begin("parent", api.WithInput([]byte(id)))
		eventually(t, 5*time.Second, fmt.Sprintf("the parent of %.10q failed", id), func() bool {
			return h.fetch(parent).RuntimeStatus == api.RUNTIME_STATUS_FAILED
		})
	}
	if id := h.begin("o", api.WithInstanceID("")); id == "" {
		t.Error("an empty id was not replaced by a random one")
	}
}

func c25StartTime(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	ran := make(chan time.Time, 1)
	all := orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		select {
		case ran <- time.Now():
		default:
		}
		return collect(c, 1)
	}}
	h := newHost(t, hub, all, nil)
	due := time.Now().Add(1500 * time.Millisecond)
	id := h.begin("o", api.WithStartTime(due))
	h.raise(id, "A", 3)
	if m := h.fetch(id); m.RuntimeStatus != api.RUNTIME_STATUS_PENDING ||
		m.ScheduledStartAt.Before(due) || m.ScheduledStartAt.After(due.Add(time.Millisecond)) || m.LastUpdatedAt.Before(m.CreatedAt) {
		t.Errorf("%v, at %v, want %v", m.RuntimeStatus, m.ScheduledStartAt, due)
	}
	h.stop()
	h = newHost(t, hub, all, nil)
	if at := recv(t, ran, "start"); at.Before(due) || at.After(due.Add(time.Second)) {
		t.Errorf("started %v after its time", at.Sub(due))
	}
	h.output(id, "[3]")
}

func c26UnknownNames(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := newHost(t, hub, orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		err := c.CallActivity("nope").Await(nil)
		var failed *task.TaskFailedError
		if !errors.As(err, &failed) {
			return nil, fmt.Errorf("got %w", err)
		}
		return failed.Type + " " + failed.Message, nil
	}}, nil)
	m := h.status(h.begin("nope"), api.RUNTIME_STATUS_FAILED, 2*time.Second)
	if d := m.FailureDetails; d.GetErrorType() != task.ErrorTypeOrchestratorNotRegistered || !strings.Contains(d.GetErrorMessage(), "nope") {
		t.Errorf("failure: %v", d)
	}
	m = h.status(h.begin("o"), api.RUNTIME_STATUS_COMPLETED, 2*time.Second)
	if out := m.SerializedOutput; !strings.Contains(out, task.ErrorTypeActivityNotRegistered) || !strings.Contains(out, "nope") {
		t.Errorf("the activity's error is %s", out)
	}
}

func c28FarAndPastTimers(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	delays := map[string]time.Duration{"past": -time.Hour, "zero": 0, "400 days": 400 * 24 * time.Hour, "largest": math.MaxInt64, "smallest": math.MinInt64}
	all := orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		var d time.Duration
		if err := c.GetInput(&d); err != nil {
			return nil, err
		}
		timer := c.CreateTimer(d)
		c.SetCustomStatus("waits")
		return nil, timer.Await(nil)
	}}
	h := newHost(t, hub, all, nil)
	for name, d := range delays {
		h.begin("o", api.WithInput(d), api.WithInstanceID(api.InstanceID(name)))
	}
	far := h.begin("o", api.WithInput(0), api.WithStartTime(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)))
	for name, d := range delays {
		id := api.InstanceID(name)
		if d <= 0 {
			h.output(id, "")
			continue
		}
		h.waits(id)
	}
	h.stop()
	h = newHost(t, hub, all, nil)
	h.output(h.begin("o", api.WithInput(50*time.Millisecond)), "") // the timer loop goes on
	for name, d := range delays {
		id := api.InstanceID(name)
		if d <= 0 {
			continue
		}
		var began, at time.Time
		if n := h.count(id, func(e *protos.HistoryEvent) bool {
			if s := e.GetOrchestratorStarted(); s != nil && began.IsZero() {
				began = e.GetTimestamp().AsTime()
			}
			if c := e.GetTimerCreated(); c != nil {
				at = c.GetFireAt().AsTime()
			}
			return e.GetTimerFired() != nil
		}); n != 0 {
			t.Errorf("%s: fired already", id)
		}
		if got := at.Sub(began); got < d-time.Second || got > d+time.Second && d < math.MaxInt64-time.Second {
			t.Errorf("%s: fires after %v, want %v", id, got, d)
		}
		if m := h.fetch(id); m.RuntimeStatus != api.RUNTIME_STATUS_RUNNING || m.Stalled != "" {
			t.Errorf("%s: %v %s", id, m.RuntimeStatus, m.Stalled)
		}
	}
	if m := h.fetch(far); m.RuntimeStatus != api.RUNTIME_STATUS_PENDING || m.ScheduledStartAt.Year() != 9999 {
		t.Errorf("start in 9999: %v, %v", m.RuntimeStatus, m.ScheduledStartAt)
	}
}

// An instance that continues as new before its timer fired sleeps until its next
// timer, also where it is out of memory meanwhile.
func c28TimersOfTheNextGeneration(t *testing.T, hubs NewHub) {
	const timeout = 2 * time.Second
	h := newHost(t, hubs(t), orchestrators{
		"o": func(c *task.OrchestrationContext) (any, error) {
			var n int
			if err := c.GetInput(&n); err != nil {
				return nil, err
			}
			if err := c.WaitForSingleEvent("go on", timeout).Await(nil); errors.Is(err, task.ErrTaskCanceled) {
				return n, nil
			} else if err != nil {
				return nil, err
			}
			c.ContinueAsNew(n + 1)
			return nil, nil
		},
		"other": func(*task.OrchestrationContext) (any, error) { return nil, nil },
	}, nil, func(o *hostOptions) { o.MaxResident = 1 })
	id := h.begin("o")
	recv(t, time.After(timeout/8), "moment between the timers of two generations")
	h.raise(id, "go on", nil)
	for range 5 {
		h.end(h.begin("other"), patience) // its commits drive the first one out of memory
	}
	h.output(id, "1")
}
