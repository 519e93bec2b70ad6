package task_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

func runActivity(ctx context.Context, tb testing.TB, f task.Activity, input string) (*protos.HistoryEvent, error) {
	tb.Helper()
	r := task.NewTaskRegistry()
	if err := r.AddActivityN("a", f); err != nil {
		tb.Fatal(err)
	}
	return task.NewTaskExecutor(r).ExecuteActivity(ctx, "inst", &protos.HistoryEvent{
		EventId: 4, EventType: &protos.HistoryEvent_TaskScheduled{
			TaskScheduled: &protos.TaskScheduledEvent{Name: "a", Input: text(input)},
		},
	})
}

func TestActivityContext(t *testing.T) {
	t.Parallel()
	f := func(ctx task.ActivityContext) (any, error) {
		var in int
		err := ctx.GetInput(&in)
		return []any{in, ctx.GetTaskID(), ctx.ExecutionID(), ctx.InstanceID(), ctx.IdempotencyKey(), ctx.Attempt()}, err
	}
	e, err := runActivity(context.Background(), t, f, "3")
	if err != nil || e.GetTaskCompleted().GetResult().GetValue() != `[3,4,"","inst","inst//4",1]` || e.GetTaskCompleted().GetTaskScheduledId() != 4 {
		t.Fatal(e, err)
	}
	ctx := backend.ContextWithActivityInfo(context.Background(),
		backend.ActivityInfo{InstanceID: "inst", ExecutionID: "x", TaskID: 4, Attempt: 2})
	if e, err = runActivity(ctx, t, f, "3"); err != nil || e.GetTaskCompleted().GetResult().GetValue() != `[3,4,"x","inst","inst/x/4",2]` {
		t.Fatal(e, err)
	}
}

func TestActivityFailures(t *testing.T) {
	t.Parallel()
	sentinel := errors.New("root")
	for name, c := range map[string]struct {
		f        task.Activity
		kind     string
		text     string
		hasStack bool
	}{
		"error":  {func(task.ActivityContext) (any, error) { return nil, sentinel }, "*errors.errorString", "root", false},
		"empty":  {func(task.ActivityContext) (any, error) { return nil, errors.New("") }, "*errors.errorString", "", false},
		"panic":  {func(task.ActivityContext) (any, error) { panic(sentinel) }, task.ErrorTypeActivityPanic, "panic: root", true},
		"nil":    {func(task.ActivityContext) (any, error) { panic(nil) }, task.ErrorTypeActivityPanic, "nil", true},
		"goexit": {func(task.ActivityContext) (any, error) { runtime.Goexit(); return nil, nil }, task.ErrorTypeGoexit, "Goexit", true},
		"chan":   {func(task.ActivityContext) (any, error) { return make(chan int), nil }, "*task.SerializationError", "chan int", false},
		"NaN":    {func(task.ActivityContext) (any, error) { return math.NaN(), nil }, "*task.SerializationError", "float64", false},
		"json":   {func(task.ActivityContext) (any, error) { return badJSON{}, nil }, "*task.SerializationError", "badJSON", false},
	} {
		e, err := runActivity(context.Background(), t, c.f, "")
		d := e.GetTaskFailed().GetFailureDetails()
		if err != nil || d == nil || d.GetErrorType() != c.kind || !strings.Contains(d.GetErrorMessage(), c.text) {
			t.Errorf("%s: %v, %v", name, e, err)
		}
		if got := strings.Contains(d.GetStackTrace().GetValue(), "activity_test.go"); got != c.hasStack {
			t.Errorf("%s: stack %q", name, d.GetStackTrace().GetValue())
		}
	}
	x := task.NewTaskExecutor(task.NewTaskRegistry())
	e, err := x.ExecuteActivity(context.Background(), "inst", &protos.HistoryEvent{EventType: &protos.HistoryEvent_TaskScheduled{
		TaskScheduled: &protos.TaskScheduledEvent{Name: "who"},
	}})
	d := e.GetTaskFailed().GetFailureDetails()
	if err != nil || d.GetErrorType() != "TaskActivityNotRegistered" || !strings.Contains(d.GetErrorMessage(), "who") {
		t.Fatal(e, err)
	}
	if _, err := x.ExecuteActivity(context.Background(), "inst", &protos.HistoryEvent{}); !errors.Is(err, api.ErrInvalidInput) {
		t.Fatal(err)
	}
}

