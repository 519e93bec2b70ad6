package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// op is one change on its way through the lane. Both functions run under the engine's mutex.
type op struct {
	// build adds the change to the batch; it may run again after a failed
	// commit, and changes nothing but the batch. Its error concerns this op alone.
	build func(*builder) error
	// apply makes the change visible, or drops what was built upon it. It gets
	// the error of build or of the commit.
	apply func(error)

	err  error
	turn chan bool // true: lead; false: done
}

// lane is the queue of the commit pipeline.
type lane struct {
	mu      sync.Mutex
	queue   []*op
	leading bool
}

// maxOps bounds a batch, and so how long a commit takes.
const maxOps = 4096

// submit puts an op into the lane and blocks until it is durable or has failed.
func (e *Engine) submit(o *op) error {
	l := &e.lane
	l.mu.Lock()
	o.turn = make(chan bool, 1)
	l.queue = append(l.queue, o)
	lead := !l.leading
	l.leading = true
	l.mu.Unlock()
	if lead || <-o.turn {
		e.lead(o)
	}
	return o.err
}

// background submits an op that nobody waits for, until it is durable or the
// engine stops; only then it is applied. The mutex is held.
func (e *Engine) background(i *instance, o *op) {
	run, apply := e.run, o.apply
	e.wg.Go(func() {
		for pause := retryPause; ; pause = min(2*pause, maxRetryPause) {
			again := false
			o.apply = func(err error) {
				if again = err != nil && !e.closed && !e.fenced; !again {
					apply(err)
				}
			}
			err := e.submit(o)
			if !again {
				return
			}
			e.log.Errorf("%s: commit in the background: %v", i.id, err)
			select {
			case <-time.After(pause):
			case <-run.Done():
				return
			}
		}
	})
}

// lead commits what is queued, own being part of it, and hands the lead on.
func (e *Engine) lead(own *op) {
	l := &e.lane
	l.mu.Lock()
	n := min(len(l.queue), maxOps)
	ops := l.queue[:n:n]
	l.queue = l.queue[n:]
	l.mu.Unlock()

	e.commit(ops)

	l.mu.Lock()
	if len(l.queue) > 0 {
		l.queue[0].turn <- true
	} else {
		l.leading = false
		l.queue = nil
	}
	l.mu.Unlock()
	for _, o := range ops {
		if o != own {
			o.turn <- false
		}
	}
}

