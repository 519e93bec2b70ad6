package backend

import (
	"context"
	"errors"
	"fmt"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// EntityClient talks to entities. Where the backend lacks the optional
// interface for a call, the call returns api.ErrUnsupported.
type EntityClient interface {
	// SignalEntity sends an operation to an entity, durably, and does not wait for it.
	SignalEntity(ctx context.Context, id api.EntityID, operation string, opts ...api.SignalEntityOptions) error
	// FetchEntityMetadata reads one entity; api.ErrInstanceNotFound where it is not there or has no state.
	FetchEntityMetadata(ctx context.Context, id api.EntityID, includeState bool) (*api.EntityMetadata, error)
	// QueryEntities lists entities, a page at a time.
	QueryEntities(ctx context.Context, q api.EntityQuery) (*api.EntityQueryResults, error)
	// CleanEntityStorage removes what nobody needs. It looks at one page of
	// entities; where its result has a token, call it again with it.
	CleanEntityStorage(ctx context.Context, req api.CleanEntityStorageRequest) (*api.CleanEntityStorageResult, error)
}

func (c *backendClient) SignalEntity(
	ctx context.Context, id api.EntityID, operation string, opts ...api.SignalEntityOptions,
) error {
	if err := id.Check(); err != nil { // before it becomes a text that may mean another
		return fmt.Errorf("signal %q to entity: %w", operation, err)
	}
	req := &protos.SignalEntityRequest{InstanceId: id.String(), Name: operation}
	for _, f := range opts {
		if err := f(req); err != nil {
			if !errors.Is(err, api.ErrInvalidInput) {
				err = fmt.Errorf("%w: %w", api.ErrInvalidInput, err)
			}
			return fmt.Errorf("signal %q to entity %q: %w", operation, id, err)
		}
	}
	return signalEntity(ctx, c.be, req)
}

// signalEntity is shared by in-process clients and the gRPC service.
func signalEntity(ctx context.Context, be Backend, req *protos.SignalEntityRequest) error {
	id, err := api.EntityIDFromString(req.GetInstanceId())
	if _, ok := be.(EntityBackend); !ok && err == nil {
		err = api.ErrUnsupported
	}
	var e *HistoryEvent
	if err == nil {
		e, err = NewEntitySignal(req, timeIn(be))
	}
	if err == nil {
		err = be.AddNewOrchestrationEvent(ctx, api.InstanceID(id.String()), e)
	}
	if err != nil {
		return fmt.Errorf("signal %q to entity %q: %w", req.GetName(), req.GetInstanceId(), err)
	}
	return nil
}

func (c *backendClient) FetchEntityMetadata(
	ctx context.Context, id api.EntityID, includeState bool,
) (*api.EntityMetadata, error) {
	var m *api.EntityMetadata
	q, err := entityQuerier(c.be)
	if err == nil {
		m, err = q.GetEntity(ctx, id, includeState)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch entity %q: %w", id, err)
	}
	return m, nil
}

func (c *backendClient) QueryEntities(ctx context.Context, query api.EntityQuery) (*api.EntityQueryResults, error) {
	var page *api.EntityQueryResults
	q, err := entityQuerier(c.be)
	if err == nil {
		page, err = q.QueryEntities(ctx, query)
	}
	if err != nil {
		return nil, fmt.Errorf("query entities: %w", err)
	}
	return page, nil
}

func (c *backendClient) CleanEntityStorage(
	ctx context.Context, req api.CleanEntityStorageRequest,
) (*api.CleanEntityStorageResult, error) {
	var r *api.CleanEntityStorageResult
	q, err := entityQuerier(c.be)
	if err == nil {
		r, err = q.CleanEntityStorage(ctx, req)
	}
	if err != nil {
		return nil, fmt.Errorf("clean entity storage: %w", err)
	}
	return r, nil
}

func entityQuerier(be Backend) (EntityQuerier, error) {
	q, ok := be.(EntityQuerier)
	if !ok {
		return nil, api.ErrUnsupported
	}
	return q, nil
}
