// Package memstore is the model of a store: plain maps, obviously right, and
// slow. Drivers are compared with it, and the simulation crashes it. It
// must not be used for anything that matters.
package memstore

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/perdure/perdure/backend/internal/store"
)

// Store is a store.Store in memory. What it holds survives Close, as if the process had crashed.
type Store struct {
	mu      sync.Mutex
	created bool
	open    bool
	marks   store.Marks
	rows    map[int64]*store.Instance
	byID    map[string]int64
	history []store.HistoryRow
	inbox   []store.InboxRow
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store { return &Store{} }

// Open takes ownership; whoever held it before has a stale epoch.
func (s *Store) Open(context.Context) (bool, store.Marks, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := !s.created
	if fresh {
		s.created, s.rows, s.byID = true, map[int64]*store.Instance{}, map[string]int64{}
		s.history, s.inbox = nil, nil
	}
	s.open = true
	s.marks.Epoch++
	return fresh, s.marks, nil
}

// Close keeps everything.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = false
	return nil
}

// Destroy forgets everything.
func (s *Store) Destroy(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.created {
		return store.ErrNotFound
	}
	s.created, s.open = false, false
	return nil
}

// Commit applies the batch whole or not at all.
func (s *Store) Commit(_ context.Context, b *store.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Epoch != s.marks.Epoch {
		return fmt.Errorf("%w: %d, now %d", store.ErrStaleEpoch, b.Epoch, s.marks.Epoch)
	}
	free := map[int64]bool{}
	for _, k := range b.Delete {
		free[k] = true
	}
	ids := map[string]bool{}
	for _, r := range b.Insert {
		key, taken := s.byID[r.ID]
		if (taken && !free[key]) || ids[r.ID] || s.rows[r.Key] != nil {
			return fmt.Errorf("insert %s (%d): it is there already", r.ID, r.Key)
		}
		ids[r.ID] = true
	}
	s.remove(b)
	for _, r := range b.Insert {
		row := *r
		s.rows[row.Key], s.byID[row.ID] = &row, row.Key
		s.marks.Key = max(s.marks.Key, row.Key)
	}
	for _, r := range b.Update {
		if old := s.rows[r.Key]; old != nil {
			row := *r
			row.ID, row.Partition, row.CreatedAt = old.ID, old.Partition, old.CreatedAt
			row.ParentID, row.ParentExec, row.ParentTask = old.ParentID, old.ParentExec, old.ParentTask
			s.rows[r.Key] = &row
		}
	}
	for _, h := range b.History {
		h.Events = slices.Clone(h.Events)
		s.history = append(s.history, h)
		s.marks.LSN = max(s.marks.LSN, h.LSN)
	}
	for _, m := range b.Inbox {
		m.Event = slices.Clone(m.Event)
		s.inbox = append(s.inbox, m)
		s.marks.Seq = max(s.marks.Seq, m.Seq)
	}
	s.inbox = slices.DeleteFunc(s.inbox, func(m store.InboxRow) bool { return slices.Contains(b.Consume, m.Seq) })
	return nil
}

func (s *Store) remove(b *store.Batch) {
	for _, k := range b.Delete {
		if r := s.rows[k]; r != nil {
			delete(s.byID, r.ID)
			delete(s.rows, k)
		}
	}
	s.history = slices.DeleteFunc(s.history, func(h store.HistoryRow) bool {
		return slices.Contains(b.Delete, h.Key) || slices.ContainsFunc(b.Truncate, func(t store.Truncate) bool {
			return t.Key == h.Key && h.LSN < t.Before
		})
	})
	s.inbox = slices.DeleteFunc(s.inbox, func(m store.InboxRow) bool { return slices.Contains(b.Delete, m.Key) })
}

// Committed looks for the batch's first row.
func (s *Store) Committed(_ context.Context, b *store.Batch) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Epoch != s.marks.Epoch {
		return false, fmt.Errorf("%w: %d, now %d", store.ErrStaleEpoch, b.Epoch, s.marks.Epoch)
	}
	switch {
	case len(b.History) > 0:
		return slices.ContainsFunc(s.history, func(h store.HistoryRow) bool { return h.LSN == b.History[0].LSN }), nil
	case len(b.Insert) > 0:
		return s.rows[b.Insert[0].Key] != nil, nil
	case len(b.Inbox) > 0:
		return slices.ContainsFunc(s.inbox, func(m store.InboxRow) bool { return m.Seq == b.Inbox[0].Seq }), nil
	}
	return false, nil
}

func (s *Store) read(key int64) *store.Instance {
	r := *s.rows[key]
	var newest store.HistoryRow
	for _, h := range s.history {
		if h.Key == key && h.LSN > newest.LSN {
			newest = h
		}
	}
	r.UpdatedAt = max(r.UpdatedAt, newest.At)
	return &r
}

