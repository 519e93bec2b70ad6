package backendtest

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

// A rewound instance runs what its code decides now in the turn that failed,
// whatever that turn had decided before, and fails as before where the code is as before.
func rewindAfterABug(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	errBug := errors.New("a bug")
	bug := func(fixed bool) error {
		if fixed {
			return nil
		}
		return errBug
	}
	code := func(fixed bool) orchestrators {
		return orchestrators{
			"at once": func(c *task.OrchestrationContext) (any, error) {
				if err := bug(fixed); err != nil {
					return nil, err
				}
				return 1, nil
			},
			"after an activity": func(c *task.OrchestrationContext) (any, error) {
				v := 0
				if err := errors.Join(c.CallActivity("one").Await(&v), bug(fixed)); err != nil {
					return nil, err
				}
				return v, c.CallActivity("one").Await(&v)
			},
			"after a decision": func(c *task.OrchestrationContext) (any, error) {
				if err := c.WaitForSingleEvent("go", -1).Await(nil); err != nil {
					return nil, err
				}
				first := c.CallActivity("one")
				if err := bug(fixed); err != nil {
					return nil, err
				}
				v := 0
				err := errors.Join(c.CreateTimer(time.Millisecond).Await(nil), c.CallActivity("one").Await(nil), first.Await(&v))
				return v, err
			},
			"panic": func(c *task.OrchestrationContext) (any, error) {
				if err := c.CreateTimer(0).Await(nil); err != nil {
					return nil, err
				}
				if !fixed {
					panic(errBug)
				}
				v := 0
				err := c.CallSubOrchestrator("at once").Await(&v)
				return v, err
			},
		}
	}
	as := activities{"one": func(task.ActivityContext) (any, error) { return 1, nil }}
	h := newHost(t, hub, code(false), as)
	needs[backend.InstanceManager](h)
	var ids []api.InstanceID
	for name := range code(false) {
		id := h.begin(name, api.WithInstanceID(api.InstanceID(name)))
		h.raise(id, "go", nil)
		ids = append(ids, id)
	}
	fails := func(id api.InstanceID) string {
		t.Helper()
		d := h.status(id, api.RUNTIME_STATUS_FAILED, patience).FailureDetails
		return d.GetErrorType() + ": " + d.GetErrorMessage()
	}
	for _, id := range ids {
		before := fails(id)
		for range 2 {
			must(t, h.Rewind(t.Context(), id, "try again"))
			if now := fails(id); now != before {
				t.Errorf("%s failed with %q and after a rewind with %q", id, before, now)
			}
		}
	}
	h.stop()
	h = newHost(t, hub, code(true), as)
	for _, id := range ids {
		must(t, h.Rewind(t.Context(), id, "fixed"))
		h.output(id, "1")
		if err := h.Rewind(t.Context(), id, ""); !errors.Is(err, api.ErrNotFailed) {
			t.Errorf("rewind of a completed instance: %v", err)
		}
	}
	h.noMessages(time.Second)
}

// What became of its children while an instance was over is known to it after a rewind.
func rewindLearnsOfTheChildren(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	var fixed atomic.Bool
	kinds := []string{"completes", "fails", "goes on", "is terminated", "is purged"}
	os := orchestrators{
		"parent": func(c *task.OrchestrationContext) (any, error) {
			children := make([]task.Task, len(kinds))
			for n, kind := range kinds {
				children[n] = childCall(c, "child", kind)
			}
			if err := c.CallActivity("flaky").Await(nil); err != nil {
				return nil, err
			}
			results := make([]string, len(kinds))
			for n, child := range children {
				var failed *task.TaskFailedError
				if err := child.Await(&results[n]); errors.As(err, &failed) {
					results[n] = failed.Type
				} else if err != nil {
					return nil, err
				}
			}
			return results, nil
		},
		"child": func(c *task.OrchestrationContext) (any, error) {
			c.SetCustomStatus("waits")
			if err := c.WaitForSingleEvent("go", -1).Await(nil); err != nil {
				return nil, err
			}
			if c.ID == "fails" {
				return c.ID, c.CallActivity("flaky").Await(nil)
			}
			return c.ID, nil
		},
	}
	as := activities{"flaky": func(task.ActivityContext) (any, error) {
		if !fixed.Load() {
			return nil, errors.New("not yet")
		}
		return nil, nil
	}}
	h := newHost(t, hub, os, as)
	needs[backend.InstanceManager](h)
	parent := h.begin("parent")
	h.status(parent, api.RUNTIME_STATUS_FAILED, patience)
	for _, kind := range kinds {
		h.waits(api.InstanceID(kind))
	}
	h.raise("completes", "go", nil)
	h.output("completes", `"completes"`)
	h.raise("fails", "go", nil)
	h.status("fails", api.RUNTIME_STATUS_FAILED, patience)
	must(t, h.TerminateOrchestration(t.Context(), "is terminated", ""))
	h.status("is terminated", api.RUNTIME_STATUS_TERMINATED, patience)
	_, err := h.ForcePurge(t.Context(), "is purged")
	must(t, err)
	h.stop()
	h = newHost(t, hub, os, as)
	fixed.Store(true)
	must(t, h.Rewind(t.Context(), parent, ""))
	h.raise("goes on", "go", nil)
	h.output(parent, `["completes","fails","goes on","SubOrchestrationTERMINATED","SubOrchestrationGone"]`)
	h.noMessages(time.Second)
}

