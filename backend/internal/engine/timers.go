package engine

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// timer is one open durable timer of an instance.
type timer struct {
	due   int64
	event *backend.HistoryEvent // TimerCreated
}

// micros converts to the store's time, clamped to what it can hold.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// nanos is micros for what has nanoseconds: int64 holds those of the years 1678 to
// 2262, and what is beyond becomes their end. It is never 0, which means "not set".
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	case t.UnixNano() == 0:
		return 1
	}
	return t.UnixNano()
}

func (i *instance) addTimer(created *backend.HistoryEvent) {
	// Rounded up, so that it never fires early.
	due := micros(created.GetTimerCreated().GetFireAt().AsTime().Add(time.Microsecond - 1))
	heap.Push((*timers)(&i.timers), timer{due: due, event: created})
}

// dueTimers takes the timers that are due.
func (i *instance) dueTimers(now int64) []*backend.HistoryEvent {
	var due []*backend.HistoryEvent
	for len(i.timers) > 0 && i.timers[0].due <= now {
		due = append(due, heap.Pop((*timers)(&i.timers)).(timer).event)
	}
	return due
}

type timers []timer

func (t timers) Len() int { return len(t) }
func (t timers) Less(a, b int) bool {
	if t[a].due != t[b].due {
		return t[a].due < t[b].due
	}
	return t[a].event.GetEventId() < t[b].event.GetEventId()
}
func (t timers) Swap(a, b int) { t[a], t[b] = t[b], t[a] }
func (t *timers) Push(x any)   { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}

// wakes is the heap of all instances that a time will wake: 16 bytes for each.
// Each instance that is parked until a time has an entry of that time or an earlier
// one, whether it is in memory or not.
// Entries are not removed when a time is moved; a wake for nothing does nothing.
// Those of instances that are over go when they are half of all.
type wakes []store.DueKey

func (w wakes) Len() int           { return len(w) }
func (w wakes) Less(a, b int) bool { return w[a].Due < w[b].Due }
func (w wakes) Swap(a, b int)      { w[a], w[b] = w[b], w[a] }
func (w *wakes) Push(x any)        { *w = append(*w, x.(store.DueKey)) }
func (w *wakes) Pop() any {
	old := *w
	x := old[len(old)-1]
	*w = old[:len(old)-1]
	return x
}

// minStale is how many instances that are over may have a wake in any case.
const minStale = 1000

// disarm says that no time wakes the instance any more: it is over. The mutex is held.
func (e *Engine) disarm(i *instance) {
	if i.armed == 0 {
		return
	}
	i.armed = 0
	e.stale[i.key] = struct{}{}
	if len(e.stale) < minStale || len(e.stale) < len(e.wakes)/2 {
		return
	}
	e.wakes = slices.DeleteFunc(e.wakes, func(w store.DueKey) bool {
		_, gone := e.stale[w.Key]
		return gone
	})
	if len(e.wakes) < cap(e.wakes)/2 {
		e.wakes = slices.Clone(e.wakes)
	}
	heap.Init(&e.wakes)
	clear(e.stale)
}

// arm makes sure that the instance is woken when it next has something to do. The mutex is held.
func (e *Engine) arm(i *instance) {
	if e.fenced || i.ready || i.turn != nil || i.blocked() {
		return // its turn, or what frees it, arms it again
	}
	if i.ent != nil {
		e.armEntity(i)
		return
	}
	next := int64(0)
	if len(i.inbox) > 0 || i.again || i.check {
		next = i.notBefore()
	} else if len(i.timers) > 0 {
		next = max(i.timers[0].due, i.notBefore())
	} else if i.state == nil && i.sleeps() {
		next = max(i.row.Due, i.notBefore())
	}
	if next == 0 || (i.armed != 0 && i.armed <= next) {
		return
	}
	i.armed = next
	e.wakeAt(next, i.key)
}

func (e *Engine) wakeAt(due, key int64) {
	delete(e.stale, key)
	heap.Push(&e.wakes, store.DueKey{Due: due, Key: key})
	if e.wakes[0].Key == key {
		select {
		case e.rearm <- struct{}{}:
		default:
		}
	}
}

