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

var entitySeeds = flag.Uint64("entityseeds", 150, "TestEntitySimulation: how many schedules are explored")

// TestEntitySimulation explores schedules of signals, calls, locks, faults and
// crashes. Each entity's state is the list of what was applied to it, so that
// it shows what was lost, applied twice or in the wrong order, and what ran
// inside of another's critical section.
func TestEntitySimulation(t *testing.T) {
	if faultstore.Broken {
		t.Skip("built to fail")
	}
	first, last := uint64(0), *entitySeeds
	if *oneSeed >= 0 {
		first, last = uint64(*oneSeed), uint64(*oneSeed)+1
	}
	var applied, crashes, faults int
	seed := first
	var s *entitySim
	defer func() {
		if r := recover(); r != nil { // a deadlock of the bubble, say
			t.Errorf("seed %d: panic", seed)
			if *oneSeed >= 0 {
				t.Log(strings.Join(s.trace, "\n"))
			}
			panic(r)
		}
	}()
	for ; seed < last && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			s = newEntitySim(t, seed)
			if err := s.run(); err != nil {
				if *oneSeed >= 0 {
					t.Log(strings.Join(s.trace, "\n"))
				}
				t.Errorf("seed %d: %v", seed, err)
			}
			applied, crashes, faults = applied+s.applied, crashes+s.boots-1, faults+s.faults
		})
	}
	t.Logf("%d schedules: %d operations applied, %d crashes, %d faults", last-first, applied, crashes, faults)
}

// TestEntitySimulationCatchesBrokenRule shows, in a build with the tag
// brokenstore, that the simulation can fail.
func TestEntitySimulationCatchesBrokenRule(t *testing.T) {
	if !faultstore.Broken {
		t.Skip("needs -tags brokenstore")
	}
	for seed := uint64(0); seed < 50; seed++ {
		var err error
		synctest.Test(t, func(t *testing.T) { err = newEntitySim(t, seed).run() })
		if err != nil {
			t.Logf("caught by seed %d: %v", seed, err)
			return
		}
	}
	t.Error("the broken rule went unnoticed")
}

const simEntities = 4

type entitySim struct {
	t     *testing.T
	seed  uint64
	r     *rand.Rand
	model *memstore.Store
	reg   *task.TaskRegistry
	calm  atomic.Bool
	began time.Time

	mu     sync.Mutex
	st     *Faults
	be     backend.Backend
	worker backend.TaskHubWorker
	boots  int
	faults int
	trace  []string

	signals map[string]bool // by what it appends: acknowledged
	starts  map[api.InstanceID]string
	ended   map[api.InstanceID]bool // somebody ended it from outside
	applied int
}

func logID(n int) api.EntityID { return api.NewEntityID("log", fmt.Sprint(n)) }

// entityLog appends its input to its state.
func entityLog(ctx *task.EntityContext) (any, error) {
	var list []string
	var item string
	if err := errors.Join(ctx.GetState(&list), ctx.GetInput(&item)); err != nil {
		return nil, err
	}
	if ctx.Operation == "get" {
		return list, nil
	}
	list = append(list, item)
	if err := ctx.SetState(list); err != nil {
		return nil, err
	}
	var err error
	switch ctx.Operation {
	case "fail":
		err = errors.Join(ctx.SignalEntity(logID(0), "add", item), errors.New("undo this"))
	case "panic":
		panic("undo this")
	case "relay": // each relayed item must come to the echo exactly once
		err = ctx.SignalEntity(api.NewEntityID("log", "echo"), "add", item)
	case "start":
		err = ctx.StartNewOrchestration("started", task.WithEntityStartOrchestrationInstanceID(api.InstanceID("by-"+item)))
	}
	return len(list), err
}

// plan is what one orchestration of the simulation does.
type plan struct {
	Kind    string // "calls", "section"
	Targets []int
	End     string // "", "fail", "again" or "leave" (without a release)
}

