package engine_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
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

var (
	seeds    = flag.Uint64("seeds", 150, "TestSimulation: how many schedules are explored")
	onlySeed = flag.Int64("seed", -1, "TestSimulation: explore this schedule alone")
)

// faulty injects faults between the engine and the model store.
type faulty struct {
	store.Store
	mu   sync.Mutex
	r    *rand.Rand
	calm bool // no more faults
	// broken drops the inbox records of batches: the rule that the simulation must catch.
	broken bool
}

var errInjected = errors.New("injected: disk I/O error")

func (f *faulty) Commit(ctx context.Context, b *store.Batch) error {
	f.mu.Lock()
	roll, calm := f.r.IntN(100), f.calm
	f.mu.Unlock()
	if f.broken && len(b.Inbox) > 0 {
		less := *b
		less.Inbox = nil
		b = &less
	}
	switch {
	case calm:
	case roll < 4:
		return errInjected
	case roll < 8: // done, but the answer is lost
		return errors.Join(f.Store.Commit(ctx, b), errInjected)
	case roll < 30:
		<-time.After(time.Duration(roll) * time.Millisecond)
	}
	return f.Store.Commit(ctx, b)
}

// Committed fails now and then too.
func (f *faulty) Committed(ctx context.Context, b *store.Batch) (bool, error) {
	f.mu.Lock()
	roll, calm := f.r.IntN(3), f.calm
	f.mu.Unlock()
	if !calm && roll == 0 {
		return false, errInjected
	}
	return f.Store.Committed(ctx, b)
}

// TestSimulation explores schedules of starts, events, faults and crashes in
// virtual time over the model store, and checks what callers were promised.
func TestSimulation(t *testing.T) {
	first, last := uint64(0), *seeds
	if *onlySeed >= 0 {
		first, last = uint64(*onlySeed), uint64(*onlySeed)+1
	}
	for seed := first; seed < last && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			if err := simulate(t, seed, false); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		})
	}
}

// TestSimulationCatchesABrokenRule shows that the simulation can fail.
func TestSimulationCatchesABrokenRule(t *testing.T) {
	for seed := range uint64(50) {
		var err error
		synctest.Test(t, func(t *testing.T) { err = simulate(t, seed, true) })
		if err != nil {
			t.Logf("seed %d: %v", seed, err)
			return
		}
	}
	t.Error("lost inbox records went unnoticed")
}

type sim struct {
	t      *testing.T
	st     *faulty
	model  *memstore.Store
	r      *rand.Rand
	client backend.Client
	worker backend.TaskHubWorker
	acked  []api.InstanceID
	events map[api.InstanceID]int
}

func simulate(t *testing.T, seed uint64, broken bool) error {
	model := memstore.New()
	s := &sim{
		t: t, model: model, r: rand.New(rand.NewPCG(seed, 7)), events: map[api.InstanceID]int{},
		st: &faulty{Store: model, r: rand.New(rand.NewPCG(seed, 8)), broken: broken},
	}
	s.boot()
	for n := range 25 {
		s.step(n)
		<-time.After(time.Duration(s.r.IntN(40)) * time.Millisecond)
		if s.r.IntN(12) == 0 {
			s.crash()
		}
	}
	s.st.mu.Lock()
	s.st.calm = true
	s.st.mu.Unlock()
	s.crash() // the last one: whatever is only in memory is gone
	err := s.finish()
	if serr := s.worker.Shutdown(context.Background()); serr != nil {
		err = errors.Join(err, serr)
	}
	<-time.After(time.Minute) // what the crashed owners had left to do fails by then
	return errors.Join(err, s.check())
}

