package client

import (
	"context"

	"google.golang.org/grpc"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

// hub is the client with the signatures of package backend, where they differ from durabletask-go's.
type hub struct{ *TaskHubGrpcClient }

// NewClient returns a client of the task hub that is served over cc, which the
// caller closes. It does what backend.NewClient does in process.
func NewClient(cc grpc.ClientConnInterface, logger backend.Logger) backend.Client {
	return NewTaskHubGrpcClient(cc, logger).Client()
}

func (h hub) FetchOrchestrationMetadata(
	ctx context.Context, id api.InstanceID,
) (*api.OrchestrationMetadata, error) {
	return h.Inspect(ctx, id)
}

func (h hub) WaitForOrchestrationStart(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	return h.TaskHubGrpcClient.WaitForOrchestrationStart(ctx, id)
}

func (h hub) WaitForOrchestrationCompletion(
	ctx context.Context, id api.InstanceID,
) (*api.OrchestrationMetadata, error) {
	return h.TaskHubGrpcClient.WaitForOrchestrationCompletion(ctx, id)
}

func (h hub) TerminateOrchestration(ctx context.Context, id api.InstanceID, reason string) error {
	var opts []api.TerminateOptions
	if reason != "" {
		opts = append(opts, api.WithRawOutput(reason))
	}
	return h.Terminate(ctx, id, opts...)
}

func (h hub) RaiseEvent(ctx context.Context, id api.InstanceID, eventName string, data any) error {
	return h.TaskHubGrpcClient.RaiseEvent(ctx, id, eventName, api.WithEventData(data))
}

func (h hub) PurgeOrchestrationState(ctx context.Context, id api.InstanceID) error {
	return h.TaskHubGrpcClient.PurgeOrchestrationState(ctx, id)
}