func (s *entitySim) register() error {
	s.reg = task.NewTaskRegistry()
	return errors.Join(
		s.reg.AddEntityN("log", func(ctx *task.EntityContext) (any, error) {
			var item string
			_ = ctx.GetInput(&item)
			s.logf("%s: %s %s", ctx.ID, ctx.Operation, item)
			return entityLog(ctx)
		}),
		s.reg.AddOrchestratorN("started", func(*task.OrchestrationContext) (any, error) { return "ok", nil }),
		s.reg.AddOrchestratorN("work", func(c *task.OrchestrationContext) (any, error) {
			var p plan
			if err := c.GetInput(&p); err != nil {
				return nil, err
			}
			label := func(k int) string { return fmt.Sprintf("%s/%s/%d", c.ID, p.End, k) }
			if p.Kind == "calls" {
				for k := range 6 { // calls and signals in turns: they must arrive in this order
					id := logID(p.Targets[0])
					if k%2 == 0 {
						if err := c.SignalEntity(id, "add", task.WithSignalEntityInput(label(k))); err != nil {
							return nil, err
						}
					} else if err := c.CallEntity(id, []string{"add", "relay", "start"}[k/2], task.WithEntityInput(label(k))).Await(nil); err != nil {
						return nil, err
					}
					if k == 3 {
						if err := c.CallEntity(id, "fail", task.WithEntityInput("bad")).Await(nil); err == nil {
							return nil, errors.New("a failure is lost")
						}
					}
				}
			} else {
				var ids []api.EntityID
				for _, n := range p.Targets {
					ids = append(ids, logID(n))
				}
				release, err := c.LockEntities(ids...)
				if err != nil {
					return nil, err
				}
				for k := range 3 { // nothing of others may come between
					for _, id := range ids {
						if err := c.CallEntity(id, "add", task.WithEntityInput(fmt.Sprintf("[%s %d", label(0), k))).Await(nil); err != nil {
							return nil, err
						}
					}
				}
				if p.End != "leave" {
					release()
				}
			}
			switch p.End {
			case "fail":
				return nil, errors.New("as planned")
			case "again":
				p.End = "second"
				c.ContinueAsNew(p)
			}
			return "ok", nil
		}),
	)
}

func newEntitySim(t *testing.T, seed uint64) *entitySim {
	s := &entitySim{
		t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 2)), model: memstore.New(), began: time.Now(),
		signals: map[string]bool{}, starts: map[api.InstanceID]string{}, ended: map[api.InstanceID]bool{},
	}
	must(t, s.register())
	return s
}

func (s *entitySim) logf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = append(s.trace, fmt.Sprintf("%8v %s", time.Since(s.began).Round(time.Microsecond), fmt.Sprintf(format, args...)))
}

func (s *entitySim) fault(g, n int) Fault {
	if s.calm.Load() {
		return NoFault
	}
	f := NoFault
	switch roll := rand.New(rand.NewPCG(s.seed^uint64(g)<<32, uint64(n))).IntN(200); {
	case roll < 6:
		f = FailBefore
	case roll < 12:
		f = LoseAnswer
	case roll < 15:
		f = LoseContact
	case roll < 17:
		f = DiskFull
	case roll < 19:
		f = Fence
	case roll < 22:
		f = FenceAfter
	case roll < 60:
		f = Slow
	}
	if f != NoFault {
		s.logf("commit %d.%d: fault %d", g, n, f)
		s.mu.Lock()
		s.faults++
		s.mu.Unlock()
	}
	return f
}

type entitySimLogger struct {
	simLogger
	s *entitySim
	g int
}

func (l entitySimLogger) Debugf(f string, a ...any) {
	l.s.logf("  [%d] "+f, append([]any{l.g}, a...)...)
}
func (l entitySimLogger) Warnf(f string, a ...any)  { l.Debugf(f, a...) }
func (l entitySimLogger) Errorf(f string, a ...any) { l.Debugf(f, a...) }

