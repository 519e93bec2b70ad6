package backendtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

func callA(c *task.OrchestrationContext) (any, error) {
	var v int
	err := c.CallActivity("a").Await(&v)
	return v, err
}

func c34ActivityLongerThanItsLock(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	var runs atomic.Int32
	h := newHost(t, hub, orchestrators{"o": callA}, activities{"a": func(c task.ActivityContext) (any, error) {
		select {
		case <-time.After(time.Second):
		case <-c.Context().Done():
		}
		return runs.Add(1), c.Context().Err()
	}}, lockTimes(100*time.Millisecond), parallelism(4))
	h.output(h.begin("o"), "1")
	if n := runs.Load(); n != 1 {
		t.Errorf("%d runs", n)
	}
}

func c36DuplicateCompletions(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := newHost(t, hub, orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		var a, b int
		if err := c.CallActivity("echo", task.WithActivityInput(1)).Await(&a); err != nil {
			return nil, err
		}
		c.SetCustomStatus("waits")
		if _, err := collect(c, 1); err != nil {
			return nil, err
		}
		err := c.CallActivity("echo", task.WithActivityInput(2)).Await(&b)
		return []int{a, b}, err
	}}, activities{"echo": echo})
	id := h.begin("o")
	h.waits(id)
	for _, task := range []int32{0, 0, 0, 99, 1} {
		must(t, h.be.AddNewOrchestrationEvent(t.Context(), id, &protos.HistoryEvent{
			EventId: -1, Timestamp: timestamppb.Now(),
			EventType: &protos.HistoryEvent_TaskCompleted{TaskCompleted: &protos.TaskCompletedEvent{
				TaskScheduledId: task, Result: wrapperspb.String("77"),
			}},
		}))
	}
	h.raise(id, "A", 0)
	h.output(id, "[1,2]")
	if n := h.count(id, func(e *protos.HistoryEvent) bool { return e.GetTaskCompleted() != nil }); n != 2 {
		t.Errorf("%d completions in the history, want 2", n)
	}
}

func c37ShutdownAbandonsActivities(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	var runs atomic.Int32
	started := make(chan struct{}, 1)
	as := activities{"a": func(c task.ActivityContext) (any, error) {
		if runs.Add(1) == 1 {
			started <- struct{}{}
			<-c.Context().Done()
			return nil, c.Context().Err()
		}
		return 2, nil
	}}
	h := newHost(t, hub, orchestrators{"o": callA}, as, lockTimes(20*time.Second))
	id := h.begin("o")
	recv(t, started, "activity")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := h.w.Shutdown(ctx); err != nil {
		t.Logf("shutdown: %v", err)
	}
	h = newHost(t, hub, orchestrators{"o": callA}, as, lockTimes(20*time.Second))
	if m := h.status(id, api.RUNTIME_STATUS_COMPLETED, 8*time.Second); m.SerializedOutput != "2" {
		t.Errorf("output %s", m.SerializedOutput)
	}
	if n := h.count(id, func(e *protos.HistoryEvent) bool { return e.GetTaskFailed() != nil }); n != 0 || runs.Load() != 2 {
		t.Errorf("%d failures, %d runs", n, runs.Load())
	}
}

func c38ShutdownKeepsItsDeadline(t *testing.T, hubs NewHub) {
	started, open := make(chan struct{}, 2), make(chan struct{})
	defer close(open)
	h := newHost(t, hubs(t), orchestrators{"o": callA}, activities{"a": func(task.ActivityContext) (any, error) {
		started <- struct{}{}
		<-open
		return 1, nil
	}}, parallelism(1))
	h.begin("o")
	h.begin("o") // its activity waits for the only slot
	recv(t, started, "activity")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	err := h.w.Shutdown(ctx)
	if d := time.Since(began); err == nil || d > 3*time.Second {
		t.Errorf("shutdown took %v: %v", d, err)
	}
	select {
	case <-started:
		t.Error("an activity started after the shutdown")
	default:
	}
	if err := h.w.Shutdown(t.Context()); err != nil {
		t.Errorf("second shutdown: %v", err)
	}
}

