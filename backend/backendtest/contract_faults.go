package backendtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

func faults(f *Faults) hostOption { return func(o *hostOptions) { o.Faults = f } }

// seam skips the test where the backend has no place for faults.
func (h *caseHost) seam(f *Faults) {
	h.t.Helper()
	if f.Commits() == 0 {
		h.t.Skip("the backend does not call Faults.Commit")
	}
}

// persist tries f until it works, as a client does that wants it done.
func (h *caseHost) persist(what string, f func(context.Context) error) {
	h.t.Helper()
	eventually(h.t, patience, what, func() bool {
		ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
		defer cancel()
		return f(ctx) == nil
	})
}

// insist starts an instance in spite of faults.
func (h *caseHost) insist(id api.InstanceID, name string) {
	h.t.Helper()
	h.persist("start of "+string(id), func(ctx context.Context) error {
		_, err := h.ScheduleNewOrchestration(ctx, name, api.WithInstanceID(id))
		if errors.Is(err, backend.ErrDuplicateEvent) { // it was stored, and its answer was lost
			return nil
		}
		return err
	})
}

// faultyProgram uses an activity, a timer, a child and events, and returns what it got.
func faultyProgram(runs *atomic.Int32) (orchestrators, activities) {
	return orchestrators{
			"o": func(c *task.OrchestrationContext) (any, error) {
				var a, b, kid int
				first, second := c.CallActivity("count"), c.CallActivity("count")
				if err := errors.Join(first.Await(&a), second.Await(&b), c.CreateTimer(time.Millisecond).Await(nil),
					c.CallSubOrchestrator("kid").Await(&kid)); err != nil {
					return nil, err
				}
				got := map[int]int{}
				for {
					var v int
					if err := c.WaitForSingleEvent("e", -1).Await(&v); err != nil {
						return nil, err
					}
					if v < 0 {
						return fmt.Sprint(a == b, kid, got[0] > 0, got[1] > 0), nil
					}
					got[v]++
				}
			},
			"kid": func(c *task.OrchestrationContext) (any, error) {
				var v int
				return 7, c.CallActivity("count").Await(&v)
			},
		}, activities{"count": func(task.ActivityContext) (any, error) {
			return runs.Add(1), nil
		}}
}

// faultsOfEachCommit lets the n-th commit of a small program fail, for each n.
func faultsOfEachCommit(t *testing.T, hubs NewHub) {
	for name, fault := range map[string]Fault{
		"fail before": FailBefore, "lose the answer": LoseAnswer, "lose contact": LoseContact, "slow": Slow,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := range 14 {
				f := NewFaults(30*time.Millisecond, func(n int) Fault {
					if n == at {
						return fault
					}
					return NoFault
				})
				var runs atomic.Int32
				os, as := faultyProgram(&runs)
				h := newHost(t, hubs(t), os, as, faults(f))
				h.insist("a", "o")
				h.seam(f)
				for _, v := range []int{0, 1, -1} {
					h.persist("event", func(ctx context.Context) error { return h.RaiseEvent(ctx, "a", "e", v) })
				}
				h.output("a", `"false 7 true true"`)
				if n := runs.Load(); n < 3 {
					t.Errorf("fault at commit %d: %d activities ran", at, n)
				}
				h.insist("b", "kid") // and it goes on
				h.output("b", "7")
				h.stop()
				if t.Failed() {
					t.Fatalf("with the fault at commit %d; the log: %q", at, h.log.taken())
				}
			}
		})
	}
}

// faultsThatFence takes the hub away from a backend in the middle of its work.
func faultsThatFence(t *testing.T, hubs NewHub) {
	for name, fault := range map[string]Fault{"before": Fence, "after": FenceAfter} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := hubs(t)
			f := NewFaults(0, func(n int) Fault {
				if n == 25 {
					return fault
				}
				return NoFault
			})
			var runs atomic.Int32
			os, as := faultyProgram(&runs)
			h := newHost(t, hub, os, as, faults(f))
			var acked []api.InstanceID
			for n := 0; ; n++ {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				id, err := h.ScheduleNewOrchestration(ctx, "kid", api.WithInstanceID(api.InstanceID(fmt.Sprint("k", n))))
				cancel()
				if err != nil {
					break
				}
				acked = append(acked, id)
				h.seam(f)
			}
			if !f.Dead() {
				t.Fatal("a start failed before the fence")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			if _, err := h.ScheduleNewOrchestration(ctx, "kid"); err == nil {
				t.Error("a start was acknowledged by a backend that does not own the hub")
			}
			old := h.be
			h.stop()
			h = newHost(t, hub, os, as)
			if h.be == old {
				t.Skip("the hub lives in one backend")
			}
			for _, id := range acked {
				h.output(id, "7")
			}
			if len(acked) == 0 {
				t.Error("nothing was acknowledged")
			}
		})
	}
}

