package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/task"
)

// gated is a store whose commits wait or fail, and whose rows can be marked.
type gated struct {
	store.Store
	gate    chan struct{} // nil: open
	waiting chan struct{}
	fails   atomic.Bool
	stalled atomic.Pointer[string]
}

func (g *gated) Commit(ctx context.Context, b *store.Batch) error {
	if g.fails.Load() {
		return errors.New("disk full")
	}
	if g.gate != nil && len(b.History) > 0 {
		g.waiting <- struct{}{}
		<-g.gate
	}
	return g.Store.Commit(ctx, b)
}

func (g *gated) ByID(ctx context.Context, id string) (*store.Instance, error) {
	row, err := g.Store.ByID(ctx, id)
	if s := g.stalled.Load(); s != nil && err == nil {
		marked := *row
		marked.Stalled = *s
		row = &marked
	}
	return row, err
}

// explained runs an engine in this process with a registry.
func explained(t *testing.T, st store.Store, r *task.TaskRegistry) (*engine.Engine, backend.Client) {
	t.Helper()
	log := quiet{backend.DefaultLogger()}
	be, ex := engine.New(st, log, engine.Options{}), task.NewTaskExecutor(r)
	w := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, ex, log), backend.NewActivityTaskWorker(be, ex, log), log)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return be, backend.NewClient(be)
}

func verdict(t *testing.T, be *engine.Engine, id api.InstanceID, want api.WaitReason, says string) *api.Verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		v, err := be.ExplainInstance(ctx, id)
		if err == nil && v.Reason == want && strings.Contains(v.Summary, says) {
			return v
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %+v, %v; want %s: %s", id, v, err, want, says)
		}
	}
}

func TestExplainNamesWhatTheOrchestratorAwaits(t *testing.T) {
	t.Parallel()
	r := task.NewTaskRegistry()
	for name, o := range map[string]task.Orchestrator{
		"both": func(ctx *task.OrchestrationContext) (any, error) {
			a, b := ctx.WaitForSingleEvent("Approved", -1), ctx.WaitForSingleEvent("declined", time.Hour)
			return nil, ctx.WhenAny(a, b).Await(nil)
		},
		"again": func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallActivity("fail", task.WithActivityRetryPolicy(&task.RetryPolicy{
				MaxAttempts: 5, InitialRetryInterval: time.Hour,
			})).Await(nil)
		},
	} {
		if err := r.AddOrchestratorN(name, o); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.AddActivityN("fail", func(task.ActivityContext) (any, error) { return nil, errors.New("no luck") }); err != nil {
		t.Fatal(err)
	}
	be, c := explained(t, memstore.New(), r)
	for _, name := range []string{"both", "again"} {
		if _, err := c.ScheduleNewOrchestration(t.Context(), name, api.WithInstanceID(api.InstanceID(name))); err != nil {
			t.Fatal(err)
		}
	}
	v := verdict(t, be, "both", api.WaitEvent, `event "Approved"`)
	if len(v.Waits) != 2 || v.Waits[1].Name != "declined" || v.Waits[1].Until.IsZero() { // its timer is part of it
		t.Errorf("both events: %+v", v)
	}
	v = verdict(t, be, "again", api.WaitRetry, `attempt 2 of 5 of "fail" at `)
	if len(v.Waits) != 1 || !strings.Contains(v.Waits[0].Detail, "no luck") || time.Until(v.Until) < 50*time.Minute {
		t.Errorf("retry: %+v", v)
	}
}

func TestExplainTroubleWithTheStore(t *testing.T) {
	t.Parallel()
	r := task.NewTaskRegistry()
	if err := r.AddOrchestratorN("o", func(ctx *task.OrchestrationContext) (any, error) {
		return nil, ctx.WaitForSingleEvent("go", -1).Await(nil)
	}); err != nil {
		t.Fatal(err)
	}
	worked := make(chan struct{})
	if err := errors.Join(
		r.AddOrchestratorN("work", func(ctx *task.OrchestrationContext) (any, error) { return nil, ctx.CallActivity("work").Await(nil) }),
		r.AddActivityN("work", func(task.ActivityContext) (any, error) { <-worked; return nil, nil }),
	); err != nil {
		t.Fatal(err)
	}
	st := &gated{Store: memstore.New(), gate: make(chan struct{}), waiting: make(chan struct{}, 100)}
	be, c := explained(t, st, r)
	started := make(chan error, 1)
	go func() {
		_, err := c.ScheduleNewOrchestration(t.Context(), "o", api.WithInstanceID("i"))
		started <- err
	}()
	<-st.waiting
	st.gate <- struct{}{}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	verdict(t, be, "i", api.WaitEvent, `event "go"`)
	raised := make(chan error, 1)
	raise := func() { raised <- c.RaiseEvent(t.Context(), "i", "other", nil) }
	go raise()
	<-st.waiting
	verdict(t, be, "i", api.WaitCommit, "its last turn is being written")
	st.gate <- struct{}{}
	if err := <-raised; err != nil {
		t.Fatal(err)
	}
	close(st.gate)
	if _, err := c.ScheduleNewOrchestration(t.Context(), "work", api.WithInstanceID("w")); err != nil {
		t.Fatal(err)
	}
	verdict(t, be, "w", api.WaitActivity, `activity "work"`)
	st.fails.Store(true)
	close(worked)
	verdict(t, be, "w", api.WaitStore, "the last commit failed: ")
	st.fails.Store(false)
	verdict(t, be, "w", api.WaitNothing, "it is COMPLETED")
	why := "history record 3: bad"
	st.stalled.Store(&why)
	verdict(t, be, "i", api.WaitStalled, "set aside: history record 3: bad")
}
