package backendtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/task"
)

// program is the state of a random orchestration: what it does next follows
// from the seed alone, so that it does the same each time.
type program struct {
	Seed, Step, Gen int
	A, B            []int
	Sum             int
}

// programEvents is how many events of each of its two names a program gets.
const programEvents = 25

// interpret makes random steps in generations, and wants that each does what it
// should and that the events come in order, none lost and none twice.
func interpret(c *task.OrchestrationContext) (any, error) {
	var p program
	if err := c.GetInput(&p); err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(uint64(p.Seed), uint64(p.Gen)))
	got := func(name string, v int) error {
		l := &p.A
		if name == "b" {
			l = &p.B
		}
		if v != len(*l) {
			return fmt.Errorf("event %s %d comes after %v (gen %d)", name, v, *l, p.Gen)
		}
		*l = append(*l, v)
		return nil
	}
	waiters := map[string][]task.Task{}
	collect := func() error { // those that are done, in order
		for _, n := range []string{"a", "b"} {
			for len(waiters[n]) > 0 {
				w := waiters[n][0]
				tm := c.CreateTimer(0)
				if c.WhenAny(w, tm) != w {
					break
				}
				var v int
				if err := w.Await(&v); err != nil {
					return err
				}
				if err := got(n, v); err != nil {
					return err
				}
				waiters[n] = waiters[n][1:]
			}
		}
		return nil
	}
	for ; p.Step < 40; p.Step++ {
		switch k := r.IntN(12); k {
		case 0, 1:
			var v int
			if err := c.CallActivity("inc", task.WithActivityInput(p.Sum)).Await(&v); err != nil {
				return nil, err
			}
			if v != p.Sum+1 {
				return nil, fmt.Errorf("inc %d gave %d", p.Sum, v)
			}
			p.Sum = v
		case 2:
			if err := c.CreateTimer(time.Duration(r.IntN(5)) * time.Millisecond).Await(nil); err != nil {
				return nil, err
			}
		case 3, 4:
			name := []string{"a", "b"}[r.IntN(2)]
			if len(waiters[name]) > 0 {
				continue
			}
			var v int
			err := c.WaitForSingleEvent(name, time.Duration(r.IntN(20))*time.Millisecond).Await(&v)
			if errors.Is(err, task.ErrTaskCanceled) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if err := got(name, v); err != nil {
				return nil, err
			}
		case 5:
			var v int
			if err := c.CallSubOrchestrator("child", task.WithSubOrchestratorInput(p.Step)).Await(&v); err != nil || v != p.Step {
				return nil, fmt.Errorf("child %d: %w", v, err)
			}
		case 6:
			ts := make([]task.Task, 5)
			for i := range ts {
				ts[i] = c.CallActivity("inc", task.WithActivityInput(i))
			}
			var out []int
			if err := c.WhenAll(ts...).Await(&out); err != nil || fmt.Sprint(out) != "[1 2 3 4 5]" {
				return nil, fmt.Errorf("all: %v %w", out, err)
			}
		case 7:
			name := []string{"a", "b"}[r.IntN(2)]
			waiters[name] = append(waiters[name], c.WaitForSingleEvent(name, -1))
		case 8:
			if err := collect(); err != nil {
				return nil, err
			}
		case 9:
			var v int
			p9 := &task.RetryPolicy{MaxAttempts: 5, InitialRetryInterval: time.Millisecond}
			if err := c.CallActivity("flaky", task.WithActivityRetryPolicy(p9)).Await(&v); err != nil {
				return nil, err
			}
		case 10:
			c.SetCustomStatus(fmt.Sprint(p.Step))
			_ = c.NewGuid()
			c.CallActivity("inc", task.WithActivityInput(1))
		case 11:
			if err := collect(); err != nil {
				return nil, err
			}
			p.Step++
			p.Gen++
			c.ContinueAsNew(p, task.WithKeepUnprocessedEvents())
			return nil, nil
		}
	}
	for _, n := range []string{"a", "b"} {
		for {
			l := len(p.A)
			if n == "b" {
				l = len(p.B)
			}
			if l == programEvents {
				break
			}
			var w task.Task
			if ws := waiters[n]; len(ws) > 0 {
				w, waiters[n] = ws[0], ws[1:]
			} else {
				w = c.WaitForSingleEvent(n, -1)
			}
			var v int
			if err := w.Await(&v); err != nil {
				return nil, err
			}
			if err := got(n, v); err != nil {
				return nil, err
			}
		}
	}
	return "ok", nil
}

// TestRandomPrograms runs random orchestrations, which are suspended and resumed
// while their events come and while the hub stops and starts again; resident
// ones, and ones that are replayed in each turn.
func TestRandomPrograms(t *testing.T) {
	t.Parallel()
	for name, budget := range map[string]int{"resident": 0, "replayed": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			randomPrograms(t, budget, 40)
		})
	}
}

func programCode() (orchestrators, activities) {
	var mu sync.Mutex
	tries := map[string]int{}
	return orchestrators{
			"program": interpret,
			"child": func(c *task.OrchestrationContext) (any, error) {
				var v int
				if err := c.GetInput(&v); err != nil {
					return nil, err
				}
				err := c.CallActivity("inc", task.WithActivityInput(v-1)).Await(&v)
				return v, err
			},
		}, activities{
			"inc": func(c task.ActivityContext) (any, error) {
				var v int
				err := c.GetInput(&v)
				return v + 1, err
			},
			"flaky": func(c task.ActivityContext) (any, error) {
				mu.Lock()
				defer mu.Unlock()
				k := fmt.Sprint(c.InstanceID(), c.ExecutionID())
				if tries[k]++; tries[k]%3 != 0 {
					return nil, errors.New("not yet")
				}
				return 1, nil
			},
		}
}

func randomPrograms(t *testing.T, budget, n int) {
	rest := func(most time.Duration) { <-time.After(rand.N(most)) }
	hub := newSqliteFile(t)
	hub.log = &recorder{}
	os, as := programCode()
	open := func() *caseHost {
		return newHost(t, hub, os, as, func(o *hostOptions) { o.MaxResident = budget })
	}
	h := open()
	var restarts sync.RWMutex // held to write while the hub is closed
	during := func(f func() error) {
		restarts.RLock()
		defer restarts.RUnlock()
		if err := f(); err != nil {
			t.Error(err)
		}
	}
	var clients sync.WaitGroup
	for seed := range n {
		id := api.InstanceID(fmt.Sprint("program ", seed))
		h.begin("program", api.WithInstanceID(id), api.WithInput(program{Seed: seed, A: []int{}, B: []int{}}))
		for _, name := range []string{"a", "b"} {
			clients.Go(func() {
				for v := range programEvents {
					during(func() error { return h.RaiseEvent(t.Context(), id, name, v) })
					rest(12 * time.Millisecond)
				}
			})
		}
		clients.Go(func() {
			for range 4 {
				rest(60 * time.Millisecond)
				for range 1 + rand.IntN(2) {
					during(func() error { return h.SuspendOrchestration(t.Context(), id, "") })
				}
				rest(60 * time.Millisecond)
				during(func() error { return h.ResumeOrchestration(t.Context(), id, "") })
			}
		})
	}
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(100 * time.Millisecond):
			restarts.Lock()
			h.stop()
			h = open()
			restarts.Unlock()
		}
	}
	for seed := range n {
		h.output(api.InstanceID(fmt.Sprint("program ", seed)), `"ok"`)
	}
	h.noMessages(time.Second)
	if l := hub.log.taken(); len(l) > 0 {
		t.Errorf("log: %q", l)
	}
}
