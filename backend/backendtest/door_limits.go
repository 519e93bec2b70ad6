package backendtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

const defaultPayload = 4 << 20

// limits asks for other limits than the defaults; 0 is a default.
func limits(payload, id int) hostOption {
	return func(o *hostOptions) { o.MaxPayload, o.MaxIDLength = payload, id }
}

// wantLimit skips the test of a backend that does not have this limit of payloads.
func (h *caseHost) wantLimit(limit int) {
	h.t.Helper()
	if l, ok := h.be.(backend.PayloadLimiter); !ok || l.MaxPayload() != limit {
		h.t.Skipf("the backend has no limit of %d bytes a payload", limit)
	}
}

// quoted is a JSON string with n bytes.
func quoted(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }

// stored counts the instances.
func (h *caseHost) stored() int {
	h.t.Helper()
	p, err := h.Query(h.t.Context(), api.InstanceQuery{PageSize: 1000})
	must(h.t, err)
	return len(p.Instances)
}

// payloadLimitAtTheDoor: what a client sends is refused above the limit, to the byte.
func payloadLimitAtTheDoor(t *testing.T, hubs NewHub) {
	for _, limit := range []int{1000, defaultPayload} {
		hub := hubs(t)
		h := idleHost(t, hub, limits(limit, 0))
		h.wantLimit(limit)
		id := h.begin("o", api.WithRawInput(quoted(limit)))
		h.raise(id, "e", api.WithRawEventData(quoted(limit)))
		large := quoted(limit + 1)
		for name, err := range map[string]error{
			"input": func() error {
				_, err := h.ScheduleNewOrchestration(t.Context(), "o", api.WithRawInput(large))
				return err
			}(),
			"input as JSON": func() error {
				_, err := h.ScheduleNewOrchestration(t.Context(), "o", api.WithInput(strings.Repeat("x", limit-1)))
				return err
			}(),
			"name": func() error {
				_, err := h.ScheduleNewOrchestration(t.Context(), strings.Repeat("n", limit+20000))
				return err
			}(),
			"tags": func() error {
				_, err := h.ScheduleNewOrchestration(t.Context(), "o", api.WithTags(map[string]string{"k": strings.Repeat("x", limit+20000)}))
				return err
			}(),
			"event":          h.RaiseEvent(t.Context(), id, "e", api.WithRawEventData(large)),
			"event as JSON":  h.RaiseEvent(t.Context(), id, "e", strings.Repeat("x", limit-1)),
			"event name":     h.RaiseEvent(t.Context(), id, strings.Repeat("n", limit+20000), nil),
			"output":         h.Terminate(t.Context(), id, api.WithRawOutput(large)),
			"forced output":  h.Client.ForceTerminate(t.Context(), id, api.WithRawOutput(large)),
			"reason":         h.TerminateOrchestration(t.Context(), id, large),
			"suspend reason": h.SuspendOrchestration(t.Context(), id, strings.Repeat("x", limit+20000)),
			"resume reason":  h.ResumeOrchestration(t.Context(), id, strings.Repeat("x", limit+20000)),
		} {
			if errors.Is(err, api.ErrUnsupported) {
				continue
			}
			if !errors.Is(err, api.ErrPayloadTooLarge) || !errors.Is(err, api.ErrInvalidInput) {
				t.Errorf("%s: %.200v", name, err)
			} else if s := err.Error(); !strings.Contains(s, fmt.Sprint(limit)) {
				t.Errorf("%s: %.500q does not name the limit", name, s)
			}
		}
		if n := h.stored(); n != 1 {
			t.Errorf("%d instances are stored, want 1", n)
		}
		if hub.Messages != nil {
			if n := hub.Messages(t); n != 2 {
				t.Errorf("%d messages are stored, want the start and one event", n)
			}
		}
		must(t, h.be.DeleteTaskHub(t.Context()))
	}
}

