package task_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/task"
)

func retried(p *task.RetryPolicy) task.Orchestrator {
	return func(ctx *task.OrchestrationContext) (any, error) {
		x := ctx.CallActivity("a", task.WithActivityRetryPolicy(p))
		var a, b int
		err := x.Await(&a)
		if again := x.Await(&b); !errors.Is(again, err) {
			return nil, fmt.Errorf("second await: %w", again)
		}
		return []int{a, b}, err
	}
}

func TestRetrySucceeds(t *testing.T) {
	t.Parallel()
	p := task.RetryPolicy{MaxAttempts: 3, InitialRetryInterval: 500 * time.Microsecond}
	h := newHost(t, retried(&p))
	wantActions(t, h.start(""), "task a")
	wantActions(t, h.turn(taskFailed(0, boom())), "timer 500µs")
	wantActions(t, h.turn(fired(1)), "task a")
	wantOutput(t, h.turn(taskDone(2, "7")), "[7,7]")
	if p.BackoffCoefficient != 0 || p.MaxRetryInterval != 0 || p.Handle != nil {
		t.Fatalf("the policy was changed: %+v", p)
	}
}

func TestRetryEnds(t *testing.T) {
	t.Parallel()
	h := newHost(t, retried(&task.RetryPolicy{MaxAttempts: 3, InitialRetryInterval: time.Second, BackoffCoefficient: 2}))
	h.start("")
	wantActions(t, h.turn(taskFailed(0, boom())), "timer 1s")
	h.turn(fired(1))
	wantActions(t, h.turn(taskFailed(2, boom())), "timer 2s")
	h.turn(fired(3))
	d := wantFailed(t, h.turn(taskFailed(4, boom())), "*task.TaskFailedError")
	if d.GetErrorMessage() != "task failed with an error: boom" || d.GetInnerFailure().GetErrorType() != "E" {
		t.Fatal(d)
	}
}

func TestRetriesRunInParallel(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		p := &task.RetryPolicy{MaxAttempts: 2, InitialRetryInterval: time.Second}
		a := ctx.CallActivity("a", task.WithActivityRetryPolicy(p))
		b := ctx.CallSubOrchestrator("b", task.WithSubOrchestrationRetryPolicy(p), task.WithSubOrchestrationInstanceID("kid"))
		var out []int
		err := ctx.WhenAll(a, b).Await(&out)
		return out, err
	})
	h.start("")
	wantActions(t, h.turn(childFailed(1, boom()), taskFailed(0, boom())), "timer 1s", "timer 1s")
	again := h.turn(fired(3), fired(2))
	wantActions(t, again, "task a", "child b")
	if id := again[1].GetCreateSubOrchestration().GetInstanceId(); id != "kid" {
		t.Fatalf("the second try has id %q", id)
	}
	wantOutput(t, h.turn(childDone(5, "2"), taskDone(4, "1")), "[1,2]")
}

func TestRetryDelaysAreClamped(t *testing.T) {
	t.Parallel()
	h := newHost(t, retried(&task.RetryPolicy{MaxAttempts: 400, InitialRetryInterval: time.Second, BackoffCoefficient: 10}))
	h.start("")
	last := time.Duration(0)
	for i := int32(0); i < 60; i += 2 {
		fireAt := h.turn(taskFailed(i, boom()))[0].GetCreateTimer().GetFireAt()
		if d := fireAt.AsTime().Sub(h.now); fireAt.CheckValid() != nil || d < last || d > 101*365*24*time.Hour {
			t.Fatalf("try %d: delay %v after %v", i, d, last)
		} else {
			last = d
		}
		h.turn(fired(i + 1))
	}
	h = newHost(t, retried(&task.RetryPolicy{
		MaxAttempts: 9, InitialRetryInterval: time.Second, BackoffCoefficient: 1e308, MaxRetryInterval: time.Minute,
	}))
	h.start("")
	wantActions(t, h.turn(taskFailed(0, boom())), "timer 1s")
	h.turn(fired(1))
	wantActions(t, h.turn(taskFailed(2, boom())), "timer 1m0s")
	h.turn(fired(3))
	wantActions(t, h.turn(taskFailed(4, boom())), "timer 1m0s")
}