func (s *entitySim) boot() error {
	s.mu.Lock()
	s.boots++
	g := s.boots
	s.mu.Unlock()
	roll := rand.New(rand.NewPCG(s.seed, uint64(1000+g)))
	st := NewFaults(time.Duration(1+roll.IntN(40))*time.Millisecond, func(n int) Fault { return s.fault(g, n) })
	log := entitySimLogger{s: s, g: g}
	be := engine.New(faultstore.New(s.model, st), log, engine.Options{MaxResident: roll.IntN(2) * 40 << 10})
	ex := task.NewTaskExecutor(s.reg)
	w := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, ex, log, backend.WithMaxParallelism(int32(1+roll.IntN(4)))),
		backend.NewActivityTaskWorker(be, ex, log), log)
	if err := w.Start(s.t.Context()); err != nil {
		return fmt.Errorf("boot %d: %w", g, err)
	}
	s.mu.Lock()
	s.st, s.worker, s.be = st, w, be
	s.mu.Unlock()
	s.logf("boot %d", g)
	return nil
}

func (s *entitySim) crash() error {
	old, st := s.worker, s.st
	s.logf("crash")
	if s.r.IntN(4) > 0 {
		st.Kill()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+s.r.IntN(20))*time.Millisecond)
	defer cancel()
	if s.r.IntN(2) == 0 { // a takeover
		err := s.boot()
		st.Kill()
		_ = old.Shutdown(ctx) // it may well say that work was left
		return err
	}
	_ = old.Shutdown(ctx)
	st.Kill()
	return s.boot()
}

func (s *entitySim) client() backend.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return backend.NewClient(s.be)
}

func (s *entitySim) run() error {
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
		if s.st.Dead() || s.r.IntN(12) == 0 {
			err = s.crash()
		}
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
	return err
}

func (s *entitySim) call(what string, f func(context.Context, backend.Client) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := f(ctx, s.client())
	s.logf("%s: %v", what, err)
	return err
}

func (s *entitySim) clientLoop(n int, r *rand.Rand) {
	for k := range 14 {
		switch roll := r.IntN(10); {
		case roll < 5:
			item, id := fmt.Sprintf("c%d/%d", n, k), logID(r.IntN(simEntities))
			op := []string{"add", "add", "relay"}[r.IntN(3)]
			var opts []api.SignalEntityOptions
			if r.IntN(4) == 0 {
				item = "later " + item
				opts = append(opts, api.WithSignalScheduledTime(time.Now().Add(time.Duration(r.IntN(200))*time.Millisecond)))
			}
			err := s.call("signal "+item, func(ctx context.Context, c backend.Client) error {
				return c.SignalEntity(ctx, id, op, append(opts, api.WithSignalInput(item))...)
			})
			s.mu.Lock()
			s.signals[fmt.Sprintf("%s %s", id, item)] = err == nil
			s.mu.Unlock()
			if r.IntN(6) == 0 {
				_ = s.call("signal that fails", func(ctx context.Context, c backend.Client) error {
					return c.SignalEntity(ctx, id, []string{"fail", "panic"}[r.IntN(2)], api.WithSignalInput("bad"))
				})
			}
		default:
			p := plan{Kind: "calls", Targets: []int{r.IntN(simEntities)}, End: []string{"", "", "fail", "again"}[r.IntN(4)]}
			if roll > 6 {
				p.Kind, p.End = "section", []string{"", "fail", "again", "leave"}[r.IntN(4)]
				p.Targets = append(p.Targets, r.IntN(simEntities), r.IntN(simEntities))
				slices.Sort(p.Targets)
				p.Targets = slices.Compact(p.Targets)
				r.Shuffle(len(p.Targets), func(a, b int) { p.Targets[a], p.Targets[b] = p.Targets[b], p.Targets[a] })
			}
			id := api.InstanceID(fmt.Sprintf("%s-%d-%d", p.Kind, n, k))
			err := s.call("start "+string(id), func(ctx context.Context, c backend.Client) error {
				_, err := c.ScheduleNewOrchestration(ctx, "work", api.WithInstanceID(id), api.WithInput(p))
				return err
			})
			s.mu.Lock()
			if err == nil {
				s.starts[id] = p.End
			}
			s.mu.Unlock()
			if p.Kind == "section" && r.IntN(3) == 0 {
				<-time.After(time.Duration(r.IntN(30)) * time.Millisecond)
				s.mu.Lock()
				s.ended[id] = true
				s.mu.Unlock()
				way := r.IntN(3)
				_ = s.call(fmt.Sprintf("end %s, way %d", id, way), func(ctx context.Context, c backend.Client) error {
					switch way {
					case 0:
						return c.TerminateOrchestration(ctx, id, "stop")
					case 1:
						return c.ForceTerminate(ctx, id)
					}
					_, err := c.ForcePurge(ctx, id)
					return err
				})
			}
		}
		<-time.After(time.Duration(r.IntN(20)) * time.Millisecond)
	}
}

