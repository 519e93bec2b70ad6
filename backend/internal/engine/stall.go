package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
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

// mark sets or clears why the instance is stalled, at once in memory and soon in its row. The mutex is held.
func (e *Engine) mark(i *instance, reason string) {
	row := *i.row
	row.Stalled = reason
	i.row = &row
	i.pins++ // until its row says so
	e.background(i, &op{
		build: func(b *builder) error {
			if !i.gone && i.row != nil && i.row.Stalled == reason && !i.finished() {
				r := *i.row
				r.UpdatedAt = e.now()
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