func TestRetryTimeout(t *testing.T) {
	t.Parallel()
	p := &task.RetryPolicy{MaxAttempts: 9, InitialRetryInterval: 4 * time.Second, RetryTimeout: 5 * time.Second}
	h := newHost(t, retried(p))
	h.start("")
	h.turn(taskFailed(0, boom()))
	h.now = epoch.Add(5 * time.Second)
	wantActions(t, h.turn(fired(1)), "task a") // exactly at the limit
	wantFailed(t, h.turn(taskFailed(2, boom())), "*task.TaskFailedError")

	h = newHost(t, retried(p))
	h.start("")
	h.turn(taskFailed(0, boom()))
	h.now = epoch.Add(6 * time.Second) // the timer fires late
	wantFailed(t, h.turn(fired(1)), "*task.TaskFailedError")
}

func TestRetryHandler(t *testing.T) {
	t.Parallel()
	policy := func(handle func(error) bool) *task.RetryPolicy {
		return &task.RetryPolicy{MaxAttempts: 3, InitialRetryInterval: time.Second, Handle: handle}
	}
	var seen []string
	h := newHost(t, retried(policy(func(err error) bool {
		var f *task.TaskFailedError
		if !errors.As(err, &f) {
			return false
		}
		seen = append(seen, fmt.Sprintf("%s %d %v %s", f.TaskName, f.Attempt, f.Elapsed, f.Message))
		return f.Message == "boom"
	})))
	h.residentOnly = true
	h.start("")
	h.turn(taskFailed(0, boom()))
	h.now = epoch.Add(time.Second)
	h.turn(fired(1))
	wantFailed(t, h.turn(taskFailed(2, &protos.TaskFailureDetails{ErrorMessage: "other"})), "*task.TaskFailedError")
	if got := strings.Join(seen, ","); got != "a 1 0s boom,a 2 1s other" {
		t.Fatal(got)
	}

	h = newHost(t, retried(policy(func(error) bool { panic("ouch") })))
	h.start("")
	d := wantFailed(t, h.turn(taskFailed(0, boom())), "*task.TaskFailedError")
	if in := d.GetInnerFailure(); in.GetErrorType() != task.ErrorTypeRetryHandlerPanic || !strings.Contains(in.GetErrorMessage(), "ouch") {
		t.Fatal(d)
	}

	h = newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		return nil, ctx.CallActivity("a", task.WithActivityRetryPolicy(policy(func(error) bool {
			return !errors.Is(ctx.CreateTimer(0).Await(nil), task.ErrTaskBlocked)
		}))).Await(nil)
	})
	h.start("")
	wantFailed(t, h.turn(taskFailed(0, boom())), "*task.TaskFailedError")
}

func TestNonRetriableStops(t *testing.T) {
	t.Parallel()
	h := newHost(t, retried(&task.RetryPolicy{MaxAttempts: 3, InitialRetryInterval: time.Second}))
	h.start("")
	f := boom()
	f.IsNonRetriable = true
	if d := wantFailed(t, h.turn(taskFailed(0, f)), "*task.TaskFailedError"); !d.GetIsNonRetriable() {
		t.Fatal("the mark was lost")
	}
}

