package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

// host runs a registry on a file of its own.
func host(t *testing.T, r *task.TaskRegistry) backend.Client {
	t.Helper()
	c, w, err := crashHub(t.Context(), t.TempDir(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func newRegistry(t *testing.T, orchestrators map[string]task.Orchestrator, activities map[string]task.Activity) *task.TaskRegistry {
	t.Helper()
	r := task.NewTaskRegistry()
	for name, f := range orchestrators {
		if err := r.AddOrchestratorN(name, f); err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range activities {
		if err := r.AddActivityN(name, f); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func complete(t *testing.T, c backend.Client, id api.InstanceID) *api.OrchestrationMetadata {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := c.WaitForOrchestrationCompletion(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func begin(t *testing.T, c backend.Client, name string, opts ...api.NewOrchestrationOptions) api.InstanceID {
	t.Helper()
	id, err := c.ScheduleNewOrchestration(t.Context(), name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestC04StaleTimeoutLeavesLaterWaiterAlone(t *testing.T) {
	t.Parallel()
	c := host(t, newRegistry(t, map[string]task.Orchestrator{"o": func(ctx *task.OrchestrationContext) (any, error) {
		var a, b string
		if err := ctx.WaitForSingleEvent("A", 200*time.Millisecond).Await(&a); err != nil {
			return nil, err
		}
		if err := ctx.CreateTimer(300 * time.Millisecond).Await(nil); err != nil {
			return nil, err
		}
		err := ctx.WaitForSingleEvent("A", 20*time.Second).Await(&b)
		return a + b, err
	}}, nil))
	id := begin(t, c, "o")
	for _, v := range []string{"1", "2"} {
		if err := c.RaiseEvent(t.Context(), id, "a", v); err != nil {
			t.Fatal(err)
		}
	}
	if m := complete(t, c, id); m.SerializedOutput != `"12"` {
		t.Errorf("%v %s", m.RuntimeStatus, m.SerializedOutput)
	}
}

func TestC08ChildIDsDifferBetweenGenerations(t *testing.T) {
	t.Parallel()
	c := host(t, newRegistry(t, map[string]task.Orchestrator{
		"child": func(ctx *task.OrchestrationContext) (any, error) {
			var n int
			err := ctx.GetInput(&n)
			return n * 10, err
		},
		"o": func(ctx *task.OrchestrationContext) (any, error) {
			in := []int{}
			if err := ctx.GetInput(&in); err != nil {
				return nil, err
			}
			var v int
			if err := ctx.CallSubOrchestrator("child", task.WithSubOrchestratorInput(len(in))).Await(&v); err != nil {
				return nil, err
			}
			if in = append(in, v); len(in) < 3 {
				ctx.ContinueAsNew(in)
			}
			return in, nil
		},
	}, nil))
	if m := complete(t, c, begin(t, c, "o", api.WithInput([]int{}))); m.SerializedOutput != "[0,10,20]" {
		t.Errorf("%v %s %v", m.RuntimeStatus, m.SerializedOutput, m.FailureDetails)
	}
}

func TestC09ActionsBeforeContinueAsNewTakeEffect(t *testing.T) {
	t.Parallel()
	var runs atomic.Int32
	done := make(chan struct{}, 80)
	c := host(t, newRegistry(t, map[string]task.Orchestrator{"o": func(ctx *task.OrchestrationContext) (any, error) {
		var n int
		if err := ctx.GetInput(&n); err != nil {
			return nil, err
		}
		if n == 0 {
			ctx.CallActivity("log")
			ctx.CallActivity("log")
			ctx.ContinueAsNew(1)
			return nil, nil
		}
		return "end", ctx.WaitForSingleEvent("go", -1).Await(nil)
	}}, map[string]task.Activity{"log": func(task.ActivityContext) (any, error) {
		runs.Add(1)
		done <- struct{}{}
		return nil, nil
	}}))
	var ids []api.InstanceID
	for range 40 {
		ids = append(ids, begin(t, c, "o", api.WithInput(0)))
	}
	for range 80 {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d of 80 activities ran", runs.Load())
		}
	}
	for _, id := range ids {
		if err := c.RaiseEvent(t.Context(), id, "go", nil); err != nil {
			t.Fatal(err)
		}
		if m := complete(t, c, id); m.SerializedOutput != `"end"` {
			t.Errorf("%v %s", m.RuntimeStatus, m.SerializedOutput)
		}
	}
	if n := runs.Load(); n != 80 {
		t.Errorf("%d runs, want 80", n)
	}
}

func TestC13TerminateBeforeTheStartTime(t *testing.T) {
	t.Parallel()
	var runs atomic.Int32
	c := host(t, newRegistry(t, map[string]task.Orchestrator{"o": func(*task.OrchestrationContext) (any, error) {
		runs.Add(1)
		return nil, nil
	}}, nil))
	id := begin(t, c, "o", api.WithStartTime(time.Now().Add(time.Hour)))
	if m, err := c.FetchOrchestrationMetadata(t.Context(), id); err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_PENDING {
		t.Fatalf("%+v %v", m, err)
	}
	if err := c.TerminateOrchestration(t.Context(), id, "never mind"); err != nil {
		t.Fatal(err)
	}
	if m := complete(t, c, id); m.RuntimeStatus != api.RUNTIME_STATUS_TERMINATED || runs.Load() != 0 {
		t.Errorf("%v, %d runs", m.RuntimeStatus, runs.Load())
	}
}

func TestC21OneStarterWins(t *testing.T) {
	t.Parallel()
	var runs atomic.Int32
	c := host(t, newRegistry(t, map[string]task.Orchestrator{"o": func(*task.OrchestrationContext) (any, error) {
		runs.Add(1)
		return nil, nil
	}}, nil))
	errs := make(chan error, 40)
	for range 40 {
		go func() {
			_, err := c.ScheduleNewOrchestration(t.Context(), "o", api.WithInstanceID("one"))
			errs <- err
		}()
	}
	won := 0
	for range 40 {
		switch err := <-errs; {
		case err == nil:
			won++
		case !errors.Is(err, api.ErrDuplicateInstance) || !errors.Is(err, backend.ErrDuplicateEvent):
			t.Error(err)
		}
	}
	complete(t, c, "one")
	if won != 1 || runs.Load() != 1 {
		t.Errorf("%d starts won, %d runs", won, runs.Load())
	}
}

func TestC23TakenChildIDFailsTheTask(t *testing.T) {
	t.Parallel()
	c := host(t, newRegistry(t, map[string]task.Orchestrator{
		"wait": func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.WaitForSingleEvent("never", -1).Await(nil)
		},
		"o": func(ctx *task.OrchestrationContext) (any, error) {
			err := ctx.CallSubOrchestrator("wait", task.WithSubOrchestrationInstanceID("shared")).Await(nil)
			return fmt.Sprint(err), nil
		},
	}, nil))
	begin(t, c, "wait", api.WithInstanceID("shared"))
	if m := complete(t, c, begin(t, c, "o")); m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
		t.Errorf("%v %v", m.RuntimeStatus, m.FailureDetails)
	} else if want := `\"shared\"`; !strings.Contains(m.SerializedOutput, want) {
		t.Errorf("%s does not name the id", m.SerializedOutput)
	}
}

func TestC24IDs(t *testing.T) {
	t.Parallel()
	c := host(t, newRegistry(t, map[string]task.Orchestrator{"o": func(ctx *task.OrchestrationContext) (any, error) {
		return nil, ctx.WaitForSingleEvent("e", -1).Await(nil)
	}}, nil))
	for _, id := range []api.InstanceID{"café 日本 🎉", "a|b@c/d", " ", "Case", "case"} {
		begin(t, c, "o", api.WithInstanceID(id))
		if err := c.RaiseEvent(t.Context(), id, "e", nil); err != nil {
			t.Errorf("%q: %v", id, err)
		}
		complete(t, c, id)
		if n, err := c.Purge(t.Context(), id); n != 1 || err != nil {
			t.Errorf("purge %q: %d %v", id, n, err)
		}
	}
	long := make([]byte, 5000)
	for i := range long {
		long[i] = 'x'
	}
	for _, id := range []api.InstanceID{api.InstanceID(long), "a\x00b", "\xff"} {
		if _, err := c.ScheduleNewOrchestration(t.Context(), "o", api.WithInstanceID(id)); !errors.Is(err, api.ErrInvalidInput) {
			t.Errorf("%.10q: %v", id, err)
		}
	}
}

func TestC40WideFanOut(t *testing.T) {
	t.Parallel()
	c := host(t, newRegistry(t, map[string]task.Orchestrator{"o": func(ctx *task.OrchestrationContext) (any, error) {
		tasks := make([]task.Task, 20_000)
		for i := range tasks {
			tasks[i] = ctx.CallActivity("a")
		}
		return len(tasks), ctx.WhenAll(tasks...).Await(nil)
	}}, map[string]task.Activity{"a": func(task.ActivityContext) (any, error) { return nil, nil }}))
	if m := complete(t, c, begin(t, c, "o")); m.SerializedOutput != "20000" {
		t.Errorf("%v %s %v", m.RuntimeStatus, m.SerializedOutput, m.FailureDetails)
	}
}