// maxWait is how late a timer may be after the machine slept or its clock was set.
const maxWait = 5 * time.Second

// timerLoop wakes instances whose time has come. It owns no state; it ends with ctx.
func (e *Engine) timerLoop(ctx context.Context) {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		jumped := e.opts.Clock.Jumped()
		e.mu.Lock()
		cold := e.wakeDue()
		t.Stop()              // nothing to come needs no timer
		if len(e.wakes) > 0 { // in µs, as a far time is too much for a Duration
			wait := time.Duration(min(e.wakes[0].Due-e.now(), maxWait.Microseconds())) * time.Microsecond
			t.Reset(max(wait, 0))
		}
		e.mu.Unlock()
		if len(cold) > 0 {
			e.wakeAllCold(ctx, cold)
			if ctx.Err() == nil {
				continue
			}
		}
		select {
		case <-t.C:
		case <-e.rearm:
		case <-jumped:
		case <-ctx.Done():
			return
		}
	}
}

// wakeBatch bounds how long one round of wake-ups holds the mutex.
const wakeBatch = 1000

func (e *Engine) wakeDue() (cold []int64) {
	now := e.now()
	for n := 0; n < wakeBatch && len(e.wakes) > 0 && e.wakes[0].Due <= now; n++ {
		w := heap.Pop(&e.wakes).(store.DueKey)
		if _, over := e.stale[w.Key]; over {
			delete(e.stale, w.Key)
			continue
		}
		i := e.byKey[w.Key]
		if i == nil {
			cold = append(cold, w.Key)
			continue
		}
		i.armed = 0
		if i.state == nil && i.turn == nil && i.ent == nil {
			i.check = true
		}
		e.makeReady(i)
		e.arm(i)
	}
	return cold
}

// wakeAllCold wakes parked instances that are not in memory. Those that cannot
// be read have another try, unless they are damaged.
func (e *Engine) wakeAllCold(ctx context.Context, keys []int64) {
	var again []int64
	var first error
	for n, key := range keys {
		err := e.wakeCold(ctx, key)
		if ctx.Err() != nil {
			return // the next start finds them
		}
		if errors.Is(err, store.ErrCorrupt) {
			e.log.Errorf("wake instance %d: %v", key, err)
			continue
		}
		if err == nil {
			continue
		}
		first = cmp.Or(first, err)
		if again = append(again, key); len(again) == maxWakeErrors { // it is the store, not these
			again = append(again, keys[n+1:]...)
			break
		}
	}
	if len(again) == 0 {
		return
	}
	e.log.Errorf("wake %d instances, the first of them %d: %v", len(again), again[0], first)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, key := range again {
		e.wakeAt(e.now()+retryPause.Microseconds(), key)
	}
}

// maxWakeErrors is how many instances in a row of wake-ups may fail on their own.
const maxWakeErrors = 3

// wakeCold brings a parked instance into memory because its time has come.
func (e *Engine) wakeCold(ctx context.Context, key int64) error {
	row, err := e.st.ByKey(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	var i *instance
	if err == nil && row.Unfinished && row.Stalled == "" {
		i, err = e.pin(ctx, row.ID)
	}
	if err != nil || i == nil {
		return err
	}
	e.mu.Lock()
	if i.key == key && i.row != nil && i.row.Unfinished {
		i.armed = 0 // by the one that woke it
		if i.state == nil && i.turn == nil && i.row.Due <= e.now() {
			i.check = i.ent == nil
		}
		e.makeReady(i)
		e.arm(i) // it may have been early: the instance was parked anew, for longer
	}
	e.mu.Unlock()
	e.unpin(i)
	return nil
}

// sleeps reports whether the instance is parked until a time.
func (i *instance) sleeps() bool {
	return i.row != nil && i.row.Unfinished && i.row.Due != 0 && i.row.Due != store.Far
}

func sortEvents(events []*backend.HistoryEvent) {
	slices.SortFunc(events, func(a, b *backend.HistoryEvent) int { return cmp.Compare(a.GetEventId(), b.GetEventId()) })
}
