package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// unknownPatience is how long a wait for an unknown instance waits for it to appear.
const unknownPatience = 30 * time.Second

// maxEarly is how long before its deadline a wait is answered at most. At the
// deadline itself the transport resets the stream, which SDKs report as a
// cancellation instead of the end of the time that they know how to handle.
const maxEarly = 100 * time.Millisecond

// grpcService is the TaskHubSidecarService. What it does not have answers Unimplemented.
type grpcService struct {
	protos.UnimplementedTaskHubSidecarServiceServer
	*grpcExecutor
	patience time.Duration
}

func (s *grpcService) Hello(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (s *grpcService) CreateTaskHub(
	ctx context.Context, req *protos.CreateTaskHubRequest,
) (*protos.CreateTaskHubResponse, error) {
	if req.GetRecreateIfExists() {
		if err := s.be.DeleteTaskHub(ctx); err != nil && !errors.Is(err, ErrTaskHubNotFound) {
			return nil, statusError(fmt.Errorf("delete task hub: %w", err))
		}
	}
	if err := s.be.CreateTaskHub(ctx); err != nil && !errors.Is(err, ErrTaskHubExists) {
		return nil, statusError(fmt.Errorf("create task hub: %w", err))
	}
	return &protos.CreateTaskHubResponse{}, nil
}

func (s *grpcService) DeleteTaskHub(
	ctx context.Context, _ *protos.DeleteTaskHubRequest,
) (*protos.DeleteTaskHubResponse, error) {
	if err := s.be.DeleteTaskHub(ctx); err != nil && !errors.Is(err, ErrTaskHubNotFound) {
		return nil, statusError(fmt.Errorf("delete task hub: %w", err))
	}
	return &protos.DeleteTaskHubResponse{}, nil
}

func (s *grpcService) GetWorkItems(
	req *protos.GetWorkItemsRequest, stream grpc.ServerStreamingServer[protos.WorkItem],
) error {
	if s.onConnect != nil {
		if err := s.onConnect(stream.Context()); err != nil {
			return status.Errorf(codes.Unavailable, "worker refused: %v", err)
		}
	}
	s.log.Infof("worker connected")
	err := s.work.Serve(stream.Context(), req, s.shutdown, stream.Send)
	s.log.Infof("worker disconnected: %v", err)
	return err
}

// Answers to work that is no longer theirs change nothing and are no error,
// because the SDKs retry errors or stop reading their stream.
func (s *grpcService) stale(what, id string, known bool) {
	if !known {
		s.log.Debugf("dropped a stale %s of %q", what, id)
	}
}

func (s *grpcService) CompleteOrchestratorTask(
	_ context.Context, req *protos.OrchestratorResponse,
) (*protos.CompleteTaskResponse, error) {
	s.stale("orchestrator response", req.GetInstanceId(), s.work.CompleteOrchestrator(req))
	return &protos.CompleteTaskResponse{}, nil
}

func (s *grpcService) CompleteActivityTask(
	_ context.Context, req *protos.ActivityResponse,
) (*protos.CompleteTaskResponse, error) {
	s.stale("activity response", req.GetInstanceId(), s.work.CompleteActivity(req))
	return &protos.CompleteTaskResponse{}, nil
}

func (s *grpcService) AbandonTaskOrchestratorWorkItem(
	_ context.Context, req *protos.AbandonOrchestrationTaskRequest,
) (*protos.AbandonOrchestrationTaskResponse, error) {
	s.stale("abandon", req.GetCompletionToken(), s.work.AbandonOrchestrator(req.GetCompletionToken()))
	return &protos.AbandonOrchestrationTaskResponse{}, nil
}

func (s *grpcService) AbandonTaskActivityWorkItem(
	_ context.Context, req *protos.AbandonActivityTaskRequest,
) (*protos.AbandonActivityTaskResponse, error) {
	s.stale("abandon", req.GetCompletionToken(), s.work.AbandonActivity(req.GetCompletionToken()))
	return &protos.AbandonActivityTaskResponse{}, nil
}

func (s *grpcService) StartInstance(
	ctx context.Context, req *protos.CreateInstanceRequest,
) (*protos.CreateInstanceResponse, error) {
	if err := s.prepareStart(req); err != nil {
		return nil, statusError(fmt.Errorf("start orchestration %q as %q: %w", req.GetName(), req.GetInstanceId(), err))
	}
	if err := startInstance(ofCall(ctx), s.be, req); err != nil {
		return nil, statusError(err)
	}
	return &protos.CreateInstanceResponse{InstanceId: req.GetInstanceId()}, nil
}

func (s *grpcService) prepareStart(req *protos.CreateInstanceRequest) error {
	if req.GetName() == "" {
		return fmt.Errorf("%w: the orchestrator has no name", api.ErrInvalidInput)
	}
	if at := req.GetScheduledStartTimestamp(); at != nil {
		if err := at.CheckValid(); err != nil {
			return fmt.Errorf("%w: start time: %w", api.ErrInvalidInput, err)
		}
		if !at.AsTime().After(timeIn(s.be)) {
			req.ScheduledStartTimestamp = nil // JS sends 1970 where none was asked for
		}
	}
	policy := req.GetOrchestrationIdReusePolicy()
	if policy == nil {
		if _, ok := s.be.(InstanceReplacer); ok {
			req.OrchestrationIdReusePolicy = terminalPolicy()
		}
		return nil
	}
	statuses := policy.GetReplaceableStatus()
	unfinished := slices.ContainsFunc(statuses, func(st protos.OrchestrationStatus) bool {
		return st == api.RUNTIME_STATUS_RUNNING || st == api.RUNTIME_STATUS_PENDING || st == api.RUNTIME_STATUS_SUSPENDED
	})
	if unfinished && !slices.Contains(statuses, api.RUNTIME_STATUS_TERMINATED) {
		return fmt.Errorf("%w: Invalid reusable statuses: cannot exclude 'Terminated' "+
			"while also allowing reuse of running instances", api.ErrInvalidInput)
	}
	return nil
}

func (s *grpcService) GetInstance(
	ctx context.Context, req *protos.GetInstanceRequest,
) (*protos.GetInstanceResponse, error) {
	m, err := s.be.GetOrchestrationMetadata(ctx, api.InstanceID(req.GetInstanceId()))
	return instanceResponse(req, m, err)
}

func (s *grpcService) WaitForInstanceStart(
	ctx context.Context, req *protos.GetInstanceRequest,
) (*protos.GetInstanceResponse, error) {
	return s.wait(ctx, req, false)
}

func (s *grpcService) WaitForInstanceCompletion(
	ctx context.Context, req *protos.GetInstanceRequest,
) (*protos.GetInstanceResponse, error) {
	return s.wait(ctx, req, true)
}

// wait is patient with an unknown id: .NET cannot take that answer, and its instance may be on its way.
func (s *grpcService) wait(
	ctx context.Context, req *protos.GetInstanceRequest, completed bool,
) (*protos.GetInstanceResponse, error) {
	began := time.Now()
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left-min(left/10, maxEarly))
		defer cancel()
	}
	for d := pollMin; ; d = min(d*3/2, pollMax) {
		m, err := awaitInstance(ctx, s.be, api.InstanceID(req.GetInstanceId()), completed)
		_, bounded := ctx.Deadline()
		if !errors.Is(err, api.ErrInstanceNotFound) || !bounded && time.Since(began) >= s.patience {
			return instanceResponse(req, m, err)
		}
		if !pause(ctx, d) {
			return nil, statusError(ctx.Err())
		}
	}
}

// instanceResponse says that an unknown instance does not exist; any other error is one.
func instanceResponse(
	req *protos.GetInstanceRequest, m *api.OrchestrationMetadata, err error,
) (*protos.GetInstanceResponse, error) {
	if errors.Is(err, api.ErrInstanceNotFound) {
		return &protos.GetInstanceResponse{}, nil
	}
	if err != nil {
		return nil, statusError(err)
	}
	state := m.State(req.GetGetInputsAndOutputs())
	return &protos.GetInstanceResponse{Exists: true, OrchestrationState: state}, nil
}
