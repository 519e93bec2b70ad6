package task_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/task"
)

func TestChangedCode(t *testing.T) {
	t.Parallel()
	wait := func(ctx *task.OrchestrationContext) { _ = ctx.WaitForSingleEvent("go", -1).Await(nil) }
	act := func(name string) func(*task.OrchestrationContext) {
		return func(ctx *task.OrchestrationContext) { ctx.CallActivity(name) }
	}
	child := func(name string) func(*task.OrchestrationContext) {
		return func(ctx *task.OrchestrationContext) { ctx.CallSubOrchestrator(name) }
	}
	send := func(target, name string) func(*task.OrchestrationContext) {
		return func(ctx *task.OrchestrationContext) { _ = ctx.SendEvent(api.InstanceID(target), name, nil) }
	}
	timer := func(ctx *task.OrchestrationContext) { ctx.CreateTimer(time.Second) }
	none := func(*task.OrchestrationContext) {}
	for name, c := range map[string]struct {
		old, new []func(*task.OrchestrationContext)
		want     []string
	}{
		"renamed":             {steps(act("A"), wait), steps(act("B"), wait), []string{`activity "A" #0`, `activity "B" #0`, "TaskScheduled"}},
		"removed":             {steps(act("A"), wait), steps(none, wait), []string{`activity "A" #0`, "did not ask"}},
		"extra before":        {steps(act("A"), wait), steps(act("X"), act("A"), wait), []string{`"A"`, `"X"`}},
		"extra behind":        {steps(act("A"), wait), steps(act("A"), act("X"), wait), []string{`"X" #1`, "history has nothing"}},
		"extra in empty turn": {steps(wait, wait), steps(act("X"), wait, wait), []string{`"X" #0`, "history has nothing"}},
		"timer instead":       {steps(act("A"), wait), steps(timer, wait), []string{`"A"`, "timer #0"}},
		"activity instead":    {steps(timer, wait), steps(act("A"), wait), []string{`"A"`, "timer #0", "TimerCreated"}},
		"child renamed":       {steps(child("A"), wait), steps(child("B"), wait), []string{`sub-orchestration "A"`, `sub-orchestration "B"`}},
		"target changed":      {steps(send("t", "A"), wait), steps(send("u", "A"), wait), []string{"A to t", "A to u"}},
		"event changed":       {steps(send("t", "A"), wait), steps(send("t", "B"), wait), []string{"A to t", "B to t"}},
		"completes early":     {steps(wait, wait), steps(none), []string{"completion"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(steps []func(*task.OrchestrationContext)) task.Orchestrator {
				return func(ctx *task.OrchestrationContext) (any, error) {
					for _, s := range steps {
						s(ctx)
					}
					return nil, nil
				}
			}
			h := newHost(t, run(c.old))
			h.start("")
			h.code(run(c.new))
			a := h.turn(raised("go", ""))
			if len(a) != 1 {
				t.Fatalf("actions: %v", a)
			}
			d := wantFailed(t, a, task.ErrorTypeNonDeterminism)
			for _, w := range c.want {
				if !strings.Contains(d.GetErrorMessage(), w) {
					t.Errorf("%q lacks %q", d.GetErrorMessage(), w)
				}
			}
			if !d.GetIsNonRetriable() {
				t.Error("retriable")
			}
		})
	}
}

func steps(s ...func(*task.OrchestrationContext)) []func(*task.OrchestrationContext) { return s }

func TestExtraCallInALaterTurn(t *testing.T) {
	t.Parallel()
	o := func(extra bool) task.Orchestrator {
		return func(ctx *task.OrchestrationContext) (any, error) {
			_ = ctx.CallActivity("A").Await(nil)
			if extra {
				ctx.CallActivity("X")
			}
			_ = ctx.WaitForSingleEvent("go", -1).Await(nil)
			_ = ctx.WaitForSingleEvent("go", -1).Await(nil)
			return nil, nil
		}
	}
	h := newHost(t, o(false))
	h.start("")
	h.turn(taskDone(0, ""))
	h.turn(raised("go", ""))
	h.code(o(true))
	d := wantFailed(t, h.turn(raised("go", "")), task.ErrorTypeNonDeterminism)
	if !strings.Contains(d.GetErrorMessage(), "at event 5 of history (TaskCompleted)") {
		t.Fatal(d.GetErrorMessage())
	}
}

func TestMismatchUnwinds(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		return nil, ctx.CallActivity("A").Await(nil)
	})
	h.start("")
	unwound := false
	h.residentOnly = true
	h.code(func(ctx *task.OrchestrationContext) (any, error) {
		defer func() { unwound = true }()
		return nil, ctx.CallActivity("B").Await(nil)
	})
	wantFailed(t, h.turn(taskDone(0, "")), task.ErrorTypeNonDeterminism)
	if !unwound {
		t.Fatal("the orchestrator was not unwound")
	}
}

func TestReplayOfAFinishedHistory(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		return 1, ctx.CallActivity("A").Await(nil)
	})
	h.start("")
	h.turn(taskDone(0, ""))
	r, err := h.exec.ExecuteOrchestrator(context.Background(), "inst", h.state.OldEvents(), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantActions(t, r.Response.GetActions())
}

func TestRewoundHistory(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		ctx.CallActivity("A")
		panic("bug")
	})
	h.start("")
	isEnd := func(e *protos.HistoryEvent) bool { return e.GetExecutionCompleted() != nil }
	old := slices.DeleteFunc(slices.Clone(h.state.OldEvents()), isEnd)
	h.code(func(ctx *task.OrchestrationContext) (any, error) {
		ctx.CallActivity("A")
		return 1, ctx.CallActivity("B").Await(nil)
	})
	rewound := &protos.HistoryEvent{EventType: &protos.HistoryEvent_ExecutionRewound{ExecutionRewound: &protos.ExecutionRewoundEvent{}}}
	r, err := h.exec.ExecuteOrchestrator(context.Background(), "inst", old, []*protos.HistoryEvent{turnStarted(epoch), rewound})
	if err != nil {
		t.Fatal(err)
	}
	wantActions(t, r.Response.GetActions(), "task B")
}

// Every kind of event is handled or ignored; none panics, whatever it says.
func TestEveryKindOfEvent(t *testing.T) {
	t.Parallel()
	oneof := (&protos.HistoryEvent{}).ProtoReflect().Descriptor().Oneofs().ByName("eventType")
	for i := range oneof.Fields().Len() {
		e := &protos.HistoryEvent{EventId: 3}
		f := oneof.Fields().Get(i)
		e.ProtoReflect().Set(f, e.ProtoReflect().NewField(f))
		h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.WaitForSingleEvent("go", time.Hour).Await(nil)
		})
		for _, events := range [][]*protos.HistoryEvent{
			{turnStarted(epoch), startEvent("o", ""), e}, {e, turnStarted(epoch), startEvent("o", "")}, {nil, e},
		} {
			for split := range len(events) + 1 {
				if _, err := h.exec.ExecuteOrchestrator(context.Background(), "inst", events[:split], events[split:]); err != nil {
					t.Errorf("%s: %v", f.Name(), err)
				}
			}
		}
	}
}
