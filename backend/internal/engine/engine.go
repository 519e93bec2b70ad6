package engine

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// Options are the settings of an engine. The zero value of a field means its default.
type Options struct {
	// Name is what String returns, such as "sqlite::orders.db".
	Name string
	// MaxPayload is the limit of one payload in bytes (default 4 MiB).
	MaxPayload int
	// MaxIDLength is the limit of an instance id that a caller gives, in
	// characters (default 100, at most 1,024; 1,024 bytes are the limit in any case).
	MaxIDLength int
	// MaxResident is how much memory, in bytes and roughly, idle instances may
	// keep between turns (default 64 MiB).
	MaxResident int
	// Clock is the only source of time (default: that of the machine).
	Clock backend.Clock
}

func (o Options) withDefaults() Options {
	if o.MaxPayload <= 0 {
		o.MaxPayload = 4 << 20
	}
	if o.MaxIDLength <= 0 {
		o.MaxIDLength = 100
	}
	o.MaxIDLength = min(o.MaxIDLength, maxIDBytes)
	if o.MaxResident <= 0 {
		o.MaxResident = 64 << 20
	}
	if o.Clock == nil {
		o.Clock = backend.SystemClock{}
	}
	return o
}

// Engine implements backend.Backend over a store.
type Engine struct {
	st   store.Store
	log  backend.Logger
	opts Options
	self string // what LockedBy names

	lifecycle sync.Mutex      // CreateTaskHub, Start, Stop and DeleteTaskHub, one at a time
	run       context.Context // ends with Stop
	stop      context.CancelFunc
	wg        sync.WaitGroup

	meter backend.Meter
	lane  lane
	rearm chan struct{}

	mu       sync.Mutex
	closed   bool // not open: every call is ErrNotInitialized
	epoch    int64
	nextKey  int64
	nextLSN  int64
	nextSeq  int64
	nextItem int64
	broken   error // why the last commit failed
	brokenAt int64 // since when commits fail, in µs
	loggedAt int64 // when a failed commit was last written to the log
	byID     map[string]*instance
	byKey    map[int64]*instance
	ready    workQueue[*instance]
	queue    workQueue[*task]
	turns    int                  // that are out
	entities workQueue[*instance] // that have operations
	batches  int                  // that are out
	fenced   bool                 // another owner took over: nothing is handed out any more
	running  map[int64]*task      // by ActivityWorkItem.SequenceNumber
	watchers map[string][]chan struct{}
	wakes    wakes
	stale    map[int64]struct{} // keys of instances that are over, and may have a wake
	idlers   list.List          // of *instance: candidates for eviction, oldest first
	resident int                // bytes
	evicted  []*backend.OrchestrationRuntimeState

	recovering bool
	counted    []*instance // found active by recovery, not counted yet
	suspects   []*instance
}

var (
	_ backend.Backend          = (*Engine)(nil)
	_ backend.WorkItemSelector = (*Engine)(nil)
	_ backend.InstanceAwaiter  = (*Engine)(nil)
	_ backend.InstanceReplacer = (*Engine)(nil)
	_ backend.FreshCreator     = (*Engine)(nil)
	_ backend.Timekeeper       = (*Engine)(nil)
	_ backend.InstanceQuerier  = (*Engine)(nil)
	_ backend.FinishedLister   = (*Engine)(nil)
	_ backend.HistoryReader    = (*Engine)(nil)
	_ backend.InstanceManager  = (*Engine)(nil)
	_ backend.InstanceStaller  = (*Engine)(nil)
	_ backend.Explainer        = (*Engine)(nil)
	_ backend.InstanceCounter  = (*Engine)(nil)
	_ backend.InstanceExporter = (*Engine)(nil)
	_ backend.InstanceImporter = (*Engine)(nil)
	_ backend.Metered          = (*Engine)(nil)
	_ backend.HealthReporter   = (*Engine)(nil)
	_ backend.EntityBackend    = (*Engine)(nil)
	_ backend.EntityQuerier    = (*Engine)(nil)
	_ backend.PayloadLimiter   = (*Engine)(nil)
)

// New returns an engine over a store that is not open yet.
func New(st store.Store, log backend.Logger, opts Options) *Engine {
	host, _ := os.Hostname()
	return &Engine{
		st: st, log: log, opts: opts.withDefaults(), closed: true,
		self: fmt.Sprintf("%s,%d", host, os.Getpid()), rearm: make(chan struct{}, 1), meter: unmetered{},
	}
}

// String names the backend for people.
func (e *Engine) String() string { return e.opts.Name }

// now is the engine's clock: the only source of time, in the store's microseconds.
func (e *Engine) now() int64 { return e.Now().UnixMicro() }

// Now is the time in the task hub.
func (e *Engine) Now() time.Time { return e.opts.Clock.Now() }

// CreateTaskHub opens the store, creating it where needed, and recovers what it holds.
func (e *Engine) CreateTaskHub(ctx context.Context) error {
	e.lifecycle.Lock()
	defer e.lifecycle.Unlock()
	if e.isOpen() {
		return backend.ErrTaskHubExists
	}
	created, err := e.openStore(ctx)
	if err != nil {
		return err
	}
	if !created {
		return backend.ErrTaskHubExists
	}
	return nil
}

func (e *Engine) isOpen() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.closed
}

