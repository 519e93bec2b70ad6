package sqlite

import (
	"context"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend/internal/store"
)

var _ store.Counter = (*db)(nil)

// selection is a WHERE clause. Values are always bound, never put into the text.
type selection struct {
	where []string
	args  []any
}

func (s *selection) add(cond string, args ...any) {
	s.where = append(s.where, cond)
	s.args = append(s.args, args...)
}

// selects is what a filter selects, without its order and paging.
func selects(f store.Filter) *selection {
	s := &selection{where: []string{`true`}}
	if n := len(f.Statuses); n > 0 {
		args := make([]any, n)
		for i, v := range f.Statuses {
			args[i] = v
		}
		s.add(`status IN (?`+strings.Repeat(`,?`, n-1)+`)`, args...)
	}
	if f.ParentID != "" {
		s.add(`parent_id <> '' AND parent_id = ?`, f.ParentID)
	}
	if f.Name != "" {
		s.add(`name = ?`, f.Name)
	}
	if f.CreatedFrom != 0 {
		s.add(`created_at >= ?`, f.CreatedFrom)
	}
	if f.CreatedTo != 0 {
		s.add(`created_at <= ?`, f.CreatedTo)
	}
	if f.IDPrefix != "" {
		s.add(`id >= ?`, f.IDPrefix)
		if next := after(f.IDPrefix); next != "" {
			s.add(`id < ?`, next)
		}
	}
	if f.NotPrefix != "" {
		if next := after(f.NotPrefix); next != "" {
			s.add(`(id < ? OR id >= ?)`, f.NotPrefix, next)
		} else {
			s.add(`id < ?`, f.NotPrefix)
		}
	}
	return s
}

// Query lists instances.
func (d *db) Query(ctx context.Context, f store.Filter) (rows []*store.Instance, err error) {
	s, order := selects(f), ` ORDER BY key`
	switch {
	case f.ByCompletion:
		order = ` ORDER BY completed_at, id`
		s.add(`unfinished = 0`)
		s.add(`(completed_at, id) > (?, ?)`, f.AfterTime, f.AfterID)
		if f.CompletedFrom != 0 {
			s.add(`completed_at >= ?`, f.CompletedFrom)
		}
		if f.CompletedTo != 0 {
			s.add(`completed_at <= ?`, f.CompletedTo)
		}
	case f.Newest:
		order += ` DESC`
		if f.AfterKey != 0 {
			s.add(`key < ?`, f.AfterKey)
		}
	default:
		s.add(`key > ?`, f.AfterKey)
	}
	cols := noPayloads
	if f.Payloads {
		cols = payloads
	}
	err = d.read(ctx, func(c *conn) (err error) {
		rows, err = c.instances(cols, strings.Join(s.where, ` AND `)+order+` LIMIT ?`, append(s.args, f.Limit))
		return err
	})
	return rows, failed("query instances", err)
}

// Count counts instances by status. Those that NotPrefix leaves out are few,
// and an index of the others tells all but their ids: they are taken off.
func (d *db) Count(ctx context.Context, f store.Filter) (map[int32]int64, error) {
	counts := map[int32]int64{}
	err := d.read(ctx, func(c *conn) error {
		if f.NotPrefix == "" || f.IDPrefix != "" {
			return c.count(f, 1, counts)
		}
		others := f
		f.NotPrefix, others.IDPrefix, others.NotPrefix = "", f.NotPrefix, ""
		if err := c.count(f, 1, counts); err != nil {
			return err
		}
		return c.count(others, -1, counts)
	})
	for status, n := range counts {
		if n == 0 {
			delete(counts, status)
		}
	}
	return counts, failed("count instances", err)
}

func (c *conn) count(f store.Filter, sign int64, counts map[int32]int64) error {
	s := selects(f)
	return c.query(`SELECT status, count(*) FROM instances WHERE `+strings.Join(s.where, ` AND `)+` GROUP BY status`, s.args,
		func(s *sqlite3.Stmt) error {
			counts[int32(s.ColumnInt64(0))] += sign * s.ColumnInt64(1)
			return nil
		})
}