func (s *sim) boot() {
	r := registry(s.t)
	if err := r.AddOrchestratorN("list", func(c *task.OrchestrationContext) (any, error) {
		got := []int{}
		if err := c.GetInput(&got); err != nil {
			return nil, err
		}
		var v int
		if err := c.WaitForSingleEvent("item", -1).Await(&v); err != nil {
			return nil, err
		}
		if v < 0 {
			return got, nil
		}
		if v%2 == 0 {
			if err := c.CallActivity("inc", task.WithActivityInput(v)).Await(nil); err != nil {
				return nil, err
			}
		}
		c.ContinueAsNew(append(got, v), task.WithKeepUnprocessedEvents())
		return nil, nil
	}); err != nil {
		s.t.Fatal(err)
	}
	log := silent{}
	be := engine.New(s.st, log, engine.Options{MaxResident: s.r.IntN(2) * 40 << 10})
	ex := task.NewTaskExecutor(r)
	s.worker = backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, ex, log, backend.WithMaxParallelism(int32(1+s.r.IntN(4)))),
		backend.NewActivityTaskWorker(be, ex, log, backend.WithMaxParallelism(int32(1+s.r.IntN(4)))), log)
	if err := s.worker.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.client = backend.NewClient(be)
}

type silent struct{}

func (silent) Debug(...any)          {}
func (silent) Debugf(string, ...any) {}
func (silent) Info(...any)           {}
func (silent) Infof(string, ...any)  {}
func (silent) Warn(...any)           {}
func (silent) Warnf(string, ...any)  {}
func (silent) Error(...any)          {}
func (silent) Errorf(string, ...any) {}

// crash opens a new owner over the same store while the old one still runs:
// from then on every commit of the old one is refused, as after a takeover.
func (s *sim) crash() {
	old := s.worker
	s.boot()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_ = old.Shutdown(ctx) // it may well say that work was left
}

func (s *sim) step(n int) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	kind := []string{"chain", "fan", "parent", "timer", "loop", "list", "list"}[s.r.IntN(7)]
	id := api.InstanceID(fmt.Sprintf("%s-%d", kind, n))
	input := map[string]any{"chain": 4, "fan": 12, "loop": 30, "list": []int{}}[kind]
	if _, err := s.client.ScheduleNewOrchestration(ctx, kind, api.WithInstanceID(id), api.WithInput(input)); err != nil {
		return
	}
	s.acked = append(s.acked, id)
	for k := 0; kind == "list" && k < 4; k++ {
		if s.r.IntN(5) == 0 {
			_ = s.client.SuspendOrchestration(ctx, id, "")
			_ = s.client.ResumeOrchestration(ctx, id, "")
		}
		if err := s.client.RaiseEvent(ctx, id, "item", k); err != nil {
			return
		}
		s.events[id] = k + 1
	}
}

// finish ends the lists and waits for everything that was acknowledged.
func (s *sim) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for _, id := range s.acked {
		if strings.HasPrefix(string(id), "list") {
			// A resume, as the one before may not have been accepted.
			if err := errors.Join(s.client.ResumeOrchestration(ctx, id, ""), s.client.RaiseEvent(ctx, id, "item", -1)); err != nil {
				return fmt.Errorf("end %s: %w", id, err)
			}
		}
	}
	want := map[string]string{"chain": "4", "fan": "78", "parent": "3", "timer": `"fired"`, "loop": `"end"`}
	for _, id := range s.acked {
		m, err := s.client.WaitForOrchestrationCompletion(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		kind, _, _ := strings.Cut(string(id), "-")
		ok := m.SerializedOutput == want[kind]
		if kind == "list" {
			n := s.events[id]
			ok = m.SerializedOutput == upTo(n) || (n < 4 && m.SerializedOutput == upTo(n+1))
		}
		if m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED || !ok {
			return fmt.Errorf("%s: %v %s %v", id, m.RuntimeStatus, m.SerializedOutput, m.FailureDetails)
		}
	}
	return nil
}

func upTo(n int) string {
	s := make([]string, n)
	for k := range s {
		s[k] = fmt.Sprint(k)
	}
	return "[" + strings.Join(s, ",") + "]"
}

// check looks at what the store holds in the end.
func (s *sim) check() error {
	ctx := context.Background()
	rows, err := s.model.Query(ctx, store.Filter{Limit: 1000})
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.Unfinished {
			continue // a start that was not acknowledged
		}
		left, err := s.model.Inbox(ctx, row.Key)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return fmt.Errorf("%s is over and has %d messages in its inbox", row.ID, len(left))
		}
	}
	due, err := s.model.DueAfter(ctx, store.DueKey{}, 10)
	if err == nil && len(due) > 0 {
		err = fmt.Errorf("timers of finished instances are left: %v", due)
	}
	return err
}
