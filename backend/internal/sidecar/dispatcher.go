package sidecar

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/perdure/perdure/api/protos"
)

// Options are the settings of a Dispatcher.
type Options struct {
	// PingInterval is after how long a silent stream gets a HealthPing (default 30 s).
	PingInterval time.Duration
	// SendTimeout is how long a worker may leave what is sent to it unread
	// before its stream ends (default 30 s).
	SendTimeout time.Duration
	// MaxMessage is the largest request, in bytes, that every worker takes
	// (default 4 MiB less some room). A larger one goes to workers that take
	// more, and its history is left to the workers to read, as far as they can.
	MaxMessage int
	// TurnLease is how long a worker may take for an orchestrator's turn, or an entity's
	// batch, before it is offered again (default 2 min).
	TurnLease time.Duration
	// ActivityLease is the same for activities; 0 lets them take any time.
	ActivityLease time.Duration
	// Joined is called for each worker once it may be given work; nil for nothing.
	Joined func(context.Context, *protos.GetWorkItemsRequest)
}

// An abandoned item goes to other workers at once; those that abandoned it see
// it again after a rest that doubles from restMin to restMax.
const (
	restMin = time.Second
	restMax = 30 * time.Second
)

// ErrNotBegun says that no worker has begun the item and none that is connected
// will: it may be handed out again later.
var ErrNotBegun = errors.New("no worker for it is connected")

// Dispatcher hands work items to the connected workers and their answers to
// the callers. It runs no goroutine of its own.
type Dispatcher struct {
	opts   Options
	prefix string // of the tokens: those of another process's life are stale

	mu      sync.Mutex
	seq     uint64 // of items
	offers  uint64 // of tokens
	joined  uint64 // of streams
	turn    int    // round robin among equals
	streams []*stream
	queue   []*item // by seq
	tokens  map[string]*item
	keys    map[key]*item // the newest item of each key

	draining bool
	demand   [kinds]*demand
}

// NewDispatcher returns a Dispatcher without workers.
func NewDispatcher(opts Options) *Dispatcher {
	opts.PingInterval = cmp.Or(opts.PingInterval, 30*time.Second)
	opts.MaxMessage = cmp.Or(opts.MaxMessage, DefaultMaxMessage)
	opts.SendTimeout = cmp.Or(opts.SendTimeout, 30*time.Second)
	opts.TurnLease = cmp.Or(opts.TurnLease, 2*time.Minute)
	d := &Dispatcher{opts: opts, prefix: rand.Text() + "-", tokens: map[string]*item{}, keys: map[key]*item{}}
	for k := range d.demand {
		d.demand[k] = &demand{}
	}
	return d
}

// MaxMessage is the largest request, in bytes, that every worker takes.
func (d *Dispatcher) MaxMessage() int { return d.opts.MaxMessage }

// Turned says who executed a turn, where that worker keeps the orchestrator until the next.
type Turned struct {
	stream *stream
	token  string
}

// Kept reports whether a worker keeps the orchestrator.
func (t Turned) Kept() bool { return t.stream != nil }

// Orchestrator has a worker run a turn, if it can the one that executed the turn
// before and keeps the orchestrator. It returns ctx.Err() where ctx ends first,
// ErrNotBegun after Drain, and where nobody hosts the item if Demand is used.
// An OversizeError says that those who host it cannot take so large a message, and
// ErrWorkerLost that the worker went away; tries is how often that was so before.
func (d *Dispatcher) Orchestrator(
	ctx context.Context, name, version string, req *protos.OrchestratorRequest, before Turned, tries int,
) (*protos.OrchestratorResponse, Turned, error) {
	a := d.do(ctx, &item{
		key:  key{kind: orchestration, instance: req.GetInstanceId()},
		name: name, version: version, orchestrator: req, before: before, losses: tries,
	})
	if a.err != nil {
		return nil, Turned{}, a.err
	}
	return a.message.(*protos.OrchestratorResponse), a.by, nil
}

// Activity has a worker run an activity; version is what version filters
// compare. It returns what Orchestrator returns.
func (d *Dispatcher) Activity(
	ctx context.Context, version string, req *protos.ActivityRequest, tries int,
) (*protos.ActivityResponse, error) {
	a := d.do(ctx, &item{
		key:  key{activity, req.GetOrchestrationInstance().GetInstanceId(), req.GetTaskId()},
		name: req.GetName(), version: version, activity: req, losses: tries,
	})
	if a.err != nil {
		return nil, a.err
	}
	return a.message.(*protos.ActivityResponse), nil
}

