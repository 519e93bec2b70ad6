package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// GetOrchestrationMetadata reads one instance from the store.
func (e *Engine) GetOrchestrationMetadata(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	row, err := e.row(ctx, id)
	if err != nil {
		return nil, err
	}
	return metadataOf(row), nil
}

func (e *Engine) row(ctx context.Context, id api.InstanceID) (*store.Instance, error) {
	if !e.isOpen() {
		return nil, backend.ErrNotInitialized
	}
	if err := checkForm(string(id)); err != nil {
		return nil, err
	}
	if api.IsEntityID(id) {
		return nil, fmt.Errorf("%w: %s is the id of an entity", api.ErrInstanceNotFound, id)
	}
	row, err := e.st.ByID(ctx, string(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", api.ErrInstanceNotFound, id)
	}
	return row, err
}

// AwaitInstance waits until the instance has started, or where completed is set until it is over.
func (e *Engine) AwaitInstance(ctx context.Context, id api.InstanceID, completed bool) (*api.OrchestrationMetadata, error) {
	for {
		w := make(chan struct{})
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			return nil, backend.ErrNotInitialized
		}
		e.watchers[string(id)] = append(e.watchers[string(id)], w)
		e.mu.Unlock()
		m, err := e.GetOrchestrationMetadata(ctx, id) // after the watcher, so that no change is missed
		if err != nil || m.IsComplete() || (!completed && m.RuntimeStatus != api.RUNTIME_STATUS_PENDING) {
			e.unwatch(string(id), w)
			return m, err
		}
		select {
		case <-w:
		case <-ctx.Done():
			e.unwatch(string(id), w)
			return nil, ctx.Err()
		}
	}
}

func (e *Engine) unwatch(id string, w chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.watchers[id]
	dropWaiter(&list, w)
	if len(list) == 0 {
		delete(e.watchers, id)
	} else {
		e.watchers[id] = list
	}
}

const (
	defaultPage = 100
	maxPage     = 1000
)

// QueryInstances lists instances in start order.
func (e *Engine) QueryInstances(ctx context.Context, q api.InstanceQuery) (*api.InstancePage, error) {
	if !e.isOpen() {
		return nil, backend.ErrNotInitialized
	}
	limit, err := pageSize(q.PageSize)
	if err != nil {
		return nil, err
	}
	if q.Search != "" {
		return e.search(ctx, q, limit)
	}
	f := filterOf(q)
	f.Newest, f.Limit = q.NewestFirst, limit+1 // one more says whether there is another page
	if f.AfterKey, err = keyOf(q.Token); err != nil {
		return nil, err
	}
	rows, err := e.st.Query(ctx, f)
	if err != nil {
		return nil, err
	}
	page := &api.InstancePage{}
	if len(rows) > limit {
		rows = rows[:limit]
		page.Token = strconv.FormatInt(rows[limit-1].Key, 36)
	}
	for _, row := range rows {
		page.Instances = append(page.Instances, metadataOf(row))
	}
	return page, nil
}

// keyOf is where a page resumes; 0 begins.
func keyOf(token string) (int64, error) {
	if token == "" {
		return 0, nil
	}
	key, err := strconv.ParseInt(token, 36, 64)
	if err != nil || key <= 0 {
		return 0, fmt.Errorf("%w: continuation token %q", api.ErrInvalidInput, token)
	}
	return key, nil
}

// filterOf is what a query selects, without its order and paging.
func filterOf(q api.InstanceQuery) store.Filter {
	f := store.Filter{
		IDPrefix: q.IDPrefix, NotPrefix: entityPrefix, Name: q.Name, ParentID: string(q.ParentID), Payloads: q.Payloads,
	}
	if !q.CreatedFrom.IsZero() {
		f.CreatedFrom = nanos(q.CreatedFrom)
	}
	if !q.CreatedTo.IsZero() {
		f.CreatedTo = nanos(q.CreatedTo)
	}
	for _, s := range q.Statuses {
		f.Statuses = append(f.Statuses, int32(s))
	}
	return f
}

// CountInstances counts the instances of a query by status.
func (e *Engine) CountInstances(ctx context.Context, q api.InstanceQuery) (map[api.OrchestrationStatus]int64, error) {
	if !e.isOpen() {
		return nil, backend.ErrNotInitialized
	}
	if q.Search != "" {
		return e.searchCount(ctx, q)
	}
	c, ok := e.st.(store.Counter)
	if !ok {
		return nil, api.ErrUnsupported
	}
	byNumber, err := c.Count(ctx, filterOf(q))
	if err != nil {
		return nil, err
	}
	counts := map[api.OrchestrationStatus]int64{}
	for s, n := range byNumber {
		counts[api.OrchestrationStatus(s)] = n
	}
	return counts, nil
}

// ReadHistory reads the stored history, a turn at a time.
func (e *Engine) ReadHistory(ctx context.Context, id api.InstanceID, f func([]*backend.HistoryEvent) error) error {
	row, err := e.row(ctx, id)
	if err != nil {
		return err
	}
	return e.st.History(ctx, row.Key, 0, func(r store.HistoryRow) error {
		events, err := decodeEvents(r.Events)
		if err != nil {
			return fmt.Errorf("history record %d of %s: %w", r.LSN, id, err)
		}
		return f(events)
	})
}

// children calls f for each instance that has the parent.
func (e *Engine) children(ctx context.Context, parent string, f func(*store.Instance) error) error {
	for after := int64(0); ; {
		rows, err := e.st.Query(ctx, store.Filter{ParentID: parent, AfterKey: after, Limit: scanPage})
		if err != nil {
			return err
		}
		for _, row := range rows {
			after = row.Key
			if err := f(row); err != nil {
				return err
			}
		}
		if len(rows) < scanPage {
			return nil
		}
	}
}
