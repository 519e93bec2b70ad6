package task

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

// inbox holds external events that nobody waits for yet, and those who wait,
// per name and first in first out. One name has events or waiters, never both.
type inbox struct {
	events   map[string][]received
	waiters  map[string][]*handle
	given    map[*handle]struct{} // have got an event that user code has not seen
	arrivals int
}

type received struct {
	event *protos.HistoryEvent
	place int
}

func newInbox() inbox {
	return inbox{events: map[string][]received{}, waiters: map[string][]*handle{}, given: map[*handle]struct{}{}}
}

// raise gives the event to the first waiter, or keeps it.
func (b *inbox) raise(e *protos.HistoryEvent) {
	b.arrivals++
	key := strings.ToUpper(e.GetEventRaised().GetName())
	r := received{e, b.arrivals}
	ws := b.waiters[key]
	if len(ws) == 0 {
		b.events[key] = append(b.events[key], r)
		return
	}
	setOrDelete(b.waiters, key, ws[1:])
	b.give(ws[0], r)
}

func (b *inbox) give(h *handle, r received) {
	h.event, h.received = r.event, r.place
	b.given[h] = struct{}{}
	h.complete(payload(r.event))
}

func payload(e *protos.HistoryEvent) *wrapperspb.StringValue { return e.GetEventRaised().GetInput() }

// take completes h with the first kept event of the name, if there is one.
func (b *inbox) take(name string, h *handle) bool {
	key := strings.ToUpper(name)
	kept := b.events[key]
	if len(kept) == 0 {
		return false
	}
	setOrDelete(b.events, key, kept[1:])
	b.give(h, kept[0])
	return true
}

func (b *inbox) wait(name string, h *handle) {
	key := strings.ToUpper(name)
	b.waiters[key] = append(b.waiters[key], h)
}

// forget removes this waiter and no other.
func (b *inbox) forget(name string, h *handle) {
	key := strings.ToUpper(name)
	if i := slices.Index(b.waiters[key], h); i >= 0 {
		setOrDelete(b.waiters, key, slices.Delete(b.waiters[key], i, i+1))
	}
}

func setOrDelete[V any](m map[string][]V, key string, s []V) {
	if len(s) == 0 {
		delete(m, key)
		return
	}
	m[key] = s
}

// close makes all later events be kept.
func (b *inbox) close() { clear(b.waiters) }

// unprocessed are the events that user code has not seen, in order of arrival.
func (b *inbox) unprocessed() []*protos.HistoryEvent {
	var all []received
	for _, kept := range b.events {
		all = append(all, kept...)
	}
	for h := range b.given {
		all = append(all, received{h.event, h.received})
	}
	slices.SortFunc(all, func(x, y received) int { return x.place - y.place })
	events := make([]*protos.HistoryEvent, len(all))
	for i, r := range all {
		events[i] = r.event
	}
	return events
}