func (d *Dispatcher) do(ctx context.Context, it *item) answer {
	if ctx.Err() != nil {
		return answer{err: ctx.Err()}
	}
	it.done = make(chan answer, 1)
	d.mu.Lock()
	d.seq++
	it.seq = d.seq
	d.keys[it.key] = it
	d.offer(it)
	d.mu.Unlock()
	select {
	case a := <-it.done:
		return a
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case a := <-it.done:
		return a // it was done before it could be withdrawn
	default:
	}
	d.remove(it)
	return answer{err: ctx.Err()}
}

// CompleteOrchestrator takes a worker's response, or a chunk of one, and
// reports whether it belongs to a current offer.
func (d *Dispatcher) CompleteOrchestrator(r *protos.OrchestratorResponse) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	it := d.find(r.GetCompletionToken(), key{kind: orchestration, instance: r.GetInstanceId()})
	if it == nil {
		return false
	}
	whole, ok := it.collect(r)
	switch {
	case r.GetRequiresHistory() && it.before.Kept():
		d.again(it)
	case !ok || r.GetRequiresHistory():
		d.retry(it)
	case whole != nil:
		by := Turned{}
		if it.owner.resident {
			by = Turned{it.owner, it.token}
		}
		d.remove(it)
		it.done <- answer{message: whole, by: by}
	}
	return true
}

// CompleteActivity takes a worker's response and reports whether it belongs to a current offer.
func (d *Dispatcher) CompleteActivity(r *protos.ActivityResponse) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	it := d.find(r.GetCompletionToken(), key{activity, r.GetInstanceId(), r.GetTaskId()})
	if it == nil {
		return false
	}
	d.remove(it)
	it.done <- answer{message: r}
	return true
}

// AbandonOrchestrator gives a turn back and reports whether the token is of a current offer.
func (d *Dispatcher) AbandonOrchestrator(token string) bool { return d.abandon(orchestration, token) }

// AbandonActivity gives an activity back and reports whether the token is of a current offer.
func (d *Dispatcher) AbandonActivity(token string) bool { return d.abandon(activity, token) }

func (d *Dispatcher) abandon(k kind, token string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	it := d.tokens[token]
	if it == nil || it.key.kind != k {
		return false
	}
	d.retry(it)
	return true
}

// Drain hands out no more work. What no worker has begun returns ErrNotBegun;
// each stream ends once it has answered what it holds, with Unavailable.
func (d *Dispatcher) Drain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.draining = true
	queue := d.queue
	d.queue = nil
	for _, it := range queue {
		d.offer(it)
	}
	for _, s := range d.streams {
		s.endIfDone()
	}
}

// The methods below want d.mu to be held.

func (d *Dispatcher) find(token string, k key) *item {
	if token == "" { // old SDKs do not know the field
		if it := d.keys[k]; it != nil && it.owner != nil {
			return it
		}
		return nil
	}
	// Whoever mixes up its items must not answer for another.
	if it := d.tokens[token]; it != nil && (it.key == k || k.instance == "" && it.key.kind == k.kind) {
		return it
	}
	return nil
}

// offer gives the item to the parked stream that has least to do, or queues it.
func (d *Dispatcher) offer(it *item) {
	if d.draining {
		d.remove(it)
		it.done <- answer{err: ErrNotBegun}
		return
	}
	if s := it.before.stream; s != nil && !s.gone && s.accepts(it) {
		if s.idle {
			s.idle = false
			s.handoff <- d.assign(it, s)
		} else {
			d.enqueue(it) // it will come to it as soon as it has sent what it is sending
		}
		return
	}
	var best *stream
	d.turn++
	for i := range d.streams {
		s := d.streams[(i+d.turn)%len(d.streams)]
		if s.idle && s.accepts(it) && (best == nil || s.load() < best.load()) {
			best = s
		}
	}
	if best != nil {
		best.idle = false
		best.handoff <- d.assign(it, best)
		return
	}
	if err := d.unhosted(it); err != nil {
		d.remove(it)
		it.done <- answer{err: err}
		return
	}
	d.enqueue(it)
}

