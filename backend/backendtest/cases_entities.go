package backendtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

// tally is an entity that appends its inputs to its state.
func tally(ctx *task.EntityContext) (any, error) {
	var list []string
	var item string
	if err := errors.Join(ctx.GetState(&list), ctx.GetInput(&item)); err != nil {
		return nil, err
	}
	switch ctx.Operation {
	case "get":
		return strings.Join(list, " "), nil
	case "delete":
		ctx.DeleteState()
		return nil, nil
	}
	list = append(list, item)
	if err := ctx.SetState(list); err != nil {
		return nil, err
	}
	switch ctx.Operation {
	case "fail":
		return nil, errors.Join(ctx.SignalEntity(tallyID("other"), "add", item), errors.New("no luck"))
	case "panic":
		panic("no luck")
	case "pass":
		return nil, errors.Join(ctx.SignalEntity(tallyID("other"), "add", item),
			ctx.StartNewOrchestration("passed", task.WithEntityStartOrchestrationInstanceID(api.InstanceID("passed-"+item))))
	}
	return len(list), nil
}

func tallyID(key string) api.EntityID { return api.NewEntityID("tally", key) }

// entityHost is a host whose workers run the tally besides; the test is
// skipped where the backend knows no entities.
func entityHost(t *testing.T, hub Hub, os orchestrators) *caseHost {
	t.Helper()
	h := idleHost(t, hub)
	if _, ok := h.be.(backend.EntityBackend); !ok {
		t.Skip("the backend has no entities")
	}
	h.entities = map[string]task.Entity{"Tally": tally}
	h.work(os, nil)
	return h
}

func (h *caseHost) signal(key, operation string, item any, opts ...api.SignalEntityOptions) {
	h.t.Helper()
	must(h.t, h.SignalEntity(h.t.Context(), tallyID(key), operation, append(opts, api.WithSignalInput(item))...))
}

// tallied waits until the entity is idle and unlocked with this state.
func (h *caseHost) tallied(key, want string) {
	h.t.Helper()
	var got string
	eventually(h.t, patience, fmt.Sprintf("%s is %q", key, want), func() bool {
		m, err := h.FetchEntityMetadata(h.t.Context(), tallyID(key), true)
		var list []string
		if err == nil {
			err = m.ReadState(&list)
		}
		got = fmt.Sprintf("%q %+v %v", list, m, err)
		return err == nil && strings.Join(list, " ") == want && m.LockedBy == "" && m.BacklogQueueSize == 0
	})
	if h.t.Failed() {
		h.t.Fatalf("it is %s", got)
	}
}

func entitiesKeepTheOrder(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	os := orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		n := 0
		for k := range 40 {
			if err := c.SignalEntity(tallyID("a"), "add", task.WithSignalEntityInput(fmt.Sprint("s", k))); err != nil {
				return nil, err
			}
			if k%4 == 3 {
				if err := c.CallEntity(tallyID("a"), "add", task.WithEntityInput(fmt.Sprint("c", k))).Await(&n); err != nil {
					return nil, err
				}
			}
		}
		if err := c.WaitForSingleEvent("A", -1).Await(nil); err != nil {
			return nil, err
		}
		err := c.CallEntity(tallyID("a"), "add", task.WithEntityInput("end")).Await(&n)
		return n, err
	}}
	var want []string
	for k := range 40 {
		if want = append(want, fmt.Sprint("s", k)); k%4 == 3 {
			want = append(want, fmt.Sprint("c", k))
		}
	}
	h := entityHost(t, hub, os)
	id := h.begin("o")
	h.tallied("a", strings.Join(want, " "))
	h.stop()
	h = entityHost(t, hub, os)
	h.raise(id, "A", 1)
	h.output(id, fmt.Sprint(len(want)+1))
	h.tallied("a", strings.Join(append(want, "end"), " "))
	h.noMessages(5 * time.Second)
}

