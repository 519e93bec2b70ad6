package engine_test

import (
	"context"
	"errors"
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

// mute is a store that does not answer reads of histories for a while.
type mute struct {
	store.Store
	refusals atomic.Int32
}

func (m *mute) History(ctx context.Context, key, after int64, f func(store.HistoryRow) error) error {
	if m.refusals.Add(-1) >= 0 {
		return errors.New("connection refused")
	}
	return m.Store.History(ctx, key, after, f)
}

// TestOutageSetsNothingAside: an instance whose history cannot be read because the
// store does not answer goes on once it does.
func TestOutageSetsNothingAside(t *testing.T) {
	t.Parallel()
	r := task.NewTaskRegistry()
	if err := r.AddOrchestratorN("wait", func(c *task.OrchestrationContext) (any, error) {
		var v int
		err := c.WaitForSingleEvent("go", -1).Await(&v)
		return v, err
	}); err != nil {
		t.Fatal(err)
	}
	st := &mute{Store: memstore.New()}
	log := quiet{backend.DefaultLogger()}
	be := engine.New(st, log, engine.Options{MaxResident: 1}) // idle instances are evicted at once
	ex := task.NewTaskExecutor(r)
	w := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, ex, log), backend.NewActivityTaskWorker(be, ex, log), log)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	c := backend.NewClient(be)
	var id api.InstanceID
	for n := range 3 { // the commits of the others evict the first
		other, err := c.ScheduleNewOrchestration(t.Context(), "wait")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.WaitForOrchestrationStart(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			id = other
		}
	}
	st.refusals.Store(2)
	if err := c.RaiseEvent(t.Context(), id, "go", 7); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	m, err := c.WaitForOrchestrationCompletion(ctx, id)
	if err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED || m.SerializedOutput != "7" {
		t.Errorf("%+v %v", m, err)
	}
	if left := st.refusals.Load(); left >= 0 {
		t.Errorf("the history was not read: %d refusals left", left)
	}
}