// finish waits for all orchestrations, and until no entity has anything to do.
func (s *entitySim) finish() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	c := s.client()
	for id, end := range s.starts {
		m, err := c.WaitForOrchestrationCompletion(ctx, id)
		if errors.Is(err, api.ErrInstanceNotFound) && s.ended[id] {
			continue
		}
		if err != nil {
			page, _ := c.QueryEntities(context.Background(), api.EntityQuery{IncludeTransient: true, IncludeState: true})
			var all []string
			for _, m := range page.Entities {
				all = append(all, fmt.Sprintf("%+v", *m))
			}
			rows, _ := s.model.Query(context.Background(), store.Filter{Limit: 1000})
			for _, row := range rows {
				if left, _ := s.model.Inbox(context.Background(), row.Key); row.Unfinished {
					all = append(all, fmt.Sprintf("%s %s: status %d, due %d, attempts %d, %d messages", row.ID, row.ExecutionID, row.Status, row.Due, row.Attempts, len(left)))
					for _, m := range left {
						ev, _ := backend.UnmarshalHistoryEvent(m.Event)
						all = append(all, "    "+ev.String())
					}
					_ = s.model.History(context.Background(), row.Key, 0, func(h store.HistoryRow) error {
						all = append(all, fmt.Sprintf("    history %d: %q", h.LSN, h.Events))
						return nil
					})
				}
			}
			return fmt.Errorf("%s does not end: %w\n%s", id, err, strings.Join(all, "\n"))
		}
		want := api.RUNTIME_STATUS_COMPLETED
		if end == "fail" {
			want = api.RUNTIME_STATUS_FAILED
		}
		if m.RuntimeStatus != want && (!s.ended[id] || m.RuntimeStatus != api.RUNTIME_STATUS_TERMINATED) {
			return fmt.Errorf("%s: %v %v, want %v", id, m.RuntimeStatus, m.FailureDetails, want)
		}
	}
	for {
		page, err := c.QueryEntities(ctx, api.EntityQuery{IncludeTransient: true})
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(page.Entities, func(m *api.EntityMetadata) bool { return m.BacklogQueueSize > 0 || m.LockedBy != "" }) {
			return nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("entities do not come to rest: %+v", *page.Entities[0])
		}
	}
}