func entityFailuresAreUndone(t *testing.T, hubs NewHub) {
	h := entityHost(t, hubs(t), orchestrators{
		"passed": func(*task.OrchestrationContext) (any, error) { return 1, nil },
		"o": func(c *task.OrchestrationContext) (any, error) {
			var out []string
			for _, op := range []string{"add", "fail", "panic", "pass"} {
				err := c.CallEntity(tallyID("a"), op, task.WithEntityInput(op)).Await(nil)
				var failed *task.TaskFailedError
				out = append(out, fmt.Sprint(op, errors.As(err, &failed)))
			}
			err := c.CallEntity(api.NewEntityID("nobody", ""), "add").Await(nil)
			return append(out, fmt.Sprint(err)), nil
		},
	})
	h.output(h.begin("o"), `["addfalse","failtrue","panictrue","passfalse",`+
		`"task failed with an error: entity named 'nobody' is not registered"]`)
	h.tallied("a", "add pass")
	h.tallied("other", "pass")
	h.output("passed-pass", "1")
	h.noMessages(5 * time.Second)
}

func entityLocksExclude(t *testing.T, hubs NewHub) {
	keys := []string{"a", "b", "c", "d"}
	h := entityHost(t, hubs(t), orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		var ids []api.EntityID
		var n int
		if err := c.GetInput(&n); err != nil {
			return nil, err
		}
		for k := range 3 { // in many orders, and some twice
			ids = append(ids, tallyID(keys[(n*(k+1)+k)%len(keys)]))
		}
		release, err := c.LockEntities(ids...)
		if err != nil {
			return nil, err
		}
		defer release()
		slices.SortFunc(ids, func(a, b api.EntityID) int { return strings.Compare(a.Key, b.Key) })
		for _, id := range slices.Compact(ids) {
			for k := range 3 {
				if err := c.CallEntity(id, "add", task.WithEntityInput(fmt.Sprint(n, ".", k))).Await(nil); err != nil {
					return nil, err
				}
			}
		}
		inside := fmt.Sprint(
			errors.Is(c.CallEntity(tallyID("z"), "add").Await(nil), task.ErrCriticalSection),
			errors.Is(c.SignalEntity(ids[0], "add"), task.ErrCriticalSection),
			errors.Is(c.CallSubOrchestrator("o").Await(nil), task.ErrCriticalSection))
		return inside, nil
	}})
	var ids []api.InstanceID
	for n := range 24 {
		ids = append(ids, h.begin("o", api.WithInput(n)))
		h.signal(keys[n%len(keys)], "add", "between")
	}
	for _, id := range ids {
		h.output(id, `"true true true"`)
	}
	for _, key := range keys {
		m, err := h.FetchEntityMetadata(t.Context(), tallyID(key), true)
		must(t, err)
		var list []string
		must(t, m.ReadState(&list))
		for n := 0; n < len(list); n++ {
			owner, step, _ := strings.Cut(list[n], ".")
			if list[n] == "between" {
				continue
			}
			if step != "0" || n+2 >= len(list) || list[n+1] != owner+".1" || list[n+2] != owner+".2" {
				t.Fatalf("%s: the section of %s is broken up: %v", key, owner, list)
			}
			n += 2
		}
	}
}

