package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

const (
	// maxMessage keeps what is sent below the 4 MiB that most SDKs accept.
	maxMessage = 3 << 20
	// maxPage is the largest page of a query.
	maxPage = 1000
)

func (s *grpcService) RaiseEvent(
	ctx context.Context, req *protos.RaiseEventRequest,
) (*protos.RaiseEventResponse, error) {
	if err := raiseEvent(ctx, s.be, api.InstanceID(req.GetInstanceId()), req.GetName(), req.GetInput()); err != nil {
		return nil, statusError(err)
	}
	return &protos.RaiseEventResponse{}, nil
}

// TerminateInstance answers OK for an unknown id: what should end is not there.
func (s *grpcService) TerminateInstance(
	ctx context.Context, req *protos.TerminateRequest,
) (*protos.TerminateResponse, error) {
	err := terminate(ctx, s.be, api.InstanceID(req.GetInstanceId()), req.GetOutput(), req.GetRecursive())
	if err != nil && !errors.Is(err, api.ErrInstanceNotFound) {
		return nil, statusError(err)
	}
	return &protos.TerminateResponse{}, nil
}

// SkipGracefulOrchestrationTerminations ends instances without running them,
// and returns the ids of those that it could not end. One that is over already is ended.
func (s *grpcService) SkipGracefulOrchestrationTerminations(
	ctx context.Context, req *protos.SkipGracefulOrchestrationTerminationsRequest,
) (*protos.SkipGracefulOrchestrationTerminationsResponse, error) {
	m, ok := s.be.(InstanceManager)
	if !ok {
		return nil, statusError(fmt.Errorf("end instances: %w", api.ErrUnsupported))
	}
	var output *string
	if req.GetReason() != nil {
		reason, err := json.Marshal(req.GetReason().GetValue()) // clients read outputs as JSON
		if err != nil {
			return nil, statusError(fmt.Errorf("end instances: reason: %w", err))
		}
		text := string(reason)
		output = &text
	}
	resp := &protos.SkipGracefulOrchestrationTerminationsResponse{}
	for _, id := range req.GetInstanceBatch().GetInstanceIds() {
		err := m.ForceTerminate(ctx, api.InstanceID(id), output)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, statusError(ctx.Err())
		default:
			s.log.Warnf("end %q without running it: %v", id, err)
			resp.UnterminatedInstanceIds = append(resp.UnterminatedInstanceIds, id)
		}
	}
	return resp, nil
}

func (s *grpcService) SuspendInstance(
	ctx context.Context, req *protos.SuspendRequest,
) (*protos.SuspendResponse, error) {
	if err := suspend(ctx, s.be, api.InstanceID(req.GetInstanceId()), req.GetReason()); err != nil {
		return nil, statusError(err)
	}
	return &protos.SuspendResponse{}, nil
}

func (s *grpcService) ResumeInstance(
	ctx context.Context, req *protos.ResumeRequest,
) (*protos.ResumeResponse, error) {
	if err := resume(ctx, s.be, api.InstanceID(req.GetInstanceId()), req.GetReason()); err != nil {
		return nil, statusError(err)
	}
	return &protos.ResumeResponse{}, nil
}

func (s *grpcService) RewindInstance(
	ctx context.Context, req *protos.RewindInstanceRequest,
) (*protos.RewindInstanceResponse, error) {
	if err := rewind(ctx, s.be, api.InstanceID(req.GetInstanceId()), req.GetReason().GetValue()); err != nil {
		return nil, statusError(err)
	}
	return &protos.RewindInstanceResponse{}, nil
}

func (s *grpcService) RestartInstance(
	ctx context.Context, req *protos.RestartInstanceRequest,
) (*protos.RestartInstanceResponse, error) {
	id, err := restart(ctx, s.be, api.InstanceID(req.GetInstanceId()), req.GetRestartWithNewInstanceId())
	if err != nil {
		return nil, statusError(err)
	}
	return &protos.RestartInstanceResponse{InstanceId: string(id)}, nil
}

