package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/backend/internal/store"
	authoring "github.com/perdure/perdure/task"
)

type mute struct{ backend.Logger }

func (mute) Infof(string, ...any)  {}
func (mute) Debugf(string, ...any) {}
func (mute) Warnf(string, ...any)  {}

func (mute) Errorf(string, ...any) {}

var errWeak = errors.New("the store is weak")

// weak is a store that fails now and then, before or after it has written a batch.
type weak struct {
	store.Store
	faulty atomic.Bool
}

func (w *weak) Commit(ctx context.Context, b *store.Batch) error {
	if !w.faulty.Load() {
		return w.Store.Commit(ctx, b)
	}
	switch rand.IntN(20) {
	case 0:
		return errWeak
	case 1:
		return cmp.Or(w.Store.Commit(ctx, b), errWeak)
	}
	return w.Store.Commit(ctx, b)
}

// TestNothingIsLeft: clients do everything at once to a few ids; once all are
// purged the engine keeps nothing of them in memory, and the store nothing at all.
func TestNothingIsLeft(t *testing.T) {
	for _, limit := range []int{0, 1} {
		for _, faulty := range []bool{false, true} {
			t.Run(fmt.Sprintf("budget %d faulty %v", limit, faulty), func(t *testing.T) { nothingIsLeft(t, limit, faulty) })
		}
	}
}

func nothingIsLeft(t *testing.T, limit int, faulty bool) {
	r := authoring.NewTaskRegistry()
	if err := errors.Join(
		r.AddActivityN("a", func(c authoring.ActivityContext) (any, error) {
			select {
			case <-c.Context().Done():
				return nil, c.Context().Err()
			case <-time.After(time.Duration(rand.IntN(3)) * time.Millisecond):
			}
			if rand.IntN(4) == 0 {
				return nil, errors.New("unlucky")
			}
			return 1, nil
		}),
		r.AddOrchestratorN("o", func(c *authoring.OrchestrationContext) (any, error) {
			var n int
			if err := c.GetInput(&n); err != nil {
				return nil, err
			}
			c.SetCustomStatus(fmt.Sprint(n))
			first, second := c.CallActivity("a"), c.CreateTimer(2*time.Millisecond)
			var child authoring.Task
			if n > 0 {
				child = c.CallSubOrchestrator("o", authoring.WithSubOrchestratorInput(n-1),
					authoring.WithSubOrchestrationInstanceID(fmt.Sprint("id", (len(c.ID)+n)%4)))
			}
			c.WhenAny(first, second, c.WaitForSingleEvent("e", time.Hour))
			if n == 1 {
				c.ContinueAsNew(0, authoring.WithKeepUnprocessedEvents())
				return nil, nil
			}
			if child != nil {
				_ = child.Await(nil)
			}
			return n, first.Await(nil)
		})); err != nil {
		t.Fatal(err)
	}
	log := mute{backend.DefaultLogger()}
	st := &weak{Store: memstore.New()}
	e := New(st, log, Options{MaxResident: limit})
	x := authoring.NewTaskExecutor(r)
	w := backend.NewTaskHubWorker(e, backend.NewOrchestrationWorker(e, x, log, backend.WithMaxParallelism(4)),
		backend.NewActivityTaskWorker(e, x, log, backend.WithMaxParallelism(4)), log)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	st.faulty.Store(faulty)
	c := backend.NewClient(e)
	ctx := t.Context()
	reuse := api.WithOrchestrationIdReusePolicy(&protos.OrchestrationIdReusePolicy{ReplaceableStatus: []api.OrchestrationStatus{
		api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED,
		api.RUNTIME_STATUS_PENDING, api.RUNTIME_STATUS_SUSPENDED,
	}})
	allowed := []error{
		nil, backend.ErrDuplicateEvent, api.ErrInstanceNotFound, api.ErrNotCompleted, api.ErrNotFailed, context.DeadlineExceeded,
		errWeak,
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 300 {
				id := api.InstanceID(fmt.Sprint("id", rand.IntN(4)))
				input := api.WithInput(rand.IntN(3))
				var err error
				switch rand.IntN(12) {
				case 0, 1:
					_, err = c.ScheduleNewOrchestration(ctx, "o", api.WithInstanceID(id), input)
				case 2:
					_, err = c.ScheduleNewOrchestration(ctx, "o", api.WithInstanceID(id), input, reuse)
				case 3:
					_, err = c.ScheduleNewOrchestration(ctx, "o", input, api.WithStartTime(time.Now().Add(time.Millisecond)))
				case 4:
					err = c.RaiseEvent(ctx, id, "e", 1)
				case 5:
					err = c.Terminate(ctx, id)
				case 6:
					err = c.ForceTerminate(ctx, id)
				case 7:
					_, err = c.Purge(ctx, id)
				case 8:
					_, err = c.ForcePurge(ctx, id)
				case 9:
					err = errors.Join(c.SuspendOrchestration(ctx, id, ""), c.ResumeOrchestration(ctx, id, ""))
				case 10:
					if err = c.Rewind(ctx, id, ""); err == nil {
						_, err = c.Restart(ctx, id, false)
					}
				case 11:
					soon, cancel := context.WithTimeout(ctx, time.Millisecond)
					_, err = c.WaitForOrchestrationCompletion(soon, id)
					cancel()
				}
				known := err == nil
				for _, a := range allowed[1:] {
					known = known || errors.Is(err, a)
				}
				if !known {
					t.Errorf("%s: %v", id, err)
				}
			}
		})
	}
	wg.Wait()
	st.faulty.Store(false)
	for left := 1; left > 0; {
		p, err := c.Query(ctx, api.InstanceQuery{PageSize: 1000})
		if err != nil {
			t.Fatal(err)
		}
		left = len(p.Instances)
		for _, m := range p.Instances {
			if _, err := c.ForcePurge(ctx, m.InstanceID); err != nil && !errors.Is(err, api.ErrInstanceNotFound) {
				t.Fatal(err)
			}
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		if left := e.leftovers(); left == "" {
			break
		} else if time.Now().After(deadline) {
			t.Errorf("left in memory: %s", left)
			break
		}
	}
	if rows, err := st.Active(ctx, 0, 10); err != nil || len(rows) > 0 {
		t.Errorf("left in the store: %v, %v", rows, err)
	}
}

// leftovers says what an engine without instances has in memory; "" for nothing.
func (e *Engine) leftovers() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := ""
	for what, n := range map[string]int{
		"instances": len(e.byID), "keys": len(e.byKey), "turns": e.turns, "batches": e.batches, "running": len(e.running),
		"watchers": len(e.watchers), "idle": e.idlers.Len(), "resident bytes": e.resident, "evicted": len(e.evicted),
	} {
		if n != 0 {
			s += fmt.Sprintf("%d %s ", n, what)
		}
	}
	return s
}
