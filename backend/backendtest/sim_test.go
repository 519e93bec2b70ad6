// Package backendtest_test holds the tests of the whole: schedules of faults
// and crashes in virtual time, and a real process that is killed.
package backendtest

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/backend/internal/faultstore"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/task"
)

var (
	seeds   = flag.Uint64("seeds", 200, "TestSimulation: how many schedules are explored")
	oneSeed = flag.Int64("seed", -1, "TestSimulation: explore this schedule alone, with its trace; with -count it is repeated")
)

// TestSimulation explores schedules of client calls, faults and crashes. A seed
// fixes what clients do, which commit meets which fault and when crashes come;
// goroutines that are ready at one moment of virtual time still run in the
// order that the Go scheduler likes, so that a rare failure may need -count.
func TestSimulation(t *testing.T) {
	if faultstore.Broken {
		t.Skip("built to fail")
	}
	first, last := uint64(0), *seeds
	if *oneSeed >= 0 {
		first, last = uint64(*oneSeed), uint64(*oneSeed)+1
	}
	var sum simStats
	for seed := first; seed < last && !t.Failed(); seed++ {
		if err := explore(t, seed, &sum); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
	t.Logf("%d schedules: %+v", last-first, sum)
}

// TestSimulationCatchesBrokenRule shows, in a build with the tag brokenstore,
// that the simulation can fail.
func TestSimulationCatchesBrokenRule(t *testing.T) {
	if !faultstore.Broken {
		t.Skip("needs -tags brokenstore")
	}
	var sum simStats
	for seed := range uint64(50) {
		if err := explore(t, seed, &sum); err != nil {
			t.Logf("caught by seed %d: %v", seed, err)
			return
		}
	}
	t.Error("the broken rule went unnoticed")
}

func explore(t *testing.T, seed uint64, sum *simStats) (err error) {
	defer func() {
		if r := recover(); r != nil { // a deadlock of the bubble, say
			t.Errorf("seed %d: panic", seed)
			panic(r)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, seed)
		err = s.run()
		if err != nil && *oneSeed >= 0 {
			t.Log(strings.Join(s.trace, "\n"))
		}
		sum.add(s.stats)
	})
	return err
}

type simStats struct{ Starts, Events, Terminates, Purges, Crashes, Faults, Effects int }

func (a *simStats) add(b simStats) {
	a.Starts += b.Starts
	a.Events += b.Events
	a.Terminates += b.Terminates
	a.Purges += b.Purges
	a.Crashes += b.Crashes
	a.Faults += b.Faults
	a.Effects += b.Effects
}

// subject is what the clients know of one instance.
type subject struct {
	id         api.InstanceID
	kind       string
	acked      bool // its start was acknowledged
	tried      []int
	events     []int // acknowledged ones
	terminated bool  // a terminate was tried
	purge      int   // 1: tried, 2: acknowledged
	seen       *api.OrchestrationMetadata
}

type sim struct {
	t     *testing.T
	seed  uint64
	r     *rand.Rand
	model *memstore.Store
	reg   *task.TaskRegistry
	calm  atomic.Bool

	mu       sync.Mutex
	st       *Faults
	client   backend.Client
	worker   backend.TaskHubWorker
	subjects []*subject
	effects  map[string]int // by idempotency key
	stats    simStats
	trace    []string
	broken   []error // invariants that failed on the way
	began    time.Time
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{
		t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 1)), model: memstore.New(),
		effects: map[string]int{}, began: time.Now(),
	}
	reg, err := simRegistry(func(c task.ActivityContext) int {
		s.mu.Lock()
		s.effects[c.IdempotencyKey()]++
		s.stats.Effects++
		n := s.effects[c.IdempotencyKey()]
		pause := time.Duration(s.roll("activity", s.stats.Effects)%30) * time.Millisecond
		s.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-c.Context().Done():
		}
		return n
	})
	if err != nil {
		t.Fatal(err)
	}
	s.reg = reg
	return s
}

// roll is a number that depends on nothing but its arguments and the seed.
func (s *sim) roll(what string, n int) int {
	h := s.seed*0x9E3779B97F4A7C15 + uint64(n)
	for _, c := range []byte(what) {
		h = (h ^ uint64(c)) * 0x100000001B3
	}
	return int(rand.New(rand.NewPCG(h, uint64(n))).Uint32() >> 1)
}

func (s *sim) logf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = append(s.trace, fmt.Sprintf("%8v %s", time.Since(s.began).Round(time.Microsecond), fmt.Sprintf(format, args...)))
}

