package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/task"
)

// account is an entity that counts, fails, forgets and tells others.
func account(ctx *task.EntityContext) (any, error) {
	var n, by int
	if err := errors.Join(ctx.GetState(&n), ctx.GetInput(&by)); err != nil {
		return nil, err
	}
	switch ctx.Operation {
	case "add":
		return n + by, ctx.SetState(n + by)
	case "get":
		return n, nil
	case "delete":
		ctx.DeleteState()
		return n, nil
	case "fail": // what it did before is undone
		other := api.NewEntityID("account", ctx.ID.Key+"-other")
		if err := errors.Join(ctx.SetState(-1), ctx.SignalEntity(other, "add", 1)); err != nil {
			return nil, err
		}
		return nil, errors.New("no luck")
	case "panic":
		_ = ctx.SetState(-1)
		panic("at the bank")
	case "tell":
		return nil, ctx.SignalEntity(api.NewEntityID("account", ctx.ID.Key+"-other"), "add", by)
	case "start":
		return nil, ctx.StartNewOrchestration("noop", task.WithEntityStartOrchestrationInstanceID(api.InstanceID("by-"+ctx.ID.Key)))
	}
	return nil, fmt.Errorf("no operation %q", ctx.Operation)
}

func entityRegistry(t *testing.T) *task.TaskRegistry {
	t.Helper()
	r := registry(t)
	if err := errors.Join(
		r.AddEntityN("Account", account),
		r.AddOrchestratorN("noop", func(*task.OrchestrationContext) (any, error) { return "done", nil }),
	); err != nil {
		t.Fatal(err)
	}
	return r
}

func orchestrate(t *testing.T, r *task.TaskRegistry, name string, f task.Orchestrator) {
	t.Helper()
	if err := r.AddOrchestratorN(name, f); err != nil {
		t.Fatal(err)
	}
}

func TestEntityCallsAndSignals(t *testing.T) {
	for _, opts := range []engine.Options{{}, {MaxResident: 1}} { // resident, and read at every turn
		t.Run(fmt.Sprint(opts.MaxResident), func(t *testing.T) {
			r := entityRegistry(t)
			orchestrate(t, r, "save", func(c *task.OrchestrationContext) (any, error) {
				id := api.NewEntityID("account", "a")
				sum := 0
				for k := range 10 {
					if err := c.SignalEntity(id, "add", task.WithSignalEntityInput(k)); err != nil {
						return nil, err
					}
					if err := c.CallEntity(id, "add", task.WithEntityInput(100)).Await(&sum); err != nil {
						return nil, err
					}
				}
				return sum, nil
			})
			c, _ := start(t, r, opts)
			if got := run(t, c, "save", nil); got != "1045" {
				t.Errorf("got %s, want 1045: the signal of each round comes before its call", got)
			}
			m, err := c.FetchEntityMetadata(t.Context(), api.NewEntityID("ACCOUNT", "a"), true)
			if err != nil || m.SerializedState != "1045" || m.BacklogQueueSize != 0 || m.LockedBy != "" {
				t.Errorf("metadata: %+v %v", m, err)
			}
		})
	}
}

