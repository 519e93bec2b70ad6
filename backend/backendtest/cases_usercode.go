package backendtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/task"
)

// others starts ten instances that must complete whatever happens to the rest.
func (h *caseHost) others() func() {
	h.t.Helper()
	ids := make([]api.InstanceID, 10)
	for i := range ids {
		ids[i] = h.begin("other")
	}
	return func() {
		h.t.Helper()
		for _, id := range ids {
			h.output(id, `"fine"`)
		}
	}
}

func other(c *task.OrchestrationContext) (any, error) {
	var s string
	err := c.CallActivity("echo", task.WithActivityInput("fine")).Await(&s)
	return s, err
}

func c51ChangedCode(t *testing.T, hubs NewHub) {
	activity := func(name string) task.Orchestrator {
		return func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity(name).Await(nil) }
	}
	child := func(name string) task.Orchestrator {
		return func(c *task.OrchestrationContext) (any, error) { return nil, c.CallSubOrchestrator(name).Await(nil) }
	}
	nothing := func(*task.OrchestrationContext) (any, error) { return nil, nil }
	for name, tt := range map[string]struct {
		was, is task.Orchestrator
		names   []string
	}{
		"another activity": {activity("first"), activity("second"), []string{"first", "second"}},
		"removed":          {activity("first"), nothing, []string{"first"}},
		"a call before": {activity("first"), func(c *task.OrchestrationContext) (any, error) {
			return nil, errors.Join(c.CallActivity("second").Await(nil), c.CallActivity("first").Await(nil))
		}, []string{"first", "second"}},
		"a timer instead": {activity("first"), func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CreateTimer(time.Millisecond).Await(nil)
		}, []string{"first", "timer"}},
		"another child": {child("kidA"), child("kidB"), []string{"kidA", "kidB"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := hubs(t)
			code := func(f task.Orchestrator) orchestrators {
				return orchestrators{
					"o": func(c *task.OrchestrationContext) (any, error) {
						if v, err := f(c); err != nil {
							return v, err
						}
						c.SetCustomStatus("waits")
						return nil, c.WaitForSingleEvent("go", -1).Await(nil)
					},
					"kidA": nothing, "kidB": nothing, "other": other,
				}
			}
			as := activities{"first": echo, "second": echo, "echo": echo}
			h := newHost(t, hub, code(tt.was), as)
			id := h.begin("o")
			h.waits(id)
			h.stop()
			h = newHost(t, hub, code(tt.is), as)
			check := h.others()
			h.raise(id, "go", nil)
			m := h.status(id, api.RUNTIME_STATUS_FAILED, 5*time.Second)
			if m.FailureDetails.GetErrorType() != task.ErrorTypeNonDeterminism {
				t.Errorf("failure: %v", m.FailureDetails)
			}
			for _, n := range tt.names {
				if !strings.Contains(strings.ToLower(m.FailureDetails.GetErrorMessage()), strings.ToLower(n)) {
					t.Errorf("%q does not name %s", m.FailureDetails.GetErrorMessage(), n)
				}
			}
			check()
		})
	}
}

type badJSON struct{}

func (badJSON) MarshalJSON() ([]byte, error) { panic("no JSON") }

func c52PanicsInUserCode(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	bad := map[string]func() any{
		"nil":     func() any { var p *int; return *p },
		"value":   func() any { panic("value") },
		"nothing": func() any { panic(nil) }, //nolint:govet // what a user may write
		"error":   func() any { panic(errors.New("an error")) },
		"goexit":  func() any { runtime.Goexit(); return nil },
		"json":    func() any { return badJSON{} },
	}
	os, as := orchestrators{"other": other}, activities{"echo": echo}
	for name, f := range bad {
		os[name] = func(*task.OrchestrationContext) (any, error) { return f(), nil }
		as[name] = func(task.ActivityContext) (any, error) { return f(), nil }
		os["call "+name] = func(c *task.OrchestrationContext) (any, error) {
			var failed *task.TaskFailedError
			if err := c.CallActivity(name).Await(nil); !errors.As(err, &failed) {
				return nil, fmt.Errorf("got %w", err)
			}
			return failed.Type != "" && failed.Message != "", nil
		}
	}
	h := newHost(t, hub, os, as)
	check := h.others()
	for name := range bad {
		m := h.status(h.begin(name), api.RUNTIME_STATUS_FAILED, 5*time.Second)
		d := m.FailureDetails
		if d.GetErrorMessage() == "" || name != "json" && d.GetStackTrace().GetValue() == "" {
			t.Errorf("%s: %v", name, d)
		}
		h.output(h.begin("call "+name), "true")
	}
	check()
	h.others()()
}