func (s *sim) fail(format string, args ...any) {
	s.logf("VIOLATION "+format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = append(s.broken, fmt.Errorf(format, args...))
}

// fault chooses the fault of a commit of the g-th owner.
func (s *sim) fault(g, n int) Fault {
	if s.calm.Load() {
		return NoFault
	}
	f := NoFault
	switch roll := s.roll(fmt.Sprint("fault", g), n) % 200; {
	case roll < 6:
		f = FailBefore
	case roll < 12:
		f = LoseAnswer
	case roll < 16:
		f = LoseContact
	case roll < 18:
		f = DiskFull
	case roll < 20:
		f = Fence
	case roll < 23:
		f = FenceAfter
	case roll < 60:
		f = Slow
	}
	if f != NoFault {
		s.logf("commit %d.%d: fault %d", g, n, f)
		s.mu.Lock()
		s.stats.Faults++
		s.mu.Unlock()
	}
	return f
}

func (s *sim) boot() error {
	s.mu.Lock()
	s.stats.Crashes++
	g := s.stats.Crashes
	roll := s.roll("boot", g)
	s.mu.Unlock()
	st := NewFaults(time.Duration(1+roll%40)*time.Millisecond, func(n int) Fault { return s.fault(g, n) })
	log := simLogger{s: s, g: g}
	be := engine.New(faultstore.New(s.model, st), log, engine.Options{MaxResident: roll / 64 % 2 * 40 << 10})
	ex := task.NewTaskExecutor(s.reg)
	w := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, ex, log, backend.WithMaxParallelism(int32(1+roll/128%4))),
		backend.NewActivityTaskWorker(be, ex, log, backend.WithMaxParallelism(int32(1+roll/512%4))), log)
	if err := w.Start(s.t.Context()); err != nil {
		return fmt.Errorf("boot %d: %w", g, err)
	}
	s.mu.Lock()
	s.st, s.worker, s.client = st, w, backend.NewClient(be)
	s.mu.Unlock()
	s.logf("boot %d", g)
	return nil
}

// crash ends the owner in one of several ways and opens the next one.
func (s *sim) crash() error {
	s.mu.Lock()
	st, old := s.st, s.worker
	s.mu.Unlock()
	way := s.r.IntN(4)
	s.logf("crash, way %d (dead: %v)", way, st.Dead())
	shut := func(d time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		defer cancel()
		_ = old.Shutdown(ctx) // it may well say that work was left
	}
	switch way {
	case 0: // a graceful restart
		shut(10 * time.Second)
		return s.boot()
	case 1: // dead before the next one opens
		st.Kill()
		shut(10 * time.Millisecond)
		return s.boot()
	case 2: // a takeover: both run for a while
		err := s.boot()
		<-time.After(time.Duration(s.r.IntN(30)) * time.Millisecond)
		st.Kill()
		shut(10 * time.Millisecond)
		return err
	}
	st.Kill()
	err := s.boot()
	shut(10 * time.Millisecond)
	return err
}

func (s *sim) c() backend.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client
}

func (s *sim) run() error {
	if err := s.boot(); err != nil {
		return err
	}
	var clients sync.WaitGroup
	var left atomic.Int32
	for n := range 3 {
		left.Add(1)
		clients.Go(func() {
			defer left.Add(-1)
			s.clientLoop(n, rand.New(rand.NewPCG(s.seed, uint64(100+n))))
		})
	}
	var err error
	for left.Load() > 0 && err == nil {
		<-time.After(time.Duration(5+s.r.IntN(10)) * time.Millisecond)
		if s.st.Dead() || (!s.calm.Load() && s.r.IntN(15) == 0) {
			err = s.crash()
		}
		s.mu.Lock()
		if s.stats.Crashes >= 7 { // what is active in ten of them is taken for their cause, and fails
			s.calm.Store(true)
		}
		s.mu.Unlock()
	}
	clients.Wait()
	s.calm.Store(true)
	if err == nil && (s.st.Dead() || s.r.IntN(2) == 0) {
		err = s.crash()
	}
	if err == nil {
		err = s.finish()
	}
	<-time.After(time.Minute) // what dead owners had left to do fails by then
	if err == nil {
		err = s.check()
	}
	err = errors.Join(err, s.worker.Shutdown(context.Background()))
	<-time.After(time.Minute)
	return errors.Join(append(s.broken, err)...)
}

type simLogger struct {
	s *sim
	g int
}

