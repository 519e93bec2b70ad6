package client

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/google/uuid"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// maxMessage is the largest message that the client accepts, in bytes.
const maxMessage = 1 << 30

// messageKey is the metadata in which a worker tells the server so.
const messageKey = "perdure-worker-message"

var anySize = grpc.MaxCallRecvMsgSize(maxMessage)

// TaskHubGrpcClient is a client of a task hub that is served over gRPC. Its
// methods may be called by many goroutines. Where ctx ends first they return
// ctx.Err() itself.
type TaskHubGrpcClient struct {
	cc  grpc.ClientConnInterface
	hub protos.TaskHubSidecarServiceClient
	ops protos.OperationsClient
	log backend.Logger
}

// NewTaskHubGrpcClient returns a client that talks over cc, which the caller closes.
func NewTaskHubGrpcClient(cc grpc.ClientConnInterface, logger backend.Logger) *TaskHubGrpcClient {
	return &TaskHubGrpcClient{
		cc: cc, hub: protos.NewTaskHubSidecarServiceClient(cc), ops: protos.NewOperationsClient(cc), log: logger,
	}
}

// Client is c as a backend.Client.
func (c *TaskHubGrpcClient) Client() backend.Client { return hub{c} }

// Hello asks the server for a sign of life.
func (c *TaskHubGrpcClient) Hello(ctx context.Context) error {
	_, err := c.hub.Hello(ctx, &emptypb.Empty{})
	return failed(ctx, err)
}

// failed is what a call returns for the error of its RPC.
func failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if _, ok := ctx.Deadline(); ok && status.Code(err) == codes.DeadlineExceeded {
		return context.DeadlineExceeded // the server's clock was a little faster
	}
	if s := status.Convert(err); s.Code() == codes.Internal && strings.Contains(s.Message(), notText) {
		return fmt.Errorf("%w: %s", api.ErrInvalidInput, s.Message()) // it has not left this process
	}
	return backend.ErrorFromStatus(err)
}

// notText is how protobuf refuses to encode a string.
const notText = "invalid UTF-8"

// hurry has a connection that rests after failures, for up to two minutes, try
// at once. One that is being made must be left alone: grpc-go would read its
// addresses while they are written.
func (c *TaskHubGrpcClient) hurry() {
	cc, ok := c.cc.(interface {
		ResetConnectBackoff()
		GetState() connectivity.State
	})
	if ok && cc.GetState() == connectivity.TransientFailure {
		cc.ResetConnectBackoff()
	}
}

// ScheduleNewOrchestration starts an instance of an orchestrator, given by
// name or as a function, and returns its id. Without a reuse policy a taken id
// is backend.ErrDuplicateEvent, whatever the state of its instance.
func (c *TaskHubGrpcClient) ScheduleNewOrchestration(
	ctx context.Context, orchestrator any, opts ...api.NewOrchestrationOptions,
) (api.InstanceID, error) {
	name, err := backend.OrchestratorName(orchestrator)
	if err != nil {
		return api.EmptyInstanceID, fmt.Errorf("start orchestration: %w", err)
	}
	// The empty policy replaces nothing; a server without one would replace an instance that is over.
	req := &protos.CreateInstanceRequest{Name: name, OrchestrationIdReusePolicy: &protos.OrchestrationIdReusePolicy{}}
	for _, f := range opts {
		if err := f(req); err != nil {
			return api.EmptyInstanceID, fmt.Errorf("start orchestration %q: %w", name, err)
		}
	}
	if req.GetInstanceId() == "" {
		req.InstanceId = uuid.NewString()
	}
	resp, err := c.hub.StartInstance(ctx, req)
	if err != nil {
		return api.EmptyInstanceID, failed(ctx, err)
	}
	return api.InstanceID(resp.GetInstanceId()), nil
}

// FetchOrchestrationMetadata reads one instance, with its payloads unless an
// option says otherwise; api.ErrInstanceNotFound.
func (c *TaskHubGrpcClient) FetchOrchestrationMetadata(
	ctx context.Context, id api.InstanceID, opts ...api.FetchOrchestrationMetadataOptions,
) (*api.OrchestrationMetadata, error) {
	resp, err := c.hub.GetInstance(ctx, getRequest(id, opts), anySize)
	return found(ctx, id, resp, err)
}

func getRequest(id api.InstanceID, opts []api.FetchOrchestrationMetadataOptions) *protos.GetInstanceRequest {
	req := &protos.GetInstanceRequest{InstanceId: string(id), GetInputsAndOutputs: true}
	for _, f := range opts {
		f(req)
	}
	return req
}

