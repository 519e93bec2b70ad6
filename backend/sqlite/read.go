package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend/internal/store"
)

var errClosed = fmt.Errorf("%w: the store is closed", store.ErrUnavailable)

// read runs f on a connection of its own; in memory, on the only one.
func (d *db) read(ctx context.Context, f func(*conn) error) error {
	d.life.RLock()
	defer d.life.RUnlock()
	if !d.open {
		return errClosed
	}
	if d.memory {
		d.write.Lock()
		defer d.write.Unlock()
		return d.w.during(ctx, func() error { return f(d.w) })
	}
	select {
	case c := <-d.reads:
		defer func() { d.reads <- c }()
		return c.during(ctx, func() error { return f(c) })
	case <-ctx.Done():
		return ctx.Err()
	}
}

// An instance is as new as the newest of its row and its turns.
const (
	columns    = first + `max(updated_at, coalesce((SELECT at FROM history h WHERE h.key = instances.key ORDER BY h.lsn DESC LIMIT 1), 0))` + last
	rowColumns = first + `updated_at` + last
	first      = `key, id, partition, execution_id, name, version, status, unfinished, created_at, `
	last       = `, completed_at, scheduled_at, due, attempts, parent_id, parent_exec, parent_task, tags, failure, stalled`
	payloads   = `, custom_status, input, output`
	noPayloads = `, NULL, NULL, NULL`
)

// instances selects rows. Where a damaged page of the history keeps one from
// being read, the times of the last turns are left out.
func (c *conn) instances(payload, rest string, args []any) (rows []*store.Instance, err error) {
	for _, columns := range []string{columns, rowColumns} {
		rows = nil
		err = c.query(`SELECT `+columns+payload+` FROM instances WHERE `+rest, args, func(s *sqlite3.Stmt) error {
			rows = append(rows, scan(s))
			return nil
		})
		if !errors.Is(err, store.ErrCorrupt) {
			break
		}
	}
	return rows, err
}

func scan(s *sqlite3.Stmt) *store.Instance {
	return &store.Instance{
		Key: s.ColumnInt64(0), ID: s.ColumnText(1), Partition: int32(s.ColumnInt64(2)), ExecutionID: s.ColumnText(3),
		Name: s.ColumnText(4), Version: optional(s, 5), Status: int32(s.ColumnInt64(6)), Unfinished: s.ColumnBool(7),
		CreatedAt: s.ColumnInt64(8), UpdatedAt: s.ColumnInt64(9), CompletedAt: s.ColumnInt64(10), ScheduledAt: s.ColumnInt64(11),
		Due: s.ColumnInt64(12), Attempts: int32(s.ColumnInt64(13)), ParentID: s.ColumnText(14), ParentExec: s.ColumnText(15),
		ParentTask: int32(s.ColumnInt64(16)), Tags: blob(s, 17), Failure: blob(s, 18), Stalled: s.ColumnText(19),
		CustomStatus: optional(s, 20), Input: optional(s, 21), Output: optional(s, 22),
	}
}

func (d *db) one(ctx context.Context, where string, arg any) (row *store.Instance, err error) {
	err = d.read(ctx, func(c *conn) error {
		rows, err := c.instances(payloads, where, []any{arg})
		if err == nil && len(rows) == 0 {
			err = store.ErrNotFound
		}
		if err == nil {
			row = rows[0]
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read instance %v: %w", arg, err)
	}
	return row, nil
}

func (d *db) ByID(ctx context.Context, id string) (*store.Instance, error) {
	return d.one(ctx, `id=?`, id)
}

func (d *db) ByKey(ctx context.Context, key int64) (*store.Instance, error) {
	return d.one(ctx, `key=?`, key)
}

// These bound what is read, in rows and in bytes, before the connection is given back.
const (
	historyPage  = 500
	historyBytes = 4 << 20
)

var errPageFull = errors.New("page full")

func (d *db) History(ctx context.Context, key, after int64, f func(store.HistoryRow) error) error {
	for {
		var rows []store.HistoryRow
		size := 0
		err := d.read(ctx, func(c *conn) error {
			return c.query(`SELECT lsn, at, events FROM history WHERE key=? AND lsn>? ORDER BY lsn LIMIT ?`,
				[]any{key, after, historyPage}, func(s *sqlite3.Stmt) error {
					rows = append(rows, store.HistoryRow{LSN: s.ColumnInt64(0), Key: key, At: s.ColumnInt64(1), Events: blob(s, 2)})
					if size += len(rows[len(rows)-1].Events); size >= historyBytes {
						return errPageFull
					}
					return nil
				})
		})
		full := errors.Is(err, errPageFull)
		if err != nil && !full {
			return fmt.Errorf("read history of %d: %w", key, err)
		}
		for _, r := range rows {
			after = r.LSN
			if err := f(r); err != nil {
				return err
			}
		}
		if !full && len(rows) < historyPage {
			return nil
		}
	}
}

func (d *db) Inbox(ctx context.Context, key int64) (rows []store.InboxRow, err error) {
	err = d.read(ctx, func(c *conn) error {
		return c.query(`SELECT seq, event FROM inbox WHERE key=? ORDER BY seq`, []any{key}, func(s *sqlite3.Stmt) error {
			rows = append(rows, store.InboxRow{Seq: s.ColumnInt64(0), Key: key, Event: blob(s, 1)})
			return nil
		})
	})
	return rows, failed("read inbox", err)
}

func (d *db) Active(ctx context.Context, after int64, limit int) (keys []int64, err error) {
	const sql = `SELECT key FROM (SELECT key FROM instances WHERE unfinished = 1 AND due = 0 AND key > ?1
 UNION SELECT key FROM inbox WHERE key > ?1 AND key IN (SELECT key FROM instances)) ORDER BY key LIMIT ?2`
	err = d.read(ctx, func(c *conn) error {
		return c.query(sql, []any{after, limit}, func(s *sqlite3.Stmt) error {
			keys = append(keys, s.ColumnInt64(0))
			return nil
		})
	})
	return keys, failed("list active instances", err)
}

func (d *db) DueAfter(ctx context.Context, after store.DueKey, limit int) (due []store.DueKey, err error) {
	const sql = `SELECT due, key FROM instances WHERE unfinished = 1 AND due <> 0 AND due <> 9223372036854775807
 AND (due, key) > (?, ?) ORDER BY due, key LIMIT ?`
	err = d.read(ctx, func(c *conn) error {
		return c.query(sql, []any{after.Due, after.Key, limit}, func(s *sqlite3.Stmt) error {
			due = append(due, store.DueKey{Due: s.ColumnInt64(0), Key: s.ColumnInt64(1)})
			return nil
		})
	})
	return due, failed("list due instances", err)
}

func failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// after is the lowest text above all that begin with prefix; "" for none.
func after(prefix string) string {
	b := []byte(prefix)
	for n := len(b) - 1; n >= 0; n-- {
		if b[n] < 0xff {
			b[n]++
			return string(b[:n+1])
		}
	}
	return ""
}
