package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/perdure/perdure/backend/internal/store"
)

// rowSize is what an instance takes in a statement, roughly.
func rowSize(r *store.Instance) int {
	return 200 + len(r.Tags) + len(r.Failure) + len(r.Stalled) + len(value(r.CustomStatus)) + len(value(r.Input)) + len(value(r.Output))
}

// value is the bytes of a text that may be absent; nil for NULL.
func value(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}

// list is one column of rows as an array.
func list[T any](rows []*store.Instance, f func(*store.Instance) T) []T {
	l := make([]T, len(rows))
	for i, r := range rows {
		l[i] = f(r)
	}
	return l
}

// changing are the columns of an update, but for the key.
func changing(rows []*store.Instance) (before, after []any) {
	before = []any{
		list(rows, func(r *store.Instance) []byte { return []byte(r.ExecutionID) }),
		list(rows, func(r *store.Instance) []byte { return []byte(r.Name) }),
		list(rows, func(r *store.Instance) []byte { return value(r.Version) }),
		list(rows, func(r *store.Instance) int32 { return r.Status }),
		list(rows, func(r *store.Instance) bool { return r.Unfinished }),
	}
	after = []any{
		list(rows, func(r *store.Instance) []byte { return r.Tags }),
		list(rows, func(r *store.Instance) []byte { return r.Failure }),
		list(rows, func(r *store.Instance) []byte { return []byte(r.Stalled) }),
		list(rows, func(r *store.Instance) []byte { return value(r.CustomStatus) }),
		list(rows, func(r *store.Instance) []byte { return value(r.Input) }),
		list(rows, func(r *store.Instance) []byte { return value(r.Output) }),
	}
	return before, after
}

func times(rows []*store.Instance) []any {
	return []any{
		list(rows, func(r *store.Instance) int64 { return r.UpdatedAt }),
		list(rows, func(r *store.Instance) int64 { return r.CompletedAt }),
		list(rows, func(r *store.Instance) int64 { return r.ScheduledAt }),
		list(rows, func(r *store.Instance) int64 { return r.Due }),
		list(rows, func(r *store.Instance) int32 { return r.Attempts }),
	}
}

func keys(rows []*store.Instance) []int64 {
	return list(rows, func(r *store.Instance) int64 { return r.Key })
}

func (d *db) queueInstances(q *pgx.Batch, b *store.Batch) {
	chunks(b.Insert, rowSize, func(rows []*store.Instance) {
		args := []any{
			keys(rows),
			list(rows, func(r *store.Instance) string { return r.ID }),
			list(rows, func(r *store.Instance) int32 { return r.Partition }),
		}
		before, after := changing(rows)
		args = append(args, before...)
		args = append(args, list(rows, func(r *store.Instance) int64 { return r.CreatedAt }))
		args = append(args, times(rows)...)
		args = append(args,
			list(rows, func(r *store.Instance) string { return r.ParentID }),
			list(rows, func(r *store.Instance) []byte { return []byte(r.ParentExec) }),
			list(rows, func(r *store.Instance) int32 { return r.ParentTask }))
		q.Queue(d.sql.insert, append(args, after...)...)
	})
	chunks(last(b.Update), rowSize, func(rows []*store.Instance) {
		before, after := changing(rows)
		args := append([]any{keys(rows)}, before...)
		args = append(args, times(rows)...)
		q.Queue(d.sql.update, append(args, after...)...)
	})
}

// last keeps the last of several updates of one row: a statement changes a row once.
func last(rows []*store.Instance) []*store.Instance {
	at := make(map[int64]int, len(rows))
	kept := rows[:0:0]
	for _, r := range rows {
		if i, ok := at[r.Key]; ok {
			kept[i] = r
			continue
		}
		at[r.Key] = len(kept)
		kept = append(kept, r)
	}
	return kept
}