func found(
	ctx context.Context, id api.InstanceID, resp *protos.GetInstanceResponse, err error,
) (*api.OrchestrationMetadata, error) {
	if err != nil {
		return nil, failed(ctx, err)
	}
	if !resp.GetExists() {
		return nil, fmt.Errorf("fetch metadata of %q: %w", id, api.ErrInstanceNotFound)
	}
	return api.MetadataFromState(resp.GetOrchestrationState()), nil
}

// TerminateOrchestration ends the instance and, unless told otherwise, its
// sub-orchestrations; api.ErrInstanceNotFound.
func (c *TaskHubGrpcClient) TerminateOrchestration(
	ctx context.Context, id api.InstanceID, opts ...api.TerminateOptions,
) error {
	req := &protos.TerminateRequest{InstanceId: string(id), Recursive: true}
	for _, f := range opts {
		if err := f(req); err != nil {
			return fmt.Errorf("terminate %q: %w", id, err)
		}
	}
	if _, err := c.hub.TerminateInstance(ctx, req); err != nil {
		return failed(ctx, err)
	}
	// The protocol answers OK for an unknown instance.
	if _, err := c.FetchOrchestrationMetadata(ctx, id, api.WithFetchPayloads(false)); err != nil {
		return fmt.Errorf("terminate %q: %w", id, err)
	}
	return nil
}

// RaiseEvent sends an event; api.ErrInstanceNotFound.
func (c *TaskHubGrpcClient) RaiseEvent(
	ctx context.Context, id api.InstanceID, eventName string, opts ...api.RaiseEventOptions,
) error {
	req := &protos.RaiseEventRequest{InstanceId: string(id), Name: eventName}
	for _, f := range opts {
		if err := f(req); err != nil {
			return fmt.Errorf("raise event %q to %q: %w", eventName, id, err)
		}
	}
	_, err := c.hub.RaiseEvent(ctx, req)
	return failed(ctx, err)
}

// SuspendOrchestration pauses the instance; api.ErrInstanceNotFound.
func (c *TaskHubGrpcClient) SuspendOrchestration(ctx context.Context, id api.InstanceID, reason string) error {
	_, err := c.hub.SuspendInstance(ctx, &protos.SuspendRequest{InstanceId: string(id), Reason: text(reason)})
	return failed(ctx, err)
}

// ResumeOrchestration ends a pause; api.ErrInstanceNotFound.
func (c *TaskHubGrpcClient) ResumeOrchestration(ctx context.Context, id api.InstanceID, reason string) error {
	_, err := c.hub.ResumeInstance(ctx, &protos.ResumeRequest{InstanceId: string(id), Reason: text(reason)})
	return failed(ctx, err)
}

// PurgeOrchestrationState deletes one finished instance, and its finished
// descendants where an option says so; api.ErrInstanceNotFound, api.ErrNotCompleted.
func (c *TaskHubGrpcClient) PurgeOrchestrationState(
	ctx context.Context, id api.InstanceID, opts ...api.PurgeOptions,
) error {
	_, err := c.purge(ctx, id, false, opts)
	return err
}

// purge finds out why nothing was deleted, which the protocol does not say.
func (c *TaskHubGrpcClient) purge(
	ctx context.Context, id api.InstanceID, recursive bool, opts []api.PurgeOptions,
) (int, error) {
	req := &protos.PurgeInstancesRequest{
		Request: &protos.PurgeInstancesRequest_InstanceId{InstanceId: string(id)}, Recursive: recursive,
	}
	for _, f := range opts {
		if err := f(req); err != nil {
			return 0, fmt.Errorf("purge %q: %w", id, err)
		}
	}
	resp, err := c.hub.PurgeInstances(ctx, req)
	if err != nil {
		return 0, failed(ctx, err)
	}
	if n := int(resp.GetDeletedInstanceCount()); n > 0 {
		return n, nil
	}
	m, err := c.FetchOrchestrationMetadata(ctx, id, api.WithFetchPayloads(false))
	switch {
	case err == nil && m.IsComplete():
		err = fmt.Errorf("%w: a descendant of it", api.ErrNotCompleted)
	case err == nil:
		err = fmt.Errorf("%w: it is %s", api.ErrNotCompleted, api.StatusName(m.RuntimeStatus))
	}
	return 0, fmt.Errorf("purge %q: %w", id, err)
}

func text(s string) *wrapperspb.StringValue {
	if s == "" {
		return nil
	}
	return wrapperspb.String(s)
}