func (s *grpcService) QueryInstances(
	ctx context.Context, req *protos.QueryInstancesRequest,
) (*protos.QueryInstancesResponse, error) {
	q := req.GetQuery()
	iq, err := instanceQuery(q.GetRuntimeStatus(), q.GetCreatedTimeFrom(), q.GetCreatedTimeTo())
	if err != nil {
		return nil, statusError(err)
	}
	iq.IDPrefix = q.GetInstanceIdPrefix().GetValue()
	iq.PageSize = int(min(max(q.GetMaxInstanceCount(), 0), maxPage))
	iq.Payloads = q.GetFetchInputsAndOutputs()
	iq.Token = q.GetContinuationToken().GetValue()
	for {
		page, err := query(ctx, s.be, iq)
		if err != nil {
			return nil, statusError(err)
		}
		resp := &protos.QueryInstancesResponse{}
		for _, m := range page.Instances {
			resp.OrchestrationState = append(resp.OrchestrationState, m.State(iq.Payloads))
		}
		if page.Token != "" { // an empty token would make .NET go on for ever
			resp.ContinuationToken = wrapperspb.String(page.Token)
		}
		n := len(page.Instances)
		if n <= 1 || proto.Size(resp) <= maxMessage {
			return resp, nil
		}
		iq.PageSize = n / 2
	}
}

// ListInstanceIds lists instances that are over.
func (s *grpcService) ListInstanceIds(
	ctx context.Context, req *protos.ListInstanceIdsRequest,
) (*protos.ListInstanceIdsResponse, error) {
	page, err := s.listFinished(ctx, req)
	if err != nil {
		return nil, statusError(fmt.Errorf("list instance ids: %w", err))
	}
	resp := &protos.ListInstanceIdsResponse{}
	for _, id := range page.IDs {
		resp.InstanceIds = append(resp.InstanceIds, string(id))
	}
	if page.Token != "" {
		resp.LastInstanceKey = wrapperspb.String(page.Token)
	}
	return resp, nil
}

func (s *grpcService) listFinished(
	ctx context.Context, req *protos.ListInstanceIdsRequest,
) (*api.FinishedPage, error) {
	l, ok := s.be.(FinishedLister)
	if !ok {
		return nil, api.ErrUnsupported
	}
	q := api.FinishedQuery{
		Statuses: req.GetRuntimeStatus(), Token: req.GetLastInstanceKey().GetValue(),
		PageSize: int(min(max(req.GetPageSize(), 0), maxPage)),
	}
	var err error
	if q.CompletedFrom, q.CompletedTo, err = timeRange(req.GetCompletedTimeFrom(), req.GetCompletedTimeTo()); err != nil {
		return nil, err
	}
	return l.ListFinished(ctx, q)
}

// timeRange is the two times, zero where they are not set.
func timeRange(from, to *timestamppb.Timestamp) (a, b time.Time, err error) {
	if from != nil {
		err = errors.Join(err, from.CheckValid())
		a = from.AsTime()
	}
	if to != nil {
		err = errors.Join(err, to.CheckValid())
		b = to.AsTime()
	}
	if err != nil {
		return a, b, fmt.Errorf("%w: time range: %w", api.ErrInvalidInput, err)
	}
	return a, b, nil
}

func instanceQuery(
	statuses []protos.OrchestrationStatus, from, to *timestamppb.Timestamp,
) (q api.InstanceQuery, err error) {
	q.Statuses = statuses
	if q.CreatedFrom, q.CreatedTo, err = timeRange(from, to); err != nil {
		return q, fmt.Errorf("query instances: %w", err)
	}
	return q, nil
}

