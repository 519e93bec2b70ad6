package task_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/task"
)

func TestWaitForSingleEvent(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		if err := ctx.WaitForSingleEvent("A", 0).Await(nil); !errors.Is(err, task.ErrTaskCanceled) {
			return nil, fmt.Errorf("timeout 0: %w", err)
		}
		_ = ctx.WaitForSingleEvent("go", -1).Await(nil)
		var vs [2]int
		for i := range vs {
			if err := ctx.WaitForSingleEvent("a", 0).Await(&vs[i]); err != nil {
				return nil, err
			}
		}
		return vs, nil
	})
	wantActions(t, h.start(""))
	wantOutput(t, h.turn(raised("A", "1"), raised("a", "2"), raised("GO", "")), "[1,2]")
}

// A stale timer of a satisfied wait must not touch a later wait of the name (C04).
func TestStaleTimerLeavesTheNextWaiter(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		var a, b string
		err1 := ctx.WaitForSingleEvent("A", 2*time.Second).Await(&a)
		err2 := ctx.WaitForSingleEvent("A", 20*time.Second).Await(&b)
		return fmt.Sprint(a, err1, b, err2), nil
	}
	h := newHost(t, o)
	wantActions(t, h.start(""), "timer 2s")
	wantActions(t, h.turn(raised("A", `"x"`)), "timer 20s")
	wantActions(t, h.turn(fired(0)))
	wantOutput(t, h.turn(raised("A", `"y"`)), `"x\u003cnil\u003ey\u003cnil\u003e"`)

	h = newHost(t, o)
	h.start("")
	h.turn(fired(0))
	wantOutput(t, h.turn(raised("A", `"y"`)), `"the task was canceledy\u003cnil\u003e"`)
}

func TestReceivedEventBeatsTimer(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		w := ctx.WaitForSingleEvent("A", time.Second)
		_ = ctx.CallActivity("a").Await(nil)
		var v int
		err := w.Await(&v)
		return v, err
	})
	h.start("")
	wantOutput(t, h.turn(raised("A", "7"), fired(0), taskDone(1, "")), "7")
}

func TestSuspend(t *testing.T) {
	t.Parallel()
	o := func(ctx *task.OrchestrationContext) (any, error) {
		var vs []int
		for range 3 {
			var v int
			_ = ctx.WaitForSingleEvent("A", -1).Await(&v)
			vs = append(vs, v)
			ctx.CallActivity("a")
		}
		return vs, nil
	}
	h := newHost(t, o)
	h.start("")
	wantActions(t, h.turn(suspended(), raised("A", "1")))
	wantActions(t, h.turn(suspended(), raised("A", "2"), suspended()))
	wantActions(t, h.turn(resumed(), resumed()), "task a", "task a")
	wantActions(t, h.turn(resumed()))
	// issued and completed in a turn that ends suspended: kept back, then emitted once
	wantActions(t, h.turn(raised("A", "3"), suspended()))
	wantActions(t, h.turn(raised("A", "4")))
	a := h.turn(resumed())
	wantActions(t, a, "task a", "COMPLETED")
	wantOutput(t, a, "[1,2,3]")
}

func TestStartedSuspended(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		return nil, ctx.WaitForSingleEvent("MyEvent", 5*time.Second).Await(nil)
	})
	wantActions(t, h.start("", suspended()))
	wantActions(t, h.turn(resumed()), "timer 5s")
	wantActions(t, h.turn(suspended(), raised("myevent", "")))
	wantOutput(t, h.turn(resumed()), "")
}

func TestContinueAsNew(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		var n int
		if err := ctx.GetInput(&n); err != nil {
			return nil, err
		}
		if err := ctx.WaitForSingleEvent("A", -1).Await(nil); err != nil {
			return nil, err
		}
		unseen := ctx.WaitForSingleEvent("A", 0)
		_ = unseen
		if err := ctx.SendEvent("target", "e", n); err != nil {
			return nil, err
		}
		ctx.CallActivity("log")
		ctx.ContinueAsNew(n+1, task.WithKeepUnprocessedEvents())
		return "dropped", nil
	})
	a := h.start("1", raised("A", "1"), raised("B", "2"), raised("A", "3"), raised("a", "4"))
	wantActions(t, a, "send e", "task log", "CONTINUED_AS_NEW")
	c := completion(t, a)
	var kept []string
	for _, e := range c.GetCarryoverEvents() {
		kept = append(kept, e.GetEventRaised().GetInput().GetValue())
	}
	if fmt.Sprint(kept) != "[2 3 4]" || c.GetResult().GetValue() != "2" {
		t.Fatalf("kept %v, input %v", kept, c.GetResult())
	}
	if h.state.Continuation() != nil {
		t.Fatal("the old execution left a continuation")
	}
}

