package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend/internal/store"
)

// PurgeOrchestrationState deletes one finished instance.
func (e *Engine) PurgeOrchestrationState(ctx context.Context, id api.InstanceID) error {
	_, err := e.PurgeInstance(ctx, id, false, false)
	return err
}

// PurgeInstance deletes an instance, and its descendants where recursive, in one commit.
func (e *Engine) PurgeInstance(ctx context.Context, id api.InstanceID, recursive, force bool) (int, error) {
	for {
		n, err := e.purge(ctx, id, recursive, force)
		if !errors.Is(err, errMoved) {
			return n, err
		}
	}
}

func (e *Engine) purge(ctx context.Context, id api.InstanceID, recursive, force bool) (int, error) {
	row, err := e.row(ctx, id)
	if err != nil {
		return 0, err
	}
	if row.Unfinished && !force {
		return 0, fmt.Errorf("%w: %s is %s", api.ErrNotCompleted, id, api.StatusName(protos.OrchestrationStatus(row.Status)))
	}
	rows, seen := []*store.Instance{row}, map[int64]bool{row.Key: true} // reused ids can make a circle
	for n := 0; recursive && n < len(rows); n++ {
		if err := e.children(ctx, rows[n].ID, func(child *store.Instance) error {
			if !seen[child.Key] && (force || !child.Unfinished) {
				seen[child.Key] = true
				rows = append(rows, child)
			}
			return nil
		}); err != nil {
			return 0, err
		}
	}
	pinned, locks := make([]*instance, 0, len(rows)), make([]unlocks, 0, len(rows))
	defer func() {
		for n, i := range pinned {
			if n < len(locks) {
				locks[n].release()
			}
			e.unpin(i)
		}
	}()
	for _, r := range rows {
		i, err := e.pin(ctx, r.ID)
		if err != nil {
			return 0, err
		}
		pinned = append(pinned, i)
		u, err := e.unlocksOf(ctx, i, "PURGED")
		locks = append(locks, u)
		if err != nil {
			return 0, err
		}
	}
	var deleted []int // of pinned
	err = e.submit(&op{
		build: func(b *builder) error {
			deleted = deleted[:0]
			switch root := pinned[0]; {
			case root.gone || root.row == nil || root.row.Key != row.Key || root.deleted == b:
				return fmt.Errorf("%w: %s", api.ErrInstanceNotFound, id)
			case root.row.Unfinished && !force:
				return fmt.Errorf("%w: %s", api.ErrNotCompleted, id)
			}
			for n, i := range pinned {
				if i.gone || i.row == nil || i.row.Key != rows[n].Key || i.deleted == b || (i.row.Unfinished && !force) {
					continue // replaced, or gone already
				}
				if i.row.Unfinished {
					if err := locks[n].build(b); err != nil {
						return err
					}
				}
				b.remove(i)
				deleted = append(deleted, n)
			}
			return nil
		},
		apply: func(err error) {
			if err != nil {
				return
			}
			for _, n := range deleted {
				i := pinned[n]
				locks[n].deliver()
				e.release(i)
				e.notify(i.id)
				e.forget(i)
			}
		},
	})
	if err != nil {
		return 0, err
	}
	return len(deleted), nil
}

// release ends an instance from outside of its turn: the orchestrator that
// waits is unwound, and a turn that is out will find its lock lost. The mutex is held.
func (e *Engine) release(i *instance) {
	if i.state != nil && (i.turn == nil || i.turn.item == nil) { // else the turn's worker unwinds it
		e.evicted = append(e.evicted, i.state) // trim runs after each batch
	}
	if i.turn != nil {
		for _, m := range i.turn.msgs {
			m.answer(nil)
		}
	}
	e.end(i, true)
	e.leave(i)
}

// ForceTerminate ends an instance without its history.
func (e *Engine) ForceTerminate(ctx context.Context, id api.InstanceID, output *string) error {
	if err := e.checkOutput(output); err != nil {
		return err
	}
	for {
		if err := e.forceTerminate(ctx, id, output); !errors.Is(err, errMoved) {
			return err
		}
	}
}

func (e *Engine) forceTerminate(ctx context.Context, id api.InstanceID, output *string) error {
	row, err := e.row(ctx, id)
	if err != nil {
		return err
	}
	i, err := e.pin(ctx, string(id))
	if err != nil {
		return err
	}
	defer e.unpin(i)
	locks, err := e.unlocksOf(ctx, i, api.StatusName(api.RUNTIME_STATUS_TERMINATED))
	defer locks.release()
	if err != nil {
		return err
	}
	var ended *store.Instance
	return e.submit(&op{
		build: func(b *builder) error {
			if i.gone || i.row == nil || i.row.Key != row.Key || i.deleted == b {
				return fmt.Errorf("%w: %s", api.ErrInstanceNotFound, id)
			}
			ended = nil
			if !i.row.Unfinished {
				return nil
			}
			if err := locks.build(b); err != nil {
				return err
			}
			r := *b.rowOf(i)
			r.Status, r.Unfinished, r.Due, r.Stalled = int32(api.RUNTIME_STATUS_TERMINATED), false, 0, ""
			r.CompletedAt, r.UpdatedAt, r.Output = e.now(), e.now(), output
			for _, m := range i.inbox {
				b.consume(m.seq)
			}
			for _, t := range i.kept {
				b.consume(t.detached)
			}
			for _, m := range i.unread {
				b.consume(m.seq)
			}
			if i.turn != nil {
				for _, m := range i.turn.msgs {
					b.consume(m.seq)
				}
			}
			b.update(&r)
			ended = &r
			return nil
		},
		apply: func(err error) {
			if err != nil || ended == nil {
				return
			}
			i.row = ended
			e.meter.Finished(ended.Name, protos.OrchestrationStatus(ended.Status), time.Duration(e.now()*1000-ended.CreatedAt))
			locks.deliver()
			e.release(i)
			e.notify(i.id)
		},
	})
}
