package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// GetEntity reads one entity from the store.
func (e *Engine) GetEntity(ctx context.Context, id api.EntityID, includeState bool) (*api.EntityMetadata, error) {
	if err := id.Check(); err != nil {
		return nil, err
	}
	if !e.isOpen() {
		return nil, backend.ErrNotInitialized
	}
	row, err := e.st.ByID(ctx, id.String())
	if errors.Is(err, store.ErrNotFound) || (err == nil && row.Output == nil) {
		return nil, fmt.Errorf("%w: entity %s", api.ErrInstanceNotFound, id)
	}
	if err != nil {
		return nil, err
	}
	return e.entityMetadata(row, includeState)
}

func (e *Engine) entityMetadata(row *store.Instance, includeState bool) (*api.EntityMetadata, error) {
	id, err := api.EntityIDFromString(row.ID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	l, err := decodeLock(row.Tags)
	if err != nil {
		return nil, fmt.Errorf("entity %s: %w", id, err)
	}
	m := &api.EntityMetadata{
		InstanceID: id, LastModifiedTime: timeOf(row.UpdatedAt),
		HasState: row.Status == int32(api.RUNTIME_STATUS_RUNNING),
	}
	if l != nil {
		m.LockedBy = l.Owner
	}
	if includeState {
		m.SerializedState = deref(row.Output)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := e.byKey[row.Key]; i != nil && i.ent != nil { // what waits is in memory
		m.BacklogQueueSize = int32(len(i.inbox) + len(i.ent.later))
	}
	return m, nil
}

func entityPage(token string, size int32) (store.Filter, error) {
	f := store.Filter{IDPrefix: entityPrefix, Limit: int(size)}
	switch {
	case size < 0:
		return f, fmt.Errorf("%w: page size %d is negative", api.ErrInvalidInput, size)
	case size == 0:
		f.Limit = defaultPage
	case size > maxPage:
		f.Limit = maxPage
	}
	if token != "" {
		key, err := strconv.ParseInt(token, 36, 64)
		if err != nil || key <= 0 {
			return f, fmt.Errorf("%w: continuation token %q", api.ErrInvalidInput, token)
		}
		f.AfterKey = key
	}
	return f, nil
}

// QueryEntities lists entities in the order in which they came to be.
func (e *Engine) QueryEntities(ctx context.Context, q api.EntityQuery) (*api.EntityQueryResults, error) {
	if !e.isOpen() {
		return nil, backend.ErrNotInitialized
	}
	f, err := entityPage(q.ContinuationToken, q.PageSize)
	if err != nil {
		return nil, err
	}
	if p := strings.TrimPrefix(q.InstanceIDStartsWith, entityPrefix); p != "" {
		name, key, full := strings.Cut(p, "@")
		if f.IDPrefix += strings.ToLower(name); full {
			f.IDPrefix += "@" + key
		}
	}
	if !q.IncludeTransient {
		f.Statuses = []int32{int32(api.RUNTIME_STATUS_RUNNING)}
	}
	f.Payloads = q.IncludeState
	limit := f.Limit
	page := &api.EntityQueryResults{}
	for {
		rows, err := e.st.Query(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			f.AfterKey = row.Key
			at := timeOf(row.UpdatedAt)
			if (!q.LastModifiedFrom.IsZero() && at.Before(q.LastModifiedFrom)) ||
				(!q.LastModifiedTo.IsZero() && at.After(q.LastModifiedTo)) {
				continue
			}
			m, err := e.entityMetadata(row, q.IncludeState)
			if err != nil {
				return nil, err
			}
			if page.Entities = append(page.Entities, m); len(page.Entities) == limit {
				page.ContinuationToken = strconv.FormatInt(row.Key, 36)
				return page, e.endsAt(ctx, f, page)
			}
		}
		if len(rows) < f.Limit {
			return page, nil
		}
	}
}

// endsAt takes the token away where no row of the filter comes after the page.
func (e *Engine) endsAt(ctx context.Context, f store.Filter, page *api.EntityQueryResults) error {
	f.Limit, f.Payloads = 1, false
	rows, err := e.st.Query(ctx, f)
	if err == nil && len(rows) == 0 {
		page.ContinuationToken = ""
	}
	return err
}

// CleanEntityStorage looks at one page of entities.
func (e *Engine) CleanEntityStorage(
	ctx context.Context, req api.CleanEntityStorageRequest,
) (*api.CleanEntityStorageResult, error) {
	if !e.isOpen() {
		return nil, backend.ErrNotInitialized
	}
	f, err := entityPage(req.ContinuationToken, 0)
	if err != nil {
		return nil, err
	}
	rows, err := e.st.Query(ctx, f)
	if err != nil {
		return nil, err
	}
	r := &api.CleanEntityStorageResult{}
	for _, row := range rows {
		if req.ReleaseOrphanedLocks {
			n, err := e.releaseOrphans(ctx, row)
			if err != nil {
				return nil, fmt.Errorf("entity %s: %w", row.ID, err)
			}
			r.OrphanedLocksReleased += n
		}
		if req.RemoveEmptyEntities && row.Status == int32(api.RUNTIME_STATUS_PENDING) && row.Tags == nil {
			removed, err := e.removeEmpty(ctx, row)
			if err != nil {
				return nil, fmt.Errorf("entity %s: %w", row.ID, err)
			}
			if removed {
				r.EmptyEntitiesRemoved++
			}
		}
	}
	if len(rows) == f.Limit {
		r.ContinuationToken = strconv.FormatInt(rows[len(rows)-1].Key, 36)
	}
	return r, nil
}

// removeEmpty deletes the row of an entity that has nothing.
func (e *Engine) removeEmpty(ctx context.Context, row *store.Instance) (removed bool, err error) {
	i, err := e.pin(ctx, row.ID)
	if err != nil {
		return false, err
	}
	defer e.unpin(i)
	err = e.submit(&op{
		build: func(b *builder) error {
			idle := i.turn == nil && len(i.inbox) == 0 && len(i.ent.later) == 0 && i.ent.usedIn != b
			removed = idle && i.row != nil && i.row.Key == row.Key && i.row.Output == nil && i.ent.lock == nil
			if removed {
				b.Delete = append(b.Delete, row.Key)
				i.ent.endsIn = b // what comes later in the batch makes it anew
			}
			return nil
		},
		apply: func(err error) {
			if removed && err == nil {
				delete(e.byKey, row.Key)
				i.row, i.key = nil, 0
			}
		},
	})
	return removed && err == nil, err
}

// releaseOrphans sends the unlocks that orchestrations which are over, or not there, have not sent.
func (e *Engine) releaseOrphans(ctx context.Context, row *store.Instance) (n int32, err error) {
	i, err := e.pin(ctx, row.ID)
	if err != nil {
		return 0, err
	}
	defer e.unpin(i)
	owners := map[string]string{} // by section
	e.mu.Lock()
	if l := i.ent.lock; l != nil {
		owners[l.Section] = l.Owner
	}
	for _, m := range i.inbox {
		if r := m.event.GetEntityLockRequested(); r != nil {
			owners[r.GetCriticalSectionId()] = r.GetParentInstanceId().GetValue()
		}
	}
	for _, m := range i.inbox {
		delete(owners, m.event.GetEntityUnlockSent().GetCriticalSectionId()) // on its way
	}
	e.mu.Unlock()
	for section, owner := range owners {
		o, err := e.st.ByID(ctx, owner)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return n, err
		}
		if err == nil && o.Unfinished {
			continue
		}
		m := &message{event: backend.NewEntityUnlock(section, owner, "", timestamppb.New(e.Now())), ack: make(chan error, 1)}
		if err := e.deliver(ctx, i, m); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