func (simLogger) Debug(...any)                {}
func (l simLogger) Debugf(f string, a ...any) { l.s.logf("  [%d] "+f, append([]any{l.g}, a...)...) }
func (simLogger) Info(...any)                 {}
func (simLogger) Infof(string, ...any)        {}
func (simLogger) Warn(...any)                 {}
func (l simLogger) Warnf(f string, a ...any)  { l.Debugf(f, a...) }
func (simLogger) Error(...any)                {}
func (l simLogger) Errorf(f string, a ...any) { l.Debugf(f, a...) }

var simKinds = []string{"chain", "fan", "timer", "parent", "loop", "list", "list", "gather", "gather", "timeout", "retry", "victim"}

// clientLoop is one client: it starts instances one after the other and talks to them.
func (s *sim) clientLoop(n int, r *rand.Rand) {
	for k := range 8 {
		kind := simKinds[r.IntN(len(simKinds))]
		sub := &subject{id: api.InstanceID(fmt.Sprintf("%s-%d-%d", kind, n, k)), kind: kind}
		s.mu.Lock()
		s.subjects = append(s.subjects, sub)
		s.mu.Unlock()
		s.start(sub, r)
		for m := 0; (kind == "list" || kind == "gather") && m < 2+r.IntN(5); m++ {
			if r.IntN(5) == 0 {
				_ = s.call(sub, "suspend", func(ctx context.Context, c backend.Client) error { return c.SuspendOrchestration(ctx, sub.id, "") })
			}
			sub.tried = append(sub.tried, m)
			if s.call(sub, fmt.Sprint("event ", m), func(ctx context.Context, c backend.Client) error {
				return c.RaiseEvent(ctx, sub.id, "item", m)
			}) == nil {
				sub.events = append(sub.events, m)
			}
			if r.IntN(4) == 0 {
				_ = s.call(sub, "resume", func(ctx context.Context, c backend.Client) error { return c.ResumeOrchestration(ctx, sub.id, "") })
			}
			<-time.After(time.Duration(r.IntN(12)) * time.Millisecond)
		}
		if (kind == "victim" && r.IntN(2) == 0) || r.IntN(15) == 0 {
			sub.terminated = true
			_ = s.call(sub, "terminate", func(ctx context.Context, c backend.Client) error {
				return c.TerminateOrchestration(ctx, sub.id, "stop")
			})
		}
		if r.IntN(4) == 0 {
			s.look(sub, r)
		}
		<-time.After(time.Duration(r.IntN(25)) * time.Millisecond)
	}
}

func (s *sim) start(sub *subject, r *rand.Rand) {
	opts := []api.NewOrchestrationOptions{api.WithInstanceID(sub.id)}
	if sub.kind == "list" {
		opts = append(opts, api.WithInput([]int{}))
	}
	if r.IntN(6) == 0 {
		opts = append(opts, api.WithStartTime(time.Now().Add(time.Duration(r.IntN(80))*time.Millisecond)))
	}
	for range 1 + r.IntN(2) { // some starts are tried twice
		err := s.call(sub, "start", func(ctx context.Context, c backend.Client) error {
			_, err := c.ScheduleNewOrchestration(ctx, sub.kind, opts...)
			return err
		})
		if err == nil && sub.acked {
			s.fail("%s: a second start was acknowledged", sub.id)
		}
		sub.acked = sub.acked || err == nil
	}
	if sub.acked {
		s.mu.Lock()
		s.stats.Starts++
		s.mu.Unlock()
	}
}

// look waits a while for the end, remembers what it was, and may purge it.
func (s *sim) look(sub *subject, r *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
	m, err := s.c().WaitForOrchestrationCompletion(ctx, sub.id)
	cancel()
	if err != nil {
		return
	}
	sub.seen = m
	if r.IntN(2) == 0 {
		sub.purge = 1
		if s.call(sub, "purge", func(ctx context.Context, c backend.Client) error { return c.PurgeOrchestrationState(ctx, sub.id) }) == nil {
			sub.purge = 2
		}
	}
}

func (s *sim) call(sub *subject, what string, f func(context.Context, backend.Client) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.logf("%s: %s ...", sub.id, what)
	err := f(ctx, s.c())
	s.logf("%s: %s: %v", sub.id, what, err)
	if err == nil {
		s.mu.Lock()
		switch {
		case strings.HasPrefix(what, "event"):
			s.stats.Events++
		case what == "terminate":
			s.stats.Terminates++
		case what == "purge":
			s.stats.Purges++
		}
		s.mu.Unlock()
	}
	return err
}