// A tree that failed is rewound from its root, also where a part of it was rewound before.
func rewindOfATree(t *testing.T, hubs NewHub) {
	var fixed atomic.Bool
	var runs atomic.Int32
	h := newHost(t, hubs(t), orchestrators{
		"root": func(c *task.OrchestrationContext) (any, error) { return 1, c.CallSubOrchestrator("branch").Await(nil) },
		"branch": func(c *task.OrchestrationContext) (any, error) {
			return nil, childCall(c, "leaf", "leaf of "+c.ExecutionID).Await(nil)
		},
		"leaf": func(c *task.OrchestrationContext) (any, error) {
			if err := c.CallActivity("counted").Await(nil); err != nil {
				return nil, err
			}
			return nil, c.CallActivity("flaky").Await(nil)
		},
	}, activities{
		"counted": func(task.ActivityContext) (any, error) { return runs.Add(1), nil },
		"flaky": func(task.ActivityContext) (any, error) {
			if !fixed.Load() {
				return nil, errors.New("not yet")
			}
			return nil, nil
		},
	})
	needs[backend.InstanceManager](h)
	needs[backend.InstanceQuerier](h)
	for _, partFirst := range []bool{false, true} {
		fixed.Store(false)
		runs.Store(0)
		root := h.begin("root")
		h.status(root, api.RUNTIME_STATUS_FAILED, patience)
		must(t, h.Rewind(t.Context(), root, "too soon"))
		h.status(root, api.RUNTIME_STATUS_FAILED, patience)
		fixed.Store(true)
		if partFirst {
			p, err := h.Query(t.Context(), api.InstanceQuery{Name: "leaf", Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_FAILED}})
			if err != nil || len(p.Instances) != 1 {
				t.Fatalf("%v %v", p, err)
			}
			must(t, h.Rewind(t.Context(), p.Instances[0].InstanceID, ""))
			h.output(p.Instances[0].InstanceID, "")
		}
		must(t, h.Rewind(t.Context(), root, ""))
		h.output(root, "1")
		if n := runs.Load(); n != 1 {
			t.Errorf("the activity that had not failed ran %d times", n)
		}
	}
}

// An owner of locks that failed has them again before its code goes on after a rewind, also
// where somebody else has one of them meanwhile and the backend is opened anew.
func rewindGetsTheLocksBack(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	var fixed atomic.Bool
	call := func(c *task.OrchestrationContext, key, item string) error {
		return c.CallEntity(tallyID(key), "add", task.WithEntityInput(item)).Await(nil)
	}
	inside := func(c *task.OrchestrationContext) error {
		c.SetCustomStatus("waits")
		return c.WaitForSingleEvent("go", -1).Await(nil)
	}
	os := orchestrators{
		"owner": func(c *task.OrchestrationContext) (any, error) {
			if _, err := c.LockEntities(tallyID("b"), tallyID("a")); err != nil {
				return nil, err
			}
			if err := call(c, "a", "first"); err != nil {
				return nil, err
			}
			if !fixed.Load() {
				return nil, errors.New("as planned")
			}
			return 1, errors.Join(call(c, "b", "second"), inside(c), call(c, "a", "third"))
		},
		"rival": func(c *task.OrchestrationContext) (any, error) {
			if _, err := c.LockEntities(tallyID("b")); err != nil {
				return nil, err
			}
			return 1, errors.Join(inside(c), call(c, "b", "rival"))
		},
	}
	h := entityHost(t, hub, os)
	needs[backend.InstanceManager](h)
	lockedBy := func(key string, owner api.InstanceID) {
		t.Helper()
		eventually(t, patience, key+" is locked by "+string(owner), func() bool {
			m, err := h.FetchEntityMetadata(t.Context(), tallyID(key), false)
			return err == nil && m.LockedBy == string(owner)
		})
	}
	h.signal("b", "add", "zero") // an entity without a state is not there
	h.tallied("b", "zero")
	owner := h.begin("owner")
	for range 2 { // a rewind that fails again gives them back again
		h.status(owner, api.RUNTIME_STATUS_FAILED, patience)
		h.tallied("a", "first")
		must(t, h.Rewind(t.Context(), owner, "too soon"))
	}
	h.status(owner, api.RUNTIME_STATUS_FAILED, patience)
	h.tallied("a", "first")
	rival := h.begin("rival")
	h.waits(rival)
	fixed.Store(true)
	must(t, h.Rewind(t.Context(), owner, "fixed"))
	lockedBy("a", owner)
	h.signal("a", "add", "signal")
	h.stop()
	h = entityHost(t, hub, os)
	lockedBy("a", owner)
	lockedBy("b", rival)
	if m := h.fetch(owner); m.RuntimeStatus != api.RUNTIME_STATUS_RUNNING || m.SerializedCustomStatus != "" {
		t.Errorf("without its second lock it went on: %v", m)
	}
	h.raise(rival, "go", nil)
	h.output(rival, "1")
	h.waits(owner)
	lockedBy("b", owner)
	h.signal("b", "add", "late")
	h.raise(owner, "go", nil)
	h.output(owner, "1")
	h.tallied("a", "first third signal")
	h.tallied("b", "zero rival second late")

	// What waits for its locks after a rewind can be ended, and leaves none.
	fixed.Store(false)
	owner = h.begin("owner")
	h.status(owner, api.RUNTIME_STATUS_FAILED, patience)
	rival = h.begin("rival")
	h.waits(rival)
	must(t, h.Rewind(t.Context(), owner, ""))
	lockedBy("a", owner)
	must(t, h.TerminateOrchestration(t.Context(), owner, "enough"))
	h.status(owner, api.RUNTIME_STATUS_TERMINATED, patience)
	h.tallied("a", "first third signal first")
	h.raise(rival, "go", nil)
	h.output(rival, "1")
	h.tallied("b", "zero rival second late rival")
	h.noMessages(time.Second)
}
