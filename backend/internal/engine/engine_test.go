package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type quiet struct{ backend.Logger }

func (quiet) Debugf(string, ...any) {}
func (quiet) Infof(string, ...any)  {}

func start(t *testing.T, r *task.TaskRegistry, opts engine.Options) (backend.Client, func()) {
	t.Helper()
	log := quiet{backend.DefaultLogger()}
	be := engine.New(memstore.New(), log, opts)
	ex := task.NewTaskExecutor(r)
	w := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, ex, log, backend.WithMaxParallelism(16)),
		backend.NewActivityTaskWorker(be, ex, log, backend.WithMaxParallelism(16)), log)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var once bool
	stop := func() {
		if !once {
			once = true
			if err := w.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return backend.NewClient(be), stop
}

func registry(t *testing.T) *task.TaskRegistry {
	t.Helper()
	r := task.NewTaskRegistry()
	add := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	add(r.AddActivityN("inc", func(c task.ActivityContext) (any, error) {
		var n int
		err := c.GetInput(&n)
		return n + 1, err
	}))
	add(r.AddOrchestratorN("chain", func(c *task.OrchestrationContext) (any, error) {
		var n, v int
		if err := c.GetInput(&n); err != nil {
			return nil, err
		}
		for range n {
			if err := c.CallActivity("inc", task.WithActivityInput(v)).Await(&v); err != nil {
				return nil, err
			}
		}
		return v, nil
	}))
	add(r.AddOrchestratorN("fan", func(c *task.OrchestrationContext) (any, error) {
		var n int
		if err := c.GetInput(&n); err != nil {
			return nil, err
		}
		tasks := make([]task.Task, n)
		for k := range tasks {
			tasks[k] = c.CallActivity("inc", task.WithActivityInput(k))
		}
		sum := 0
		for _, t := range tasks {
			var v int
			if err := t.Await(&v); err != nil {
				return nil, err
			}
			sum += v
		}
		return sum, nil
	}))
	add(r.AddOrchestratorN("parent", func(c *task.OrchestrationContext) (any, error) {
		var v int
		err := c.CallSubOrchestrator("chain", task.WithSubOrchestratorInput(3)).Await(&v)
		return v, err
	}))
	add(r.AddOrchestratorN("events", func(c *task.OrchestrationContext) (any, error) {
		var n, sum int
		if err := c.GetInput(&n); err != nil {
			return nil, err
		}
		for range n {
			var v int
			if err := c.WaitForSingleEvent("e", -1).Await(&v); err != nil {
				return nil, err
			}
			sum = sum*3 + v
		}
		return sum, nil
	}))
	add(r.AddOrchestratorN("timer", func(c *task.OrchestrationContext) (any, error) {
		return "fired", c.CreateTimer(20 * time.Millisecond).Await(nil)
	}))
	add(r.AddOrchestratorN("loop", func(c *task.OrchestrationContext) (any, error) {
		var n int
		if err := c.GetInput(&n); err != nil {
			return nil, err
		}
		if n == 0 {
			return "end", nil
		}
		c.ContinueAsNew(n - 1)
		return nil, nil
	}))
	return r
}

func run(t *testing.T, c backend.Client, name string, input any) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	id, err := c.ScheduleNewOrchestration(ctx, name, api.WithInput(input))
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.WaitForOrchestrationCompletion(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
		t.Fatalf("%s: %v %v", name, m.RuntimeStatus, m.FailureDetails)
	}
	return m.SerializedOutput
}

func TestOrchestrations(t *testing.T) {
	for _, opts := range []engine.Options{{}, {MaxResident: 1}} { // resident, and replayed at every turn
		c, _ := start(t, registry(t), opts)
		for _, tt := range []struct {
			name string
			in   any
			want string
		}{
			{"chain", 10, "10"},
			{"fan", 500, "125250"},
			{"parent", 0, "3"},
			{"timer", 0, `"fired"`},
			{"loop", 55, `"end"`},
		} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, opts.MaxResident), func(t *testing.T) {
				if got := run(t, c, tt.name, tt.in); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			})
		}
	}
}