func c38ShutdownLetsWorkFinish(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	started := make(chan struct{}, 1)
	var runs atomic.Int32
	as := activities{"a": func(c task.ActivityContext) (any, error) {
		runs.Add(1)
		started <- struct{}{}
		select {
		case <-time.After(300 * time.Millisecond):
			return 1, nil
		case <-c.Context().Done():
			return nil, c.Context().Err()
		}
	}}
	h := newHost(t, hub, orchestrators{"o": callA}, as)
	id := h.begin("o")
	recv(t, started, "activity")
	h.stop()
	h = newHost(t, hub, orchestrators{"o": callA}, as)
	h.output(id, "1")
	if n := runs.Load(); n != 1 {
		t.Errorf("%d runs: the result of the first was not recorded", n)
	}
}

func c40WideTurns(t *testing.T, hubs NewHub) {
	const n = 20_000
	h := idleHost(t, hubs(t))
	id := h.begin("events")
	var g errgroup.Group
	g.SetLimit(256)
	for i := range n {
		g.Go(func() error { return h.RaiseEvent(t.Context(), id, "A", i) })
	}
	must(t, g.Wait())
	h.work(orchestrators{
		"events": func(c *task.OrchestrationContext) (any, error) {
			got, err := collect(c, n)
			seen := map[int]bool{}
			for _, v := range got {
				seen[v] = true
			}
			return len(seen), err
		},
		"fan": func(c *task.OrchestrationContext) (any, error) {
			tasks := make([]task.Task, n)
			for i := range tasks {
				tasks[i] = c.CallActivity("a")
			}
			return len(tasks), c.WhenAll(tasks...).Await(nil)
		},
	}, activities{"a": func(task.ActivityContext) (any, error) { return nil, nil }})
	fan := h.begin("fan")
	h.output(id, fmt.Sprint(n))
	h.output(fan, fmt.Sprint(n))
}