func TestContinueAsNewWithError(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		ctx.ContinueAsNew(1)
		return nil, errors.New("no")
	})
	wantFailed(t, h.start("", raised("A", "")), "*errors.errorString")
	h = newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		ctx.ContinueAsNew(nil)
		return nil, nil
	})
	c := completion(t, h.start("", raised("A", "")))
	if c.GetOrchestrationStatus() != api.RUNTIME_STATUS_CONTINUED_AS_NEW || c.GetCarryoverEvents() != nil || c.GetResult() != nil {
		t.Fatal(c)
	}
}

func TestEveryEventIsHandledOnce(t *testing.T) {
	t.Parallel()
	const n = 30
	var got []int
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		_ = ctx.GetInput(&got)
		var v int
		if err := ctx.WaitForSingleEvent("A", -1).Await(&v); err != nil {
			return nil, err
		}
		got = append(got, v)
		if len(got) < n {
			ctx.ContinueAsNew(got, task.WithKeepUnprocessedEvents())
		}
		return got, nil
	})
	events := []*protos.HistoryEvent{startEvent("o", "[]")}
	for i := range n {
		events = append(events, raised("A", fmt.Sprint(i)))
	}
	actions := h.turn(events...)
	// The state of the next execution is stored unexecuted each time, as an
	// engine does that bounds the executions of one turn.
	for range n - 1 {
		if c := completion(t, actions); c.GetOrchestrationStatus() != api.RUNTIME_STATUS_CONTINUED_AS_NEW {
			t.Fatal(c)
		}
		actions = h.turn()
	}
	if c := completion(t, actions); c.GetOrchestrationStatus() != api.RUNTIME_STATUS_COMPLETED {
		t.Fatal(c)
	}
	for i, v := range got {
		if i != v {
			t.Fatalf("got %v", got)
		}
	}
}

func TestStoredUnexecuted(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		var n int
		_ = ctx.GetInput(&n)
		if n == 0 {
			ctx.ContinueAsNew(1)
			return nil, nil
		}
		return n, ctx.CallActivity("a").Await(nil)
	})
	wantActions(t, h.start("0"), "CONTINUED_AS_NEW")
	wantActions(t, h.turn(), "task a")
	wantActions(t, h.turn(raised("x", "")))
	wantOutput(t, h.turn(taskDone(0, "")), "1")
}

func TestSendEvent(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		for _, err := range []error{
			ctx.SendEvent("", "e", nil), ctx.SendEvent("x", "", nil), ctx.SendEvent("x", "e", make(chan int)),
		} {
			if !errors.Is(err, api.ErrInvalidInput) {
				return nil, fmt.Errorf("not refused: %w", err)
			}
		}
		if err := ctx.SendEvent("x", "e", map[string]int{"a": 1}); err != nil {
			return nil, err
		}
		return nil, ctx.WaitForSingleEvent("go", -1).Await(nil)
	})
	a := h.start("")
	wantActions(t, a, "send e")
	if s := a[0].GetSendEvent(); s.GetInstance().GetInstanceId() != "x" || s.GetData().GetValue() != `{"a":1}` {
		t.Fatal(s)
	}
	wantOutput(t, h.turn(raised("go", "")), "")
}

func TestWhenAny(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		a, e, tm := ctx.CallActivity("a"), ctx.WaitForSingleEvent("e", -1), ctx.CreateTimer(time.Second)
		all := ctx.WhenAll(a, e)
		switch ctx.WhenAny(all, a, e, tm) {
		case e:
			return "event", ctx.WhenAny(a, tm).Await(nil)
		case tm:
			var both []any
			err := all.Await(&both)
			return both, err
		}
		return "other", nil
	})
	h.start("")
	h.turn(fired(1))
	h.turn(raised("e", "null"))
	wantOutput(t, h.turn(taskDone(0, "")), "[null,null]")
}