// check compares the logs with what the clients know.
func (s *entitySim) check() error {
	ctx := context.Background()
	c := s.client()
	logs := map[string][]string{}
	page, err := c.QueryEntities(ctx, api.EntityQuery{IncludeState: true, IncludeTransient: true})
	if err != nil {
		return err
	}
	for _, m := range page.Entities {
		var list []string
		if err := m.ReadState(&list); err != nil {
			return err
		}
		logs[m.InstanceID.String()] = list
		s.applied += len(list)
		if err := s.checkLog(m.InstanceID.String(), list); err != nil {
			return err
		}
		row, err := s.model.ByID(ctx, m.InstanceID.String())
		if err != nil {
			return err
		}
		left, err := s.model.Inbox(ctx, row.Key)
		if err != nil {
			return err
		}
		if len(left) > 0 || row.Tags != nil || row.Due != store.Far {
			return fmt.Errorf("%s: %d messages left, lock %s, due %d", m.InstanceID, len(left), row.Tags, row.Due)
		}
	}
	for key, acked := range s.signals {
		id, item, _ := strings.Cut(key, " ")
		if n := count(logs[id], item); n > 1 || (acked && n == 0) {
			return fmt.Errorf("signal %q of %s was applied %d times (acknowledged: %v)", item, id, n, acked)
		}
	}
	for id, end := range s.starts {
		if err := s.checkCalls(ctx, id, end, logs); err != nil {
			return err
		}
	}
	return nil
}

func count(list []string, item string) (n int) {
	for _, v := range list {
		if v == item {
			n++
		}
	}
	return n
}

// checkLog looks for failed operations, for the order of each sender and for
// foreign operations inside of critical sections.
func (s *entitySim) checkLog(id string, list []string) error {
	last := map[string]int{}
	section := ""
	for n, item := range list {
		if item == "bad" {
			return fmt.Errorf("%s: a failed operation was applied", id)
		}
		if inside, ok := strings.CutPrefix(item, "["); ok {
			owner, step, _ := strings.Cut(inside, " ")
			if section != "" && section != owner {
				// A section may be cut short by the end of its owner, at any step.
				if !s.ended[api.InstanceID(strings.Split(section, "/")[0])] {
					return fmt.Errorf("%s: %s is inside of %s", id, item, section)
				}
				section = ""
			}
			if section == "" && step != "0" {
				return fmt.Errorf("%s: %s begins in the middle: %v", id, item, list[max(n-4, 0):n+1])
			}
			if section = owner; step == "2" {
				section = ""
			}
			continue
		}
		if section != "" && !s.ended[api.InstanceID(strings.Split(section, "/")[0])] {
			return fmt.Errorf("%s: %s is inside of %s", id, item, section)
		}
		section = ""
		if strings.HasPrefix(item, "later ") || id == "@log@echo" {
			continue
		}
		at := strings.LastIndexByte(item, '/')
		sender, k := item[:at], 0
		if err := json.Unmarshal([]byte(item[at+1:]), &k); err != nil {
			return err
		}
		if before, ok := last[sender]; ok && before >= k {
			return fmt.Errorf("%s: %s comes after %d of the same sender", id, item, before)
		}
		last[sender] = k
	}
	return nil
}

// checkCalls looks for what an orchestration that came to its end must have done, once each.
func (s *entitySim) checkCalls(ctx context.Context, id api.InstanceID, end string, logs map[string][]string) error {
	ends := []string{end}
	if end == "again" {
		ends = append(ends, "second")
	}
	all := map[string]int{}
	for _, list := range logs {
		for _, item := range list {
			all[item]++
		}
	}
	for _, e := range ends {
		if !strings.HasPrefix(string(id), "calls") || s.ended[id] {
			continue
		}
		for k := range 6 {
			item := fmt.Sprintf("%s/%s/%d", id, e, k)
			want := 1
			if k == 3 {
				want = 2 // itself and its echo
			}
			if all[item] != want {
				return fmt.Errorf("%s was applied %d times, want %d: %q", item, all[item], want, logs)
			}
			if k == 5 {
				if _, err := s.client().FetchOrchestrationMetadata(ctx, api.InstanceID("by-"+item)); err != nil {
					return fmt.Errorf("what %s should start: %w", item, err)
				}
			}
		}
	}
	return nil
}
