package engine_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/task"
)

// watched counts the calls of a store.
type watched struct {
	store.Store
	calls atomic.Int64
}

func (w *watched) Commit(ctx context.Context, b *store.Batch) error {
	w.calls.Add(1)
	return w.Store.Commit(ctx, b)
}

func (w *watched) ByID(ctx context.Context, id string) (*store.Instance, error) {
	w.calls.Add(1)
	return w.Store.ByID(ctx, id)
}

func (w *watched) ByKey(ctx context.Context, key int64) (*store.Instance, error) {
	w.calls.Add(1)
	return w.Store.ByKey(ctx, key)
}

func (w *watched) History(ctx context.Context, key, after int64, f func(store.HistoryRow) error) error {
	w.calls.Add(1)
	return w.Store.History(ctx, key, after, f)
}

func (w *watched) Inbox(ctx context.Context, key int64) ([]store.InboxRow, error) {
	w.calls.Add(1)
	return w.Store.Inbox(ctx, key)
}

func (w *watched) Active(ctx context.Context, after int64, limit int) ([]int64, error) {
	w.calls.Add(1)
	return w.Store.Active(ctx, after, limit)
}

func (w *watched) DueAfter(ctx context.Context, after store.DueKey, limit int) ([]store.DueKey, error) {
	w.calls.Add(1)
	return w.Store.DueAfter(ctx, after, limit)
}

func (w *watched) Query(ctx context.Context, f store.Filter) ([]*store.Instance, error) {
	w.calls.Add(1)
	return w.Store.Query(ctx, f)
}

// TestIdleHub: a hub in which everything waits calls its store not once in a
// day and
// looks at its clock only for the sake of timers that are to come.
func TestIdleHub(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		timers int
		looks  int64
	}{
		"events alone":     {0, 0},
		"timers of a year": {100, 2 * 24 * 3600 / 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { idleHub(t, tt.timers, tt.looks) })
		})
	}
}

func idleHub(t *testing.T, timers int, looks int64) {
	t.Helper()
	r := task.NewTaskRegistry()
	if err := r.AddOrchestratorN("waits", func(c *task.OrchestrationContext) (any, error) {
		var d time.Duration
		if err := c.GetInput(&d); err != nil {
			return nil, err
		}
		return nil, c.WaitForSingleEvent("e", d).Await(nil)
	}); err != nil {
		t.Fatal(err)
	}
	st, clock, log := &watched{Store: memstore.New()}, &counting{}, quiet{backend.DefaultLogger()}
	be := engine.New(st, log, engine.Options{Clock: clock, MaxResident: 1}) // none stays in memory
	ex := task.NewTaskExecutor(r)
	w := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, ex, log, backend.WithMaxParallelism(64)),
		backend.NewActivityTaskWorker(be, ex, log, backend.WithMaxParallelism(64)), log)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	c := backend.NewClient(be)
	for n := range 100 + timers {
		d := time.Duration(-1)
		if n >= 100 {
			d = 365 * 24 * time.Hour
		}
		id, err := c.ScheduleNewOrchestration(t.Context(), "waits", api.WithInput(d), api.WithInstanceID(api.InstanceID(fmt.Sprint(n))))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.WaitForOrchestrationStart(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(time.Minute) // what is left of the work
	synctest.Wait()
	calls, seen := st.calls.Load(), clock.looks.Load()
	<-time.After(24 * time.Hour)
	synctest.Wait()
	if n := st.calls.Load() - calls; n != 0 {
		t.Errorf("%d calls of the store in a day", n)
	}
	if n := clock.looks.Load() - seen; n > looks {
		t.Errorf("%d looks at the clock in a day, want at most %d", n, looks)
	}
	if err := c.RaiseEvent(t.Context(), "0", "e", nil); err != nil { // it is not asleep for good
		t.Fatal(err)
	}
	if m, err := c.WaitForOrchestrationCompletion(t.Context(), "0"); err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
		t.Errorf("%v %v", m, err)
	}
}
