package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// Purge deletes a finished instance and, unless told otherwise, its finished
// descendants, and returns how many were deleted; api.ErrInstanceNotFound, api.ErrNotCompleted.
func (c *TaskHubGrpcClient) Purge(ctx context.Context, id api.InstanceID, opts ...api.PurgeOptions) (int, error) {
	return c.purge(ctx, id, true, opts)
}

// ForcePurge deletes the instance and its descendants in whatever state they
// are; api.ErrInstanceNotFound.
func (c *TaskHubGrpcClient) ForcePurge(ctx context.Context, id api.InstanceID) (int, error) {
	resp, err := c.ops.Erase(ctx, &protos.EraseRequest{InstanceId: string(id), Recursive: true, Force: true})
	return int(resp.GetDeleted()), failed(ctx, err)
}

// Terminate is TerminateOrchestration under the name it has in backend.Client.
func (c *TaskHubGrpcClient) Terminate(ctx context.Context, id api.InstanceID, opts ...api.TerminateOptions) error {
	return c.TerminateOrchestration(ctx, id, opts...)
}

// ForceTerminate ends the instance without running it and without loading its
// history; api.ErrInstanceNotFound.
func (c *TaskHubGrpcClient) ForceTerminate(
	ctx context.Context, id api.InstanceID, opts ...api.TerminateOptions,
) error {
	req := &protos.TerminateRequest{}
	for _, f := range opts {
		if err := f(req); err != nil {
			return fmt.Errorf("force terminate %q: %w", id, err)
		}
	}
	_, err := c.ops.End(ctx, &protos.EndRequest{InstanceId: string(id), Output: req.GetOutput()})
	return failed(ctx, err)
}

// Query lists instances.
func (c *TaskHubGrpcClient) Query(ctx context.Context, q api.InstanceQuery) (*api.InstancePage, error) {
	resp, err := c.ops.Find(ctx, findRequest(q), anySize)
	if err != nil {
		return nil, failed(ctx, err)
	}
	page := &api.InstancePage{Token: resp.GetToken()}
	for _, i := range resp.GetInstances() {
		page.Instances = append(page.Instances, api.MetadataFromInfo(i))
	}
	return page, nil
}

// CountInstances counts the instances of a query by status; order, paging and payloads do not count.
func (c *TaskHubGrpcClient) CountInstances(
	ctx context.Context, q api.InstanceQuery,
) (map[api.OrchestrationStatus]int64, error) {
	resp, err := c.ops.Count(ctx, findRequest(q))
	if err != nil {
		return nil, failed(ctx, err)
	}
	counts := map[api.OrchestrationStatus]int64{}
	for s, n := range resp.GetCounts() {
		counts[api.OrchestrationStatus(s)] = n
	}
	return counts, nil
}

func findRequest(q api.InstanceQuery) *protos.FindRequest {
	req := &protos.FindRequest{
		Statuses: q.Statuses, IdPrefix: q.IDPrefix, Name: q.Name, ParentId: string(q.ParentID),
		PageSize: int32(min(q.PageSize, 1000)), Payloads: q.Payloads, Token: q.Token,
		NewestFirst: q.NewestFirst, Search: q.Search,
	}
	if !q.CreatedFrom.IsZero() {
		req.CreatedFrom = timestamppb.New(q.CreatedFrom)
	}
	if !q.CreatedTo.IsZero() {
		req.CreatedTo = timestamppb.New(q.CreatedTo)
	}
	return req
}

// Inspect reads one instance with all that the server knows of it, also why it
// was set aside; api.ErrInstanceNotFound.
func (c *TaskHubGrpcClient) Inspect(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	info, err := c.ops.Inspect(ctx, &protos.InspectRequest{InstanceId: string(id), Payloads: true}, anySize)
	if err != nil {
		return nil, failed(ctx, err)
	}
	return api.MetadataFromInfo(info), nil
}

// History reads the stored history, oldest event first, in portions; an error
// of f ends it and is returned. api.ErrInstanceNotFound.
func (c *TaskHubGrpcClient) History(
	ctx context.Context, id api.InstanceID, f func([]*backend.HistoryEvent) error,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.hub.StreamInstanceHistory(ctx, &protos.StreamInstanceHistoryRequest{InstanceId: string(id)}, anySize)
	if err != nil {
		return failed(ctx, err)
	}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return failed(ctx, err)
		}
		if err := f(chunk.GetEvents()); err != nil {
			return fmt.Errorf("read history of %q: %w", id, err)
		}
	}
}

// Rewind lets a failed instance go on from before its failure;
// api.ErrInstanceNotFound, api.ErrNotFailed.
func (c *TaskHubGrpcClient) Rewind(ctx context.Context, id api.InstanceID, reason string) error {
	_, err := c.hub.RewindInstance(ctx, &protos.RewindInstanceRequest{InstanceId: string(id), Reason: text(reason)})
	return failed(ctx, err)
}

// Restart starts the orchestrator of the instance again with the same input,
// version and tags, and returns the id: a new one where newID is set, else the
// same, which must be over. api.ErrInstanceNotFound, api.ErrNotCompleted.
func (c *TaskHubGrpcClient) Restart(ctx context.Context, id api.InstanceID, newID bool) (api.InstanceID, error) {
	resp, err := c.hub.RestartInstance(ctx, &protos.RestartInstanceRequest{
		InstanceId: string(id), RestartWithNewInstanceId: newID,
	})
	return api.InstanceID(resp.GetInstanceId()), failed(ctx, err)
}

// Explain says why an instance does not move; api.ErrInstanceNotFound.
func (c *TaskHubGrpcClient) Explain(ctx context.Context, id api.InstanceID) (*api.Verdict, error) {
	v, err := c.ops.Explain(ctx, &protos.ExplainRequest{InstanceId: string(id)})
	if err != nil {
		return nil, failed(ctx, err)
	}
	return api.VerdictFromProto(v), nil
}

// Workers lists the workers that are connected to the server, in the order in which they came.
func (c *TaskHubGrpcClient) Workers(ctx context.Context) ([]api.Worker, error) {
	resp, err := c.ops.Workers(ctx, &protos.WorkersRequest{}, anySize)
	if err != nil {
		return nil, failed(ctx, err)
	}
	all := make([]api.Worker, 0, len(resp.GetWorkers()))
	for _, w := range resp.GetWorkers() {
		all = append(all, api.WorkerFromProto(w))
	}
	return all, nil
}

// ExportInstance reads all that is stored of an instance; api.ErrInstanceNotFound.
func (c *TaskHubGrpcClient) ExportInstance(ctx context.Context, id api.InstanceID) (*api.InstanceBundle, error) {
	b, err := c.ops.Export(ctx, &protos.ExportRequest{InstanceId: string(id)}, anySize)
	if err != nil {
		return nil, failed(ctx, err)
	}
	return api.BundleFromProto(b), nil
}

// ImportInstance stores an instance as it was elsewhere, and lets it go on;
// backend.ErrDuplicateEvent where its id is taken.
func (c *TaskHubGrpcClient) ImportInstance(ctx context.Context, b *api.InstanceBundle) error {
	_, err := c.ops.Import(ctx, b.Proto())
	return failed(ctx, err)
}
