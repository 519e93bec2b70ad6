package engine

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// RewindInstance lets a failed instance go on, with its failed children, in one
// commit. Its completion is taken out of its history, and so are the failures of
// activities and children after which the orchestrator decided nothing more: these
// activities run again, these children are rewound too. Everything before is
// replayed as it was, so that the code finds its own decisions; in the turn
// that failed it may decide more than is recorded. The instance learns what
// became of its children while it was over. The locks of entities that it gave back as
// it failed it asks for again, and none of its code runs until it has them.
func (e *Engine) RewindInstance(ctx context.Context, id api.InstanceID, reason string) error {
	for {
		err := e.rewind(ctx, id)
		if err == nil {
			e.log.Infof("%s: rewound: %s", id, reason)
		}
		if !errors.Is(err, errMoved) {
			return err
		}
	}
}

func (e *Engine) rewind(ctx context.Context, id api.InstanceID) error {
	row, err := e.row(ctx, id)
	if err != nil {
		return err
	}
	if row.Status != int32(api.RUNTIME_STATUS_FAILED) {
		return fmt.Errorf("%w: a rewind is not allowed: %s is %s", api.ErrNotFailed, id, api.StatusName(protos.OrchestrationStatus(row.Status)))
	}
	r := &rewinding{e: e}
	defer r.release()
	if err := r.add(ctx, row); err != nil {
		return err
	}
	for n := 0; n < len(r.parts); n++ { // it grows by the children
		if err := r.plan(ctx, r.parts[n]); err != nil {
			return fmt.Errorf("rewind %s: %w", r.parts[n].row.ID, err)
		}
	}
	return e.submit(&op{build: r.build, apply: r.apply})
}

// rewinding is the rewind of a tree on its way through the lane.
type rewinding struct {
	e     *Engine
	parts []*rewound
	wait  []*instance // children that go on, and will tell
}

// rewound is one failed instance that goes on.
type rewound struct {
	i       *instance
	at      int64           // what its turned was before the history was read
	row     *store.Instance // as it was found
	history []byte
	results []*backend.HistoryEvent // of children that ended meanwhile
	locks   *turnCommit             // what it asks of entities
	open    map[int32]*backend.HistoryEvent

	next *store.Instance // made by build
	msgs []*message
	kept []*task // detached ones that run again as its own
}

func (r *rewinding) add(ctx context.Context, row *store.Instance) error {
	i, err := r.e.pin(ctx, row.ID)
	if err != nil {
		return err
	}
	r.e.mu.Lock()
	at := i.turned
	r.e.mu.Unlock()
	r.parts = append(r.parts, &rewound{i: i, at: at, row: row, open: map[int32]*backend.HistoryEvent{}})
	return nil
}

func (r *rewinding) release() {
	for _, p := range r.parts {
		if p.locks != nil {
			p.locks.release()
		}
		r.e.unpin(p.i)
	}
	for _, i := range r.wait {
		r.e.unpin(i)
	}
}

// plan makes the history with which an instance can go on.
func (r *rewinding) plan(ctx context.Context, p *rewound) error {
	var events, kept []*backend.HistoryEvent
	if err := r.e.st.History(ctx, p.row.Key, 0, func(h store.HistoryRow) error {
		part, err := decodeEvents(h.Events)
		if err != nil {
			return fmt.Errorf("history record %d: %w", h.LSN, err)
		}
		events = append(events, part...)
		return nil
	}); err != nil {
		return err
	}
	var locks backend.LockLedger
	last, turn := 0, 0 // the last decision, and the turn that failed
	failed, children := map[int32]int{}, map[int32]*protos.SubOrchestrationInstanceCreatedEvent{}
	for n, ev := range events {
		locks.Add(ev)
		switch t := ev.GetEventType().(type) {
		case *protos.HistoryEvent_OrchestratorStarted:
			turn = n
		case *protos.HistoryEvent_SubOrchestrationInstanceCreated:
			children[ev.GetEventId()], last = t.SubOrchestrationInstanceCreated, n
		case *protos.HistoryEvent_SubOrchestrationInstanceCompleted:
			delete(children, t.SubOrchestrationInstanceCompleted.GetTaskScheduledId())
		case *protos.HistoryEvent_SubOrchestrationInstanceFailed:
			failed[t.SubOrchestrationInstanceFailed.GetTaskScheduledId()] = n
		case *protos.HistoryEvent_TaskScheduled:
			p.open[ev.GetEventId()], last = ev, n
		case *protos.HistoryEvent_TaskCompleted:
			delete(p.open, t.TaskCompleted.GetTaskScheduledId())
		case *protos.HistoryEvent_TimerCreated, *protos.HistoryEvent_EventSent,
			*protos.HistoryEvent_EntityOperationCalled, *protos.HistoryEvent_EntityOperationSignaled,
			*protos.HistoryEvent_EntityLockRequested, *protos.HistoryEvent_EntityUnlockSent:
			last = n
		}
	}
	again := map[int]bool{} // failures that are taken out
	for _, ev := range events {
		child := children[ev.GetEventId()]
		if child == nil || ev.GetSubOrchestrationInstanceCreated() != child {
			continue
		}
		at, isFailed := failed[ev.GetEventId()]
		if isFailed && at <= last {
			continue
		}
		forget, err := r.child(ctx, p, ev.GetEventId(), child.GetInstanceId(), isFailed)
		if err != nil {
			return err
		}
		again[at] = isFailed && forget
	}
	for n, ev := range events {
		if ev.GetExecutionCompleted() != nil || (ev.GetTaskFailed() != nil && n > last) || again[n] {
			continue
		}
		if n == turn && ev.GetOrchestratorStarted() != nil {
			ev.EventId = backend.RewoundTurn
		}
		if g := ev.GetEntityLockGranted(); g != nil && locks.Held(g.GetCriticalSectionId()) {
			ev.EventId = backend.RewoundGrant
		}
		kept = append(kept, ev)
	}
	var err error
	if p.history, err = encodeEvents(kept); err != nil {
		return err
	}
	id := api.InstanceID(p.row.ID)
	p.locks = &turnCommit{e: r.e, i: p.i, s: backend.NewOrchestrationRuntimeState(id, nil)}
	return p.locks.addressAll(ctx, locks.Requests(id, r.e.Now()))
}