func TestEntityFailureUndoesItsOperation(t *testing.T) {
	r := entityRegistry(t)
	orchestrate(t, r, "try", func(c *task.OrchestrationContext) (any, error) {
		id := api.NewEntityID("account", "a")
		var out []string
		for _, op := range []string{"add", "fail", "panic", "nothing", "add", "tell", "start"} {
			var n int
			err := c.CallEntity(id, op, task.WithEntityInput(5)).Await(&n)
			var failed *task.TaskFailedError
			if errors.As(err, &failed) && failed.TaskName != op {
				return nil, fmt.Errorf("the failure names %q, not %q", failed.TaskName, op)
			}
			out = append(out, fmt.Sprintf("%d %v", n, err != nil))
		}
		var other int
		if err := c.CallEntity(api.NewEntityID("account", "a-other"), "get").Await(&other); err != nil {
			return nil, err
		}
		err := c.CallEntity(api.NewEntityID("ghost", "a"), "get").Await(nil)
		var failed *task.TaskFailedError
		if !errors.As(err, &failed) || failed.Type != task.ErrorTypeEntityNotRegistered {
			return nil, fmt.Errorf("a name that is not registered: %w", err)
		}
		return fmt.Sprint(out, other), nil
	})
	c, _ := start(t, r, engine.Options{})
	if got, want := run(t, c, "try", nil), `"[5 false 0 true 0 true 0 true 10 false 0 false 0 false] 5"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	m, err := c.WaitForOrchestrationCompletion(t.Context(), "by-a")
	if err != nil || m.SerializedOutput != `"done"` {
		t.Errorf("started by the entity: %+v %v", m, err)
	}
}

func TestEntitySurvivesRestart(t *testing.T) {
	st := memstore.New()
	var gate atomic.Pointer[chan struct{}]
	r := entityRegistry(t)
	if err := r.AddActivityN("wait", func(c task.ActivityContext) (any, error) {
		select {
		case <-*gate.Load():
			return nil, nil
		case <-c.Context().Done():
			return nil, c.Context().Err()
		}
	}); err != nil {
		t.Fatal(err)
	}
	orchestrate(t, r, "save", func(c *task.OrchestrationContext) (any, error) {
		id, sum := api.NewEntityID("account", "a"), 0
		if err := c.CallEntity(id, "add", task.WithEntityInput(1)).Await(nil); err != nil {
			return nil, err
		}
		if err := c.CallActivity("wait").Await(nil); err != nil {
			return nil, err
		}
		err := c.CallEntity(id, "add", task.WithEntityInput(1)).Await(&sum)
		return sum, err
	})
	shut := make(chan struct{})
	gate.Store(&shut)
	c, stop := open(t, st, r, engine.Options{})
	id, err := c.ScheduleNewOrchestration(t.Context(), "save")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		m, err := c.FetchEntityMetadata(t.Context(), api.NewEntityID("account", "a"), true)
		return err == nil && m.SerializedState == "1"
	})
	for k := range 20 { // these may or may not run before the stop
		if err := c.SignalEntity(t.Context(), api.NewEntityID("account", "a"), "add", api.WithSignalInput(1000*k)); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	free := make(chan struct{})
	close(free)
	gate.Store(&free)
	c, _ = open(t, st, r, engine.Options{})
	m, err := c.WaitForOrchestrationCompletion(t.Context(), id)
	if err != nil || m.SerializedOutput != "190002" {
		t.Errorf("%+v %v", m, err)
	}
}

// open starts an engine over a store that outlives it.
func open(t *testing.T, st *memstore.Store, r *task.TaskRegistry, opts engine.Options) (backend.Client, func()) {
	t.Helper()
	log := quiet{backend.DefaultLogger()}
	be := engine.New(st, log, opts)
	ex := task.NewTaskExecutor(r)
	w := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, ex, log, backend.WithMaxParallelism(8)),
		backend.NewActivityTaskWorker(be, ex, log, backend.WithMaxParallelism(8)), log)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var once bool
	stop := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if !once {
			once = true
			if err := w.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(stop)
	return backend.NewClient(be), stop
}

// eventually asks again and again.
func eventually(t *testing.T, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(20 * time.Second); !f(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("not after 20 s")
		}
	}
}

func TestEntityLocksAreExclusive(t *testing.T) {
	r := entityRegistry(t)
	// Each transfer reads two accounts and writes them in steps of their own.
	orchestrate(t, r, "transfer", func(c *task.OrchestrationContext) (any, error) {
		var k int
		if err := c.GetInput(&k); err != nil {
			return nil, err
		}
		from, to := api.NewEntityID("account", fmt.Sprint(k%3)), api.NewEntityID("account", fmt.Sprint((k+1)%3))
		release, err := c.LockEntities(from, to)
		if err != nil {
			return nil, err
		}
		defer release()
		var a, b int
		if err := errors.Join(c.CallEntity(from, "get").Await(&a), c.CallEntity(to, "get").Await(&b)); err != nil {
			return nil, err
		}
		err = errors.Join(
			c.CallEntity(from, "delete").Await(nil), c.CallEntity(to, "delete").Await(nil),
			c.CallEntity(from, "add", task.WithEntityInput(a-1)).Await(nil),
			c.CallEntity(to, "add", task.WithEntityInput(b+1)).Await(nil))
		switch k % 5 {
		case 0:
			return nil, errors.New("ends without a release of its own")
		case 1:
			c.ContinueAsNew(k + 1)
		}
		return "ok", err
	})
	c, _ := start(t, r, engine.Options{})
	var ids []api.InstanceID
	for k := range 30 {
		id, err := c.ScheduleNewOrchestration(t.Context(), "transfer", api.WithInput(k))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		if k%7 == 0 {
			if err := c.TerminateOrchestration(t.Context(), id, "stop"); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, id := range ids {
		if _, err := c.WaitForOrchestrationCompletion(ctx, id); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	orchestrate(t, r, "sum", func(c *task.OrchestrationContext) (any, error) {
		sum := 0
		for k := range 3 {
			var n int
			if err := c.CallEntity(api.NewEntityID("account", fmt.Sprint(k)), "get").Await(&n); err != nil {
				return nil, err
			}
			sum += n
		}
		return sum, nil
	})
	// A terminated transfer may have stopped between its two writes; no other may.
	if got := run(t, c, "sum", nil); len(got) > 3 {
		t.Errorf("the accounts add up to %s", got)
	}
	page, err := c.QueryEntities(t.Context(), api.EntityQuery{IncludeTransient: true})
	if err != nil || len(page.Entities) != 3 {
		t.Fatalf("%+v %v", page, err)
	}
	for _, m := range page.Entities {
		if m.LockedBy != "" || m.BacklogQueueSize != 0 {
			t.Errorf("left: %+v", m)
		}
	}
}

func TestScheduledSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New()
		c, stop := open(t, st, entityRegistry(t), engine.Options{})
		id, began := api.NewEntityID("account", "a"), time.Now()
		for _, s := range []struct {
			by    int
			after time.Duration
		}{{1, 0}, {20, 2 * time.Hour}, {300, time.Hour}, {4000, 48 * time.Hour}} {
			if err := c.SignalEntity(t.Context(), id, "add", api.WithSignalInput(s.by),
				api.WithSignalScheduledTime(began.Add(s.after))); err != nil {
				t.Fatal(err)
			}
		}
		at := func(after time.Duration, want string, backlog int32) {
			t.Helper()
			<-time.After(time.Until(began.Add(after)))
			synctest.Wait()
			m, err := c.FetchEntityMetadata(t.Context(), id, true)
			if err != nil || m.SerializedState != want || m.BacklogQueueSize != backlog {
				t.Errorf("after %v: %+v %v, want %s with %d to come", after, m, err, want, backlog)
			}
		}
		at(59*time.Minute, "1", 3)
		at(61*time.Minute, "301", 2)
		stop()
		c, stop = open(t, st, entityRegistry(t), engine.Options{})
		at(119*time.Minute, "301", 2)
		at(121*time.Minute, "321", 1)
		stop()
		<-time.After(72 * time.Hour) // it comes due while nobody is there
		c, stop = open(t, st, entityRegistry(t), engine.Options{})
		at(100*time.Hour, "4321", 0)
		stop()
	})
}

func TestCleanEntityStorage(t *testing.T) {
	r := entityRegistry(t)
	orchestrate(t, r, "hold", func(c *task.OrchestrationContext) (any, error) {
		if _, err := c.LockEntities(api.NewEntityID("account", "locked"), api.NewEntityID("account", "full")); err != nil {
			return nil, err
		}
		c.SetCustomStatus("held")
		return nil, c.WaitForSingleEvent("never", -1).Await(nil)
	})
	c, _ := start(t, r, engine.Options{})
	ctx := t.Context()
	for _, s := range []struct{ key, op string }{{"full", "add"}, {"empty", "get"}, {"gone", "add"}, {"gone", "delete"}} {
		if err := c.SignalEntity(ctx, api.NewEntityID("account", s.key), s.op, api.WithSignalInput(7)); err != nil {
			t.Fatal(err)
		}
	}
	id, err := c.ScheduleNewOrchestration(ctx, "hold")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		m, err := c.FetchOrchestrationMetadata(ctx, id)
		return err == nil && m.SerializedCustomStatus == "held"
	})
	all := func(transient bool) int {
		page, err := c.QueryEntities(ctx, api.EntityQuery{InstanceIDStartsWith: "@Account@", IncludeTransient: transient})
		if err != nil {
			t.Fatal(err)
		}
		return len(page.Entities)
	}
	if n, m := all(true), all(false); n != 4 || m != 1 {
		t.Errorf("%d entities, %d with a state; want 4 and 1", n, m)
	}
	clean := func(want api.CleanEntityStorageResult) {
		t.Helper()
		got, err := c.CleanEntityStorage(ctx, api.CleanEntityStorageRequest{RemoveEmptyEntities: true, ReleaseOrphanedLocks: true})
		if err != nil || *got != want {
			t.Errorf("cleaned %+v %v, want %+v", got, err, want)
		}
	}
	clean(api.CleanEntityStorageResult{EmptyEntitiesRemoved: 2})
	if _, err := c.ForcePurge(ctx, id); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { // the second of the two locked ones
		page, err := c.QueryEntities(ctx, api.EntityQuery{IncludeTransient: true})
		return err == nil && page.Entities[0].LockedBy == "" && page.Entities[1].LockedBy == ""
	})
	clean(api.CleanEntityStorageResult{EmptyEntitiesRemoved: 1})
	if n := all(true); n != 1 {
		t.Errorf("%d entities are left", n)
	}
	if err := c.SignalEntity(ctx, api.NewEntityID("account", "gone"), "add", api.WithSignalInput(1)); err != nil {
		t.Error(err)
	}
}