// payloadLimitInATurn: a payload that user code makes fails what made it, and nothing else.
func payloadLimitInATurn(t *testing.T, hubs NewHub) {
	const limit = 10000
	text := func(c *task.OrchestrationContext) string { // as JSON it has as many bytes as the input says
		var n int
		if err := c.GetInput(&n); err != nil {
			return err.Error()
		}
		return strings.Repeat("x", n-2)
	}
	os := orchestrators{
		"output": func(c *task.OrchestrationContext) (any, error) { return text(c), nil },
		"status": func(c *task.OrchestrationContext) (any, error) { c.SetCustomStatus(text(c) + ".."); return nil, nil },
		"activity": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CallActivity("nothing", task.WithActivityInput(text(c))).Await(nil)
		},
		"child": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CallSubOrchestrator("nothing", task.WithSubOrchestratorInput(text(c))).Await(nil)
		},
		"event":   func(c *task.OrchestrationContext) (any, error) { return nil, c.SendEvent("nobody", "e", text(c)) },
		"failure": func(c *task.OrchestrationContext) (any, error) { return nil, errors.New(strings.Repeat(text(c), 10)) },
		"again": func(c *task.OrchestrationContext) (any, error) {
			var done string
			if c.GetInput(&done) != nil {
				c.ContinueAsNew(text(c))
			}
			return nil, nil
		},
		"result": func(c *task.OrchestrationContext) (any, error) { // of an activity
			var n int
			err := errors.Join(c.GetInput(&n), c.CallActivity("text", task.WithActivityInput(n)).Await(nil))
			var f *task.TaskFailedError
			if errors.As(err, &f) && f.Type == "PayloadTooLarge" && f.NonRetriable {
				return nil, task.NonRetriable(errors.New(f.Message))
			}
			return nil, err
		},
		"parent": func(c *task.OrchestrationContext) (any, error) {
			var f *task.TaskFailedError
			err := c.CallSubOrchestrator("output", task.WithSubOrchestratorInput(limit+1)).Await(nil)
			if !errors.As(err, &f) || f.Type != "PayloadTooLarge" {
				return nil, fmt.Errorf("got %w", err)
			}
			return f.NonRetriable, nil
		},
		"nothing": func(*task.OrchestrationContext) (any, error) { return nil, nil },
		"other":   other,
	}
	h := newHost(t, hubs(t), os, activities{
		"nothing": func(task.ActivityContext) (any, error) { return nil, nil },
		"text": func(c task.ActivityContext) (any, error) {
			var n int
			err := c.GetInput(&n)
			return strings.Repeat("x", n-2), err
		}, "echo": echo,
	}, limits(limit, 0))
	h.wantLimit(limit)
	for _, name := range []string{"output", "status", "activity", "child", "event", "again", "result"} {
		h.status(h.begin(name, api.WithInput(limit)), api.RUNTIME_STATUS_COMPLETED, 5*time.Second)
	}
	check := h.others()
	for _, name := range []string{"output", "status", "activity", "child", "event", "failure", "again", "result"} {
		id := h.begin(name, api.WithInput(limit+1))
		m := h.status(id, api.RUNTIME_STATUS_FAILED, 5*time.Second)
		f := m.FailureDetails
		if name != "result" && f.GetErrorType() != "PayloadTooLarge" || !f.GetIsNonRetriable() {
			t.Errorf("%s: %.300v", name, f)
		}
		if !strings.Contains(f.GetErrorMessage(), "10000") || name != "failure" && !strings.Contains(f.GetErrorMessage(), "10001") {
			t.Errorf("%s: %.300q does not name the limit and the size", name, f.GetErrorMessage())
		}
		if n := h.count(id, func(e *protos.HistoryEvent) bool { return e.GetTaskScheduled() != nil }); n > 0 && name != "result" {
			t.Errorf("%s: the call is in the history", name)
		}
	}
	h.output(h.begin("parent"), "true")
	check()
}