// child finds out what became of a child whose result is not known, or a
// failure; forget says that this failure does not hold any more. One that failed is
// rewound too; one that was purged or terminated, or whose id is another's, stays failed.
func (r *rewinding) child(ctx context.Context, p *rewound, task int32, id string, isFailed bool) (forget bool, err error) {
	row, err := r.e.st.ByID(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	ts := timestamppb.New(r.e.Now())
	failure := &protos.TaskFailureDetails{
		ErrorType: "SubOrchestrationGone", ErrorMessage: fmt.Sprintf("sub-orchestration %q is not there", id),
	}
	if err == nil && row.ParentID == p.row.ID && row.ParentExec == p.row.ExecutionID && row.ParentTask == task {
		switch status := protos.OrchestrationStatus(row.Status); {
		case row.Unfinished:
			i, err := r.e.pin(ctx, id)
			if err != nil {
				return false, err
			}
			r.wait = append(r.wait, i)
			return true, nil
		case status == api.RUNTIME_STATUS_FAILED:
			return true, r.add(ctx, row)
		case status == api.RUNTIME_STATUS_COMPLETED:
			result := &protos.SubOrchestrationInstanceCompletedEvent{TaskScheduledId: task}
			if row.Output != nil {
				result.Result = wrapperspb.String(*row.Output)
			}
			p.results = append(p.results, &backend.HistoryEvent{
				EventId: -1, Timestamp: ts,
				EventType: &protos.HistoryEvent_SubOrchestrationInstanceCompleted{SubOrchestrationInstanceCompleted: result},
			})
			return true, nil
		default:
			failure.ErrorType = "SubOrchestration" + api.StatusName(status)
			failure.ErrorMessage = "sub-orchestration was " + api.StatusName(status)
		}
	}
	if !isFailed {
		p.results = append(p.results, backend.NewChildFailed(task, failure, ts))
	}
	return false, nil
}

func (r *rewinding) build(b *builder) error {
	for _, i := range r.wait {
		if i.gone || i.finished() || (i.sealed == b && i.ends) {
			return errMoved
		}
	}
	for n, p := range r.parts {
		i := p.i
		if i.gone || i.row == nil || i.row.Key != p.row.Key || i.deleted == b {
			return errMoved
		}
		if n == 0 && (i.row.Unfinished || i.restored == b) {
			return fmt.Errorf("%w: %s goes on already", api.ErrNotFailed, p.row.ID)
		}
		if i.row.Status != int32(api.RUNTIME_STATUS_FAILED) || i.turned != p.at || i.restored == b {
			return errMoved
		}
		row := *i.row
		row.Status, row.Unfinished, row.Due = int32(api.RUNTIME_STATUS_RUNNING), true, 0
		row.CompletedAt, row.Output, row.Failure, row.UpdatedAt = 0, nil, nil, r.e.now()
		lsn := b.history(row.Key, r.e.now(), p.history)
		b.Truncate = append(b.Truncate, store.Truncate{Key: row.Key, Before: lsn})
		if err := p.locks.send(b); err != nil {
			return err
		}
		p.msgs, p.kept = nil, nil
		for _, ev := range p.results {
			seq, err := b.store(row.Key, ev)
			if err != nil {
				return err
			}
			p.msgs = append(p.msgs, &message{event: ev, state: durable, seq: seq})
		}
		for _, t := range i.kept {
			if proto.Equal(t.event, p.open[t.event.GetEventId()]) {
				b.consume(t.detached)
				p.kept = append(p.kept, t)
			}
		}
		b.update(&row)
		p.next, i.restored = &row, b
	}
	return nil
}

// apply lets the instances go on. The mutex is held.
func (r *rewinding) apply(err error) {
	if err != nil {
		return
	}
	for _, p := range r.parts {
		i := p.i
		for _, t := range p.kept {
			r.e.dropTask(t)
			i.unkeep(t)
		}
		i.row, i.again = p.next, true // what is open is found when the history is read
		i.inbox = append(i.inbox, p.msgs...)
		p.locks.deliver()
		r.e.notify(i.id)
		r.e.makeReady(i)
		r.e.arm(i)
	}
}
