package engine

import "container/list"

// idle makes an instance that waits for something a candidate for eviction. The mutex is held.
func (e *Engine) idle(i *instance) {
	if i.spot == nil {
		i.spot = e.idlers.PushBack(i)
	}
}

// unidle takes an instance that is needed again off the list. The mutex is held.
func (e *Engine) unidle(i *instance) {
	if i.spot != nil {
		e.idlers.Remove(i.spot)
		i.spot = nil
	}
}

// trim evicts the instances that were idle longest until the resident ones fit
// their budget; their orchestrators are unwound without the mutex. It is held.
func (e *Engine) trim() {
	for e.resident > e.opts.MaxResident {
		var first *list.Element
		if first = e.idlers.Front(); first == nil {
			break
		}
		i := first.Value.(*instance)
		e.unidle(i)
		if i.turn != nil || i.pins > 0 || (i.state == nil && i.ent == nil) {
			continue // it settles again when it is let go
		}
		if i.ent != nil {
			if !i.hasWork() {
				e.forget(i)
			}
			continue
		}
		e.evicted = append(e.evicted, i.state)
		e.resident -= i.bytes
		i.state, i.bytes, i.timers = nil, 0, nil
		i.check = i.check || i.ready // a timer may be what it is ready for
		e.settle(i)
	}
	if states := e.evicted; len(states) > 0 {
		e.evicted = nil
		unwind := func() {
			for _, s := range states {
				s.Release()
			}
		}
		if e.closed { // Stop waits no more
			go unwind()
		} else {
			e.wg.Go(unwind)
		}
	}
}