func TestInvalidCalls(t *testing.T) {
	t.Parallel()
	good := task.RetryPolicy{MaxAttempts: 1, InitialRetryInterval: 1}
	with := func(set func(*task.RetryPolicy)) func(*task.OrchestrationContext) task.Task {
		p := good
		set(&p)
		return func(ctx *task.OrchestrationContext) task.Task {
			return ctx.CallSubOrchestrator("c", task.WithSubOrchestrationRetryPolicy(&p))
		}
	}
	var nilActivity task.Activity
	for name, c := range map[string]struct {
		call func(*task.OrchestrationContext) task.Task
		want error
		text string
	}{
		"no attempts":      {with(func(p *task.RetryPolicy) { p.MaxAttempts = 0 }), task.ErrInvalidRetryPolicy, "MaxAttempts"},
		"no interval":      {with(func(p *task.RetryPolicy) { p.InitialRetryInterval = 0 }), task.ErrInvalidRetryPolicy, "Initial"},
		"NaN":              {with(func(p *task.RetryPolicy) { p.BackoffCoefficient = math.NaN() }), task.ErrInvalidRetryPolicy, "NaN"},
		"Inf":              {with(func(p *task.RetryPolicy) { p.BackoffCoefficient = math.Inf(1) }), task.ErrInvalidRetryPolicy, "Inf"},
		"shrinking":        {with(func(p *task.RetryPolicy) { p.BackoffCoefficient = 0.5 }), task.ErrInvalidRetryPolicy, "0.5"},
		"negative":         {with(func(p *task.RetryPolicy) { p.BackoffCoefficient = -1 }), task.ErrInvalidRetryPolicy, "-1"},
		"negative max":     {with(func(p *task.RetryPolicy) { p.MaxRetryInterval = -1 }), task.ErrInvalidRetryPolicy, "MaxRetry"},
		"negative timeout": {with(func(p *task.RetryPolicy) { p.RetryTimeout = -1 }), task.ErrInvalidRetryPolicy, "RetryTimeout"},
		"nil":              {func(ctx *task.OrchestrationContext) task.Task { return ctx.CallActivity(nil) }, api.ErrInvalidInput, "<nil>"},
		"nil function":     {func(ctx *task.OrchestrationContext) task.Task { return ctx.CallActivity(nilActivity) }, api.ErrInvalidInput, "nil task.Activity"},
		"wrong type":       {func(ctx *task.OrchestrationContext) task.Task { return ctx.CallSubOrchestrator(7) }, api.ErrInvalidInput, "int"},
		"no name":          {func(ctx *task.OrchestrationContext) task.Task { return ctx.CallActivity("") }, api.ErrInvalidInput, "empty"},
		"bad input": {func(ctx *task.OrchestrationContext) task.Task {
			return ctx.CallActivity("a", task.WithActivityInput(badJSON{}))
		}, api.ErrInvalidInput, "badJSON"},
		"own id": {func(ctx *task.OrchestrationContext) task.Task {
			return ctx.CallSubOrchestrator("c", task.WithSubOrchestrationInstanceID("inst"))
		}, api.ErrInvalidInput, `"inst"`},
		"parent's id": {func(ctx *task.OrchestrationContext) task.Task {
			return ctx.CallSubOrchestrator("c", task.WithSubOrchestrationInstanceID("parent"))
		}, api.ErrInvalidInput, `"parent"`},
	} {
		var got error
		h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
			got = c.call(ctx).Await(nil)
			return nil, nil
		})
		wantActions(t, h.start(""), "COMPLETED")
		var f *task.TaskFailedError
		if !errors.Is(got, c.want) || !errors.As(got, &f) || !strings.Contains(got.Error(), c.text) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestChildren(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		c := ctx.CallSubOrchestrator(kid, task.WithSubOrchestratorInput(1))
		d := ctx.CallSubOrchestrator("d", task.WithRawSubOrchestratorInput("raw"), task.WithSubOrchestrationInstanceID("x"))
		return nil, ctx.WhenAll(c, d).Await(nil)
	})
	a := h.start("")
	c, d := a[0].GetCreateSubOrchestration(), a[1].GetCreateSubOrchestration()
	if c.GetName() != "kid" || c.GetInstanceId() != "exec:0000" || c.GetInput().GetValue() != "1" {
		t.Error(c)
	}
	if d.GetInstanceId() != "x" || d.GetInput().GetValue() != "raw" {
		t.Error(d)
	}
	h.turn(childDone(0, ""))
	f := wantFailed(t, h.turn(childFailed(1, nil)), "*errors.joinError")
	if !strings.Contains(f.GetErrorMessage(), "without failure details") {
		t.Error(f)
	}
}

func kid(*task.OrchestrationContext) (any, error) { return nil, nil }
