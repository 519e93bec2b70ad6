package backendtest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/task"
)

func isTimer(e *protos.HistoryEvent) bool { return e.GetTimerCreated() != nil }

// retried calls an activity that fails `fails` times and then returns 7.
func retried(t *testing.T, hub Hub, fails int32, p *task.RetryPolicy) (h *caseHost, runs *atomic.Int32) {
	t.Helper()
	runs = &atomic.Int32{}
	h = newHost(t, hub, orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		var a, b int
		x := c.CallActivity("a", task.WithActivityRetryPolicy(p))
		if err := x.Await(&a); err != nil {
			if again := x.Await(nil); again == nil || again.Error() != err.Error() {
				return nil, fmt.Errorf("second await: %w", again)
			}
			return nil, err
		}
		err := x.Await(&b)
		return []int{a, b}, err
	}}, activities{"a": func(task.ActivityContext) (any, error) {
		if runs.Add(1) <= fails {
			return nil, errors.New("boom")
		}
		return 7, nil
	}})
	return h, runs
}

func c30UnusualRetryPolicies(t *testing.T, hubs NewHub) {
	t.Run("half a millisecond", func(t *testing.T) {
		t.Parallel()
		h, runs := retried(t, hubs(t), math.MaxInt32, &task.RetryPolicy{MaxAttempts: 3, InitialRetryInterval: 500 * time.Microsecond})
		h.status(h.begin("o"), api.RUNTIME_STATUS_FAILED, 5*time.Second)
		if n := runs.Load(); n != 3 {
			t.Errorf("%d runs, want 3", n)
		}
	})
	t.Run("overflow", func(t *testing.T) {
		t.Parallel()
		h, runs := retried(t, hubs(t), math.MaxInt32, &task.RetryPolicy{
			MaxAttempts: 60, InitialRetryInterval: time.Millisecond, BackoffCoefficient: 1e300,
		})
		id := h.begin("o")
		eventually(t, 5*time.Second, "the second timer", func() bool { return h.count(id, isTimer) == 2 })
		var at time.Time
		h.count(id, func(e *protos.HistoryEvent) bool {
			if isTimer(e) {
				at = e.GetTimerCreated().GetFireAt().AsTime()
			}
			return false
		})
		if d := time.Until(at); d < 99*365*24*time.Hour || runs.Load() != 2 {
			t.Errorf("the delay before the third try is %v, %d runs", d, runs.Load())
		}
	})
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		h, runs := retried(t, hubs(t), math.MaxInt32, &task.RetryPolicy{
			MaxAttempts: 100, InitialRetryInterval: 100 * time.Millisecond, RetryTimeout: 250 * time.Millisecond,
		})
		id := h.begin("o")
		m := h.status(id, api.RUNTIME_STATUS_FAILED, 5*time.Second)
		// Of a timer that fires too late no try comes.
		if n, timers := int(runs.Load()), h.count(id, isTimer); n < 1 || n > 3 || timers < n-1 || timers > n {
			t.Errorf("%d runs, %d timers", n, timers)
		}
		if d := m.CompletedAt.Sub(m.CreatedAt); d > 300*time.Millisecond && runs.Load() == 3 {
			t.Logf("took %v", d)
		}
	})
	for name, p := range map[string]*task.RetryPolicy{
		"NaN":                 {MaxAttempts: 3, InitialRetryInterval: time.Millisecond, BackoffCoefficient: math.NaN()},
		"infinity":            {MaxAttempts: 3, InitialRetryInterval: time.Millisecond, BackoffCoefficient: math.Inf(1)},
		"negative":            {MaxAttempts: 3, InitialRetryInterval: time.Millisecond, BackoffCoefficient: -1},
		"no attempts":         {InitialRetryInterval: time.Millisecond},
		"no interval":         {MaxAttempts: 3},
		"negative interval":   {MaxAttempts: 3, InitialRetryInterval: -1},
		"negative maximum":    {MaxAttempts: 3, InitialRetryInterval: 1, MaxRetryInterval: -1},
		"negative time limit": {MaxAttempts: 3, InitialRetryInterval: 1, RetryTimeout: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, hubs(t), orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
				return errors.Is(c.CallActivity("a", task.WithActivityRetryPolicy(p)).Await(nil), task.ErrInvalidRetryPolicy), nil
			}}, nil)
			h.output(h.begin("o"), "true")
		})
	}
}

func c32ATaskHasOneResult(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h, runs := retried(t, hub, 1, &task.RetryPolicy{MaxAttempts: 3, InitialRetryInterval: time.Millisecond})
	h.output(h.begin("o"), "[7,7]")
	if n := runs.Load(); n != 2 {
		t.Errorf("%d runs, want 2", n)
	}
}

func c32NoTimerAfterTheLastAttempt(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h, runs := retried(t, hub, math.MaxInt32, &task.RetryPolicy{MaxAttempts: 3, InitialRetryInterval: time.Millisecond})
	id := h.begin("o")
	h.status(id, api.RUNTIME_STATUS_FAILED, 5*time.Second)
	if n := h.count(id, isTimer); n != 2 || runs.Load() != 3 {
		t.Errorf("%d timers and %d runs, want 2 and 3", n, runs.Load())
	}
}