func TestActivityAborted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	e, err := runActivity(ctx, t, func(a task.ActivityContext) (any, error) {
		cancel()
		<-a.Context().Done()
		return nil, fmt.Errorf("step: %w", a.Context().Err())
	}, "")
	if e != nil || !errors.Is(err, context.Canceled) {
		t.Fatal(e, err)
	}
}

// A chain of causes reaches the orchestrator whole, and its own failure too.
func TestCausesArriveWhole(t *testing.T) {
	t.Parallel()
	e, err := runActivity(context.Background(), t, func(task.ActivityContext) (any, error) {
		return nil, fmt.Errorf("top: %w", fmt.Errorf("middle: %w", task.NonRetriable(errors.New("root"))))
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	var got error
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		got = ctx.CallActivity("a").Await(nil)
		return nil, got
	})
	h.start("")
	d := wantFailed(t, h.turn(taskFailed(0, e.GetTaskFailed().GetFailureDetails())), "*task.TaskFailedError")
	var f *task.TaskFailedError
	if !errors.As(got, &f) || !f.NonRetriable || f.Type != "*fmt.wrapError" || f.TaskName != "a" || f.TaskID != 0 || f.Attempt != 1 {
		t.Fatalf("%+v", got)
	}
	var chain []string
	for err := got; err != nil; err = errors.Unwrap(err) {
		chain = append(chain, err.Error())
	}
	if got, want := strings.Join(chain, "|"), "task failed with an error: top: middle: root|middle: root|root"; got != want {
		t.Fatalf("got %s", got)
	}
	var recorded []string
	for ; d != nil; d = d.GetInnerFailure() {
		recorded = append(recorded, d.GetErrorType())
	}
	if got, want := strings.Join(recorded, "|"), "*task.TaskFailedError|*fmt.wrapError|*fmt.wrapError|*errors.errorString"; got != want {
		t.Fatalf("got %s", got)
	}
}

func TestDecoding(t *testing.T) {
	t.Parallel()
	h := newHost(t, func(ctx *task.OrchestrationContext) (any, error) {
		one, kept := 1, 5
		p := &one
		if err := ctx.CallActivity("null").Await(&p); err != nil || p != nil {
			return nil, fmt.Errorf("null: %v, %w", p, err)
		}
		if err := ctx.CallActivity("none").Await(&kept); err != nil || kept != 5 {
			return nil, fmt.Errorf("none: %v, %w", kept, err)
		}
		return nil, ctx.CallActivity("str").Await(&kept)
	})
	h.start("")
	h.turn(taskDone(0, "null"))
	h.turn(taskDone(1, ""))
	d := wantFailed(t, h.turn(taskDone(2, `"str"`)), "*fmt.wrapError")
	if !strings.Contains(d.GetErrorMessage(), "*int") {
		t.Fatal(d)
	}
}

type methods struct{}

func (methods) Act(task.ActivityContext) (any, error) { return nil, nil }

func generic[T any](task.ActivityContext) (any, error) { return nil, nil }

func TestRegistry(t *testing.T) {
	t.Parallel()
	r := task.NewTaskRegistry()
	f := func(task.ActivityContext) (any, error) { return "fallback", nil }
	for name, err := range map[string]error{
		"nil": r.AddActivity(nil), "nil N": r.AddActivityN("x", nil), "empty": r.AddActivityN("", f),
		"nil o": r.AddOrchestrator(nil), "nil o N": r.AddOrchestratorN("x", nil),
	} {
		if !errors.Is(err, api.ErrInvalidInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, add := range []func() error{
		func() error { return r.AddActivity(methods{}.Act) }, func() error { return r.AddActivity(generic[int]) },
		func() error { return r.AddOrchestrator(kid) }, func() error { return r.AddActivityN("*", f) },
	} {
		if err := add(); err != nil {
			t.Fatal(err)
		}
		if err := add(); !errors.Is(err, api.ErrInvalidInput) {
			t.Errorf("added twice: %v", err)
		}
	}
	x := task.NewTaskExecutor(r)
	for name, want := range map[string]string{"Act": "", "generic": "", "other": `"fallback"`} {
		e, err := x.ExecuteActivity(context.Background(), "inst", &protos.HistoryEvent{EventType: &protos.HistoryEvent_TaskScheduled{
			TaskScheduled: &protos.TaskScheduledEvent{Name: name},
		}})
		if err != nil || e.GetTaskCompleted() == nil || e.GetTaskCompleted().GetResult().GetValue() != want {
			t.Errorf("%s: %v, %v", name, e, err)
		}
	}
}
