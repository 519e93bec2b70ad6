package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// stallRetry is how long a stall waits for the instance's messages to become durable.
const stallRetry = 2 * holdLimit

// StallInstance ends a turn that nobody can execute and sets its instance aside.
// What has no record yet gets one first: the turn is then tried once more.
func (e *Engine) StallInstance(_ context.Context, wi *backend.OrchestrationWorkItem, reason string) error {
	return e.abandon(wi, func(i *instance) {
		for _, m := range i.turn.msgs {
			if m.seq == 0 && m.event.GetTimerFired() == nil {
				i.rest = e.now() + int64(stallRetry/time.Microsecond)
				return
			}
		}
		if i.row != nil {
			e.log.Warnf("%s: stalled: %s", i.id, reason)
			e.mark(i, reason)
		}
	})
}

// ReviveInstance lets a stalled instance go on.
func (e *Engine) ReviveInstance(ctx context.Context, id api.InstanceID) error {
	i, err := e.pin(ctx, string(id))
	if err != nil {
		return err
	}
	defer e.unpin(i)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case i.gone || i.row == nil:
		return fmt.Errorf("%w: %s", api.ErrInstanceNotFound, id)
	case i.row.Stalled == "" || i.finished():
		return nil
	}
	e.mark(i, "")
	i.check = true
	e.makeReady(i)
	e.arm(i)
	return nil
}

// setAside stops an instance whose stored state cannot be used, with a reason
// that people can read; everything else goes on. What was held for its next turn
// gets a record from those who wait for it, for the time after a repair. The mutex is held.
func (e *Engine) setAside(i *instance, why error) {
	e.log.Errorf("%s: set aside: %v", i.id, why)
	i.ready, i.again = false, false
	var terminate *message
	for _, m := range i.inbox {
		if terminate == nil && m.event.GetExecutionTerminated() != nil {
			terminate = m
		}
	}
	i.unread, i.inbox = append(i.unread, i.inbox...), nil // those without a record may be getting one just now
	if i.row == nil || i.finished() {
		return
	}
	e.mark(i, why.Error())
	if terminate != nil {
		e.endStalled(i, terminate)
	}
}

// endStalled ends an instance that gets no turn any more, and so without its
// history, as a terminate asks. The mutex is held.
func (e *Engine) endStalled(i *instance, m *message) {
	if e.closed || i.ending {
		return
	}
	i.ending = true
	i.pins++
	run := e.run
	e.wg.Go(func() {
		err := e.terminateStalled(run, api.InstanceID(i.id), m.event.GetExecutionTerminated())
		if err != nil && run.Err() == nil && !errors.Is(err, api.ErrInstanceNotFound) {
			e.log.Errorf("%s: terminate: %v", i.id, err)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		i.ending = false
		m.answer(err)
		i.pins--
		e.settle(i)
	})
}

// terminateStalled ends the children first: until the instance itself is over, it can be asked again.
func (e *Engine) terminateStalled(ctx context.Context, id api.InstanceID, t *protos.ExecutionTerminatedEvent) error {
	if t.GetRecurse() {
		if err := e.children(ctx, string(id), func(child *store.Instance) error {
			if !child.Unfinished {
				return nil
			}
			err := e.AddNewOrchestrationEvent(ctx, api.InstanceID(child.ID), &backend.HistoryEvent{
				EventId: -1, Timestamp: timestamppb.New(e.Now()),
				EventType: &protos.HistoryEvent_ExecutionTerminated{ExecutionTerminated: t},
			})
			if errors.Is(err, api.ErrInstanceNotFound) {
				return nil
			}
			return err
		}); err != nil {
			return err
		}
	}
	return e.ForceTerminate(ctx, id, text(t.GetInput()))
}

// mark sets or clears why the instance is stalled, at once in memory and soon in its row. The mutex is held.
func (e *Engine) mark(i *instance, reason string) {
	row := *i.row
	row.Stalled = reason
	i.row = &row
	i.pins++ // until its row says so
	e.background(i, &op{
		build: func(b *builder) error {
			if row := b.rowOf(i); !i.gone && row != nil && row.Unfinished && i.row.Stalled == reason {
				r := *row
				r.Stalled, r.UpdatedAt = reason, e.now()
				b.update(&r)
			}
			return nil
		},
		apply: func(error) {
			i.pins--
			e.settle(i)
		},
	})
}
