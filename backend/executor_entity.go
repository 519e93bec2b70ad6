package backend

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend/internal/sidecar"
)

var _ EntityExecutor = (*grpcExecutor)(nil)

// ExecuteEntity waits for a worker until ctx ends, whose error it then returns.
// All workers get the newer form of the request: each SDK that knows entities takes it.
func (e *grpcExecutor) ExecuteEntity(ctx context.Context, req *protos.EntityRequest) (*protos.EntityBatchResult, error) {
	id, err := api.EntityIDFromString(req.GetInstanceId())
	if err != nil {
		return nil, err
	}
	req.OperationRequests = e.asFits(req)
	r, err := e.work.Entity(ctx, id.Name, req)
	var tooLarge *sidecar.OversizeError
	if errors.As(err, &tooLarge) && len(req.GetOperationRequests()) == 1 {
		return &protos.EntityBatchResult{FailureDetails: &protos.TaskFailureDetails{
			ErrorType: "MessageTooLarge", IsNonRetriable: true,
			ErrorMessage: fmt.Sprintf("%s, its state of %d bytes and one operation: %v", id, len(req.GetEntityState().GetValue()), err),
		}}, nil
	}
	return r, err
}

// asFits are as many of the first operations as make a message that every worker
// takes, and one at least: the others stay where they are.
func (e *grpcExecutor) asFits(req *protos.EntityRequest) []*protos.HistoryEvent {
	const frame = 8 // of an operation within the request
	ops := req.GetOperationRequests()
	size := proto.Size(&protos.EntityRequest{
		InstanceId: req.GetInstanceId(), ExecutionId: req.GetExecutionId(), EntityState: req.GetEntityState(),
	})
	for n, op := range ops {
		if size += proto.Size(op) + frame; n > 0 && size > e.work.MaxMessage() {
			return ops[:n]
		}
	}
	return ops
}

func (s *grpcService) CompleteEntityTask(
	_ context.Context, req *protos.EntityBatchResult,
) (*protos.CompleteTaskResponse, error) {
	s.stale("entity result", req.GetCompletionToken(), s.work.CompleteEntity(req))
	return &protos.CompleteTaskResponse{}, nil
}

func (s *grpcService) AbandonTaskEntityWorkItem(
	_ context.Context, req *protos.AbandonEntityTaskRequest,
) (*protos.AbandonEntityTaskResponse, error) {
	s.stale("abandon", req.GetCompletionToken(), s.work.AbandonEntity(req.GetCompletionToken()))
	return &protos.AbandonEntityTaskResponse{}, nil
}

func (s *grpcService) SignalEntity(
	ctx context.Context, req *protos.SignalEntityRequest,
) (*protos.SignalEntityResponse, error) {
	if err := signalEntity(ctx, s.be, req); err != nil {
		return nil, statusError(err)
	}
	return &protos.SignalEntityResponse{}, nil
}

// GetEntity says that an entity without a state does not exist.
func (s *grpcService) GetEntity(ctx context.Context, req *protos.GetEntityRequest) (*protos.GetEntityResponse, error) {
	q, err := entityQuerier(s.be)
	var id api.EntityID
	if err == nil {
		id, err = api.EntityIDFromString(req.GetInstanceId())
	}
	var m *api.EntityMetadata
	if err == nil {
		m, err = q.GetEntity(ctx, id, req.GetIncludeState())
	}
	if errors.Is(err, api.ErrInstanceNotFound) {
		return &protos.GetEntityResponse{}, nil
	}
	if err != nil {
		return nil, statusError(fmt.Errorf("get entity %q: %w", req.GetInstanceId(), err))
	}
	return &protos.GetEntityResponse{Exists: true, Entity: entityMetadata(m, req.GetIncludeState())}, nil
}

func entityMetadata(m *api.EntityMetadata, state bool) *protos.EntityMetadata {
	e := &protos.EntityMetadata{
		InstanceId: m.InstanceID.String(), LastModifiedTime: timestamppb.New(m.LastModifiedTime),
		BacklogQueueSize: m.BacklogQueueSize, LockedBy: optionalText(m.LockedBy),
	}
	if state && m.HasState {
		e.SerializedState = wrapperspb.String(m.SerializedState)
	}
	return e
}

func (s *grpcService) QueryEntities(
	ctx context.Context, req *protos.QueryEntitiesRequest,
) (*protos.QueryEntitiesResponse, error) {
	q := req.GetQuery()
	query := api.EntityQuery{
		InstanceIDStartsWith: q.GetInstanceIdStartsWith().GetValue(), IncludeState: q.GetIncludeState(),
		IncludeTransient: q.GetIncludeTransient(), PageSize: min(max(q.GetPageSize().GetValue(), 0), maxPage),
		ContinuationToken: q.GetContinuationToken().GetValue(),
	}
	if at := q.GetLastModifiedFrom(); at != nil {
		query.LastModifiedFrom = at.AsTime()
	}
	if at := q.GetLastModifiedTo(); at != nil {
		query.LastModifiedTo = at.AsTime()
	}
	be, err := entityQuerier(s.be)
	if err == nil {
		err = errors.Join(checkTime(q.GetLastModifiedFrom()), checkTime(q.GetLastModifiedTo()))
	}
	for err == nil {
		var page *api.EntityQueryResults
		if page, err = be.QueryEntities(ctx, query); err != nil {
			break
		}
		resp := &protos.QueryEntitiesResponse{}
		for _, m := range page.Entities {
			resp.Entities = append(resp.Entities, entityMetadata(m, query.IncludeState))
		}
		if page.ContinuationToken != "" { // an empty token would make .NET go on for ever
			resp.ContinuationToken = wrapperspb.String(page.ContinuationToken)
		}
		n := len(page.Entities)
		if n <= 1 || proto.Size(resp) <= maxMessage {
			return resp, nil
		}
		query.PageSize = int32(n / 2)
	}
	return nil, statusError(fmt.Errorf("query entities: %w", err))
}

func checkTime(t *timestamppb.Timestamp) error {
	if t == nil {
		return nil
	}
	if err := t.CheckValid(); err != nil {
		return fmt.Errorf("%w: last modified time: %w", api.ErrInvalidInput, err)
	}
	return nil
}

func (s *grpcService) CleanEntityStorage(
	ctx context.Context, req *protos.CleanEntityStorageRequest,
) (*protos.CleanEntityStorageResponse, error) {
	q, err := entityQuerier(s.be)
	var r *api.CleanEntityStorageResult
	if err == nil {
		r, err = q.CleanEntityStorage(ctx, api.CleanEntityStorageRequest{
			ContinuationToken:   req.GetContinuationToken().GetValue(),
			RemoveEmptyEntities: req.GetRemoveEmptyEntities(), ReleaseOrphanedLocks: req.GetReleaseOrphanedLocks(),
		})
	}
	if err != nil {
		return nil, statusError(fmt.Errorf("clean entity storage: %w", err))
	}
	return &protos.CleanEntityStorageResponse{
		ContinuationToken:    optionalText(r.ContinuationToken),
		EmptyEntitiesRemoved: r.EmptyEntitiesRemoved, OrphanedLocksReleased: r.OrphanedLocksReleased,
	}, nil
}