// notUTF8: protobuf holds valid UTF-8 only; what is not, is refused where it is made.
func notUTF8(t *testing.T, hubs NewHub) {
	const bad = "a\xffb"
	os := orchestrators{
		"wait":     waitForever,
		"other":    other,
		"status":   func(c *task.OrchestrationContext) (any, error) { c.SetCustomStatus(bad); return nil, nil },
		"activity": func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity(bad).Await(nil) },
		"activity input": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CallActivity("echo", task.WithRawActivityInput(bad)).Await(nil)
		},
		"child": func(c *task.OrchestrationContext) (any, error) { return nil, c.CallSubOrchestrator(bad).Await(nil) },
		"child input": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CallSubOrchestrator("wait", task.WithRawSubOrchestratorInput(bad)).Await(nil)
		},
		"event":       func(c *task.OrchestrationContext) (any, error) { return nil, c.SendEvent("x", bad, nil) },
		"event's id":  func(c *task.OrchestrationContext) (any, error) { return nil, c.SendEvent(bad, "e", nil) },
		"failure":     func(c *task.OrchestrationContext) (any, error) { return nil, errors.New(bad) },
		"panic":       func(c *task.OrchestrationContext) (any, error) { panic(bad) },
		"raw output":  func(c *task.OrchestrationContext) (any, error) { return json.RawMessage(`"` + bad + `"`), nil },
		"call fails":  func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity("fails").Await(nil) },
		"call panics": func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity("panics").Await(nil) },
		"call raw":    func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity("raw").Await(nil) },
	}
	h := newHost(t, hubs(t), os, activities{
		"echo":   echo,
		"fails":  func(task.ActivityContext) (any, error) { return nil, errors.New(bad) },
		"panics": func(task.ActivityContext) (any, error) { panic(bad) },
		"raw":    func(task.ActivityContext) (any, error) { return json.RawMessage(`"` + bad + `"`), nil },
	})
	check := h.others()
	for name := range os {
		if name == "wait" || name == "other" {
			continue
		}
		id := h.begin(name)
		m := h.end(id, 5*time.Second)                                           // at once, not after tries that must all fail
		lossy := name == "status" || name == "raw output" || name == "call raw" // the replacement character is as good
		if m.RuntimeStatus != api.RUNTIME_STATUS_FAILED && !lossy {
			t.Errorf("%s: %v %q", name, m.RuntimeStatus, m.SerializedOutput)
		}
		if f := m.FailureDetails; m.RuntimeStatus == api.RUNTIME_STATUS_FAILED && f.GetErrorMessage() == "" {
			t.Errorf("%s: no reason", name)
		}
	}
	runs := h.begin("wait", api.WithInstanceID("runs"))
	h.waits(runs)
	before := h.stored()
	for name, err := range map[string]error{
		"input": func() error {
			_, err := h.ScheduleNewOrchestration(t.Context(), "wait", api.WithRawInput(bad))
			return err
		}(),
		"name": func() error { _, err := h.ScheduleNewOrchestration(t.Context(), bad); return err }(),
		"version": func() error {
			_, err := h.ScheduleNewOrchestration(t.Context(), "wait", api.WithVersion(bad))
			return err
		}(),
		"tag": func() error {
			_, err := h.ScheduleNewOrchestration(t.Context(), "wait", api.WithTags(map[string]string{bad: ""}))
			return err
		}(),
		"tag value": func() error {
			_, err := h.ScheduleNewOrchestration(t.Context(), "wait", api.WithTags(map[string]string{"k": bad}))
			return err
		}(),
		"event":   h.RaiseEvent(t.Context(), runs, bad, nil),
		"data":    h.RaiseEvent(t.Context(), runs, "e", api.WithRawEventData(bad)),
		"output":  h.Terminate(t.Context(), runs, api.WithRawOutput(bad)),
		"forced":  h.Client.ForceTerminate(t.Context(), runs, api.WithRawOutput(bad)),
		"suspend": h.SuspendOrchestration(t.Context(), runs, bad),
		"resume":  h.ResumeOrchestration(t.Context(), runs, bad),
		"id":      h.RaiseEvent(t.Context(), bad, "e", nil),
		"fetch":   func() error { _, err := h.FetchOrchestrationMetadata(t.Context(), bad); return err }(),
		"purge":   h.PurgeOrchestrationState(t.Context(), bad),
	} {
		if !errors.Is(err, api.ErrInvalidInput) && !errors.Is(err, api.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m := h.fetch(runs); m.RuntimeStatus != api.RUNTIME_STATUS_RUNNING || h.stored() != before {
		t.Errorf("refused calls changed something: %v, %d instances", m.RuntimeStatus, h.stored())
	}
	check()
	h.others()()
}
