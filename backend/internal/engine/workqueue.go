package engine

import "container/heap"

// workKey is what a worker's filters compare. What needs no worker goes to any.
type workKey struct {
	name, version string
	free          bool
}

// wants reports whether a worker takes what has this name and version; nil takes all.
type wants = func(name, version string) bool

func (k workKey) suits(want wants) bool { return want == nil || k.free || want(k.name, k.version) }

// workQueue holds what is ready, by key and in the order in which it came, and
// those who wait for it. The engine's mutex guards it.
type workQueue[T any] struct {
	groups  map[workKey]*group[T]
	heads   heads[T] // the groups that hold anything
	seq     uint64
	waiters []waiter[T]
}

type group[T any] struct {
	key   workKey
	items fifo[entry[T]]
	first uint64 // seq of the first item
	at    int    // in heads
}

type entry[T any] struct {
	seq   uint64
	value T
}

type waiter[T any] struct {
	handoff chan T // buffered
	want    wants
}

// maxGroups bounds how many empty groups are kept for the next item of their key.
const maxGroups = 1000

func (q *workQueue[T]) push(k workKey, v T) {
	g := q.groups[k]
	if g == nil {
		if q.groups == nil || len(q.groups) >= max(maxGroups, 2*len(q.heads)) {
			q.groups = map[workKey]*group[T]{}
			for _, g := range q.heads {
				q.groups[g.key] = g
			}
		}
		g = &group[T]{key: k}
		q.groups[k] = g
	}
	q.seq++
	g.items.push(entry[T]{q.seq, v})
	if g.items.len() == 1 {
		g.first = q.seq
		heap.Push(&q.heads, g)
	}
}

// pop takes the oldest item that is wanted.
func (q *workQueue[T]) pop(want wants) (v T, ok bool) {
	var g *group[T]
	for _, c := range q.heads { // the first is the oldest, the others are in no order
		if (g == nil || c.first < g.first) && c.key.suits(want) {
			if g = c; want == nil {
				break
			}
		}
	}
	if g == nil {
		return v, false
	}
	item, _ := g.items.pop()
	if next, ok := g.items.peek(); ok {
		g.first = next.seq
		heap.Fix(&q.heads, g.at)
	} else {
		heap.Remove(&q.heads, g.at)
	}
	return item.value, true
}

// waiter takes the one who waits for an item with this key, of several the one who waited least.
func (q *workQueue[T]) waiter(k workKey) (chan T, bool) {
	for n := len(q.waiters) - 1; n >= 0; n-- {
		if w := q.waiters[n]; k.suits(w.want) {
			q.waiters = append(q.waiters[:n], q.waiters[n+1:]...)
			return w.handoff, true
		}
	}
	return nil, false
}

// wait adds one who waits. What arrives for it is sent to the channel; closing it says that nothing will.
func (q *workQueue[T]) wait(want wants) chan T {
	w := make(chan T, 1)
	q.waiters = append(q.waiters, waiter[T]{w, want})
	return w
}

// leave reports whether w was still waiting; it is not any more.
func (q *workQueue[T]) leave(w chan T) bool {
	for n := range q.waiters {
		if q.waiters[n].handoff == w {
			q.waiters = append(q.waiters[:n], q.waiters[n+1:]...)
			return true
		}
	}
	return false
}

// len counts what is queued, some of which may not be wanted any more.
func (q *workQueue[T]) len() (n int) {
	for _, g := range q.heads {
		n += g.items.len()
	}
	return n
}

// clear forgets what is ready, not those who wait.
func (q *workQueue[T]) clear() { q.groups, q.heads = nil, nil }

// dismiss tells all who wait that nothing will come.
func (q *workQueue[T]) dismiss() {
	for _, w := range q.waiters {
		close(w.handoff)
	}
	q.waiters = nil
}

type heads[T any] []*group[T]

func (h heads[T]) Len() int           { return len(h) }
func (h heads[T]) Less(a, b int) bool { return h[a].first < h[b].first }
func (h heads[T]) Swap(a, b int) {
	h[a], h[b] = h[b], h[a]
	h[a].at, h[b].at = a, b
}

func (h *heads[T]) Push(x any) {
	g := x.(*group[T])
	g.at = len(*h)
	*h = append(*h, g)
}

func (h *heads[T]) Pop() any {
	old := *h
	g := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return g
}

// fifo is a queue whose memory is given back as it empties.
type fifo[T any] struct {
	in, out []T
	at      int
}

func (q *fifo[T]) push(v T) { q.in = append(q.in, v) }

func (q *fifo[T]) turn() {
	if q.at == len(q.out) {
		q.in, q.out, q.at = nil, q.in, 0
	}
}

func (q *fifo[T]) peek() (v T, ok bool) {
	if q.turn(); len(q.out) == 0 {
		return v, false
	}
	return q.out[q.at], true
}

func (q *fifo[T]) pop() (v T, ok bool) {
	if v, ok = q.peek(); ok {
		var zero T
		q.out[q.at] = zero
		q.at++
	}
	return v, ok
}

func (q *fifo[T]) len() int { return len(q.in) + len(q.out) - q.at }