func entityLocksEndWithTheirOwner(t *testing.T, hubs NewHub) {
	h := entityHost(t, hubs(t), orchestrators{
		"hold": func(c *task.OrchestrationContext) (any, error) {
			var end string
			if err := c.GetInput(&end); err != nil {
				return nil, err
			}
			if end == "over" {
				return "ok", nil
			}
			if _, err := c.LockEntities(tallyID("a"), tallyID("b")); err != nil {
				return nil, err
			}
			c.SetCustomStatus("held")
			if err := c.WaitForSingleEvent("A", -1).Await(nil); err != nil {
				return nil, err
			}
			switch end {
			case "fail":
				return nil, errors.New("as planned")
			case "again":
				c.ContinueAsNew("over")
			case "panic":
				panic("as planned")
			}
			return "ok", nil
		},
	})
	ctx := t.Context()
	held := func(id api.InstanceID) {
		t.Helper()
		eventually(t, patience, fmt.Sprint(id, " has its locks"), func() bool {
			m, err := h.FetchOrchestrationMetadata(ctx, id)
			return err == nil && m.SerializedCustomStatus == "held"
		})
	}
	ends := map[string]func(api.InstanceID) error{
		"complete": nil, "fail": nil, "again": nil, "panic": nil,
		"terminate":       func(id api.InstanceID) error { return h.TerminateOrchestration(ctx, id, "stop") },
		"force terminate": func(id api.InstanceID) error { return h.ForceTerminate(ctx, id) },
		"force purge":     func(id api.InstanceID) error { _, err := h.ForcePurge(ctx, id); return err },
	}
	n := 0
	for end, f := range ends {
		first := h.begin("hold", api.WithInput(end))
		held(first)
		waits := h.begin("hold", api.WithInput("complete")) // ends while it waits for its locks
		eventually(t, patience, "the second one waits", func() bool {
			page, err := h.QueryEntities(ctx, api.EntityQuery{IncludeTransient: true})
			must(t, err)
			return slices.ContainsFunc(page.Entities, func(m *api.EntityMetadata) bool { return m.BacklogQueueSize == 1 })
		})
		if f == nil {
			h.raise(first, "A", nil)
			must(t, h.TerminateOrchestration(ctx, waits, "stop"))
		} else {
			must(t, f(waits))
			must(t, f(first))
		}
		third := h.begin("hold", api.WithInput("complete"))
		held(third)
		h.raise(third, "A", nil)
		h.output(third, `"ok"`)
		n++
		h.signal("a", "add", fmt.Sprint(n))
		h.signal("b", "add", fmt.Sprint(n))
	}
	h.tallied("a", "1 2 3 4 5 6 7")
	h.tallied("b", "1 2 3 4 5 6 7")
	h.noMessages(5 * time.Second)
}

func entitySignalsHaveATime(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := entityHost(t, hub, nil)
	now := time.Now()
	h.signal("a", "add", "soon", api.WithSignalScheduledTime(now.Add(time.Second)))
	h.signal("a", "add", "past", api.WithSignalScheduledTime(now.Add(-time.Hour)))
	h.signal("a", "add", "sooner", api.WithSignalScheduledTime(now.Add(500*time.Millisecond)))
	h.signal("a", "add", "now")
	eventually(t, patience, "what is due", func() bool {
		m, err := h.FetchEntityMetadata(t.Context(), tallyID("a"), true)
		return err == nil && m.SerializedState == `["past","now"]` && m.BacklogQueueSize == 2
	})
	h.stop()
	h = entityHost(t, hub, nil)
	h.tallied("a", "past now sooner soon")
	if d := time.Since(now); d < time.Second {
		t.Errorf("the last one came after %v", d)
	}
	h.noMessages(5 * time.Second)
}

