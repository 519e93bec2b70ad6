package backendtest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

func c63ADamagedInstanceStopsAlone(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	all := orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		c.SetCustomStatus("waits")
		return nil, c.WaitForSingleEvent("go", -1).Await(nil)
	}, "other": other}
	h := newHost(t, hub, all, activities{"echo": echo})
	for _, id := range []api.InstanceID{"good", "bad"} {
		h.begin("o", api.WithInstanceID(id))
		h.waits(id)
	}
	h.stop()
	hub.damage(t, "bad", UnreadableHistory)
	h = newHost(t, hub, all, activities{"echo": echo})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := h.RaiseEvent(ctx, "bad", "go", nil); err != nil {
		t.Logf("raise to the damaged instance: %v", err)
	}
	h.raise("good", "go", nil)
	h.status("good", api.RUNTIME_STATUS_COMPLETED, 2*time.Second)
	eventually(t, 5*time.Second, "bad is set aside with a reason", func() bool { return h.fetch("bad").Stalled != "" })
	if t.Failed() {
		t.Logf("bad: %+v, log: %q", h.fetch("bad"), h.log.taken())
	}
	for range 5 {
		h.others()()
	}
	if n := len(h.log.taken()); n > 10 {
		t.Errorf("%d lines of log: %q", n, h.log.taken()[:10])
	}
}

func c64AnInstanceWithoutItsStart(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	all := orchestrators{"wait": waitForever, "other": other}
	h := newHost(t, hub, all, activities{"echo": echo})
	h.begin("wait", api.WithInstanceID("bad"))
	h.waits("bad")
	h.stop()
	hub.damage(t, "bad", LostHistory)
	h = newHost(t, hub, all, activities{"echo": echo})
	if err := h.RaiseEvent(t.Context(), "bad", "never", nil); err != nil {
		t.Logf("raise: %v", err)
	}
	h.others()()
	eventually(t, 90*time.Second, "bad has failed or is set aside", func() bool {
		m := h.fetch("bad")
		return m.RuntimeStatus == api.RUNTIME_STATUS_FAILED || m.Stalled != ""
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := h.ForceTerminate(ctx, "bad"); err != nil {
		t.Errorf("force terminate: %v", err)
	}
	if n, err := h.Purge(ctx, "bad"); n != 1 || err != nil {
		t.Errorf("purge: %d %v", n, err)
	}
}

// poisoned cannot execute one orchestrator.
type poisoned struct {
	backend.Executor
	calls chan struct{}
}

func (p poisoned) ExecuteOrchestrator(
	ctx context.Context, id api.InstanceID, old, fresh []*protos.HistoryEvent,
) (*backend.ExecutionResults, error) {
	if id == "poison" {
		p.calls <- struct{}{}
		return nil, errors.New("this turn never works")
	}
	return p.Executor.ExecuteOrchestrator(ctx, id, old, fresh)
}

func (p poisoned) ExecuteActivity(
	ctx context.Context, id api.InstanceID, scheduled *protos.HistoryEvent,
) (*protos.HistoryEvent, error) {
	if id == "poisoned activity" {
		p.calls <- struct{}{}
		return nil, errors.New("its worker died")
	}
	return p.Executor.ExecuteActivity(ctx, id, scheduled)
}

// An activity that never gives a result, as one does that kills its worker, fails after some tries.
func c64AnActivityWithoutAResult(t *testing.T, hubs NewHub) {
	r := task.NewTaskRegistry()
	must(t, errors.Join(r.AddOrchestratorN("other", other), r.AddActivityN("echo", echo)))
	h := idleHost(t, hubs(t))
	ex := poisoned{task.NewTaskExecutor(r), make(chan struct{}, 1000)}
	h.workWith(ex, parallelism(4))
	h.begin("other", api.WithInstanceID("poisoned activity"))
	for range 3 {
		recv(t, ex.calls, "try")
	}
	h.others()()
	m := h.status("poisoned activity", api.RUNTIME_STATUS_FAILED, patience)
	if !strings.Contains(m.FailureDetails.String(), "its worker died") {
		t.Errorf("failure: %v", m.FailureDetails)
	}
	if n := 3 + len(ex.calls); n > 20 {
		t.Errorf("%d tries", n)
	}
}

func c64ATurnThatAlwaysFails(t *testing.T, hubs NewHub) {
	r := task.NewTaskRegistry()
	must(t, errors.Join(r.AddOrchestratorN("other", other), r.AddActivityN("echo", echo)))
	h := idleHost(t, hubs(t))
	ex := poisoned{task.NewTaskExecutor(r), make(chan struct{}, 1000)}
	h.workWith(ex, parallelism(4))
	h.begin("other", api.WithInstanceID("poison"))
	for range 3 {
		recv(t, ex.calls, "try")
	}
	h.others()()
	began := time.Now()
	m := h.status("poison", api.RUNTIME_STATUS_FAILED, 90*time.Second) // ten tries, each a second later than the last
	if !strings.Contains(m.FailureDetails.GetErrorMessage(), "this turn never works") {
		t.Errorf("failure after %v: %v", time.Since(began), m.FailureDetails)
	}
	if n := len(ex.calls); n > 20 {
		t.Errorf("%d tries", n)
	}
}

func c64ATurnThatCannotBeStored(t *testing.T, hubs NewHub) {
	h := newHost(t, hubs(t), orchestrators{"other": other, "bad": func(c *task.OrchestrationContext) (any, error) {
		return nil, c.CallActivity("\xff").Await(nil) // no protobuf string
	}}, activities{"echo": echo})
	id := h.begin("bad")
	h.others()()
	h.status(id, api.RUNTIME_STATUS_FAILED, 75*time.Second)
}

func c64TextThatCannotBeStored(t *testing.T, hubs NewHub) {
	h := newHost(t, hubs(t), orchestrators{
		"other": other,
		"input": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CallActivity("echo", task.WithRawActivityInput("\xff")).Await(nil)
		},
		"result": func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity("result").Await(nil) },
		"error":  func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity("error").Await(nil) },
		"status": func(c *task.OrchestrationContext) (any, error) {
			c.SetCustomStatus("half a rune: \xe2\x82")
			return nil, errors.New("\xe2\x82 in an error")
		},
	}, activities{
		"echo":   echo,
		"result": func(task.ActivityContext) (any, error) { return json.RawMessage("\"\xff\""), nil },
		"error":  func(task.ActivityContext) (any, error) { panic(errors.New("\xff in a panic")) },
	})
	for name, want := range map[string]string{
		"input": "UTF-8", "result": "UTF-8", "error": "\uFFFD in a panic", "status": "\uFFFD in an error",
	} {
		m := h.status(h.begin(name), api.RUNTIME_STATUS_FAILED, patience)
		if !strings.Contains(m.FailureDetails.String(), want) {
			t.Errorf("%s: %v, want %q", name, m.FailureDetails, want)
		}
	}
	h.others()()
}
