package sidecar

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// stream is one connected worker. All but its first block is guarded by Dispatcher.mu.
type stream struct {
	limit      [kinds]int                 // most items at a time; 0 for no limit
	filters    [kinds]map[string][]string // versions by name, none for any; nil accepts all
	streaming  bool                       // it can read a history in chunks
	resident   bool                       // it keeps orchestrators between turns
	maxMessage int
	handoff    chan offer    // takes the one offer to a parked stream without blocking
	end        chan struct{} // closed to end the stream
	stuck      chan struct{} // closed where the worker does not read what it is sent
	who        api.Worker    // without what changes

	count  [kinds]int
	items  map[*item]struct{}
	trying *item // a suspect, for a while
	late   int   // offers whose lease ended: this worker may not be alive
	idle   bool
	gone   bool // it takes nothing any more
}

func newStream(req *protos.GetWorkItemsRequest) *stream {
	s := &stream{handoff: make(chan offer, 1), end: make(chan struct{}), stuck: make(chan struct{}), items: map[*item]struct{}{}}
	s.limit[orchestration] = int(max(req.GetMaxConcurrentOrchestrationWorkItems(), 0))
	s.limit[activity] = int(max(req.GetMaxConcurrentActivityWorkItems(), 0))
	s.limit[entity] = int(max(req.GetMaxConcurrentEntityWorkItems(), 0))
	s.streaming = StreamsHistory(req)
	s.resident = slices.Contains(req.GetCapabilities(), protos.WorkerCapability_WORKER_CAPABILITY_RESIDENT)
	if f := req.GetWorkItemFilters(); f != nil {
		s.filters = [kinds]map[string][]string{{}, {}, {}}
		for _, o := range f.GetOrchestrations() {
			addFilter(s.filters[orchestration], o.GetName(), o.GetVersions())
		}
		for _, a := range f.GetActivities() {
			addFilter(s.filters[activity], a.GetName(), a.GetVersions())
		}
		for _, e := range f.GetEntities() {
			addFilter(s.filters[entity], strings.ToLower(e.GetName()), nil)
		}
	}
	return s
}

// StreamsHistory reports whether a worker can read a history in chunks.
func StreamsHistory(req *protos.GetWorkItemsRequest) bool {
	return slices.Contains(req.GetCapabilities(), protos.WorkerCapability_WORKER_CAPABILITY_HISTORY_STREAMING)
}

func addFilter(to map[string][]string, name string, versions []string) {
	before, repeated := to[name]
	if len(versions) == 0 || repeated && len(before) == 0 {
		to[name] = nil
		return
	}
	to[name] = append(before, versions...)
}

// accepts reports whether the stream takes the item now.
func (s *stream) accepts(it *item) bool {
	k := it.key.kind
	return !it.avoid[s] && (!it.suspect() || s.trying == nil) && s.credit(k) && s.hosts(k, it.name, it.version) && s.fits(it)
}

func (s *stream) credit(k kind) bool { return s.limit[k] == 0 || s.count[k] < s.limit[k] }

func (s *stream) hosts(k kind, name, version string) bool {
	if s.filters[k] == nil {
		return true
	}
	versions, ok := s.filters[k][name]
	return ok && (len(versions) == 0 || slices.Contains(versions, version))
}

func (s *stream) load() int { return len(s.items) + s.late }

// Serve offers work to one worker until its context ends, send fails, or
// shutdown yields or is closed, which ends all streams. What the worker has
// not answered then goes to others. The error is a status.
func (d *Dispatcher) Serve(
	ctx context.Context, req *protos.GetWorkItemsRequest, shutdown <-chan any, send func(*protos.WorkItem) error,
) error {
	s := newStream(req)
	var err error
	if s.maxMessage, err = maxMessageOf(ctx, d.opts.MaxMessage); err != nil {
		return err
	}
	s.identify(ctx)
	if !d.join(s) {
		return errDrained
	}
	defer d.leave(s)
	if d.opts.Joined != nil {
		d.opts.Joined(ctx, req)
	}
	ended := make(chan error, 1)
	go func() { ended <- d.feed(ctx, s, shutdown, send) }()
	select {
	case err := <-ended:
		return err
	case <-s.stuck: // the end of the stream frees the sender
		return status.Errorf(codes.Unavailable, "what was sent to the worker is unread since %v", d.opts.SendTimeout)
	}
}

