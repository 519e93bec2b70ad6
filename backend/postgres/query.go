package postgres

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/backend/internal/store"
)

var _ store.Counter = (*db)(nil)

// selection is a WHERE clause. Values are always bound, never put into the text.
type selection struct {
	where []string
	args  []any
}

func (s *selection) add(cond string, args ...any) {
	for _, v := range args {
		s.args = append(s.args, v)
		cond = strings.Replace(cond, "?", "$"+strconv.Itoa(len(s.args)), 1)
	}
	s.where = append(s.where, cond)
}

func (s *selection) text() string { return strings.Join(s.where, ` AND `) }

// selects is what a filter selects, without its order and paging.
func selects(f store.Filter) *selection {
	s := &selection{where: []string{`true`}}
	if len(f.Statuses) > 0 {
		s.add(`status = ANY(?::integer[])`, f.Statuses)
	}
	if f.ParentID != "" {
		s.add(`parent_id <> '' AND parent_id = ?`, f.ParentID)
	}
	if f.Name != "" {
		s.add(`name = ?`, []byte(f.Name))
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
func (d *db) Query(ctx context.Context, f store.Filter) ([]*store.Instance, error) {
	s, order := selects(f), ` ORDER BY key`
	switch {
	case f.ByCompletion:
		order = ` ORDER BY completed_at, id`
		s.add(`NOT unfinished`)
		s.add(`(completed_at, id) > (?::bigint, ?::text)`, f.AfterTime, f.AfterID)
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
	sql := d.sql.query
	if f.Payloads {
		sql = d.sql.queryPayloads
	}
	sql += s.text() + order + ` LIMIT $` + strconv.Itoa(len(s.args)+1)
	return collect(ctx, d, "query instances", sql, append(s.args, f.Limit), scanInstance)
}

// Count counts instances by status.
func (d *db) Count(ctx context.Context, f store.Filter) (map[int32]int64, error) {
	s, counts := selects(f), map[int32]int64{}
	sql := `SELECT status, count(*) FROM ` + d.opts.Schema + `.instances WHERE ` + s.text() + ` GROUP BY status`
	_, err := collect(ctx, d, "count instances", sql, s.args, func(rows pgx.Rows) (status int32, err error) {
		var n int64
		err = rows.Scan(&status, &n)
		counts[status] = n
		return status, err
	})
	return counts, err
}