func c32RetryHandlers(t *testing.T, hubs NewHub) {
	for name, tt := range map[string]struct {
		f    func(error) bool
		typ  string
		runs int32
	}{
		"panics": {func(error) bool { panic("handler") }, task.ErrorTypeRetryHandlerPanic, 1},
		"no":     {func(error) bool { return false }, "", 1},
		"counts": {func(err error) bool {
			var f *task.TaskFailedError
			return errors.As(err, &f) && f.Attempt < 3 && f.Message == "boom" && f.Elapsed >= time.Duration(f.Attempt-1)*5*time.Millisecond
		}, "", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var runs atomic.Int32
			h := newHost(t, hubs(t), orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
				err := c.CallActivity("a", task.WithActivityRetryPolicy(&task.RetryPolicy{
					MaxAttempts: 9, InitialRetryInterval: 5 * time.Millisecond, Handle: tt.f,
				})).Await(nil)
				var f *task.TaskFailedError
				if !errors.As(err, &f) {
					return nil, fmt.Errorf("got %w", err)
				}
				return f.Type, nil
			}}, activities{"a": func(task.ActivityContext) (any, error) {
				runs.Add(1)
				return nil, errors.New("boom")
			}})
			m := h.status(h.begin("o"), api.RUNTIME_STATUS_COMPLETED, 5*time.Second)
			if n := runs.Load(); n != tt.runs {
				t.Errorf("%d runs, want %d", n, tt.runs)
			}
			if tt.typ != "" && m.SerializedOutput != jsonOf(t, tt.typ) {
				t.Errorf("error type %s, want %s", m.SerializedOutput, tt.typ)
			}
		})
	}
}

func c33RetriedChildren(t *testing.T, hubs NewHub) {
	policy := &task.RetryPolicy{MaxAttempts: 3, InitialRetryInterval: time.Millisecond}
	hub := hubs(t)
	var tries, final atomic.Int32
	h := newHost(t, hub, orchestrators{
		"parent": func(c *task.OrchestrationContext) (any, error) {
			var v int
			err := c.CallSubOrchestrator("child", task.WithSubOrchestrationRetryPolicy(policy)).Await(&v)
			return v, err
		},
		"child": func(c *task.OrchestrationContext) (any, error) {
			if tries.Add(1) < 3 {
				return nil, errors.New("again")
			}
			return 5, nil
		},
		"chain": func(c *task.OrchestrationContext) (any, error) {
			err := c.CallSubOrchestrator("fails", task.WithSubOrchestrationRetryPolicy(policy)).Await(nil)
			var f *task.TaskFailedError
			if !errors.As(err, &f) || !f.NonRetriable {
				return nil, fmt.Errorf("got %w", err)
			}
			text := []string{f.Message}
			for e := errors.Unwrap(f); e != nil; e = errors.Unwrap(e) {
				if m := e.Error(); m != text[len(text)-1] {
					text = append(text, m)
				}
			}
			return text, nil
		},
		"fails": func(c *task.OrchestrationContext) (any, error) {
			final.Add(1)
			return nil, fmt.Errorf("a: %w", fmt.Errorf("b: %w", task.NonRetriable(errors.New("c"))))
		},
		"patient": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CallSubOrchestrator("wait", task.WithSubOrchestrationRetryPolicy(policy),
				task.WithSubOrchestrationInstanceID("waiting")).Await(nil)
		},
		"wait": waitForever,
	}, nil)
	parent := h.begin("parent")
	h.output(parent, "5")
	p, err := h.Query(t.Context(), api.InstanceQuery{ParentID: parent})
	must(t, err)
	var statuses []string
	for _, m := range p.Instances {
		statuses = append(statuses, api.StatusName(m.RuntimeStatus))
		if h.count(m.InstanceID, func(e *protos.HistoryEvent) bool { return e.GetExecutionStarted() != nil }) != 1 {
			t.Errorf("%s has no history", m.InstanceID)
		}
	}
	if !slices.Equal(statuses, []string{"FAILED", "FAILED", "COMPLETED"}) {
		t.Errorf("tries: %v", statuses)
	}
	if n, err := h.Purge(t.Context(), parent); n != 4 || err != nil {
		t.Errorf("purge: %d %v", n, err)
	}
	h.output(h.begin("chain"), `["a: b: c","b: c","c"]`)
	if n := final.Load(); n != 1 {
		t.Errorf("a final error was tried %d times", n)
	}
	patient := h.begin("patient")
	h.waits("waiting")
	must(t, h.TerminateOrchestration(t.Context(), patient, "stop"))
	h.status(patient, api.RUNTIME_STATUS_TERMINATED, 5*time.Second)
	h.status("waiting", api.RUNTIME_STATUS_TERMINATED, 5*time.Second)
}
