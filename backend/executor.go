package backend

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend/internal/sidecar"
)

// grpcExecutor runs work on the workers that are connected over gRPC.
type grpcExecutor struct {
	be        Backend
	log       Logger
	options   sidecar.Options
	work      *sidecar.Dispatcher
	onConnect func(context.Context) error
	shutdown  <-chan any
	oversize  oversize
}

type grpcExecutorOptions func(*grpcExecutor)

// WithOnGetWorkItemsConnectionCallback has callback called each time that a
// worker connects, before it gets work. Its error refuses the worker, as Unavailable.
func WithOnGetWorkItemsConnectionCallback(callback func(context.Context) error) grpcExecutorOptions {
	return func(e *grpcExecutor) { e.onConnect = callback }
}

// WithStreamShutdownChannel has every worker's stream end once c yields a value
// or is closed. Without it GracefulStop of the server waits for the workers to leave.
func WithStreamShutdownChannel(c <-chan any) grpcExecutorOptions {
	return func(e *grpcExecutor) { e.shutdown = c }
}

// WithWorkItemLeases has a turn or an activity that was not answered in time be
// offered again; 0 leaves the default: two minutes for a turn, for ever for an activity.
func WithWorkItemLeases(turn, activity time.Duration) grpcExecutorOptions {
	return func(e *grpcExecutor) { e.options.TurnLease, e.options.ActivityLease = turn, activity }
}

// WithMaxWorkItemSize sets the largest message, in bytes, that every worker
// accepts (default 4 MiB, that of gRPC). A longer history is left to workers that
// can stream it or accept more, as those for JavaScript do, and others that say so in
// the metadata "perdure-worker-message", in bytes; an instance whose workers cannot is stalled.
// The server must be able to send what they accept, up to 64 MiB.
func WithMaxWorkItemSize(bytes int) grpcExecutorOptions {
	return func(e *grpcExecutor) {
		e.options.MaxMessage = max(bytes-(4<<20-sidecar.DefaultMaxMessage), 1)
	}
}

// NewGrpcExecutor returns an executor that hands work to the workers connected
// to grpcServer, where it registers the TaskHubSidecarService, and the
// Operations service that Perdure's own clients use besides. The server should
// accept large messages (grpc.MaxRecvMsgSize): not all SDKs split them.
func NewGrpcExecutor(grpcServer *grpc.Server, be Backend, logger Logger, opts ...grpcExecutorOptions) Executor {
	return RegisterGrpcExecutor(grpcServer, be, logger, opts...)
}

// RegisterGrpcExecutor is NewGrpcExecutor for whatever services can be registered at.
func RegisterGrpcExecutor(
	services grpc.ServiceRegistrar, be Backend, logger Logger, opts ...grpcExecutorOptions,
) Executor {
	e := &grpcExecutor{be: be, log: logger}
	for _, f := range opts {
		f(e)
	}
	e.options.Joined = e.revive
	e.work = sidecar.NewDispatcher(e.options)
	protos.RegisterTaskHubSidecarServiceServer(services, &grpcService{grpcExecutor: e, patience: unknownPatience})
	protos.RegisterOperationsServer(services, &operations{be: be, workers: e})
	return e
}

// Drainer is the optional interface of an Executor whose workers are elsewhere.
type Drainer interface {
	// Drain makes the executor hand out no more work and lets the workers
	// finish what they have. What none of them has begun is given back at once. It does not block.
	Drain()
}

func (e *grpcExecutor) Drain() { e.work.Drain() }

// IsDurableTaskGrpcRequest reports whether a full gRPC method name, such as
// "/TaskHubSidecarService/Hello", is one of the executor's service.
func IsDurableTaskGrpcRequest(fullMethodName string) bool {
	return strings.HasPrefix(fullMethodName, "/TaskHubSidecarService/")
}

// ExecuteOrchestrator sends the whole history. It waits for a worker until ctx
// ends, whose error it then returns.
func (e *grpcExecutor) ExecuteOrchestrator(
	ctx context.Context, iid api.InstanceID, oldEvents, newEvents []*protos.HistoryEvent,
) (*ExecutionResults, error) {
	r, _, err := e.turn(ctx, iid, oldEvents, newEvents, sidecar.Turned{}, 0,
		last(oldEvents, newEvents, (*HistoryEvent).GetExecutionStarted),
		last(oldEvents, newEvents, func(e *HistoryEvent) *protos.OrchestrationTraceContext {
			return e.GetOrchestratorStarted().GetOrchestrationTraceContext()
		}))
	return r, err
}

