package task_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

func TestSequence(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		var in int
		if err := ctx.GetInput(&in); err != nil {
			return nil, err
		}
		for i := range 3 {
			if err := ctx.CallActivity("a", task.WithActivityInput(in+i)).Await(&in); err != nil {
				return nil, err
			}
		}
		return in, nil
	})
	a := h.start("1")
	wantActions(t, a, "task a")
	for i := range int32(2) {
		if got := a[0].GetScheduleTask().GetInput().GetValue(); got != fmt.Sprint(1+10*i+i) {
			t.Fatalf("input of call %d is %s", i, got)
		}
		a = h.turn(taskDone(i, fmt.Sprint(11+10*i)))
		wantActions(t, a, "task a")
	}
	wantOutput(t, h.turn(taskDone(2, "99")), "99")
	if h.state.Continuation() != nil {
		t.Fatal("a finished orchestration left a continuation")
	}
}

func TestActionsAreInOrder(t *testing.T) {
	t.Parallel()
	const n = 500
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		all := make([]task.Task, n)
		for i := range all {
			all[i] = ctx.CallActivity("a")
		}
		var out []int
		err := ctx.WhenAll(all...).Await(&out)
		sum := 0
		for _, v := range out {
			sum += v
		}
		return sum, err
	})
	for i, a := range h.start("") {
		if a.GetId() != int32(i) {
			t.Fatalf("action %d has id %d", i, a.GetId())
		}
	}
	var results []*protos.HistoryEvent
	for i := n - 1; i >= 0; i-- {
		results = append(results, taskDone(int32(i), "2"))
	}
	wantActions(t, h.turn(results[:n/2]...))
	wantOutput(t, h.turn(results[n/2:]...), "1000")
}

func TestIsReplayingAndTime(t *testing.T) {
	t.Parallel()
	var seen []string
	o := func(ctx *task.OrchestrationContext) (any, error) {
		seen = nil
		look := func() { seen = append(seen, fmt.Sprint(ctx.IsReplaying, ctx.CurrentTimeUtc.Sub(epoch))) }
		look()
		_ = ctx.CallActivity("a").Await(nil)
		look()
		_ = ctx.CallActivity("a").Await(nil)
		look()
		return nil, nil
	}
	h := newHost(t, o)
	h.start("")
	h.now = epoch.Add(time.Minute)
	h.turn(taskDone(0, ""))
	h.now = epoch.Add(time.Hour)
	h.turn(taskDone(1, ""))
	if got, want := strings.Join(seen, ","), "true 0s,true 1m0s,false 1h0m0s"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func TestAttributesAndGuid(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		if a, b := ctx.NewGuid(), ctx.NewGuid(); a == b || a.Version() != 5 {
			return nil, fmt.Errorf("guids %s, %s", a, b)
		}
		return []any{ctx.ID, ctx.Name, ctx.Version, ctx.ExecutionID, ctx.Tags, ctx.NewGuid()}, nil
	})
	out := completion(t, h.start("")).GetResult().GetValue()
	if !strings.HasPrefix(out, `["inst","o","v1","exec",{"k":"v"},"`) {
		t.Fatal(out)
	}
}

func TestTimers(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		ctx.CreateTimer(-time.Hour)
		ctx.CreateTimer(0)
		ctx.CreateTimerAt(time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC))
		ctx.CreateTimer(math.MaxInt64)
		return nil, ctx.CreateTimer(time.Second).Await(nil)
	})
	a := h.start("")
	for i, want := range []time.Time{epoch.Add(-time.Hour), epoch} {
		if got := a[i].GetCreateTimer().GetFireAt().AsTime(); !got.Equal(want) {
			t.Errorf("timer %d fires at %v, want %v", i, got, want)
		}
	}
	if ts := a[2].GetCreateTimer().GetFireAt(); ts.CheckValid() != nil || ts.AsTime().Year() != 9999 {
		t.Errorf("far timer fires at %v", ts)
	}
	if ts := a[3].GetCreateTimer().GetFireAt(); ts.CheckValid() != nil || ts.AsTime().Year() < 2300 {
		t.Errorf("longest timer fires at %v", ts)
	}
	wantActions(t, h.turn(fired(0)))
	wantOutput(t, h.turn(fired(4)), "")
}

