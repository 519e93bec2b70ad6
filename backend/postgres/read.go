package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/backend/internal/store"
)

const (
	// readTimeout bounds one statement that reads, so that a server that does not answer blocks nobody for ever.
	readTimeout = 15 * time.Second
	// readTries is how often a read is sent that a broken connection did not answer.
	readTries = 2
)

// read runs one statement, planned as the fence has it, and calls scan for each row.
func (d *db) read(ctx context.Context, sql string, args []any, begin func(), scan func(pgx.Rows) error) (err error) {
	d.life.RLock()
	defer d.life.RUnlock()
	if !d.open {
		return errClosed
	}
	for range readTries {
		begin()
		if err = d.readOnce(ctx, sql, args, scan); !lostAnswer(err) || ctx.Err() != nil {
			return err
		}
		d.pool.Reset() // what broke one connection may have broken all
	}
	return err
}

func (d *db) readOnce(ctx context.Context, sql string, args []any, scan func(pgx.Rows) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	q := &pgx.Batch{}
	q.Queue(d.sql.plan)
	q.Queue(sql, args...)
	res := d.pool.SendBatch(ctx, q)
	defer func() {
		if cerr := res.Close(); err == nil {
			err = cerr
		}
	}()
	if _, err := res.Exec(); err != nil {
		return err
	}
	rows, err := res.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// collect reads all rows of a statement.
func collect[T any](ctx context.Context, d *db, what, sql string, args []any, scan func(pgx.Rows) (T, error)) (all []T, err error) {
	err = d.read(ctx, sql, args, func() { all = nil }, func(rows pgx.Rows) error {
		v, err := scan(rows)
		all = append(all, v)
		return err
	})
	return all, failed(what, err)
}

func scanInstance(rows pgx.Rows) (*store.Instance, error) {
	r := &store.Instance{}
	var exec, name, version, parentExec, stalled, custom, input, output []byte
	err := rows.Scan(&r.Key, &r.ID, &r.Partition, &exec, &name, &version, &r.Status, &r.Unfinished, &r.CreatedAt, &r.UpdatedAt,
		&r.CompletedAt, &r.ScheduledAt, &r.Due, &r.Attempts, &r.ParentID, &parentExec, &r.ParentTask, &r.Tags, &r.Failure, &stalled,
		&custom, &input, &output)
	r.ExecutionID, r.Name, r.ParentExec, r.Stalled = string(exec), string(name), string(parentExec), string(stalled)
	r.Version, r.CustomStatus, r.Input, r.Output = optional(version), optional(custom), optional(input), optional(output)
	return r, err
}

func optional(b []byte) *string {
	if b == nil {
		return nil
	}
	s := string(b)
	return &s
}

func (d *db) one(ctx context.Context, sql string, arg any) (*store.Instance, error) {
	what := fmt.Sprintf("read instance %v", arg)
	rows, err := collect(ctx, d, what, sql, []any{arg}, scanInstance)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: %w", what, store.ErrNotFound)
	}
	return rows[0], nil
}

func (d *db) ByID(ctx context.Context, id string) (*store.Instance, error) {
	if !utf8.ValidString(id) || strings.ContainsRune(id, 0) {
		return nil, fmt.Errorf("read instance %q: %w", id, store.ErrNotFound) // no row can have it
	}
	return d.one(ctx, d.sql.byID, id)
}

func (d *db) ByKey(ctx context.Context, key int64) (*store.Instance, error) {
	return d.one(ctx, d.sql.byKey, key)
}

// historyPage and historyBytes bound what is read at once: few rows at first, more while they are small.
const (
	historyPage  = 500
	historyBytes = 4 << 20
)

func (d *db) History(ctx context.Context, key, after int64, f func(store.HistoryRow) error) error {
	for {
		size := 0
		rows, err := collect(ctx, d, fmt.Sprintf("read history of %d", key), d.sql.readHistory, []any{key, after, historyPage},
			func(rows pgx.Rows) (store.HistoryRow, error) {
				r := store.HistoryRow{Key: key}
				err := rows.Scan(&r.LSN, &r.At, &r.Events)
				size += len(r.Events)
				return r, err
			})
		if err != nil {
			return err
		}
		for _, r := range rows {
			after = r.LSN
			if err := f(r); err != nil {
				return err
			}
		}
		if len(rows) < historyPage {
			return nil
		}
	}
}

func (d *db) Inbox(ctx context.Context, key int64) ([]store.InboxRow, error) {
	return collect(ctx, d, "read inbox", d.sql.readInbox, []any{key}, func(rows pgx.Rows) (store.InboxRow, error) {
		r := store.InboxRow{Key: key}
		return r, rows.Scan(&r.Seq, &r.Event)
	})
}

func (d *db) Active(ctx context.Context, after int64, limit int) ([]int64, error) {
	return collect(ctx, d, "list active instances", d.sql.active, []any{after, limit}, func(rows pgx.Rows) (key int64, err error) {
		return key, rows.Scan(&key)
	})
}

func (d *db) DueAfter(ctx context.Context, after store.DueKey, limit int) ([]store.DueKey, error) {
	return collect(ctx, d, "list due instances", d.sql.due, []any{after.Due, after.Key, limit}, func(rows pgx.Rows) (k store.DueKey, err error) {
		return k, rows.Scan(&k.Due, &k.Key)
	})
}

// after is the lowest text above all that begin with prefix; "" for none.
func after(prefix string) string {
	runes := []rune(prefix)
	for n := len(runes) - 1; n >= 0; n-- {
		if r := runes[n] + 1; r <= utf8.MaxRune {
			if r == 0xd800 { // the surrogates are no characters
				r = 0xe000
			}
			runes[n] = r
			return string(runes[:n+1])
		}
	}
	return ""
}