// insist calls until it is acknowledged, without faults.
func (s *sim) insist(sub *subject, what string, f func(context.Context, backend.Client) error) error {
	var err error
	for range 50 {
		if err = s.call(sub, what, f); err == nil {
			return nil
		}
		<-time.After(100 * time.Millisecond)
	}
	return fmt.Errorf("%s: %s: %w", sub.id, what, err)
}

// finish ends what waits for somebody, and checks what came of each instance.
func (s *sim) finish() error {
	for _, sub := range s.subjects {
		if _, err := s.model.ByID(context.Background(), string(sub.id)); errors.Is(err, store.ErrNotFound) {
			if sub.acked && sub.purge == 0 {
				return fmt.Errorf("%s was acknowledged and is lost", sub.id)
			}
			continue
		} else if sub.purge == 2 {
			return fmt.Errorf("%s was purged and is there", sub.id)
		}
		if err := s.end(sub); err != nil {
			return err
		}
	}
	return nil
}

func (s *sim) end(sub *subject) error {
	err := s.insist(sub, "resume", func(ctx context.Context, c backend.Client) error { return c.ResumeOrchestration(ctx, sub.id, "") })
	if err == nil && (sub.kind == "list" || sub.kind == "gather") {
		err = s.insist(sub, "end", func(ctx context.Context, c backend.Client) error { return c.RaiseEvent(ctx, sub.id, "item", -1) })
	}
	if err == nil && sub.kind == "victim" {
		sub.terminated = true
		err = s.insist(sub, "terminate", func(ctx context.Context, c backend.Client) error {
			return c.TerminateOrchestration(ctx, sub.id, "stop")
		})
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	m, err := s.c().WaitForOrchestrationCompletion(ctx, sub.id)
	if err != nil {
		row, rerr := s.model.ByID(context.Background(), string(sub.id))
		if rerr != nil {
			return errors.Join(err, rerr)
		}
		left, _ := s.model.Inbox(context.Background(), row.Key)
		return fmt.Errorf("%s does not end: %w; status %d, due %d, %d messages in its inbox", sub.id, err, row.Status, row.Due, len(left))
	}
	if sub.seen != nil && (sub.seen.RuntimeStatus != m.RuntimeStatus || sub.seen.SerializedOutput != m.SerializedOutput) {
		return fmt.Errorf("%s was seen to be %v %s and is %v %s", sub.id,
			sub.seen.RuntimeStatus, sub.seen.SerializedOutput, m.RuntimeStatus, m.SerializedOutput)
	}
	if sub.terminated && m.RuntimeStatus == api.RUNTIME_STATUS_TERMINATED {
		return nil
	}
	bad := fmt.Errorf("%s: %v %q %v; tried %v, acknowledged %v",
		sub.id, m.RuntimeStatus, m.SerializedOutput, m.FailureDetails, sub.tried, sub.events)
	if m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
		return bad
	}
	want := map[string]string{"chain": "3", "fan": "21", "timer": `"fired"`, "parent": "24", "loop": `"end"`, "timeout": `"late"`, "retry": `"ok"`}
	if sub.kind != "list" && sub.kind != "gather" {
		if m.SerializedOutput != want[sub.kind] {
			return bad
		}
		return nil
	}
	var got []int
	if json.Unmarshal([]byte(m.SerializedOutput), &got) != nil {
		return bad
	}
	for k, v := range got { // in order, none twice, none made up
		if !slices.Contains(sub.tried, v) || (k > 0 && v <= got[k-1]) {
			return bad
		}
	}
	for _, v := range sub.events {
		if !slices.Contains(got, v) {
			return bad
		}
	}
	return nil
}

