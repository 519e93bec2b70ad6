package engine

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// apply is the outcome of a turn's commit. The mutex is held.
func (c *turnCommit) apply(err error) {
	i, e := c.i, c.e
	c.orphan = e.closed
	if err != nil {
		c.fail(err)
		return
	}
	e.leave(i)
	i.judged()
	i.row = c.row
	i.turned++
	i.start, i.startRow, i.startIn = nil, nil, nil
	i.retry, i.rest, i.pause, i.again = 0, 0, 0, c.s.NeedsTurn()
	for _, m := range c.t.msgs {
		m.answer(nil)
	}
	c.deliver()
	if c.write || c.start != nil {
		e.notify(i.id)
	}
	if c.s.IsCompleted() {
		if c.s.ContinuedAsNew() && !c.terminated() {
			c.renew()
		} else {
			c.keep()
		}
		e.meter.Finished(c.row.Name, protos.OrchestrationStatus(c.row.Status), time.Duration(e.now()*1000-c.row.CreatedAt))
		e.end(i, c.terminated())
		e.settle(i)
		return
	}
	if c.s.ContinuedAsNew() {
		c.renew()
	}
	for _, ev := range c.s.PendingTasks() {
		e.addTask(i, ev)
	}
	created := map[int32]*backend.HistoryEvent{}
	if len(c.s.PendingTimers()) > 0 {
		for _, ev := range c.s.NewEvents() {
			if ev.GetTimerCreated() != nil {
				created[ev.GetEventId()] = ev
			}
		}
		for _, ev := range c.s.PendingTimers() {
			if at := created[ev.GetTimerFired().GetTimerId()]; at != nil {
				i.addTimer(at)
			}
		}
	}
	if i.state != c.s {
		i.state = c.s
	}
	grown := len(c.events) * residentFactor
	i.bytes += grown
	e.resident += grown
	c.s.Commit()
	i.inbox = append(i.inbox, c.self...)
	e.makeReady(i)
	e.arm(i)
	e.settle(i)
}

// renew makes a continued instance that of its new execution.
func (c *turnCommit) renew() {
	i, e := c.i, c.e
	e.resident += residentBase - i.bytes
	i.bytes = residentBase
	i.tasks, i.timers = nil, nil
	c.keep()
	kept := i.inbox[:0]
	for _, m := range i.inbox {
		if isResult(m.event) {
			m.state = riding // its own record, where it is on its way, is not written
			m.answer(nil)
			if t := m.task; t != nil && t.detached != 0 && !e.closed {
				e.background(i, e.detachedDone(t)) // it ended while it was being detached
			}
			continue
		}
		kept = append(kept, m)
	}
	i.inbox = kept
}

// keep lets the activities go on that outlive their execution.
func (c *turnCommit) keep() {
	for n, t := range c.kept {
		t.detached = c.keptAt[n]
		c.i.kept = append(c.i.kept, t)
		if n >= c.queued { // scheduled in this very turn
			c.e.offerTask(t)
		}
	}
}

// deliver hands the turn's messages, which are durable now, to their targets.
func (c *turnCommit) deliver() {
	e := c.e
	for n := range c.out {
		o := &c.out[n]
		if o.in == nil {
			continue
		}
		to := o.to
		if next := o.next; next != nil {
			if e.byID[next.id] != next {
				e.supplant(to, next)
			}
			next.pins++ // what this turn has pinned
			to.pins--
			o.to, to = next, next
		}
		if to.gone || to.finished() {
			continue
		}
		e.born(to, nil)
		to.push(o.in, e.now())
		if to != c.i {
			e.makeReady(to)
			e.arm(to)
		}
	}
}

// supplant puts a new child in the place of what had its id: nothing, a
// finished instance, or a start that came while the child's was being stored
// and so is refused. The mutex is held.
func (e *Engine) supplant(old, next *instance) {
	if m := old.start; m != nil {
		taken := fmt.Errorf("%w: %w: %s (%s)", backend.ErrDuplicateEvent, api.ErrDuplicateInstance, old.id,
			api.StatusName(api.RUNTIME_STATUS_PENDING))
		e.dropStart(old, m, taken)
	}
	e.release(old)
	e.forget(old)
	e.byID[next.id], e.byKey[next.key] = next, next
}

// fail drops a turn that could not be stored.
func (c *turnCommit) fail(err error) {
	i, e := c.i, c.e
	if i.turn != c.t {
		return
	}
	for _, m := range c.t.msgs {
		if m.seq == 0 && m.ack != nil {
			e.reopen(m)
			m.answer(err)
		}
	}
	if m := i.start; m != nil {
		e.leave(i)
		e.dropStart(i, m, err)
		return
	}
	kept := c.t.msgs[:0]
	for _, m := range c.t.msgs {
		if m.seq != 0 || m.event.GetTimerFired() != nil {
			kept = append(kept, m)
		}
	}
	c.t.msgs = kept
	i.pause = e.now() + e.outagePause().Microseconds()
	e.undo(i) // the caller releases the state
}

// end stops all that goes on for an instance that is over; with all set, its
// detached activities too. The mutex is held.
func (e *Engine) end(i *instance, all bool) {
	for _, m := range i.inbox {
		m.answer(nil) // dropped: nobody will read it
	}
	i.judged()
	i.inbox, i.timers, i.again, i.ready = nil, nil, false, false
	for _, t := range i.tasks {
		e.dropTask(t)
	}
	i.tasks = nil
	i.check = false
	e.disarm(i)
	if all {
		for _, t := range i.kept {
			e.dropTask(t)
		}
		i.kept = nil
	}
	e.unidle(i)
	e.resident -= i.bytes
	i.state, i.bytes = nil, 0
}

func (e *Engine) notify(id string) {
	for _, w := range e.watchers[id] {
		close(w)
	}
	delete(e.watchers, id)
}