func TestEventsKeepTheirOrder(t *testing.T) {
	c, _ := start(t, registry(t), engine.Options{})
	ctx := t.Context()
	id, err := c.ScheduleNewOrchestration(ctx, "events", api.WithInput(12))
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for k := range 12 {
		if err := c.RaiseEvent(ctx, id, "E", k%3); err != nil {
			t.Fatal(err)
		}
		want = want*3 + k%3
	}
	m, err := c.WaitForOrchestrationCompletion(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if m.SerializedOutput != fmt.Sprint(want) {
		t.Errorf("got %s, want %d", m.SerializedOutput, want)
	}
	if err := c.RaiseEvent(ctx, "ghost", "E", 1); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("raise to an unknown id: %v", err)
	}
}

func TestTerminateStopsActivities(t *testing.T) {
	r := registry(t)
	var started, cancelled atomic.Int32
	entered := make(chan struct{}, 100)
	if err := errors.Join(r.AddActivityN("block", func(c task.ActivityContext) (any, error) {
		started.Add(1)
		entered <- struct{}{}
		<-c.Context().Done()
		cancelled.Add(1)
		return nil, c.Context().Err()
	}), r.AddOrchestratorN("blocked", func(c *task.OrchestrationContext) (any, error) {
		var last task.Task
		for range 30 {
			last = c.CallActivity("block")
		}
		return nil, last.Await(nil)
	})); err != nil {
		t.Fatal(err)
	}
	c, stop := start(t, r, engine.Options{})
	ctx := t.Context()
	id, err := c.ScheduleNewOrchestration(ctx, "blocked")
	if err != nil {
		t.Fatal(err)
	}
	for range 16 {
		<-entered
	}
	if err := c.SuspendOrchestration(ctx, id, ""); err != nil {
		t.Fatal(err)
	}
	if err := c.TerminateOrchestration(ctx, id, "enough"); err != nil {
		t.Fatal(err)
	}
	m, err := c.WaitForOrchestrationCompletion(ctx, id)
	if err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_TERMINATED || m.SerializedOutput != "enough" {
		t.Fatalf("%+v %v", m, err)
	}
	if n, err := c.Purge(ctx, id); err != nil || n != 1 {
		t.Errorf("purge: %d %v", n, err)
	}
	if _, err := c.FetchOrchestrationMetadata(ctx, id); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("after purge: %v", err)
	}
	stop()
	if started.Load() != 16 || cancelled.Load() != 16 {
		t.Errorf("started %d, cancelled %d, want 16 and 16", started.Load(), cancelled.Load())
	}
}

func TestRewind(t *testing.T) {
	r := registry(t)
	var calls atomic.Int32
	if err := errors.Join(r.AddActivityN("flaky", func(c task.ActivityContext) (any, error) {
		if calls.Add(1) == 1 {
			return nil, errors.New("not yet")
		}
		return "ok", nil
	}), r.AddOrchestratorN("flow", func(c *task.OrchestrationContext) (any, error) {
		var n int
		var s string
		if err := c.CallActivity("inc", task.WithActivityInput(1)).Await(&n); err != nil {
			return nil, err
		}
		err := c.CallActivity("flaky").Await(&s)
		return s, err
	})); err != nil {
		t.Fatal(err)
	}
	for _, opts := range []engine.Options{{}, {MaxResident: 1}} {
		calls.Store(0)
		c, _ := start(t, r, opts)
		id, err := c.ScheduleNewOrchestration(t.Context(), "flow")
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.WaitForOrchestrationCompletion(t.Context(), id)
		if err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_FAILED {
			t.Fatalf("%+v %v", m, err)
		}
		if err := c.Rewind(t.Context(), id, "fixed"); err != nil {
			t.Fatal(err)
		}
		m, err = c.WaitForOrchestrationCompletion(t.Context(), id)
		if err != nil || m.SerializedOutput != `"ok"` {
			t.Fatalf("after rewind: %+v %v", m, err)
		}
		if err := c.Rewind(t.Context(), id, "again"); !errors.Is(err, api.ErrNotFailed) {
			t.Errorf("rewind of a completed instance: %v", err)
		}
	}
}