func TestResultsMatchByKind(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		var v int
		err := ctx.CallActivity("a").Await(&v)
		return v, err
	})
	h.residentOnly = true
	events := []*protos.HistoryEvent{turnStarted(epoch), startEvent("o", "")}
	old := append(events, &protos.HistoryEvent{EventId: 0, EventType: &protos.HistoryEvent_TaskScheduled{
		TaskScheduled: &protos.TaskScheduledEvent{Name: "a"},
	}})
	r, err := h.exec.ExecuteOrchestrator(context.Background(), "inst", old, []*protos.HistoryEvent{
		turnStarted(epoch), fired(0), childDone(0, "1"), taskDone(7, "2"),
	})
	if err != nil {
		t.Fatal(err)
	}
	wantActions(t, r.Response.GetActions())
	r, _ = h.exec.ExecuteOrchestrator(context.Background(), "inst", old, []*protos.HistoryEvent{
		turnStarted(epoch), fired(0), taskDone(0, "3"), taskDone(0, "4"),
	})
	wantOutput(t, r.Response.GetActions(), "3")
}

func TestCrashes(t *testing.T) {
	t.Parallel()
	var null *int
	for name, o := range map[string]struct {
		f    task.Orchestrator
		kind string
		text string
	}{
		"panic":  {func(*task.OrchestrationContext) (any, error) { panic("ouch") }, task.ErrorTypePanic, "panic: ouch"},
		"nil":    {func(*task.OrchestrationContext) (any, error) { panic(nil) }, task.ErrorTypePanic, "nil"},
		"deref":  {func(*task.OrchestrationContext) (any, error) { return *null, nil }, task.ErrorTypePanic, "nil pointer"},
		"goexit": {func(*task.OrchestrationContext) (any, error) { runtime.Goexit(); return nil, nil }, task.ErrorTypeGoexit, "Goexit"},
		"typed nil error": {func(*task.OrchestrationContext) (any, error) {
			return nil, (*task.TaskFailedError)(nil)
		}, "*task.TaskFailedError", "nil"},
		"panic with typed nil": {func(*task.OrchestrationContext) (any, error) {
			panic((*task.TaskFailedError)(nil))
		}, task.ErrorTypePanic, "panic"},
	} {
		h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
			_ = ctx.CallActivity("a").Await(nil)
			return o.f(ctx)
		})
		h.start("")
		d := wantFailed(t, h.turn(taskDone(0, "")), o.kind)
		if !strings.Contains(d.GetErrorMessage(), o.text) {
			t.Errorf("%s: message %q", name, d.GetErrorMessage())
		}
		if name != "typed nil error" && !strings.Contains(d.GetStackTrace().GetValue(), "orchestrator_test.go") {
			t.Errorf("%s: stack %s", name, d.GetStackTrace().GetValue())
		}
	}
}

func TestStopUnwinds(t *testing.T) {
	t.Parallel()
	unwound, caught, again := 0, 0, error(nil)
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		defer func() { unwound++ }()
		defer func() {
			if r := recover(); r != nil {
				caught++
			}
			ctx.CallActivity("late")
			again = ctx.CreateTimer(0).Await(nil) // unwinds at once
			caught++
		}()
		return nil, ctx.WaitForSingleEvent("never", -1).Await(nil)
	})
	h.start("")
	c := h.state.Continuation()
	if c == nil {
		t.Fatal("no continuation")
	}
	before := unwound
	c.Stop()
	c.Stop()
	if unwound != before+1 || caught != 0 || again != nil {
		t.Fatalf("unwound %d times, caught %d, err %v", unwound-before, caught, again)
	}
	wantActions(t, h.turn(raised("other", ""))) // a stopped continuation is replaced by a replay
}

func TestEndedContextDropsTheContinuation(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		return nil, ctx.WaitForSingleEvent("e", -1).Await(nil)
	})
	h.start("")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.exec.(backend.TurnExecutor).ExecuteTurn(ctx, h.state); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if h.state.Continuation() != nil {
		t.Fatal("the continuation is still there")
	}
	wantOutput(t, h.turn(raised("E", "")), "")
}

func TestUnregistered(t *testing.T) {
	t.Parallel()
	x := task.NewTaskExecutor(task.NewTaskRegistry())
	r, err := x.ExecuteOrchestrator(context.Background(), "inst", nil,
		[]*protos.HistoryEvent{turnStarted(epoch), startEvent("x", "")})
	if err != nil {
		t.Fatal(err)
	}
	d := wantFailed(t, r.Response.GetActions(), task.ErrorTypeOrchestratorNotRegistered)
	if d.GetErrorMessage() != "orchestrator named 'x' is not registered" {
		t.Fatal(d.GetErrorMessage())
	}
}