func (e *Engine) commit(ops []*op) {
	e.mu.Lock()
	b := e.build(ops)
	e.mu.Unlock()
	err := e.write(&b.Batch, len(ops))
	if err != nil && len(ops) > 1 && !errors.Is(err, store.ErrStaleEpoch) && !errors.Is(err, store.ErrUnavailable) {
		// One record may have spoilt the batch: each op gets a batch of its own, also
		// one that could not be built after what was before it in this one.
		for _, o := range ops {
			e.commit([]*op{o})
		}
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !b.Empty() {
		e.wentWrong(err)
	}
	if errors.Is(err, store.ErrStaleEpoch) {
		e.fence()
	}
	for _, o := range ops {
		e.finish(o, err)
	}
	e.trim()
}

func (e *Engine) finish(o *op, err error) {
	if o.err == nil && err != nil {
		o.err = lost(err)
	}
	if o.apply != nil {
		o.apply(o.err)
	}
}

func lost(err error) error {
	if errors.Is(err, store.ErrStaleEpoch) {
		return errors.Join(backend.ErrWorkItemLockLost, err)
	}
	return err
}

// build makes the batch of the ops that can be built. One that fails after it
// has put something into the batch makes the batch begin anew, without it.
func (e *Engine) build(ops []*op) *builder {
	b := e.newBuilder()
	var failed map[*op]bool
	for n := 0; n < len(ops); n++ {
		o := ops[n]
		if failed[o] {
			continue
		}
		before := b.size()
		if o.err = o.build(b); o.err == nil || b.size() == before {
			continue
		}
		if failed == nil {
			failed = map[*op]bool{}
		}
		failed[o] = true
		b, n = e.newBuilder(), -1
	}
	b.finish()
	return b
}

func (e *Engine) newBuilder() *builder {
	b := &builder{e: e}
	b.Epoch = e.epoch
	return b
}

// retryPause is between two tries of something that only the store can answer.
const (
	retryPause    = 200 * time.Millisecond
	maxRetryPause = 30 * time.Second
)

// write commits a batch and, where the answer was lost, finds out what became of it.
func (e *Engine) write(b *store.Batch, ops int) error {
	if b.Empty() {
		return nil
	}
	ctx := context.Background() // a commit is never half wanted
	began := time.Now()
	err := e.st.Commit(ctx, b)
	e.meter.Committed(ops, time.Since(began), err)
	if err == nil || errors.Is(err, store.ErrStaleEpoch) {
		return err
	}
	e.complain(err)
	for {
		done, cerr := e.st.Committed(ctx, b)
		if errors.Is(cerr, store.ErrStaleEpoch) {
			return cerr
		}
		if cerr == nil {
			if done {
				return nil
			}
			return err
		}
		e.mu.Lock()
		e.wentWrong(errors.Join(err, cerr))
		closed := e.closed
		e.mu.Unlock()
		if closed {
			return err // the next owner reads what is there
		}
		// Nothing may be built on a guess: the lane stands still until it is known.
		<-time.After(retryPause)
	}
}

// builder makes one batch of several ops: rows of one instance are merged, and
// a message that is consumed in the batch that would store it is not written.
type builder struct {
	store.Batch
	e     *Engine
	rows  map[int64]*store.Instance
	isNew map[int64]bool
	order []int64
	inbox map[int64]int // seq: index in Batch.Inbox
	edits int           // changes that make nothing longer
}

// size grows with every change.
func (b *builder) size() int {
	return b.edits + len(b.Delete) + len(b.Truncate) + len(b.Batch.History) + len(b.Inbox) + len(b.Consume)
}

func (b *builder) insert(row *store.Instance) {
	b.put(row)
	if b.isNew == nil {
		b.isNew = map[int64]bool{}
	}
	b.isNew[row.Key] = true
}

// remove deletes an instance with all that is stored of it.
func (b *builder) remove(i *instance) {
	i.deleted = b
	b.Delete = append(b.Delete, i.row.Key)
}

func (b *builder) update(row *store.Instance) { b.put(row) }

// rowOf is the instance's row as the batch leaves it so far, else as committed; nil for none.
func (b *builder) rowOf(i *instance) *store.Instance {
	if row := b.rows[i.key]; row != nil {
		return row
	}
	return i.row
}

func (b *builder) put(row *store.Instance) {
	if b.rows == nil {
		b.rows = map[int64]*store.Instance{}
	}
	if b.rows[row.Key] == nil {
		b.order = append(b.order, row.Key)
	}
	b.rows[row.Key] = row
	b.edits++
}

func (b *builder) history(key, at int64, events []byte) int64 {
	b.e.nextLSN++
	b.Batch.History = append(b.Batch.History, store.HistoryRow{LSN: b.e.nextLSN, Key: key, At: at, Events: events})
	return b.e.nextLSN
}

// store adds an inbox record and returns its seq.
func (b *builder) store(key int64, event *backend.HistoryEvent) (int64, error) {
	data, err := proto.Marshal(event)
	if err != nil {
		return 0, err
	}
	b.e.nextSeq++
	if b.inbox == nil {
		b.inbox = map[int64]int{}
	}
	b.inbox[b.e.nextSeq] = len(b.Inbox)
	b.Inbox = append(b.Inbox, store.InboxRow{Seq: b.e.nextSeq, Key: key, Event: data})
	return b.e.nextSeq, nil
}

func (b *builder) consume(seq int64) {
	if seq == 0 {
		return
	}
	if at, ok := b.inbox[seq]; ok {
		b.Inbox[at].Event = nil // see finish
		b.edits++
		return
	}
	b.Consume = append(b.Consume, seq)
}

func (b *builder) finish() {
	for _, key := range b.order {
		if b.isNew[key] {
			b.Insert = append(b.Insert, b.rows[key])
		} else {
			b.Update = append(b.Update, b.rows[key])
		}
	}
	gone := map[int64]bool{}
	for _, key := range b.Delete {
		gone[key] = true
	}
	kept := b.Inbox[:0]
	for _, r := range b.Inbox {
		if r.Event != nil && !gone[r.Key] { // what is sent to an instance goes with it
			kept = append(kept, r)
		}
	}
	b.Inbox = kept
	b.markUp()
}

// markUp makes sure that a batch whose answer is lost can be recognised, by a
// history row of no instance where it has no row of its own. It takes the place of the mark before.
func (b *builder) markUp() {
	if b.Empty() || len(b.History)+len(b.Insert)+len(b.Inbox) > 0 {
		return
	}
	lsn := b.history(0, 0, []byte{})
	b.Truncate = append(b.Truncate, store.Truncate{Before: lsn})
}