// check looks at all that the store holds in the end.
func (s *sim) check() error {
	ctx := context.Background()
	rows, err := s.model.Query(ctx, store.Filter{Limit: 10000, Payloads: true})
	if err != nil {
		return err
	}
	for _, row := range rows {
		if row.Unfinished || row.Stalled != "" {
			return fmt.Errorf("%s (child of %q) is left with status %d, due %d, stalled %q", row.ID, row.ParentID, row.Status, row.Due, row.Stalled)
		}
		if left, err := s.model.Inbox(ctx, row.Key); err != nil || len(left) > 0 {
			for _, m := range left {
				e, _ := backend.UnmarshalHistoryEvent(m.Event)
				err = errors.Join(err, fmt.Errorf("seq %d: %v", m.Seq, e))
			}
			return fmt.Errorf("%s is over and has %d messages in its inbox: %w", row.ID, len(left), err)
		}
		var events []*backend.HistoryEvent
		if err := s.c().History(ctx, api.InstanceID(row.ID), func(p []*backend.HistoryEvent) error {
			events = append(events, p...)
			return nil
		}); err != nil {
			return err
		}
		if err := s.checkHistory(row, events); err != nil {
			for n, e := range events {
				s.logf("%s: history %d: %v", row.ID, n, e)
			}
			return fmt.Errorf("history of %s: %w", row.ID, err)
		}
	}
	due, err := s.model.DueAfter(ctx, store.DueKey{}, 10)
	if err == nil && len(due) > 0 {
		err = fmt.Errorf("timers of finished instances are left: %v", due)
	}
	return err
}

func (s *sim) checkHistory(row *store.Instance, events []*backend.HistoryEvent) error {
	if len(events) < 3 || events[0].GetOrchestratorStarted() == nil || events[1].GetExecutionStarted() == nil {
		return errors.New("it does not begin with OrchestratorStarted and ExecutionStarted")
	}
	exec := events[1].GetExecutionStarted().GetOrchestrationInstance().GetExecutionId().GetValue()
	if exec != row.ExecutionID {
		return fmt.Errorf("it is of execution %s, the row of %s", exec, row.ExecutionID)
	}
	open := map[int32]string{}
	last, starts, ends := int32(-1), 0, 0
	begin := func(e *backend.HistoryEvent, what string) error {
		if e.GetEventId() <= last {
			return fmt.Errorf("%s has id %d after %d", what, e.GetEventId(), last)
		}
		last = e.GetEventId()
		open[last] = what
		return nil
	}
	end := func(id int32, what string) error {
		if open[id] != what {
			return fmt.Errorf("a result of %s %d, which is not open", what, id)
		}
		delete(open, id)
		return nil
	}
	for n, e := range events {
		var err error
		switch {
		case e.GetExecutionStarted() != nil:
			starts++
		case e.GetExecutionCompleted() != nil:
			ends++
			if e.GetEventId() >= 0 && e.GetEventId() <= last {
				err = fmt.Errorf("completion has id %d after %d", e.GetEventId(), last)
			}
			for _, after := range events[n+1:] {
				if after.GetOrchestratorCompleted() == nil {
					err = fmt.Errorf("%T after the completion", after.GetEventType())
				}
			}
		case e.GetTaskScheduled() != nil:
			err = begin(e, "task")
		case e.GetTimerCreated() != nil:
			err = begin(e, "timer")
		case e.GetSubOrchestrationInstanceCreated() != nil:
			err = begin(e, "child")
		case e.GetEventSent() != nil:
			err = begin(e, "send")
		case e.GetTaskCompleted() != nil:
			id := e.GetTaskCompleted().GetTaskScheduledId()
			err = end(id, "task")
			if key := fmt.Sprintf("%s/%s/%d", row.ID, exec, id); err == nil && s.effects[key] == 0 {
				err = fmt.Errorf("task %d has a result and never ran", id)
			}
		case e.GetTaskFailed() != nil:
			err = end(e.GetTaskFailed().GetTaskScheduledId(), "task")
		case e.GetTimerFired() != nil:
			err = end(e.GetTimerFired().GetTimerId(), "timer")
		case e.GetSubOrchestrationInstanceCompleted() != nil:
			err = end(e.GetSubOrchestrationInstanceCompleted().GetTaskScheduledId(), "child")
		case e.GetSubOrchestrationInstanceFailed() != nil:
			err = end(e.GetSubOrchestrationInstanceFailed().GetTaskScheduledId(), "child")
		}
		if err != nil {
			return fmt.Errorf("event %d: %w", n, err)
		}
	}
	if starts != 1 || ends != 1 {
		return fmt.Errorf("%d ExecutionStarted and %d ExecutionCompleted", starts, ends)
	}
	return nil
}