func TestCustomStatus(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		ctx.SetCustomStatus("one")
		_ = ctx.WaitForSingleEvent("e", -1).Await(nil)
		ctx.SetCustomStatus("")
		return nil, nil
	})
	if got := h.respond(startEvent("o", "")).GetCustomStatus().GetValue(); got != "one" {
		t.Fatal(got)
	}
	if got := h.respond(raised("e", "")).GetCustomStatus(); got == nil || got.GetValue() != "" {
		t.Fatal(got)
	}
}

type badJSON struct{}

func (badJSON) MarshalJSON() ([]byte, error) { panic("no") }

func TestOutputs(t *testing.T) {
	t.Parallel()
	var null *int
	for want, out := range map[string]any{
		"0": 0, `""`: "", "false": false, "[]": []int{}, "null": null, "": nil,
	} {
		h := newHost(t, func(*task.OrchestrationContext) (any, error) { return out, nil })
		c := completion(t, h.start(""))
		if c.GetResult().GetValue() != want || (c.GetResult() == nil) != (out == nil) {
			t.Errorf("output %v became %v", out, c.GetResult())
		}
	}
	for typ, out := range map[string]any{"chan int": make(chan int), "float64": math.NaN(), "task_test.badJSON": badJSON{}} {
		for _, again := range []bool{false, true} {
			h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
				if again {
					ctx.ContinueAsNew(out)
				}
				return out, nil
			})
			d := wantFailed(t, h.start(""), "*task.SerializationError")
			if !strings.Contains(d.GetErrorMessage(), typ) {
				t.Errorf("%s: %s", typ, d.GetErrorMessage())
			}
		}
	}
}

func TestStandaloneContext(t *testing.T) {
	t.Parallel()
	ctx := task.NewOrchestrationContext(task.NewTaskRegistry(), "inst", nil,
		[]*protos.HistoryEvent{turnStarted(epoch), startEvent("x", "")})
	if err := ctx.CallActivity("a").Await(nil); !errors.Is(err, task.ErrTaskBlocked) {
		t.Fatal(err)
	}
	if ctx.Name != "x" || ctx.WhenAny() != nil {
		t.Fatal(ctx.Name)
	}
}

func TestTerminate(t *testing.T) {
	t.Parallel()
	run := func(f task.Orchestrator, events ...*protos.HistoryEvent) []*protos.OrchestratorAction {
		h := newHost(t, f)
		r, err := h.exec.ExecuteOrchestrator(context.Background(), "inst", nil,
			append([]*protos.HistoryEvent{turnStarted(epoch), startEvent("o", "")}, events...))
		if err != nil {
			t.Fatal(err)
		}
		return r.Response.GetActions()
	}
	waits := func(ctx *task.OrchestrationContext) (any, error) {
		_ = ctx.WaitForSingleEvent("go", -1).Await(nil)
		_ = ctx.CallActivity("a").Await(nil)
		return "done", nil
	}
	for _, actions := range [][]*protos.OrchestratorAction{
		run(waits, terminated(`"bye"`), raised("go", "")),
		run(waits, raised("go", ""), terminated(`"bye"`)),
		run(waits, suspended(), raised("go", ""), terminated(`"bye"`)),
		run(func(*task.OrchestrationContext) (any, error) { return 1, nil }, terminated(`"bye"`)),
		run(func(ctx *task.OrchestrationContext) (any, error) { ctx.ContinueAsNew(1); return 1, nil }, terminated(`"bye"`)),
	} {
		wantActions(t, actions, "TERMINATED")
		if c := completion(t, actions); c.GetOrchestrationStatus() != api.RUNTIME_STATUS_TERMINATED || c.GetResult().GetValue() != `"bye"` {
			t.Errorf("got %v", c)
		}
	}
}

func TestRawInputs(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		var v int
		err := ctx.CallActivity("a", task.WithRawActivityInput("{")).Await(&v)
		if task.NonRetriable(nil) != nil {
			return nil, errors.New("NonRetriable(nil) is an error")
		}
		return v, err
	})
	if got := h.start("")[0].GetScheduleTask().GetInput().GetValue(); got != "{" {
		t.Fatal(got)
	}
	wantFailed(t, h.turn(taskDone(0, "{")), "*fmt.wrapError")
}
