package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// errMoved says that an instance went on while its locks were looked up.
var errMoved = errors.New("the instance went on meanwhile")

// unlocks are what an unfinished orchestration has to send when it is ended
// from outside of its turns, and what its parent is told: they go into the batch that ends it.
type unlocks struct {
	*turnCommit
	at int64 // what the instance's turned was when its history was read
}

// unlocksOf reads the history of a pinned instance for its locks. One that cannot
// be read is left to CleanEntityStorage. how is what happens to the instance, for
// the parent that waits for its result. The caller releases the result.
func (e *Engine) unlocksOf(ctx context.Context, i *instance, how string) (unlocks, error) {
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
		return lockEvents(r.Events, l.Add)
	})
	if err != nil {
		if ctx.Err() != nil {
			return u, ctx.Err()
		}
		e.log.Warnf("%s: its history cannot be read for locks of entities: %v", i.id, err)
	}
	msgs := l.Unlocks(api.InstanceID(i.id), e.Now())
	if row.ParentID != "" {
		msgs = append(msgs, backend.NewOrchestratorMessage(row.ParentID, row.ParentExec, backend.NewChildFailed(row.ParentTask,
			&protos.TaskFailureDetails{ErrorType: "SubOrchestration" + how, ErrorMessage: "sub-orchestration was " + how},
			timestamppb.New(e.Now()))))
	}
	return u, u.addressAll(ctx, msgs)
}

// build adds the unlocks to the batch, in which the instance ends; errMoved.
func (u unlocks) build(b *builder) error {
	if u.i.turned != u.at || u.i.turnIn == b {
		return errMoved
	}
	u.i.sealed, u.i.ends = b, true
	return u.send(b)
}

// lockEvents calls f for the events of a history row that concern locks, and
// decodes no other: a forced end must be quick however large the history is.
func lockEvents(b []byte, f func(*backend.HistoryEvent)) error {
	// Of locks that were asked for by events the grant is not looked for: an
	// unlock that follows the request serves as well.
	legacy := bytes.Contains(b, []byte("lockset")) || bytes.Contains(b, []byte("release"))
	some := legacy
	for _, field := range []protowire.Number{lockRequested, lockGranted, unlockSent} {
		some = some || bytes.Contains(b, protowire.AppendTag(nil, field, protowire.BytesType))
	}
	if !some { // nearly always: the byte pairs are rare in texts
		return nil
	}
	for len(b) > 0 {
		raw, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return fmt.Errorf("%w: an event has no valid length", store.ErrCorrupt)
		}
		b = b[n:]
		for at := 0; at < len(raw); {
			field, _, n := protowire.ConsumeField(raw[at:])
			if n < 0 {
				return fmt.Errorf("%w: an event cannot be decoded", store.ErrCorrupt)
			}
			at += n
			if field != lockRequested && field != lockGranted && field != unlockSent && (field != eventSent || !legacy) {
				continue
			}
			ev, err := backend.UnmarshalHistoryEvent(raw)
			if err != nil {
				return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
			}
			f(ev)
			break
		}
	}
	return nil
}

// The fields of a HistoryEvent that hold events of locks.
const (
	eventSent     = 16 // in the older kind of entity messages
	lockRequested = 27
	lockGranted   = 28
	unlockSent    = 29
)