// simRegistry holds what the clients start; effect is called by each activity
// and says how often it ran for this task.
func simRegistry(effect func(task.ActivityContext) int) (*task.TaskRegistry, error) {
	r := task.NewTaskRegistry()
	inc := task.WithActivityInput
	return r, errors.Join(
		r.AddActivityN("inc", func(c task.ActivityContext) (any, error) {
			var v int
			err := c.GetInput(&v)
			effect(c)
			return v + 1, err
		}),
		r.AddActivityN("flaky", func(c task.ActivityContext) (any, error) {
			effect(c)
			if c.GetTaskID() < 2 { // the first try, whichever delivery of it
				return nil, errors.New("flaky")
			}
			return "ok", nil
		}),
		r.AddOrchestratorN("chain", func(c *task.OrchestrationContext) (any, error) {
			v := 0
			for range 3 {
				if err := c.CallActivity("inc", inc(v)).Await(&v); err != nil {
					return nil, err
				}
			}
			return v, nil
		}),
		r.AddOrchestratorN("fan", func(c *task.OrchestrationContext) (any, error) {
			var all []task.Task
			for k := range 6 {
				all = append(all, c.CallActivity("inc", inc(k)))
			}
			var got []int
			if err := c.WhenAll(all...).Await(&got); err != nil {
				return nil, err
			}
			sum := 0
			for _, v := range got {
				sum += v
			}
			return sum, nil
		}),
		r.AddOrchestratorN("timer", func(c *task.OrchestrationContext) (any, error) {
			for _, d := range []time.Duration{0, 20 * time.Millisecond, 3 * time.Millisecond} {
				at := c.CurrentTimeUtc.Add(d)
				if err := c.CreateTimer(d).Await(nil); err != nil {
					return nil, err
				}
				if c.CurrentTimeUtc.Before(at) {
					return "early", nil
				}
			}
			return "fired", nil
		}),
		r.AddOrchestratorN("parent", func(c *task.OrchestrationContext) (any, error) {
			a := c.CallSubOrchestrator("chain")
			b := c.CallSubOrchestrator("fan", task.WithSubOrchestrationInstanceID(string(c.ID)+"-fan"))
			var x, y int
			return &x, errors.Join(a.Await(&x), b.Await(&y), add(&x, &y))
		}),
		r.AddOrchestratorN("loop", func(c *task.OrchestrationContext) (any, error) {
			n := 0
			if err := c.GetInput(&n); err != nil {
				return nil, err
			}
			if n == 5 {
				return "end", nil
			}
			c.CallActivity("inc", inc(n)) // nobody waits for it
			err := c.CallActivity("inc", inc(n)).Await(&n)
			c.ContinueAsNew(n)
			return nil, err
		}),
		r.AddOrchestratorN("list", func(c *task.OrchestrationContext) (any, error) {
			got := []int{}
			if err := c.GetInput(&got); err != nil {
				return nil, err
			}
			for range 2 {
				var v int
				if err := c.WaitForSingleEvent("item", -1).Await(&v); err != nil || v < 0 {
					return got, err
				}
				if v%2 == 0 {
					if err := c.CallActivity("inc", inc(v-1)).Await(&v); err != nil {
						return nil, err
					}
				}
				got = append(got, v)
			}
			c.ContinueAsNew(got, task.WithKeepUnprocessedEvents())
			return nil, nil
		}),
		r.AddOrchestratorN("gather", func(c *task.OrchestrationContext) (any, error) {
			got := []int{}
			for {
				var v int
				if err := c.WaitForSingleEvent("ITEM", -1).Await(&v); err != nil || v < 0 {
					return got, err
				}
				if v%3 == 0 {
					if err := c.CallActivity("inc", inc(v-1)).Await(&v); err != nil {
						return nil, err
					}
				}
				got = append(got, v)
			}
		}),
		r.AddOrchestratorN("timeout", func(c *task.OrchestrationContext) (any, error) {
			if err := c.WaitForSingleEvent("never", 15*time.Millisecond).Await(nil); !errors.Is(err, task.ErrTaskCanceled) {
				return "not canceled", err
			}
			return "late", nil
		}),
		r.AddOrchestratorN("retry", func(c *task.OrchestrationContext) (any, error) {
			var got string
			err := c.CallActivity("flaky", task.WithActivityRetryPolicy(&task.RetryPolicy{
				MaxAttempts: 4, InitialRetryInterval: 5 * time.Millisecond,
			})).Await(&got)
			return got, err
		}),
		r.AddOrchestratorN("victim", func(c *task.OrchestrationContext) (any, error) {
			return "not terminated", c.CallSubOrchestrator("forever").Await(nil)
		}),
		r.AddOrchestratorN("forever", func(c *task.OrchestrationContext) (any, error) {
			c.CallActivity("inc", inc(1))
			return "not terminated", c.WaitForSingleEvent("never", -1).Await(nil)
		}),
	)
}

// add is evaluated as an argument, after the ones before it.
func add(x, y *int) error { *x += *y; return nil }
