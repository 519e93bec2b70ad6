package client_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

// blocking is an activity that says when it began and ends when told to, or with its context.
type blocking struct {
	began, release chan struct{}
	most, now      atomic.Int32
}

func newBlocking() *blocking {
	return &blocking{began: make(chan struct{}, 1000), release: make(chan struct{})}
}

func (b *blocking) run(ctx task.ActivityContext) (any, error) {
	n := b.now.Add(1)
	defer b.now.Add(-1)
	for m := b.most.Load(); n > m && !b.most.CompareAndSwap(m, n); m = b.most.Load() {
	}
	b.began <- struct{}{}
	select {
	case <-b.release:
		return "done", nil
	case <-ctx.Context().Done():
		return nil, ctx.Context().Err()
	}
}

func (b *blocking) fanOut(ctx *task.OrchestrationContext) (any, error) {
	var n int
	if err := ctx.GetInput(&n); err != nil {
		return nil, err
	}
	tasks := make([]task.Task, n)
	for i := range tasks {
		tasks[i] = ctx.CallActivity("block")
	}
	for _, t := range tasks {
		if err := t.Await(nil); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (b *blocking) registry(t *testing.T) *task.TaskRegistry {
	return registry(t, map[string]task.Orchestrator{"fan": b.fanOut}, map[string]task.Activity{"block": b.run})
}

func startFan(t *testing.T, c backend.Client, n int) api.InstanceID {
	t.Helper()
	id, err := c.ScheduleNewOrchestration(t.Context(), "fan", api.WithInput(n))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func completes(t *testing.T, c backend.Client, id api.InstanceID) *api.OrchestrationMetadata {
	t.Helper()
	m, err := c.WaitForOrchestrationCompletion(within(t), id)
	if err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
		t.Fatalf("%s: %+v, %v", id, m, err)
	}
	return m
}

func receive(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
}

func TestWorkerHonoursItsConcurrency(t *testing.T) {
	s, b := newServer(t), newBlocking()
	c := client.NewClient(dial(t, s.addr), quiet())
	run(t, dial(t, s.addr), b.registry(t), client.WithMaxConcurrentActivities(3), client.WithMaxConcurrentOrchestrations(1))
	id := startFan(t, c, 20)
	for range 3 {
		receive(t, b.began)
	}
	close(b.release)
	completes(t, c, id)
	if got := b.most.Load(); got != 3 {
		t.Errorf("%d activities at a time, want 3", got)
	}
}

func TestWorkerSurvivesItsServer(t *testing.T) {
	s, b := newServer(t), newBlocking()
	cc := dial(t, s.addr)
	c := client.NewClient(cc, quiet())
	run(t, dial(t, s.addr), b.registry(t))
	id := startFan(t, c, 2)
	receive(t, b.began)
	receive(t, b.began)
	waited := make(chan error, 1)
	ctx := within(t)
	go func() {
		_, err := c.WaitForOrchestrationCompletion(ctx, id)
		waited <- err
	}()
	s.stop()
	close(b.release) // for the second attempt; the first one's context is over
	serve(t, s.addr, s.file)
	if err := <-waited; err != nil {
		t.Errorf("a wait across a restart: %v", err)
	}
	completes(t, c, id)
}

func TestWorkerWaitsForItsServer(t *testing.T) {
	s, b := newServer(t), newBlocking()
	s.stop()
	close(b.release)
	first := client.NewTaskHubGrpcClient(dial(t, s.addr), quiet())
	if err := first.StartWorkItemListener(t.Context(), b.registry(t)); err == nil {
		t.Error("the first attempt to connect did not fail")
	}
	run(t, dial(t, s.addr), b.registry(t))
	serve(t, s.addr, s.file)
	c := client.NewClient(dial(t, s.addr), quiet())
	completes(t, c, startFan(t, c, 1))
}

func TestWorkerDrains(t *testing.T) {
	s, b := newServer(t), newBlocking()
	c := client.NewClient(dial(t, s.addr), quiet())
	first := b.registry(t)
	stop := run(t, dial(t, s.addr), first, client.WithMaxConcurrentActivities(1))
	id := startFan(t, c, 2)
	receive(t, b.began)
	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	select {
	case err := <-ended:
		t.Fatalf("it ended with an activity under way: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	b.release <- struct{}{}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	// The first result counts: the second worker runs the other activity only.
	second := newBlocking()
	close(second.release)
	run(t, dial(t, s.addr), second.registry(t))
	completes(t, c, id)
	if n := len(second.began); n != 1 {
		t.Errorf("the second worker ran %d activities, want 1", n)
	}
}

func TestWorkerDrainHasALimit(t *testing.T) {
	s, b := newServer(t), newBlocking()
	c := client.NewClient(dial(t, s.addr), quiet())
	stop := run(t, dial(t, s.addr), b.registry(t), client.WithDrainTimeout(50*time.Millisecond))
	id := startFan(t, c, 1)
	receive(t, b.began)
	if err := stop(); err != nil { // its context ended the activity
		t.Error(err)
	}
	close(b.release)
	run(t, dial(t, s.addr), b.registry(t)) // and it was given to another
	completes(t, c, id)
}

func TestWorkersWithDifferentCodeShareAHub(t *testing.T) {
	s := newServer(t)
	c := client.NewClient(dial(t, s.addr), quiet())
	var mu sync.Mutex
	ran := map[string]int{}
	note := func(name string) task.Activity {
		return func(task.ActivityContext) (any, error) {
			mu.Lock()
			defer mu.Unlock()
			ran[name]++
			return nil, nil
		}
	}
	run(t, dial(t, s.addr), registry(t, map[string]task.Orchestrator{"both": func(ctx *task.OrchestrationContext) (any, error) {
		a, b := ctx.CallActivity("a"), ctx.CallActivity("b")
		return nil, errors.Join(a.Await(nil), b.Await(nil))
	}}, map[string]task.Activity{"a": note("a")}), client.WithRegisteredNamesOnly())
	run(t, dial(t, s.addr), registry(t, nil, map[string]task.Activity{"b": note("b")}), client.WithRegisteredNamesOnly())
	for range 10 {
		id, err := c.ScheduleNewOrchestration(t.Context(), "both")
		if err != nil {
			t.Fatal(err)
		}
		completes(t, c, id)
	}
	if ran["a"] != 10 || ran["b"] != 10 {
		t.Errorf("ran %v", ran)
	}
	id, err := c.ScheduleNewOrchestration(t.Context(), "nobody's")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if m, err := c.WaitForOrchestrationStart(ctx, id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("what nobody hosts: %+v, %v", m, err)
	}
}

func TestLargeTurnsAndResults(t *testing.T) {
	s := newServer(t)
	c := client.NewClient(dial(t, s.addr), quiet())
	big := strings.Repeat("x", 1<<20)
	run(t, dial(t, s.addr), registry(t, map[string]task.Orchestrator{"big": func(ctx *task.OrchestrationContext) (any, error) {
		tasks := make([]task.Task, 8) // their inputs do not fit into one message
		for i := range tasks {
			tasks[i] = ctx.CallActivity("len", task.WithActivityInput(big))
		}
		sum := 0
		for _, t := range tasks {
			var n int
			if err := t.Await(&n); err != nil {
				return nil, err
			}
			sum += n
		}
		return sum, nil
	}}, map[string]task.Activity{"len": func(ctx task.ActivityContext) (any, error) {
		var in string
		err := ctx.GetInput(&in)
		return len(in), err
	}}))
	id, err := c.ScheduleNewOrchestration(t.Context(), "big")
	if err != nil {
		t.Fatal(err)
	}
	if m := completes(t, c, id); m.SerializedOutput != "8388608" {
		t.Errorf("got %s", m.SerializedOutput)
	}
}