func c44Paging(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	h := newHost(t, hub, orchestrators{
		"good":  func(*task.OrchestrationContext) (any, error) { return nil, nil },
		"bad":   func(*task.OrchestrationContext) (any, error) { return nil, context.Canceled },
		"wait":  waitForever,
		"rare%": func(*task.OrchestrationContext) (any, error) { return nil, nil },
	}, nil, parallelism(64))
	names := []string{"good", "bad", "wait"}
	statuses := []protos.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_RUNNING}
	start := func(prefix string, n int) {
		t.Helper()
		var g errgroup.Group
		g.SetLimit(64)
		for i := range n {
			g.Go(func() error {
				_, err := h.ScheduleNewOrchestration(t.Context(), names[i%3], api.WithInstanceID(api.InstanceID(fmt.Sprintf("%s%d", prefix, i))))
				return err
			})
		}
		must(t, g.Wait())
	}
	start("p%_", 1050)
	start("pAB", 3) // what LIKE would find
	start("P%_", 3)
	for i := range 1050 {
		id := api.InstanceID(fmt.Sprintf("p%%_%d", i))
		if i%3 == 2 {
			h.waits(id)
		} else {
			h.end(id, patience)
		}
	}
	pages := func(q api.InstanceQuery, after func(page int)) map[api.InstanceID]bool {
		t.Helper()
		size := q.PageSize
		if size == 0 {
			size = 100
		}
		got := map[api.InstanceID]bool{}
		for page := 0; ; page++ {
			p, err := h.Query(t.Context(), q)
			must(t, err)
			if len(p.Instances) > size || len(p.Instances) == 0 && page > 0 || len(p.Instances) < size && p.Token != "" {
				t.Errorf("page %d has %d instances, token %q", page, len(p.Instances), p.Token)
			}
			for _, m := range p.Instances {
				if got[m.InstanceID] {
					t.Errorf("%s comes twice", m.InstanceID)
				}
				got[m.InstanceID] = true
			}
			if after != nil {
				after(page)
			}
			if q.Token = p.Token; q.Token == "" {
				return got
			}
		}
	}
	all := pages(api.InstanceQuery{IDPrefix: "p%_", PageSize: 100}, func(page int) {
		if page == 2 {
			start("p%_new", 100)
		}
	})
	for i := range 1050 {
		if id := api.InstanceID(fmt.Sprintf("p%%_%d", i)); !all[id] {
			t.Errorf("%s was skipped", id)
		}
	}
	for id := range all {
		if !strings.HasPrefix(string(id), "p%_") {
			t.Errorf("%s has another prefix", id)
		}
	}
	for i := range 100 {
		if id := api.InstanceID(fmt.Sprintf("p%%_new%d", i)); i%3 == 2 {
			h.waits(id)
		} else {
			h.end(id, patience)
		}
	}
	for i, s := range statuses {
		want := 350 + 33
		if i == 0 {
			want++
		}
		q := api.InstanceQuery{IDPrefix: "p%_", Statuses: []protos.OrchestrationStatus{s}}
		if n := len(pages(q, nil)); n != want {
			t.Errorf("%v: %d instances, want %d", s, n, want)
		}
		q = api.InstanceQuery{IDPrefix: "p%_", Name: names[i], PageSize: 1000}
		if n := len(pages(q, nil)); n != want {
			t.Errorf("%s: %d instances, want %d", names[i], n, want)
		}
	}
	if n := len(pages(api.InstanceQuery{IDPrefix: "p%_", Statuses: statuses}, nil)); n != 1150 {
		t.Errorf("three statuses: %d", n)
	}
	if n := len(pages(api.InstanceQuery{IDPrefix: "pAB", PageSize: 1}, nil)); n != 3 {
		t.Errorf("pages of one: %d", n)
	}
	between := time.Now()
	late := h.begin("rare%")
	h.end(late, patience)
	if got := pages(api.InstanceQuery{CreatedFrom: between}, nil); len(got) != 1 || !got[late] {
		t.Errorf("created from: %v", got)
	}
	if got := pages(api.InstanceQuery{CreatedTo: between.Add(-time.Microsecond), PageSize: 1000}, nil); len(got) != 1156 {
		t.Errorf("created to: %d", len(got))
	}
	epoch, far := time.Unix(0, 0), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	for _, q := range []api.InstanceQuery{{CreatedTo: far}, {CreatedFrom: epoch}, {CreatedFrom: time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC), CreatedTo: far}} {
		if got := pages(q, nil); len(got) != 1157 {
			t.Errorf("from %v to %v: %d", q.CreatedFrom, q.CreatedTo, len(got))
		}
	}
	for _, q := range []api.InstanceQuery{{CreatedTo: epoch}, {CreatedFrom: far}, {CreatedTo: time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC)}} {
		if got := pages(q, nil); len(got) != 0 {
			t.Errorf("from %v to %v: %d", q.CreatedFrom, q.CreatedTo, len(got))
		}
	}
	if got := pages(api.InstanceQuery{Name: "rare%"}, nil); len(got) != 1 {
		t.Errorf("name: %v", got)
	}
	if got := pages(api.InstanceQuery{Name: "nobody"}, nil); len(got) != 0 {
		t.Errorf("no match: %v", got)
	}
}

// What is asked for with a context that has ended is not done.
func c49AnEndedContext(t *testing.T, hubs NewHub) {
	h := newHost(t, hubs(t), orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		c.SetCustomStatus("waits")
		v := 0
		err := c.WaitForSingleEvent("go", -1).Await(&v)
		return v, err
	}}, nil)
	needs[backend.InstanceQuerier](h)
	id := h.begin("o", api.WithInstanceID("first"))
	h.waits(id)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, fresh := h.ScheduleNewOrchestration(ctx, "o")
	_, named := h.ScheduleNewOrchestration(ctx, "o", api.WithInstanceID("second"))
	_, waits := h.WaitForOrchestrationCompletion(ctx, id)
	for what, err := range map[string]error{
		"start": fresh, "start of an id": named, "wait": waits,
		"raise": h.RaiseEvent(ctx, id, "go", 1), "terminate": h.TerminateOrchestration(ctx, id, ""),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	h.raise(id, "go", 2)
	h.output(id, "2")
	p, err := h.Query(t.Context(), api.InstanceQuery{})
	if err != nil || len(p.Instances) != 1 {
		t.Errorf("there are %v, %v", p, err)
	}
}