func c54ValuesEndToEnd(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := newHost(t, hub, orchestrators{
		// Each way that a payload can go, in one orchestrator: input, activity, child, event, continue-as-new, output.
		"o": func(c *task.OrchestrationContext) (any, error) {
			var in struct {
				Raw   json.RawMessage
				Round int
			}
			if err := c.GetInput(&in); err != nil {
				return nil, err
			}
			if in.Round == 0 {
				in.Round = 1
				c.ContinueAsNew(in, task.WithKeepUnprocessedEvents())
				return nil, nil
			}
			seen := []json.RawMessage{in.Raw}
			for _, x := range []task.Task{
				c.CallActivity("same", task.WithRawActivityInput(string(in.Raw))),
				c.CallSubOrchestrator("same", task.WithRawSubOrchestratorInput(string(in.Raw))),
				c.WaitForSingleEvent("A", -1),
			} {
				got := json.RawMessage("untouched")
				if err := x.Await(&got); err != nil {
					return nil, err
				}
				seen = append(seen, got)
			}
			for _, s := range seen[1:] {
				if string(s) != string(in.Raw) {
					return nil, fmt.Errorf("got %q, want %s everywhere", seen, in.Raw)
				}
			}
			c.SetCustomStatus(string(in.Raw))
			return seen[1], nil
		},
		"same": func(c *task.OrchestrationContext) (any, error) {
			var raw json.RawMessage
			err := c.GetInput(&raw)
			return raw, err
		},
		"nothing": func(c *task.OrchestrationContext) (any, error) {
			got := "untouched"
			return got, c.CallActivity("nothing").Await(&got)
		},
		"null": func(c *task.OrchestrationContext) (any, error) {
			old := 5
			p := &old
			err := c.CallActivity("null").Await(&p)
			return p == nil, err
		},
		"wrong": func(c *task.OrchestrationContext) (any, error) {
			var n int
			err := c.CallActivity("text").Await(&n)
			return err != nil, nil
		},
	}, activities{
		"same": func(c task.ActivityContext) (any, error) {
			var raw json.RawMessage
			err := c.GetInput(&raw)
			return raw, err
		},
		"nothing": func(task.ActivityContext) (any, error) { return nil, nil },
		"null":    func(task.ActivityContext) (any, error) { return (*int)(nil), nil },
		"text":    func(task.ActivityContext) (any, error) { return "str", nil },
	})
	for _, v := range []string{`0`, `""`, `false`, `[]`, `null`, `{}`} {
		id := h.begin("o", api.WithRawInput(`{"Raw":`+v+`}`))
		h.raise(id, "A", json.RawMessage(v))
		m := h.status(id, api.RUNTIME_STATUS_COMPLETED, 5*time.Second)
		if m.SerializedOutput != v || m.SerializedCustomStatus != v {
			t.Errorf("%s: output %s, custom status %s", v, m.SerializedOutput, m.SerializedCustomStatus)
		}
	}
	h.output(h.begin("nothing"), `"untouched"`)
	h.output(h.begin("null"), "true")
	h.output(h.begin("wrong"), "true")
}

