package client

import (
	"container/list"
	"sync"

	"github.com/perdure/perdure/backend"
)

// residents are the orchestrators that wait for their next turn in this process,
// for as long as their stream lives: the server sends those their new events only.
type residents struct {
	max int

	mu     sync.Mutex
	closed bool
	byID   map[string]*list.Element
	order  list.List // of *resident, the one that was used last in front
}

type resident struct {
	id    string
	token string // of the turn that it has executed last
	backend.Continuation
}

func newResidents(n int) *residents { return &residents{max: n, byID: map[string]*list.Element{}} }

// take hands out the orchestrator of an instance after the turn with the token;
// nil where it is not here, or not at that turn. It is not here any more then.
func (r *residents) take(id, token string) backend.Continuation {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.byID[id]
	if e == nil {
		return nil
	}
	o := r.remove(e)
	if o.token != token {
		o.Stop()
		return nil
	}
	return o.Continuation
}

// put keeps an orchestrator, and unwinds the one that was not used for longest where there are too many.
func (r *residents) put(id, token string, c backend.Continuation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.byID[id]; e != nil {
		r.remove(e).Stop()
	}
	if r.closed || r.max == 0 {
		c.Stop()
		return
	}
	r.byID[id] = r.order.PushFront(&resident{id, token, c})
	if r.order.Len() > r.max {
		r.remove(r.order.Back()).Stop()
	}
}

// close unwinds all of them, and what is put there later.
func (r *residents) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for r.order.Len() > 0 {
		r.remove(r.order.Back()).Stop()
	}
}

func (r *residents) remove(e *list.Element) *resident {
	o := r.order.Remove(e).(*resident) //nolint:forcetypeassert // nothing else is put there
	delete(r.byID, o.id)
	return o
}