// feed sends to a stream until that ends.
func (d *Dispatcher) feed(ctx context.Context, s *stream, shutdown <-chan any, send func(*protos.WorkItem) error) error {
	ping := time.NewTimer(d.opts.PingInterval)
	defer ping.Stop()
	var once sync.Once
	stuck := time.AfterFunc(time.Hour, func() { once.Do(func() { close(s.stuck) }) })
	defer stuck.Stop()
	for {
		stuck.Stop()
		w := d.next(s)
		if w == nil {
			w = &protos.WorkItem{Request: &protos.WorkItem_HealthPing{HealthPing: &protos.HealthPing{}}}
			select {
			case o := <-s.handoff:
				if w = d.current(o); w == nil {
					continue
				}
			case <-ping.C:
			case <-ctx.Done():
				return status.FromContextError(ctx.Err()).Err()
			case <-shutdown:
				d.endStreams()
				return errShutdown
			case <-s.end:
				return d.endReason()
			}
		} else {
			select {
			case <-shutdown:
				d.endStreams()
				return errShutdown
			case <-s.end:
				return d.endReason()
			default:
			}
		}
		stuck.Reset(d.opts.SendTimeout)
		if err := send(w); err != nil {
			return Status(err)
		}
		ping.Reset(d.opts.PingInterval)
	}
}

var (
	errShutdown = status.Error(codes.Canceled, "shutting down")
	errDrained  = status.Error(codes.Unavailable, "shutting down")
)

func (d *Dispatcher) endReason() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return errDrained
	}
	return errShutdown
}

func (d *Dispatcher) join(s *stream) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return false
	}
	d.joined++
	s.who.ID, s.who.ConnectedAt = "w"+strconv.FormatUint(d.joined, 10), time.Now()
	d.streams = append(d.streams, s)
	for _, m := range d.demand {
		m.grow()
	}
	return true
}

func (d *Dispatcher) leave(s *stream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams = slices.DeleteFunc(d.streams, func(o *stream) bool { return o == s })
	ended := d.ended(s)
	s.finish() // a sender that was stuck may still be at it
	s.gone = true
	for it := range s.items {
		d.release(it)
		it.avoid = nil // the timer that would clear it stopped when this stream took the item
		if ended {
			d.offer(it)
		} else {
			d.lost(it)
		}
	}
	d.letGo(s)
	for _, it := range slices.Clone(d.queue) {
		if err := d.unhosted(it); err != nil {
			d.remove(it)
			it.done <- answer{err: err}
		}
	}
}

func (d *Dispatcher) endStreams() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.streams {
		s.finish()
	}
}

// finish ends the stream; it may be called again.
func (s *stream) finish() {
	select {
	case <-s.end:
	default:
		close(s.end)
	}
}

func (s *stream) endIfDone() {
	if len(s.items) == 0 {
		s.finish()
	}
}

// next takes an item for the stream, or parks it and returns nil.
func (d *Dispatcher) next(s *stream) *protos.WorkItem {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.idle = false
	if s.gone {
		return nil
	}
	select {
	case o := <-s.handoff:
		if d.tokens[o.work.GetCompletionToken()] == o.item {
			return o.work
		}
	default:
	}
	if o, ok := d.take(s); ok {
		return o.work
	}
	s.idle = true
	return nil
}

// current is the offer's work, or nil where it was withdrawn.
func (d *Dispatcher) current(o offer) *protos.WorkItem {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tokens[o.work.GetCompletionToken()] != o.item {
		return nil
	}
	return o.work
}