// ByID reads one row.
func (s *Store) ByID(_ context.Context, id string) (*store.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, ok := s.byID[id]
	if !ok {
		return nil, fmt.Errorf("%w: %s", store.ErrNotFound, id)
	}
	return s.read(key), nil
}

// ByKey reads one row.
func (s *Store) ByKey(_ context.Context, key int64) (*store.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows[key] == nil {
		return nil, fmt.Errorf("%w: %d", store.ErrNotFound, key)
	}
	return s.read(key), nil
}

// History reads an instance's history.
func (s *Store) History(_ context.Context, key, after int64, f func(store.HistoryRow) error) error {
	s.mu.Lock()
	var rows []store.HistoryRow
	for _, h := range s.history {
		if h.Key == key && h.LSN > after {
			rows = append(rows, h)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(rows, func(a, b store.HistoryRow) int { return cmp.Compare(a.LSN, b.LSN) })
	for _, h := range rows {
		if err := f(h); err != nil {
			return err
		}
	}
	return nil
}

// Inbox reads an instance's messages.
func (s *Store) Inbox(_ context.Context, key int64) ([]store.InboxRow, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []store.InboxRow
	for _, m := range s.inbox {
		if m.Key == key {
			rows = append(rows, m)
		}
	}
	slices.SortFunc(rows, func(a, b store.InboxRow) int { return cmp.Compare(a.Seq, b.Seq) })
	return rows, nil
}

// Active lists what recovery must look at.
func (s *Store) Active(_ context.Context, after int64, limit int) ([]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := map[int64]bool{}
	for k, r := range s.rows {
		if k > after && r.Unfinished && r.Due == 0 {
			keys[k] = true
		}
	}
	for _, m := range s.inbox {
		if m.Key > after && s.rows[m.Key] != nil {
			keys[m.Key] = true
		}
	}
	sorted := slices.Sorted(maps.Keys(keys))
	return sorted[:min(limit, len(sorted))], nil
}

// DueAfter lists parked instances by due time.
func (s *Store) DueAfter(_ context.Context, after store.DueKey, limit int) ([]store.DueKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []store.DueKey
	order := func(a, b store.DueKey) int { return cmp.Or(cmp.Compare(a.Due, b.Due), cmp.Compare(a.Key, b.Key)) }
	for k, r := range s.rows {
		d := store.DueKey{Due: r.Due, Key: k}
		if r.Unfinished && r.Due != 0 && r.Due != store.Far && order(d, after) > 0 {
			due = append(due, d)
		}
	}
	slices.SortFunc(due, order)
	return due[:min(limit, len(due))], nil
}

// Query lists instances.
func (s *Store) Query(_ context.Context, f store.Filter) ([]*store.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []*store.Instance
	for key := range s.rows {
		if r := s.read(key); matches(f, r) {
			if !f.Payloads {
				r.Input, r.Output, r.CustomStatus = nil, nil, nil
			}
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b *store.Instance) int {
		if f.ByCompletion {
			return cmp.Or(cmp.Compare(a.CompletedAt, b.CompletedAt), cmp.Compare(a.ID, b.ID))
		}
		if f.Newest {
			a, b = b, a
		}
		return cmp.Compare(a.Key, b.Key)
	})
	return rows[:min(f.Limit, len(rows))], nil
}

// Count counts instances by status.
func (s *Store) Count(_ context.Context, f store.Filter) (map[int32]int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.ByCompletion, f.AfterKey = false, 0
	counts := map[int32]int64{}
	for _, r := range s.rows {
		if matches(f, r) {
			counts[r.Status]++
		}
	}
	return counts, nil
}

func matches(f store.Filter, r *store.Instance) bool {
	ok := (len(f.Statuses) == 0 || slices.Contains(f.Statuses, r.Status)) &&
		strings.HasPrefix(r.ID, f.IDPrefix) && (f.Name == "" || f.Name == r.Name) &&
		(f.NotPrefix == "" || !strings.HasPrefix(r.ID, f.NotPrefix)) &&
		(f.ParentID == "" || f.ParentID == r.ParentID) &&
		(f.CreatedFrom == 0 || r.CreatedAt >= f.CreatedFrom) && (f.CreatedTo == 0 || r.CreatedAt <= f.CreatedTo)
	if !f.ByCompletion {
		if f.Newest {
			return ok && (f.AfterKey == 0 || r.Key < f.AfterKey)
		}
		return ok && r.Key > f.AfterKey
	}
	past := r.CompletedAt > f.AfterTime || (r.CompletedAt == f.AfterTime && r.ID > f.AfterID)
	return ok && !r.Unfinished && past && (f.CompletedFrom == 0 || r.CompletedAt >= f.CompletedFrom) &&
		(f.CompletedTo == 0 || r.CompletedAt <= f.CompletedTo)
}