func c54UnserialisableValues(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	type node struct{ Next *node }
	ring := &node{}
	ring.Next = ring
	os, as := orchestrators{}, activities{}
	values := map[string]any{"chan": make(chan int), "NaN": math.NaN(), "node": ring}
	types := map[string]string{"chan": "chan int", "NaN": "float64", "node": "node"}
	for name, v := range values {
		os[name] = func(*task.OrchestrationContext) (any, error) { return v, nil }
		as[name] = func(task.ActivityContext) (any, error) { return v, nil }
		os["call "+name] = func(c *task.OrchestrationContext) (any, error) {
			return fmt.Sprint(c.CallActivity(name).Await(nil)), nil
		}
		os["input "+name] = func(c *task.OrchestrationContext) (any, error) {
			return fmt.Sprint(c.CallActivity(name, task.WithActivityInput(v)).Await(nil)), nil
		}
		os["again "+name] = func(c *task.OrchestrationContext) (any, error) {
			c.ContinueAsNew(v)
			return nil, nil
		}
	}
	h := newHost(t, hub, os, as)
	for name := range values {
		for _, kind := range []string{"", "again "} {
			m := h.status(h.begin(kind+name), api.RUNTIME_STATUS_FAILED, 5*time.Second)
			if !strings.Contains(m.FailureDetails.GetErrorMessage(), types[name]) {
				t.Errorf("%s%s: %v does not name %s", kind, name, m.FailureDetails, types[name])
			}
		}
		for _, kind := range []string{"call ", "input "} {
			m := h.status(h.begin(kind+name), api.RUNTIME_STATUS_COMPLETED, 5*time.Second)
			if !strings.Contains(m.SerializedOutput, types[name]) {
				t.Errorf("%s%s: %s does not name %s", kind, name, m.SerializedOutput, types[name])
			}
		}
	}
}

func c56TasksStartInOrder(t *testing.T, hubs NewHub) {
	const n = 50
	hub := hubs(t)
	order := make(chan int, n)
	h := newHost(t, hub, orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		tasks := make([]task.Task, n)
		for i := range tasks {
			tasks[i] = c.CallActivity("a", task.WithActivityInput(i))
		}
		return nil, c.WhenAll(tasks...).Await(nil)
	}}, activities{"a": func(c task.ActivityContext) (any, error) {
		var i int
		err := c.GetInput(&i)
		order <- i
		return i, err
	}}, parallelism(1))
	h.output(h.begin("o"), "")
	for i := range n {
		if got := recv(t, order, "activity"); got != i {
			t.Fatalf("activity %d ran as number %d", got, i)
		}
	}
}

func c56TheSameDecisionsEachTime(t *testing.T, hubs NewHub) {
	h := newHost(t, hubs(t), orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		var tasks []task.Task
		for i := range 5 {
			tasks = append(tasks, c.CallActivity("echo", task.WithActivityInput(i)), c.CreateTimer(0),
				c.CallSubOrchestrator("kid", task.WithSubOrchestratorInput(i)))
		}
		return nil, c.WhenAll(tasks...).Await(nil)
	}, "kid": func(*task.OrchestrationContext) (any, error) { return nil, nil }}, activities{"echo": echo}, parallelism(1))
	first := ""
	for n := range 100 {
		id := h.begin("o")
		h.output(id, "")
		var decisions strings.Builder
		h.count(id, func(e *protos.HistoryEvent) bool {
			switch {
			case e.GetTaskScheduled() != nil:
				fmt.Fprintf(&decisions, "%d %s %s\n", e.GetEventId(), e.GetTaskScheduled().GetName(), e.GetTaskScheduled().GetInput().GetValue())
			case e.GetTimerCreated() != nil:
				fmt.Fprintf(&decisions, "%d timer\n", e.GetEventId())
			case e.GetSubOrchestrationInstanceCreated() != nil:
				fmt.Fprintf(&decisions, "%d %s %s\n", e.GetEventId(), e.GetSubOrchestrationInstanceCreated().GetName(),
					e.GetSubOrchestrationInstanceCreated().GetInput().GetValue())
			}
			return false
		})
		if first == "" {
			first = decisions.String()
		}
		if got := decisions.String(); got != first || strings.Count(got, "\n") != 15 {
			t.Fatalf("run %d decided\n%s, not\n%s", n, got, first)
		}
	}
}