func (e *Engine) openStore(ctx context.Context) (bool, error) {
	created, m, err := e.st.Open(ctx)
	if err != nil {
		return false, fmt.Errorf("open task hub: %w", err)
	}
	run, stop := context.WithCancel(context.Background())
	e.mu.Lock()
	e.closed, e.run, e.stop = false, run, stop
	e.epoch, e.nextKey, e.nextLSN, e.nextSeq = m.Epoch, m.Key, m.LSN, m.Seq
	e.byID, e.byKey = map[string]*instance{}, map[int64]*instance{}
	e.running, e.watchers = map[int64]*task{}, map[string][]chan struct{}{}
	e.ready, e.queue, e.wakes, e.resident = workQueue[*instance]{}, workQueue[*task]{}, nil, 0
	e.stale = map[int64]struct{}{}
	e.idlers.Init()
	e.entities, e.batches = workQueue[*instance]{}, 0
	e.broken, e.brokenAt, e.loggedAt, e.turns, e.fenced = nil, 0, 0, 0, false
	e.recovering, e.counted, e.suspects = true, nil, nil
	e.mu.Unlock()
	err = e.recover(ctx)
	e.mu.Lock()
	suspects := e.suspects
	e.recovering, e.suspects = false, nil
	e.mu.Unlock()
	if err != nil {
		e.mu.Lock()
		e.closed = true
		e.mu.Unlock()
		stop()
		e.wg.Wait()
		return false, errors.Join(fmt.Errorf("recover: %w", err), e.st.Close())
	}
	e.wg.Go(func() { e.timerLoop(run) })
	if len(suspects) > 0 {
		e.wg.Go(func() { e.trials(run, suspects) })
	}
	return created, nil
}

const scanPage = 1000

// recover brings back what was going on: instances with open tasks or
// messages, and the due times of the parked ones.
func (e *Engine) recover(ctx context.Context) error {
	for after := int64(0); ; {
		keys, err := e.st.Active(ctx, after, scanPage)
		if err != nil {
			return err
		}
		for _, key := range keys {
			after = key
			if err := e.recoverOne(ctx, key); err != nil {
				return fmt.Errorf("instance %d: %w", key, err)
			}
		}
		e.mu.Lock()
		counted := e.counted
		e.counted = nil
		e.mu.Unlock()
		e.count(counted)
		if len(keys) < scanPage {
			break
		}
	}
	for after := (store.DueKey{}); ; {
		due, err := e.st.DueAfter(ctx, after, scanPage*10)
		if err != nil {
			return err
		}
		e.mu.Lock()
		for _, d := range due { // in order: a sorted slice is a heap
			if e.byKey[d.Key] == nil {
				e.wakeAt(d.Due, d.Key)
			}
			after = d
		}
		e.mu.Unlock()
		if len(due) < scanPage*10 {
			return nil
		}
	}
}

func (e *Engine) recoverOne(ctx context.Context, key int64) error {
	row, err := e.st.ByKey(ctx, key)
	if errors.Is(err, store.ErrCorrupt) {
		e.log.Errorf("recover instance %d: %v", key, err)
		return nil
	}
	if err != nil {
		return err
	}
	i, err := e.pin(ctx, row.ID)
	if errors.Is(err, store.ErrCorrupt) {
		e.log.Errorf("recover instance %s: %v", row.ID, err)
		return nil
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.arm(i)
	e.mu.Unlock()
	e.unpin(i)
	return nil
}

// Start opens the task hub again after a Stop; else it has nothing to do.
func (e *Engine) Start(ctx context.Context) error {
	e.lifecycle.Lock()
	defer e.lifecycle.Unlock()
	if e.isOpen() {
		return nil
	}
	_, err := e.openStore(ctx)
	return err
}

// Stop closes the task hub. What was not committed is as if it had not
// happened: open tasks and turns are offered again by the next owner, at once.
func (e *Engine) Stop(context.Context) error {
	e.lifecycle.Lock()
	defer e.lifecycle.Unlock()
	e.pardon()
	if !e.shut() {
		return nil
	}
	if err := e.st.Close(); err != nil {
		return fmt.Errorf("close task hub: %w", err)
	}
	return nil
}

// shut ends everything in memory and reports whether there was anything to end.
func (e *Engine) shut() bool {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return false
	}
	e.closed = true
	var states []*backend.OrchestrationRuntimeState
	for _, i := range e.byID {
		i.gone = true
		if i.state != nil && (i.turn == nil || i.turn.item == nil) { // else the turn's worker has it
			states = append(states, i.state)
			i.state = nil // a batch under way finds nothing to evict here
		}
		msgs := i.inbox
		if i.turn != nil {
			msgs = append(msgs, i.turn.msgs...)
		}
		for _, m := range msgs {
			if m.state == held {
				m.answer(backend.ErrNotInitialized)
			}
		}
	}
	for _, t := range e.running {
		t.item.Lose()
	}
	for id := range e.watchers {
		e.notify(id)
	}
	e.ready.dismiss()
	e.queue.dismiss()
	e.entities.dismiss()
	e.mu.Unlock()
	e.stop()
	e.wg.Wait()
	for _, s := range states {
		s.Release()
	}
	return true
}

// fence stops handing out work: another owner has it now. What runs is told
// so, and what it brings will be refused. The mutex is held.
func (e *Engine) fence() {
	if e.fenced {
		return
	}
	e.fenced = true
	e.log.Errorf("another owner took over the task hub: this one stops")
	e.ready.clear()
	e.queue.clear()
	e.entities.clear()
	for _, t := range e.running {
		e.dropTask(t)
	}
}

// DeleteTaskHub deletes everything.
func (e *Engine) DeleteTaskHub(ctx context.Context) error {
	e.lifecycle.Lock()
	defer e.lifecycle.Unlock()
	e.shut()
	if err := e.st.Destroy(ctx); errors.Is(err, store.ErrNotFound) {
		return backend.ErrTaskHubNotFound
	} else if err != nil {
		return fmt.Errorf("delete task hub: %w", err)
	}
	return nil
}