func (d *Dispatcher) enqueue(it *item) {
	i, _ := slices.BinarySearchFunc(d.queue, it.seq, func(q *item, seq uint64) int { return cmp.Compare(q.seq, seq) })
	d.queue = slices.Insert(d.queue, i, it)
}

// take gives the stream the first item in the queue that it accepts.
func (d *Dispatcher) take(s *stream) (offer, bool) {
	for i, it := range d.queue {
		if keeper := it.before.stream; keeper != nil && keeper != s && !keeper.gone && keeper.accepts(it) {
			continue // it comes to it next
		}
		if s.accepts(it) {
			d.queue = slices.Delete(d.queue, i, i+1)
			return d.assign(it, s), true
		}
	}
	return offer{}, false
}

// refill looks for work for a parked stream, or ends it where there is no more to come.
func (d *Dispatcher) refill(s *stream) {
	if d.draining {
		s.endIfDone()
		return
	}
	if !s.idle {
		return
	}
	if o, ok := d.take(s); ok {
		s.idle = false
		s.handoff <- o
	}
}

func (d *Dispatcher) assign(it *item, s *stream) offer {
	d.offers++
	it.since = time.Now()
	it.owner, it.token = s, d.prefix+strconv.FormatUint(d.offers, 36)
	d.tokens[it.token] = it
	s.items[it] = struct{}{}
	s.count[it.key.kind]++
	d.try(s, it)
	it.stopTimer()
	lease := d.opts.TurnLease
	if it.key.kind == activity {
		lease = d.opts.ActivityLease
	}
	if lease > 0 {
		d.after(it, lease, func() {
			s.late++
			d.retry(it)
		})
	}
	o := offer{it, it.work(s, d.opts.MaxMessage)}
	if s.resident && !s.credit(it.key.kind) {
		d.letGo(s)
	}
	return o
}

// letGo offers to others what is queued for a stream that does not take it any more.
func (d *Dispatcher) letGo(s *stream) {
	for _, it := range slices.Clone(d.queue) {
		if it.before.stream == s && (s.gone || !s.accepts(it)) {
			it.before = Turned{}
			d.unqueue(it)
			d.offer(it)
		}
	}
}

// release takes the item from its stream; its token is stale from now on.
func (d *Dispatcher) release(it *item) {
	s, k := it.owner, it.key.kind
	delete(d.tokens, it.token)
	delete(s.items, it)
	if s.limit[k] > 0 && s.count[k] == s.limit[k] {
		d.demand[k].grow()
	}
	s.count[k]--
	if s.trying == it {
		s.trying = nil
	}
	it.owner, it.token, it.parts, it.nextPart = nil, "", nil, 0
	it.stopTimer()
}

// again sends a turn with its history to the worker that was thought to have it.
func (d *Dispatcher) again(it *item) {
	s := it.owner
	d.release(it)
	it.before = Turned{}
	d.offer(it)
	d.refill(s)
}

// retry takes the item from its stream and offers it to others at once, to that one after a rest.
func (d *Dispatcher) retry(it *item) {
	s := it.owner
	d.release(it)
	it.before = Turned{}
	if it.avoid == nil {
		it.avoid = map[*stream]bool{}
	}
	it.avoid[s] = true
	rest := min(restMin<<min(it.abandons, 10), restMax)
	it.abandons++
	d.after(it, rest, func() {
		it.avoid = nil
		d.unqueue(it)
		d.offer(it)
	})
	d.offer(it)
	d.refill(s)
}

// remove forgets the item, whatever its state.
func (d *Dispatcher) remove(it *item) {
	if s := it.owner; s != nil {
		d.release(it)
		d.refill(s)
	} else {
		d.unqueue(it)
		it.stopTimer()
	}
	if d.keys[it.key] == it {
		delete(d.keys, it.key)
	}
}

func (d *Dispatcher) unqueue(it *item) {
	d.queue = slices.DeleteFunc(d.queue, func(q *item) bool { return q == it })
}

// after calls f, unless the item's timer was set again or stopped since.
func (d *Dispatcher) after(it *item, wait time.Duration, f func()) {
	it.stopTimer()
	gen := it.timerGen
	it.timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if it.timerGen == gen {
			f()
		}
	})
}

func (it *item) stopTimer() {
	it.timerGen++
	if it.timer != nil {
		it.timer.Stop()
		it.timer = nil
	}
}