// faultsUnderLoad mixes all faults that an owner survives with much work.
func faultsUnderLoad(t *testing.T, hubs NewHub) {
	var calm atomic.Bool
	roll := rand.New(rand.NewPCG(uint64(len(t.Name())), 7))
	var mu sync.Mutex
	f := NewFaults(20*time.Millisecond, func(int) Fault {
		mu.Lock()
		defer mu.Unlock()
		n := roll.IntN(40)
		if calm.Load() || n > 6 {
			return NoFault
		}
		return []Fault{FailBefore, FailBefore, LoseAnswer, LoseAnswer, LoseContact, DiskFull, Slow}[n]
	})
	r, err := crashRegistry(func(task.ActivityContext) {})
	must(t, err)
	h := idleHost(t, hubs(t), faults(f), func(o *hostOptions) { o.MaxResident = 40 << 10 })
	h.workWith(task.NewTaskExecutor(r), parallelism(8))
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for k := range 6 {
				h.insist(api.InstanceID(fmt.Sprintf("%d-%d", n, k)), []string{"chain", "fan", "family"}[k%3])
			}
		})
	}
	wg.Wait()
	h.seam(f)
	calm.Store(true)
	for n := range 8 {
		for k := range 6 {
			h.output(api.InstanceID(fmt.Sprintf("%d-%d", n, k)), []string{"3", "55", "3"}[k%3])
		}
	}
	t.Logf("%d commits", f.Commits())
}

func faultOfAFullDisk(t *testing.T, hubs NewHub) {
	var full atomic.Bool
	f := NewFaults(10*time.Millisecond, func(int) Fault {
		if full.Load() {
			return DiskFull
		}
		return NoFault
	})
	var runs atomic.Int32
	os, as := faultyProgram(&runs)
	h := newHost(t, hubs(t), os, as, faults(f))
	h.insist("before", "o")
	h.seam(f)
	full.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := h.ScheduleNewOrchestration(ctx, "kid", api.WithInstanceID("refused")); err == nil {
		t.Error("a start was acknowledged on a full disk")
	} else if !errors.Is(err, ErrInjected) {
		t.Errorf("the start fails with %v, not with the cause", err)
	}
	if r, ok := h.be.(backend.HealthReporter); ok {
		if err := r.Health(); !errors.Is(err, ErrInjected) {
			t.Errorf("the health is %v", err)
		}
	}
	if m := h.fetch("before"); m.IsComplete() { // what is stored can be read
		t.Errorf("it is %v", m.RuntimeStatus)
	}
	full.Store(false)
	h.insist("refused", "kid")
	h.output("refused", "7")
	for _, v := range []int{0, 1, -1} {
		h.persist("event", func(ctx context.Context) error { return h.RaiseEvent(ctx, "before", "e", v) })
	}
	h.output("before", `"false 7 true true"`)
	if r, ok := h.be.(backend.HealthReporter); ok {
		must(t, r.Health())
	}
}

// faultsKeepTimers lets a timer become due while the turn for an event fails to commit.
func faultsKeepTimers(t *testing.T, hubs NewHub) {
	at := time.Now().Add(100 * time.Millisecond)
	var blocked atomic.Bool
	f := NewFaults(0, func(int) Fault {
		if !blocked.Load() {
			return NoFault
		}
		<-time.After(time.Until(at) + 20*time.Millisecond)
		return FailBefore
	})
	d := openDesk(t, hubs(t), Settings{Faults: f})
	a := optional[backend.WorkItemAwaiter](d)
	d.start("a")
	if f.Commits() == 0 {
		t.Skip("the backend does not call Faults.Commit")
	}
	d.complete(d.turn("a"), setTimer(0, at))
	turns, raise := make(chan *backend.OrchestrationWorkItem), make(chan error)
	go func() {
		wi, err := a.AwaitOrchestrationWorkItem(t.Context())
		if err != nil {
			t.Error(err)
		}
		turns <- wi
	}()
	blocked.Store(true)
	go func() { raise <- d.be.AddNewOrchestrationEvent(t.Context(), "a", raised("e", "1")) }()
	wi := recv(t, turns, "turn")
	if wi.State == nil {
		var err error
		wi.State, err = d.be.GetOrchestrationRuntimeState(t.Context(), wi)
		must(t, err)
	}
	d.apply(wi)
	if err := d.be.CompleteOrchestrationWorkItem(t.Context(), wi); err == nil {
		t.Error("a turn that was not stored was acknowledged")
	}
	lost := recv(t, raise, "answer to the event") != nil
	blocked.Store(false)
	if err := d.be.AbandonOrchestrationWorkItem(t.Context(), wi); err != nil && !errors.Is(err, backend.ErrWorkItemLockLost) {
		t.Error(err)
	}
	got := map[string]int{}
	for got["TimerFiredEvent"] == 0 {
		next := d.turn("a")
		for _, k := range kinds(next.NewEvents) {
			got[k]++
		}
		d.complete(next)
	}
	if got["TimerFiredEvent"] != 1 || got["EventRaisedEvent"] != map[bool]int{true: 0, false: 1}[lost] {
		t.Errorf("the event was refused: %v; then came %v", lost, got)
	}
}
