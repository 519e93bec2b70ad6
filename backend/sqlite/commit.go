package sqlite

import (
	"context"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend/internal/store"
)

const (
	insertInstance = `INSERT INTO instances (key, id, partition, execution_id, name, version, status, unfinished,
 created_at, updated_at, completed_at, scheduled_at, due, attempts, parent_id, parent_exec, parent_task,
 tags, failure, stalled, custom_status, input, output) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`
	updateInstance = `UPDATE instances SET execution_id=?, name=?, version=?, status=?, unfinished=?, updated_at=?,
 completed_at=?, scheduled_at=?, due=?, attempts=?, tags=?, failure=?, stalled=?, custom_status=?, input=?, output=? WHERE key=?`
)

func (d *db) Commit(ctx context.Context, b *store.Batch) error {
	d.life.RLock()
	defer d.life.RUnlock()
	if !d.open {
		return fmt.Errorf("commit: %w", errClosed)
	}
	d.write.Lock()
	defer d.write.Unlock()
	if err := d.present(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := d.w.tx(ctx, func() error { return d.apply(b) }); err != nil {
		return fmt.Errorf("commit: %w", d.diagnose(err))
	}
	return nil
}

func (d *db) apply(b *store.Batch) error {
	epoch := int64(0)
	if err := d.w.query(`SELECT epoch FROM meta`, nil, func(s *sqlite3.Stmt) error {
		epoch = s.ColumnInt64(0)
		return nil
	}); err != nil {
		return err
	}
	if b.Epoch != epoch {
		return fmt.Errorf("%w: it was %d and is %d", store.ErrStaleEpoch, b.Epoch, epoch)
	}
	for _, key := range b.Delete {
		for _, sql := range []string{
			`DELETE FROM instances WHERE key=?`, `DELETE FROM history WHERE key=?`, `DELETE FROM inbox WHERE key=?`,
		} {
			if err := d.w.exec(sql, key); err != nil {
				return err
			}
		}
	}
	for _, t := range b.Truncate {
		if err := d.w.exec(`DELETE FROM history WHERE key=? AND lsn<?`, t.Key, t.Before); err != nil {
			return err
		}
	}
	for _, r := range b.Insert {
		if err := d.w.exec(insertInstance, r.Key, r.ID, r.Partition, r.ExecutionID, r.Name, r.Version, r.Status, r.Unfinished,
			r.CreatedAt, r.UpdatedAt, r.CompletedAt, r.ScheduledAt, r.Due, r.Attempts, r.ParentID, r.ParentExec, r.ParentTask,
			r.Tags, r.Failure, r.Stalled, r.CustomStatus, r.Input, r.Output); err != nil {
			return fmt.Errorf("insert %s: %w", r.ID, err)
		}
	}
	for _, r := range b.Update {
		if err := d.w.exec(updateInstance, r.ExecutionID, r.Name, r.Version, r.Status, r.Unfinished, r.UpdatedAt,
			r.CompletedAt, r.ScheduledAt, r.Due, r.Attempts, r.Tags, r.Failure, r.Stalled, r.CustomStatus, r.Input, r.Output,
			r.Key); err != nil {
			return fmt.Errorf("update %s: %w", r.ID, err)
		}
	}
	return d.applyMessages(b)
}

func (d *db) applyMessages(b *store.Batch) error {
	for _, h := range b.History {
		if err := d.w.exec(`INSERT INTO history (lsn, key, at, events) VALUES (?,?,?,?)`, h.LSN, h.Key, h.At, some(h.Events)); err != nil {
			return fmt.Errorf("history of %d: %w", h.Key, err)
		}
	}
	for _, m := range b.Inbox {
		if err := d.w.exec(`INSERT INTO inbox (seq, key, event) VALUES (?,?,?)`, m.Seq, m.Key, some(m.Event)); err != nil {
			return fmt.Errorf("inbox of %d: %w", m.Key, err)
		}
	}
	for _, seq := range b.Consume {
		if err := d.w.exec(`DELETE FROM inbox WHERE seq=?`, seq); err != nil {
			return err
		}
	}
	return nil
}

// some keeps a column that is never NULL from being bound so: an empty message may marshal to nil.
func some(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Committed looks for the batch's first row.
func (d *db) Committed(ctx context.Context, b *store.Batch) (found bool, err error) {
	var sql string
	arg, epoch := int64(0), int64(0)
	switch {
	case len(b.History) > 0:
		sql, arg = `SELECT 1 FROM history WHERE lsn=?`, b.History[0].LSN
	case len(b.Insert) > 0:
		sql, arg = `SELECT 1 FROM instances WHERE key=?`, b.Insert[0].Key
	case len(b.Inbox) > 0:
		sql, arg = `SELECT 1 FROM inbox WHERE seq=?`, b.Inbox[0].Seq
	default:
		return false, nil
	}
	err = d.read(ctx, func(c *conn) error {
		if err := c.query(`SELECT epoch FROM meta`, nil, func(s *sqlite3.Stmt) error { epoch = s.ColumnInt64(0); return nil }); err != nil {
			return err
		}
		if b.Epoch != epoch {
			return fmt.Errorf("%w: it was %d and is %d", store.ErrStaleEpoch, b.Epoch, epoch)
		}
		return c.query(sql, []any{arg}, func(*sqlite3.Stmt) error { found = true; return nil })
	})
	if err != nil {
		return false, fmt.Errorf("look for batch: %w", err)
	}
	return found, nil
}