func entityStorage(t *testing.T, hubs NewHub) {
	h := entityHost(t, hubs(t), orchestrators{"o": func(*task.OrchestrationContext) (any, error) { return 1, nil }})
	ctx := t.Context()
	h.output(h.begin("o"), "1")
	for k := range 25 {
		h.signal(fmt.Sprintf("k%02d", k), "add", "x")
	}
	h.signal("empty", "get", "x")
	h.signal("k03", "delete", "x")
	list := func(q api.EntityQuery) (got []string) {
		t.Helper()
		for {
			page, err := h.QueryEntities(ctx, q)
			must(t, err)
			for _, m := range page.Entities {
				got = append(got, m.InstanceID.Key)
			}
			if q.ContinuationToken = page.ContinuationToken; q.ContinuationToken == "" {
				return got
			}
			if q.PageSize > 0 && len(page.Entities) != int(q.PageSize) {
				t.Errorf("a page of %d that is not the last, want %d", len(page.Entities), q.PageSize)
			}
		}
	}
	eventually(t, patience, "all are there", func() bool { return len(list(api.EntityQuery{})) == 24 })
	if got := list(api.EntityQuery{PageSize: 7}); len(got) != 24 || slices.Contains(got, "k03") || slices.Contains(got, "empty") {
		t.Errorf("entities with a state: %v", got)
	}
	if got := list(api.EntityQuery{PageSize: 5, IncludeTransient: true}); len(got) != 26 {
		t.Errorf("all entities: %v", got)
	}
	if got := list(api.EntityQuery{InstanceIDStartsWith: "@TALLY@k1"}); len(got) != 10 {
		t.Errorf("by prefix: %v", got)
	}
	if got := list(api.EntityQuery{LastModifiedTo: time.Now().Add(-time.Hour)}); got != nil {
		t.Errorf("older than an hour: %v", got)
	}
	page, err := h.Query(ctx, api.InstanceQuery{})
	if must(t, err); len(page.Instances) != 1 {
		t.Errorf("%d orchestrations", len(page.Instances))
	}
	r, err := h.CleanEntityStorage(ctx, api.CleanEntityStorageRequest{RemoveEmptyEntities: true, ReleaseOrphanedLocks: true})
	if must(t, err); *r != (api.CleanEntityStorageResult{EmptyEntitiesRemoved: 2}) {
		t.Errorf("cleaned %+v", r)
	}
	if got := list(api.EntityQuery{IncludeTransient: true}); len(got) != 24 {
		t.Errorf("after it: %v", got)
	}
	h.signal("k03", "add", "again")
	h.tallied("k03", "again")
}

func entityIDsAreApart(t *testing.T, hubs NewHub) {
	h := entityHost(t, hubs(t), orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		err := c.CallSubOrchestrator("o", task.WithSubOrchestrationInstanceID("@tally@a")).Await(nil)
		bad := c.CallEntity(api.EntityID{Name: "a@b"}, "add").Await(nil)
		return []bool{err != nil, errors.Is(bad, api.ErrInvalidInput)}, c.SendEvent("@tally@a", "go", 1)
	}})
	ctx := t.Context()
	h.signal("a", "add", "1")
	h.tallied("a", "1")
	h.output(h.begin("o"), "[true,true]")
	const id = api.InstanceID("@tally@a")
	for name, err := range map[string]error{
		"start":     func() error { _, err := h.ScheduleNewOrchestration(ctx, "o", api.WithInstanceID(id)); return err }(),
		"terminate": h.TerminateOrchestration(ctx, id, ""),
		"suspend":   h.SuspendOrchestration(ctx, id, ""),
		"raise":     h.RaiseEvent(ctx, id, "go", 1),
		"no name":   h.SignalEntity(ctx, tallyID("a"), ""),
		"bad name":  h.SignalEntity(ctx, api.EntityID{Name: "x@y"}, "add"),
		"long key":  h.SignalEntity(ctx, tallyID(strings.Repeat("k", 2000)), "add"),
		"page size": func() error { _, err := h.QueryEntities(ctx, api.EntityQuery{PageSize: -1}); return err }(),
		"token":     func() error { _, err := h.QueryEntities(ctx, api.EntityQuery{ContinuationToken: "?"}); return err }(),
	} {
		if !errors.Is(err, api.ErrInvalidInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"metadata": func() error { _, err := h.FetchOrchestrationMetadata(ctx, id); return err }(),
		"purge":    h.PurgeOrchestrationState(ctx, id),
		"unknown":  func() error { _, err := h.FetchEntityMetadata(ctx, tallyID("z"), false); return err }(),
	} {
		if !errors.Is(err, api.ErrInstanceNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.tallied("a", "1")
}
