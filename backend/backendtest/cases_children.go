package backendtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

func childCall(c *task.OrchestrationContext, name, id string) task.Task {
	return c.CallSubOrchestrator(name, task.WithSubOrchestrationInstanceID(id))
}

// An event that is sent in the turn that starts its target comes after the start,
// also where the child takes the place of a finished instance.
func c02EventsForAChildOfTheSameTurn(t *testing.T, hubs NewHub) {
	h := newHost(t, hubs(t), orchestrators{
		"parent": func(c *task.OrchestrationContext) (any, error) {
			child := childCall(c, "child", "child")
			for n := range 3 {
				if err := c.SendEvent("child", "go", n); err != nil {
					return nil, err
				}
			}
			var got []int
			err := child.Await(&got)
			return got, err
		},
		"child": func(c *task.OrchestrationContext) (any, error) {
			got := make([]int, 3)
			for n := range got {
				if err := c.WaitForSingleEvent("go", patience).Await(&got[n]); err != nil {
					return nil, err
				}
			}
			return got, nil
		},
	}, nil)
	h.output(h.begin("parent"), "[0,1,2]")
	h.output(h.begin("parent"), "[0,1,2]")
	h.noMessages(time.Second)
}

// A recursive terminate reaches children only, not who has the id that was
// asked for in vain.
func c11TerminateSparesWhoHasTheID(t *testing.T, hubs NewHub) {
	g := newGate()
	defer g.release()
	h := newHost(t, hubs(t), orchestrators{
		"parent": func(c *task.OrchestrationContext) (any, error) {
			taken, own := childCall(c, "wait", "shared"), childCall(c, "wait", "own")
			g.pass()
			return nil, c.WhenAll(taken, own).Await(nil)
		},
		"wait": waitForever,
	}, nil)
	h.begin("wait", api.WithInstanceID("shared"))
	h.waits("shared")
	id := h.begin("parent")
	recv(t, g.entered, "first turn")
	must(t, h.TerminateOrchestration(t.Context(), id, "stop"))
	g.release()
	h.status(id, api.RUNTIME_STATUS_TERMINATED, patience)
	h.status("own", api.RUNTIME_STATUS_TERMINATED, patience) // it gets its message in the same commit as the other
	must(t, h.SuspendOrchestration(t.Context(), "shared", ""))
	eventually(t, patience, "the other instance lives", func() bool {
		return h.fetch("shared").RuntimeStatus == api.RUNTIME_STATUS_SUSPENDED
	})
}

// Ids that come again can make an instance its own ancestor.
func c17PurgeOfACircle(t *testing.T, hubs NewHub) {
	h := newHost(t, hubs(t), orchestrators{
		"first":  func(c *task.OrchestrationContext) (any, error) { return nil, childCall(c, "second", "b").Await(nil) },
		"second": func(c *task.OrchestrationContext) (any, error) { return nil, childCall(c, "third", "c").Await(nil) },
		"third": func(c *task.OrchestrationContext) (any, error) {
			c.SetCustomStatus("waits")
			if err := c.WaitForSingleEvent("go", -1).Await(nil); err != nil {
				return nil, err
			}
			return nil, childCall(c, "last", "a").Await(nil)
		},
		"last": func(*task.OrchestrationContext) (any, error) { return 1, nil },
	}, nil)
	needs[backend.InstanceManager](h)
	h.begin("first", api.WithInstanceID("a"))
	h.waits("c")
	must(t, h.Terminate(t.Context(), "a", api.WithRecursiveTerminate(false)))
	h.status("a", api.RUNTIME_STATUS_TERMINATED, patience)
	h.raise("c", "go", nil)
	h.output("b", "")
	h.output("a", "1")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if n, err := h.Purge(ctx, "a"); n != 3 || err != nil {
		t.Errorf("purge: %d, %v; want 3", n, err)
	}
}

// A parent learns of the end of its child, whoever ends it and how.
func c20ForcedEndsReachTheParent(t *testing.T, hubs NewHub) {
	h := newHost(t, hubs(t), orchestrators{
		"parent": func(c *task.OrchestrationContext) (any, error) {
			err := childCall(c, "wait", "child of "+string(c.ID)).Await(nil)
			var failed *task.TaskFailedError
			if !errors.As(err, &failed) {
				return nil, fmt.Errorf("the child gave %w", err)
			}
			return failed.Type, nil
		},
		"wait": waitForever,
	}, nil)
	needs[backend.InstanceManager](h)
	needs[backend.InstanceReplacer](h)
	for how, end := range map[string]func(api.InstanceID) error{
		"TERMINATED": func(id api.InstanceID) error { return h.ForceTerminate(t.Context(), id) },
		"PURGED":     func(id api.InstanceID) error { _, err := h.ForcePurge(t.Context(), id); return err },
		"REPLACED": func(id api.InstanceID) error {
			_, err := h.ScheduleNewOrchestration(t.Context(), "wait", api.WithInstanceID(id),
				api.WithOrchestrationIdReusePolicy(&protos.OrchestrationIdReusePolicy{ReplaceableStatus: []api.OrchestrationStatus{
					api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_TERMINATED,
				}}))
			return err
		},
	} {
		parent := h.begin("parent", api.WithInstanceID(api.InstanceID(how)))
		child := "child of " + parent
		h.waits(child)
		must(t, end(child))
		h.output(parent, `"SubOrchestration`+how+`"`)
	}
}

// Of a client and a parent that start the same id at once, one wins.
func c21AClientAndAParentRace(t *testing.T, hubs NewHub) {
	h := newHost(t, hubs(t), orchestrators{
		"parent": func(c *task.OrchestrationContext) (any, error) {
			var id string
			if err := c.GetInput(&id); err != nil {
				return nil, err
			}
			return childCall(c, "child", id).Await(nil) == nil, nil
		},
		"child": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.WaitForSingleEvent("go", -1).Await(nil)
		},
	}, nil)
	for n := range 100 {
		id := api.InstanceID(fmt.Sprintf("raced %d", n))
		var wg sync.WaitGroup
		var err error
		wg.Go(func() {
			for range n % 20 { // so that one begins a bit later
				_, _ = h.FetchOrchestrationMetadata(t.Context(), "nobody")
			}
			_, err = h.ScheduleNewOrchestration(t.Context(), "child", api.WithInstanceID(id))
		})
		parent, perr := h.ScheduleNewOrchestration(t.Context(), "parent", api.WithInput(id))
		wg.Wait()
		must(t, perr)
		if err != nil && !errors.Is(err, backend.ErrDuplicateEvent) {
			t.Fatal(err)
		}
		_, serr := h.WaitForOrchestrationStart(t.Context(), parent)
		must(t, serr)
		h.raise(id, "go", nil)
		h.output(parent, fmt.Sprint(err != nil))
	}
}
