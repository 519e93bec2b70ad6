package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// Reader reads a task hub that it does not own.
type Reader struct{ e *Engine }

var _ backend.Reader = (*Reader)(nil)

// OpenReader opens a store for reading alone. Close closes it.
func OpenReader(ctx context.Context, st store.Store, name string) (*Reader, error) {
	r, ok := st.(store.ReadOpener)
	if !ok {
		return nil, fmt.Errorf("open %s to read: %w", name, api.ErrUnsupported)
	}
	if err := r.OpenRead(ctx); errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("open %s to read: %w", name, backend.ErrTaskHubNotFound)
	} else if err != nil {
		return nil, fmt.Errorf("open %s to read: %w", name, err)
	}
	e := New(st, nil, Options{Name: name})
	e.closed = false
	return &Reader{e}, nil
}

// String names the task hub for people.
func (r *Reader) String() string { return r.e.String() }

// Close closes the store.
func (r *Reader) Close() error { return r.e.st.Close() }

// GetOrchestrationMetadata reads one instance.
func (r *Reader) GetOrchestrationMetadata(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	return r.e.GetOrchestrationMetadata(ctx, id)
}

// QueryInstances lists instances in start order.
func (r *Reader) QueryInstances(ctx context.Context, q api.InstanceQuery) (*api.InstancePage, error) {
	return r.e.QueryInstances(ctx, q)
}

// ReadHistory reads the stored history, a turn at a time.
func (r *Reader) ReadHistory(ctx context.Context, id api.InstanceID, f func([]*backend.HistoryEvent) error) error {
	return r.e.ReadHistory(ctx, id, f)
}

// ExplainInstance says why an instance does not move, as far as what is stored tells.
func (r *Reader) ExplainInstance(ctx context.Context, id api.InstanceID) (*api.Verdict, error) {
	return r.e.explain(ctx, id, func(api.InstanceID) glance { return glance{now: r.e.now()} })
}

// ExportInstance reads all that is stored of an instance.
func (r *Reader) ExportInstance(ctx context.Context, id api.InstanceID) (*api.InstanceBundle, error) {
	return r.e.ExportInstance(ctx, id)
}

// CountInstances counts the instances of a query by status.
func (r *Reader) CountInstances(ctx context.Context, q api.InstanceQuery) (map[api.OrchestrationStatus]int64, error) {
	return r.e.CountInstances(ctx, q)
}