// ExecuteTurn is ExecuteOrchestrator for a state: a worker that keeps the
// orchestrator since the turn before is preferred, and sent the new events only.
func (e *grpcExecutor) ExecuteTurn(ctx context.Context, s *OrchestrationRuntimeState) (*ExecutionResults, error) {
	kept, _ := s.Continuation().(*remoteContinuation)
	before := sidecar.Turned{}
	if kept != nil && kept.executor == e {
		before = kept.Turned
	}
	s.Release()
	r, by, err := e.turn(ctx, s.instanceID, s.oldEvents, s.newEvents, before, s.tries, s.StartEvent(), s.traceContext)
	if err == nil && by.Kept() {
		s.SetContinuation(&remoteContinuation{by, e})
	}
	return r, err
}

// remoteContinuation is an orchestrator that a worker keeps. A worker that is not
// asked for it again forgets it by itself.
type remoteContinuation struct {
	sidecar.Turned
	executor *grpcExecutor
}

func (*remoteContinuation) Stop() {}

func (e *grpcExecutor) turn(
	ctx context.Context, iid api.InstanceID, old, newer []*HistoryEvent, before sidecar.Turned, tries int,
	start *protos.ExecutionStartedEvent, span *protos.OrchestrationTraceContext,
) (*ExecutionResults, sidecar.Turned, error) {
	r, by, err := e.work.Orchestrator(ctx, start.GetName(), start.GetVersion().GetValue(), &protos.OrchestratorRequest{
		InstanceId:  string(iid),
		ExecutionId: start.GetOrchestrationInstance().GetExecutionId(),
		PastEvents:  old,
		NewEvents:   newer,
		// .NET refuses entity calls without the parameters, and fails without the window.
		EntityParameters:          &protos.OrchestratorEntityParameters{EntityMessageReorderWindow: durationpb.New(0)},
		OrchestrationTraceContext: span,
	}, before, tries)
	if err != nil {
		return nil, by, e.oversize.remember(iid, err)
	}
	return &ExecutionResults{Response: r}, by, nil
}

// last is the newest value that get finds.
func last[T any](old, newer []*HistoryEvent, get func(*HistoryEvent) *T) *T {
	for _, events := range [][]*HistoryEvent{newer, old} {
		for i := len(events) - 1; i >= 0; i-- {
			if v := get(events[i]); v != nil {
				return v
			}
		}
	}
	return nil
}

// ExecuteActivity waits for a worker until ctx ends, whose error it then returns.
func (e *grpcExecutor) ExecuteActivity(
	ctx context.Context, iid api.InstanceID, event *protos.HistoryEvent,
) (*protos.HistoryEvent, error) {
	task := event.GetTaskScheduled()
	if task == nil {
		return nil, fmt.Errorf("execute activity of %q: its event is no TaskScheduled", iid)
	}
	info, _ := ActivityInfoFromContext(ctx)
	version := task.GetVersion().GetValue()
	if task.GetVersion() == nil {
		version = info.Version // filters take an unversioned activity for one of its orchestration's version
	}
	r, err := e.work.Activity(ctx, version, &protos.ActivityRequest{
		Name: task.GetName(), Version: task.GetVersion(), Input: task.GetInput(), Tags: task.GetTags(),
		OrchestrationInstance: &protos.OrchestrationInstance{
			InstanceId: string(iid), ExecutionId: optionalText(info.ExecutionID),
		},
		TaskId:             event.GetEventId(),
		ParentTraceContext: task.GetParentTraceContext(),
	}, max(int(info.Attempt)-1, 0))
	if err != nil {
		return nil, err
	}
	return activityResult(event.GetEventId(), r.GetResult(), r.GetFailureDetails()), nil
}

func activityResult(
	taskID int32, result *wrapperspb.StringValue, failure *protos.TaskFailureDetails,
) *HistoryEvent {
	e := &HistoryEvent{EventId: -1, Timestamp: timestamppb.Now()}
	if failure != nil {
		e.EventType = &protos.HistoryEvent_TaskFailed{
			TaskFailed: &protos.TaskFailedEvent{TaskScheduledId: taskID, FailureDetails: failure},
		}
	} else {
		e.EventType = &protos.HistoryEvent_TaskCompleted{
			TaskCompleted: &protos.TaskCompletedEvent{TaskScheduledId: taskID, Result: result},
		}
	}
	return e
}
