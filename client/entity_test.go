package client_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

func counterEntity(ctx *task.EntityContext) (any, error) {
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
		return nil, nil
	}
	_ = ctx.SetState(-1) // is undone
	return nil, fmt.Errorf("no operation %q", ctx.Operation)
}

func entityWorkflows(t *testing.T) *task.TaskRegistry {
	t.Helper()
	r := registry(t, map[string]task.Orchestrator{
		"swap": func(ctx *task.OrchestrationContext) (any, error) {
			a, b := api.NewEntityID("counter", "b"), api.NewEntityID("counter", "a")
			release, err := ctx.LockEntities(a, b)
			if err != nil {
				return nil, err
			}
			defer release()
			var x, y int
			if err := errors.Join(ctx.CallEntity(a, "get").Await(&x), ctx.CallEntity(b, "get").Await(&y)); err != nil {
				return nil, err
			}
			err = errors.Join(
				ctx.CallEntity(a, "add", task.WithEntityInput(y-x)).Await(nil),
				ctx.CallEntity(b, "add", task.WithEntityInput(x-y)).Await(nil))
			if failed := ctx.CallEntity(a, "nonsense").Await(nil); failed == nil {
				return nil, errors.New("the failure is lost")
			}
			return x - y, err
		},
	}, nil)
	if err := r.AddEntityN("Counter", counterEntity); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEntitiesOverTheWire(t *testing.T) {
	s := newServer(t)
	c, ctx := client.NewClient(dial(t, s.addr), quiet()), within(t)
	a, b := api.NewEntityID("counter", "a"), api.NewEntityID("counter", "b")
	for _, id := range []api.EntityID{a, b} { // before there is a worker
		if err := c.SignalEntity(ctx, id, "add", api.WithSignalInput(len(id.Key))); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dial(t, s.addr), entityWorkflows(t), client.WithRegisteredNamesOnly())
	if err := c.SignalEntity(ctx, a, "add", api.WithSignalInput(10)); err != nil {
		t.Fatal(err)
	}
	if err := c.SignalEntity(ctx, a, "add", api.WithSignalInput(100), api.WithSignalScheduledTime(time.Now().Add(300*time.Millisecond))); err != nil {
		t.Fatal(err)
	}
	value := func(id api.EntityID, want string) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			m, err := c.FetchEntityMetadata(ctx, id, true)
			if err == nil && m.SerializedState == want && m.BacklogQueueSize == 0 && m.LockedBy == "" {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("%s: %+v %v, want %s", id, m, err, want)
			}
		}
	}
	value(a, "111")
	for k := range 8 { // an even number of swaps
		if _, err := c.ScheduleNewOrchestration(ctx, "swap", api.WithInstanceID(api.InstanceID(fmt.Sprint("swap", k)))); err != nil {
			t.Fatal(err)
		}
		if k == 3 {
			s.stop()
			s = serve(t, s.addr, s.file)
		}
	}
	for k := range 8 {
		m, err := c.WaitForOrchestrationCompletion(ctx, api.InstanceID(fmt.Sprint("swap", k)))
		if err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
			t.Fatalf("swap %d: %+v %v", k, m, err)
		}
	}
	value(a, "111")
	value(b, "1")
	if err := c.SignalEntity(ctx, b, "delete"); err != nil {
		t.Fatal(err)
	}
	var page *api.EntityQueryResults
	for page == nil || len(page.Entities) != 1 {
		var err error
		if page, err = c.QueryEntities(ctx, api.EntityQuery{InstanceIDStartsWith: "@counter@", IncludeState: true}); err != nil {
			t.Fatal(err)
		}
	}
	if m := page.Entities[0]; m.InstanceID != a || m.SerializedState != "111" || page.ContinuationToken != "" || m.LastModifiedTime.IsZero() {
		t.Errorf("query: %+v", page)
	}
	r, err := c.CleanEntityStorage(ctx, api.CleanEntityStorageRequest{RemoveEmptyEntities: true, ReleaseOrphanedLocks: true})
	if err != nil || *r != (api.CleanEntityStorageResult{EmptyEntitiesRemoved: 1}) {
		t.Errorf("clean: %+v %v", r, err)
	}
	if _, err := c.FetchEntityMetadata(ctx, b, false); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("a deleted entity: %v", err)
	}
	if err := c.SignalEntity(ctx, api.EntityID{Name: "a@b"}, "add"); !errors.Is(err, api.ErrInvalidInput) {
		t.Errorf("an ill-formed id: %v", err)
	}
	if page, err := c.Query(ctx, api.InstanceQuery{}); err != nil || len(page.Instances) != 8 {
		t.Errorf("the query of orchestrations: %d instances, %v", len(page.Instances), err)
	}
}