// PurgeInstances skips what is unknown or unfinished.
func (s *grpcService) PurgeInstances(
	ctx context.Context, req *protos.PurgeInstancesRequest,
) (*protos.PurgeInstancesResponse, error) {
	n, complete, err := 0, true, error(nil)
	switch r := req.GetRequest().(type) {
	case *protos.PurgeInstancesRequest_InstanceId:
		n, err = s.purgeAll(ctx, req.GetRecursive(), api.InstanceID(r.InstanceId))
	case *protos.PurgeInstancesRequest_InstanceBatch:
		for _, id := range r.InstanceBatch.GetInstanceIds() {
			var deleted int
			deleted, err = s.purgeAll(ctx, req.GetRecursive(), api.InstanceID(id))
			if n += deleted; err != nil {
				break
			}
		}
	case *protos.PurgeInstancesRequest_PurgeInstanceFilter:
		n, complete, err = s.purgeFilter(ctx, req.GetRecursive(), r.PurgeInstanceFilter)
	default:
		err = fmt.Errorf("purge: %w: neither an id nor a filter", api.ErrInvalidInput)
	}
	if err != nil {
		return nil, statusError(err)
	}
	return &protos.PurgeInstancesResponse{DeletedInstanceCount: int32(n), IsComplete: wrapperspb.Bool(complete)}, nil
}

func (s *grpcService) purgeAll(ctx context.Context, recursive bool, id api.InstanceID) (int, error) {
	n, err := purge(ctx, s.be, id, recursive)
	if errors.Is(err, api.ErrInstanceNotFound) || errors.Is(err, api.ErrNotCompleted) {
		return n, nil
	}
	return n, err
}

// purgeFilter is not complete where the filter's own timeout ended it.
func (s *grpcService) purgeFilter(
	ctx context.Context, recursive bool, f *protos.PurgeInstanceFilter,
) (n int, complete bool, err error) {
	q, err := instanceQuery(f.GetRuntimeStatus(), f.GetCreatedTimeFrom(), f.GetCreatedTimeTo())
	if err != nil {
		return 0, false, err
	}
	if len(q.Statuses) == 0 {
		q.Statuses = terminalPolicy().GetReplaceableStatus()
	} else if q.Statuses = slices.DeleteFunc(slices.Clone(q.Statuses), func(st protos.OrchestrationStatus) bool {
		return !api.IsTerminal(st)
	}); len(q.Statuses) == 0 {
		return 0, true, nil
	}
	limit := ctx
	if d := f.GetTimeout(); d != nil {
		var cancel context.CancelFunc
		limit, cancel = context.WithTimeout(ctx, d.AsDuration())
		defer cancel()
	}
	over := func(err error) (int, bool, error) {
		if limit.Err() != nil && ctx.Err() == nil {
			return n, false, nil
		}
		return n, false, err
	}
	for q.PageSize = maxPage; ; {
		page, err := query(limit, s.be, q)
		if err != nil {
			return over(err)
		}
		for _, m := range page.Instances {
			if limit.Err() != nil {
				return over(limit.Err())
			}
			deleted, err := s.purgeAll(limit, recursive, m.InstanceID)
			if n += deleted; err != nil {
				return over(err)
			}
		}
		if q.Token = page.Token; q.Token == "" {
			return n, true, nil
		}
	}
}

func (s *grpcService) StreamInstanceHistory(
	req *protos.StreamInstanceHistoryRequest, stream grpc.ServerStreamingServer[protos.HistoryChunk],
) error {
	chunk, size := &protos.HistoryChunk{}, 0
	flush := func() error {
		if len(chunk.GetEvents()) == 0 {
			return nil
		}
		full := chunk
		chunk, size = &protos.HistoryChunk{}, 0
		return stream.Send(full)
	}
	id := api.InstanceID(req.GetInstanceId())
	err := history(stream.Context(), s.be, id, func(events []*HistoryEvent) error {
		for _, e := range events {
			got := e.GetExecutionStarted().GetOrchestrationInstance().GetExecutionId()
			if want := req.GetExecutionId(); want != nil && got != nil && got.GetValue() != want.GetValue() {
				return fmt.Errorf("%w: execution %q is over", api.ErrInstanceNotFound, want.GetValue())
			}
			n := proto.Size(e) + 8
			if size+n > maxMessage {
				if err := flush(); err != nil {
					return err
				}
			}
			chunk.Events = append(chunk.Events, e)
			size += n
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	return statusError(err)
}
