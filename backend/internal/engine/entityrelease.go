package engine

import (
	"context"
	"errors"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// errMoved says that an instance went on while its locks were looked up.
var errMoved = errors.New("the instance went on meanwhile")

// unlocks are what an unfinished orchestration has to send when it is ended
// from outside of its turns: they go into the batch that ends it.
type unlocks struct {
	*turnCommit
	at int64 // what the instance's turned was when its history was read
}

// unlocksOf reads the history of a pinned instance for its locks. One that cannot
// be read is left to CleanEntityStorage. The caller releases the result.
func (e *Engine) unlocksOf(ctx context.Context, i *instance) (unlocks, error) {
	u := unlocks{turnCommit: &turnCommit{e: e, i: i, s: backend.NewOrchestrationRuntimeState(api.InstanceID(i.id), nil)}}
	e.mu.Lock()
	row := i.row
	u.at = i.turned
	e.mu.Unlock()
	if row == nil || !row.Unfinished || i.ent != nil {
		return u, nil
	}
	var l backend.LockLedger
	err := e.st.History(ctx, row.Key, 0, func(r store.HistoryRow) error {
		events, err := decodeEvents(r.Events)
		for _, ev := range events {
			l.Add(ev)
		}
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return u, ctx.Err()
		}
		e.log.Warnf("%s: its history cannot be read for locks of entities: %v", i.id, err)
	}
	return u, u.addressAll(ctx, l.Unlocks(api.InstanceID(i.id), time.Now()))
}

// build adds the unlocks to the batch, in which the instance ends; errMoved.
func (u unlocks) build(b *builder) error {
	if u.i.turned != u.at || u.i.turnIn == b {
		return errMoved
	}
	u.i.sealed, u.i.ends = b, true
	return u.send(b)
}
