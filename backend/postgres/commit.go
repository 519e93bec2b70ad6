package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/perdure/perdure/backend/internal/store"
)

const (
	// commitTimeout is when a commit counts as lost: the connection is dropped
	// and the engine asks Committed what became of it.
	commitTimeout = 15 * time.Second
	// conflictTries bounds how often a commit is sent again that the server undid.
	conflictTries = 5
	// settleTries is how often the server is asked about a lost commit before the caller is told.
	settleTries = 2
	// chunkBytes and chunkRows bound one statement; the batch stays one transaction.
	chunkBytes = 8 << 20
	chunkRows  = 2000
)

func (d *db) Commit(ctx context.Context, b *store.Batch) error {
	d.life.RLock()
	defer d.life.RUnlock()
	if !d.open {
		return fmt.Errorf("commit: %w", errClosed)
	}
	d.write.Lock()
	defer d.write.Unlock()
	if b.Epoch != d.epoch {
		return fmt.Errorf("commit: %w: it was %d and is %d", store.ErrStaleEpoch, b.Epoch, d.epoch)
	}
	err := d.sendFenced(ctx, b)
	if lostAnswer(err) {
		// The server may have restarted: one more try, once it is known that this one was not stored.
		if found, serr := d.settle(ctx, b); serr == nil && found {
			return nil
		} else if serr == nil {
			err = d.sendFenced(ctx, b)
		}
	}
	return failed("commit", err)
}

// sendFenced sends the batch until the server neither undoes it for the sake of
// others nor finds another gate than was expected. write is held.
func (d *db) sendFenced(ctx context.Context, b *store.Batch) (err error) {
	for range conflictTries {
		err = d.send(ctx, b)
		switch {
		case codeOf(err) == divisionByZero:
			// Refused: by a takeover, or by a change of the gate whose answer was lost.
			if gerr := d.changeGate(ctx, d.pool); gerr != nil {
				return errors.Join(gerr, err)
			}
		case !rolledBack(err):
			return err
		}
	}
	return err
}

// writer returns the connection that commits, a new one where the last was lost. write is held.
func (d *db) writer(ctx context.Context) (*pgxpool.Conn, error) {
	if d.w != nil && !d.w.Conn().IsClosed() {
		return d.w, nil
	}
	if d.w != nil {
		d.w.Release()
		d.w = nil
	}
	var err error
	d.w, err = d.pool.Acquire(ctx)
	return d.w, err
}

// send writes the batch in one round trip: the statements stand in one
// implicit transaction, which the fence begins.
func (d *db) send(ctx context.Context, b *store.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	w, err := d.writer(ctx)
	if err != nil {
		return err
	}
	q := &pgx.Batch{}
	fence := d.sql.fence
	if d.opts.RelaxedDurability {
		fence = d.sql.fenceRelaxed
	}
	q.Queue(fence, b.Epoch, d.gate)
	d.queueDeletes(q, b)
	d.queueInstances(q, b)
	d.queueMessages(q, b)
	return w.SendBatch(ctx, q).Close()
}

func (d *db) queueDeletes(q *pgx.Batch, b *store.Batch) {
	if len(b.Delete) > 0 {
		q.Queue(d.sql.deleteInstances, b.Delete)
		q.Queue(d.sql.deleteHistory, b.Delete)
		q.Queue(d.sql.deleteInbox, b.Delete)
	}
	if n := len(b.Truncate); n > 0 {
		keys, before := make([]int64, n), make([]int64, n)
		for i, t := range b.Truncate {
			keys[i], before[i] = t.Key, t.Before
		}
		q.Queue(d.sql.truncate, keys, before)
	}
}

func (d *db) queueMessages(q *pgx.Batch, b *store.Batch) {
	chunks(b.History, func(h store.HistoryRow) int { return len(h.Events) }, func(part []store.HistoryRow) {
		n := len(part)
		keys, lsns, at, events := make([]int64, n), make([]int64, n), make([]int64, n), make([][]byte, n)
		for i, h := range part {
			keys[i], lsns[i], at[i], events[i] = h.Key, h.LSN, h.At, some(h.Events)
		}
		q.Queue(d.sql.history, keys, lsns, at, events)
	})
	chunks(b.Inbox, func(m store.InboxRow) int { return len(m.Event) }, func(part []store.InboxRow) {
		n := len(part)
		seqs, keys, events := make([]int64, n), make([]int64, n), make([][]byte, n)
		for i, m := range part {
			seqs[i], keys[i], events[i] = m.Seq, m.Key, some(m.Event)
		}
		q.Queue(d.sql.inbox, seqs, keys, events)
	})
	if len(b.Consume) > 0 {
		q.Queue(d.sql.consume, b.Consume)
	}
}

// chunks cuts rows into parts of bounded size.
func chunks[T any](rows []T, size func(T) int, f func([]T)) {
	from, bytes := 0, 0
	for i, r := range rows {
		n := size(r)
		if i > from && (bytes+n > chunkBytes || i-from >= chunkRows) {
			f(rows[from:i])
			from, bytes = i, 0
		}
		bytes += n
	}
	if from < len(rows) {
		f(rows[from:])
	}
}

// some keeps a column that is never NULL from being bound so.
func some(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Committed looks for the batch's first row. Where it is not there, the gate
// is changed first: a lost commit that the server has yet to begin will fail.
func (d *db) Committed(ctx context.Context, b *store.Batch) (found bool, err error) {
	d.life.RLock()
	defer d.life.RUnlock()
	if !d.open {
		return false, fmt.Errorf("look for batch: %w", errClosed)
	}
	d.write.Lock()
	defer d.write.Unlock()
	if b.Epoch != d.epoch {
		return false, fmt.Errorf("look for batch: %w: it was %d and is %d", store.ErrStaleEpoch, b.Epoch, d.epoch)
	}
	found, err = d.settle(ctx, b)
	return found, failed("look for batch", err)
}

// settle finds out what became of a batch, and makes sure that it stays so. write is held.
func (d *db) settle(ctx context.Context, b *store.Batch) (found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	for range settleTries {
		found = false
		if err = d.settleOnce(ctx, b, &found); !lostAnswer(err) || ctx.Err() != nil {
			break
		}
		d.pool.Reset() // what broke one connection may have broken all
	}
	return found, err
}

func (d *db) settleOnce(ctx context.Context, b *store.Batch, found *bool) error {
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if err := d.changeGate(ctx, tx); err != nil { // it waits for a commit in flight
			return err
		}
		switch {
		case len(b.History) > 0:
			return tx.QueryRow(ctx, d.sql.hasHistory, b.History[0].Key, b.History[0].LSN).Scan(found)
		case len(b.Insert) > 0:
			return tx.QueryRow(ctx, d.sql.hasInstance, b.Insert[0].Key).Scan(found)
		case len(b.Inbox) > 0:
			return tx.QueryRow(ctx, d.sql.hasInbox, b.Inbox[0].Seq).Scan(found)
		}
		return nil
	})
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// changeGate makes every commit that was sent before fail. Only the owner
// changes it, so any value of this epoch is this process's own. write is held.
func (d *db) changeGate(ctx context.Context, q querier) error {
	var gate int64
	err := q.QueryRow(ctx, d.sql.gate, d.epoch).Scan(&gate)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: another process took over from epoch %d", store.ErrStaleEpoch, d.epoch)
	}
	if err == nil {
		d.gate = gate
	}
	return err
}
