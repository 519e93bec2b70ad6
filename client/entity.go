package client

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// SignalEntity sends an operation to an entity, durably, and does not wait for it.
func (c *TaskHubGrpcClient) SignalEntity(
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
	_, err := c.hub.SignalEntity(ctx, req)
	return failed(ctx, err)
}

// FetchEntityMetadata reads one entity; api.ErrInstanceNotFound where it is not there or has no state.
func (c *TaskHubGrpcClient) FetchEntityMetadata(
	ctx context.Context, id api.EntityID, includeState bool,
) (*api.EntityMetadata, error) {
	if err := id.Check(); err != nil {
		return nil, fmt.Errorf("fetch entity: %w", err)
	}
	resp, err := c.hub.GetEntity(ctx, &protos.GetEntityRequest{InstanceId: id.String(), IncludeState: includeState}, anySize)
	switch {
	case err != nil:
		return nil, failed(ctx, err)
	case !resp.GetExists():
		return nil, fmt.Errorf("fetch entity %q: %w", id, api.ErrInstanceNotFound)
	}
	m, err := entityMetadata(resp.GetEntity())
	if err == nil {
		m.HasState = true // or it would not exist
	}
	return m, err
}

func entityMetadata(m *protos.EntityMetadata) (*api.EntityMetadata, error) {
	id, err := api.EntityIDFromString(m.GetInstanceId())
	if err != nil {
		return nil, err
	}
	return &api.EntityMetadata{
		InstanceID: id, LastModifiedTime: m.GetLastModifiedTime().AsTime(), BacklogQueueSize: m.GetBacklogQueueSize(),
		LockedBy: m.GetLockedBy().GetValue(), HasState: m.GetSerializedState() != nil,
		SerializedState: m.GetSerializedState().GetValue(),
	}, nil
}

// QueryEntities lists entities, a page at a time. The protocol tells whether an
// entity has a state only where transient ones are left out or the state is asked for.
func (c *TaskHubGrpcClient) QueryEntities(ctx context.Context, q api.EntityQuery) (*api.EntityQueryResults, error) {
	if q.PageSize < 0 { // to a server that is none
		return nil, fmt.Errorf("query entities: %w: page size %d is negative", api.ErrInvalidInput, q.PageSize)
	}
	req := &protos.EntityQuery{
		InstanceIdStartsWith: text(q.InstanceIDStartsWith), IncludeState: q.IncludeState, IncludeTransient: q.IncludeTransient,
		PageSize: wrapperspb.Int32(q.PageSize), ContinuationToken: text(q.ContinuationToken),
	}
	if !q.LastModifiedFrom.IsZero() {
		req.LastModifiedFrom = timestamppb.New(q.LastModifiedFrom)
	}
	if !q.LastModifiedTo.IsZero() {
		req.LastModifiedTo = timestamppb.New(q.LastModifiedTo)
	}
	resp, err := c.hub.QueryEntities(ctx, &protos.QueryEntitiesRequest{Query: req}, anySize)
	if err != nil {
		return nil, failed(ctx, err)
	}
	page := &api.EntityQueryResults{ContinuationToken: resp.GetContinuationToken().GetValue()}
	for _, e := range resp.GetEntities() {
		m, err := entityMetadata(e)
		if err != nil {
			return nil, err
		}
		m.HasState = m.HasState || !q.IncludeTransient
		page.Entities = append(page.Entities, m)
	}
	return page, nil
}

// CleanEntityStorage removes what nobody needs. It looks at one page of
// entities; where its result has a token, call it again with it.
func (c *TaskHubGrpcClient) CleanEntityStorage(
	ctx context.Context, req api.CleanEntityStorageRequest,
) (*api.CleanEntityStorageResult, error) {
	resp, err := c.hub.CleanEntityStorage(ctx, &protos.CleanEntityStorageRequest{
		ContinuationToken: text(req.ContinuationToken), RemoveEmptyEntities: req.RemoveEmptyEntities,
		ReleaseOrphanedLocks: req.ReleaseOrphanedLocks,
	})
	if err != nil {
		return nil, failed(ctx, err)
	}
	return &api.CleanEntityStorageResult{
		EmptyEntitiesRemoved: resp.GetEmptyEntitiesRemoved(), OrphanedLocksReleased: resp.GetOrphanedLocksReleased(),
		ContinuationToken: resp.GetContinuationToken().GetValue(),
	}, nil
}
