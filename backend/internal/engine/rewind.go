package engine

import (
	"context"
	"fmt"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// RewindInstance lets a failed instance go on. Its completion is taken out of
// its history, and so are the failures of activities and children after which the
// orchestrator decided nothing more: these activities run again, these
// children are rewound too. Everything before is replayed as it was, so that
// the code finds its own decisions.
func (e *Engine) RewindInstance(ctx context.Context, id api.InstanceID, reason string) error {
	row, err := e.row(ctx, id)
	if err != nil {
		return err
	}
	if row.Status != int32(api.RUNTIME_STATUS_FAILED) {
		return fmt.Errorf("%w: %s is %s", api.ErrNotFailed, id, api.StatusName(protos.OrchestrationStatus(row.Status)))
	}
	var events []*backend.HistoryEvent
	if err := e.ReadHistory(ctx, id, func(part []*backend.HistoryEvent) error {
		events = append(events, part...)
		return nil
	}); err != nil {
		return err
	}
	events, children, err := e.rewound(ctx, events)
	if err != nil {
		return err
	}
	data, err := encodeEvents(events)
	if err != nil {
		return fmt.Errorf("encode history of %s: %w", id, err)
	}
	e.log.Infof("%s: rewound: %s", id, reason)
	if err := e.restore(ctx, row, data); err != nil {
		return err
	}
	for _, child := range children {
		if err := e.RewindInstance(ctx, child, reason); err != nil {
			return fmt.Errorf("rewind sub-orchestration: %w", err)
		}
	}
	return nil
}

// restore makes a finished instance run again with another history.
func (e *Engine) restore(ctx context.Context, row *store.Instance, history []byte) error {
	i, err := e.pin(ctx, row.ID)
	if err != nil {
		return err
	}
	defer e.unpin(i)
	var next *store.Instance
	return e.submit(&op{
		build: func(b *builder) error {
			if i.row == nil || i.row.Key != row.Key || i.row.Unfinished {
				return fmt.Errorf("%w: %s goes on already", api.ErrNotFailed, row.ID)
			}
			r := *row
			r.Status, r.Unfinished, r.Due = int32(api.RUNTIME_STATUS_RUNNING), true, 0
			r.CompletedAt, r.Output, r.Failure, r.UpdatedAt = 0, nil, nil, e.now()
			lsn := b.history(row.Key, e.now(), history)
			b.Truncate = append(b.Truncate, store.Truncate{Key: row.Key, Before: lsn})
			b.update(&r)
			next = &r
			return nil
		},
		apply: func(err error) {
			if err == nil {
				i.row, i.check = next, true // what is open is found when the history is read
				e.notify(i.id)
				e.makeReady(i)
			}
		},
	})
}

// rewound is a history that can go on, and the children that must be rewound for it.
func (e *Engine) rewound(ctx context.Context, events []*backend.HistoryEvent) (
	kept []*backend.HistoryEvent, children []api.InstanceID, err error,
) {
	created := map[int32]string{}
	last := 0 // the last decision
	for n, ev := range events {
		switch t := ev.GetEventType().(type) {
		case *protos.HistoryEvent_SubOrchestrationInstanceCreated:
			created[ev.GetEventId()] = t.SubOrchestrationInstanceCreated.GetInstanceId()
			last = n
		case *protos.HistoryEvent_TaskScheduled, *protos.HistoryEvent_TimerCreated, *protos.HistoryEvent_EventSent,
			*protos.HistoryEvent_EntityOperationCalled, *protos.HistoryEvent_EntityOperationSignaled,
			*protos.HistoryEvent_EntityLockRequested, *protos.HistoryEvent_EntityUnlockSent:
			last = n
		}
	}
	for n, ev := range events {
		switch t := ev.GetEventType().(type) {
		case *protos.HistoryEvent_ExecutionCompleted:
			continue
		case *protos.HistoryEvent_TaskFailed:
			if n > last {
				continue
			}
		case *protos.HistoryEvent_SubOrchestrationInstanceFailed:
			child := created[t.SubOrchestrationInstanceFailed.GetTaskScheduledId()]
			again, err := e.canRewind(ctx, child)
			if err != nil {
				return nil, nil, err
			}
			if n > last && again {
				children = append(children, api.InstanceID(child))
				continue
			}
		}
		kept = append(kept, ev)
	}
	return kept, children, nil
}

// canRewind reports whether a child is there, and failed; one that was purged
// or terminated stays failed for its parent.
func (e *Engine) canRewind(ctx context.Context, child string) (bool, error) {
	row, err := e.st.ByID(ctx, child)
	if err != nil {
		return false, ignoreNotFound(err)
	}
	return row.Status == int32(api.RUNTIME_STATUS_FAILED), nil
}
