package backend

import (
	"context"
	"fmt"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

func terminateRequest(id api.InstanceID, opts []api.TerminateOptions) (*protos.TerminateRequest, error) {
	req := &protos.TerminateRequest{InstanceId: string(id), Recursive: true}
	for _, f := range opts {
		if err := f(req); err != nil {
			return nil, err
		}
	}
	return req, nil
}

func (c *backendClient) Terminate(ctx context.Context, id api.InstanceID, opts ...api.TerminateOptions) error {
	req, err := terminateRequest(id, opts)
	if err != nil {
		return fmt.Errorf("terminate %q: %w", id, err)
	}
	return terminate(ctx, c.be, id, req.GetOutput(), req.GetRecursive())
}

func (c *backendClient) ForceTerminate(ctx context.Context, id api.InstanceID, opts ...api.TerminateOptions) error {
	req, err := terminateRequest(id, opts)
	if err == nil {
		var output *string
		if req.GetOutput() != nil {
			s := req.GetOutput().GetValue()
			output = &s
		}
		return forceTerminate(ctx, c.be, id, output)
	}
	return fmt.Errorf("force terminate %q: %w", id, err)
}

func forceTerminate(ctx context.Context, be Backend, id api.InstanceID, output *string) error {
	m, ok := be.(InstanceManager)
	if !ok {
		return fmt.Errorf("force terminate %q: %w", id, api.ErrUnsupported)
	}
	if err := m.ForceTerminate(ctx, id, output); err != nil {
		return fmt.Errorf("force terminate %q: %w", id, err)
	}
	return nil
}

func (c *backendClient) Purge(ctx context.Context, id api.InstanceID, opts ...api.PurgeOptions) (int, error) {
	req := &protos.PurgeInstancesRequest{Recursive: true}
	for _, f := range opts {
		if err := f(req); err != nil {
			return 0, fmt.Errorf("purge %q: %w", id, err)
		}
	}
	return purge(ctx, c.be, id, req.GetRecursive())
}

// purge deletes a single instance on every backend, a tree only where the backend can.
func purge(ctx context.Context, be Backend, id api.InstanceID, recursive bool) (int, error) {
	n := 1
	var err error
	if m, ok := be.(InstanceManager); ok {
		n, err = m.PurgeInstance(ctx, id, recursive, false)
	} else if recursive {
		err = fmt.Errorf("%w: recursive purge", api.ErrUnsupported)
	} else {
		err = be.PurgeOrchestrationState(ctx, id)
	}
	if err != nil {
		return 0, fmt.Errorf("purge %q: %w", id, err)
	}
	return n, nil
}

func (c *backendClient) ForcePurge(ctx context.Context, id api.InstanceID) (int, error) {
	return forcePurge(ctx, c.be, id)
}

func forcePurge(ctx context.Context, be Backend, id api.InstanceID) (int, error) {
	m, ok := be.(InstanceManager)
	if !ok {
		return 0, fmt.Errorf("force purge %q: %w", id, api.ErrUnsupported)
	}
	n, err := m.PurgeInstance(ctx, id, true, true)
	if err != nil {
		return n, fmt.Errorf("force purge %q: %w", id, err)
	}
	return n, nil
}

func (c *backendClient) Query(ctx context.Context, q api.InstanceQuery) (*api.InstancePage, error) {
	return query(ctx, c.be, q)
}

func query(ctx context.Context, be Backend, q api.InstanceQuery) (*api.InstancePage, error) {
	r, ok := be.(InstanceQuerier)
	if !ok {
		return nil, fmt.Errorf("query instances: %w", api.ErrUnsupported)
	}
	page, err := r.QueryInstances(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("query instances: %w", err)
	}
	return page, nil
}

func (c *backendClient) CountInstances(
	ctx context.Context, q api.InstanceQuery,
) (map[api.OrchestrationStatus]int64, error) {
	return countInstances(ctx, c.be, q)
}

func countInstances(ctx context.Context, be Backend, q api.InstanceQuery) (map[api.OrchestrationStatus]int64, error) {
	r, ok := be.(InstanceCounter)
	if !ok {
		return nil, fmt.Errorf("count instances: %w", api.ErrUnsupported)
	}
	counts, err := r.CountInstances(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("count instances: %w", err)
	}
	return counts, nil
}

func (c *backendClient) History(ctx context.Context, id api.InstanceID, f func([]*HistoryEvent) error) error {
	return history(ctx, c.be, id, f)
}

func history(ctx context.Context, be Backend, id api.InstanceID, f func([]*HistoryEvent) error) error {
	r, ok := be.(HistoryReader)
	if !ok {
		return fmt.Errorf("read history of %q: %w", id, api.ErrUnsupported)
	}
	if err := r.ReadHistory(ctx, id, f); err != nil {
		return fmt.Errorf("read history of %q: %w", id, err)
	}
	return nil
}

func (c *backendClient) Rewind(ctx context.Context, id api.InstanceID, reason string) error {
	return rewind(ctx, c.be, id, reason)
}

func rewind(ctx context.Context, be Backend, id api.InstanceID, reason string) error {
	m, ok := be.(InstanceManager)
	if !ok {
		return fmt.Errorf("rewind %q: %w", id, api.ErrUnsupported)
	}
	if err := m.RewindInstance(ctx, id, reason); err != nil {
		return fmt.Errorf("rewind %q: %w", id, err)
	}
	return nil
}

func (c *backendClient) Restart(ctx context.Context, id api.InstanceID, newID bool) (api.InstanceID, error) {
	return restart(ctx, c.be, id, newID)
}

func restart(ctx context.Context, be Backend, id api.InstanceID, newID bool) (api.InstanceID, error) {
	m, err := be.GetOrchestrationMetadata(ctx, id)
	if err == nil && !newID && !m.IsComplete() {
		err = fmt.Errorf("%w: it is %s", api.ErrNotCompleted, api.StatusName(m.RuntimeStatus))
	}
	if err != nil {
		return api.EmptyInstanceID, fmt.Errorf("restart %q: %w", id, err)
	}
	req := &protos.CreateInstanceRequest{
		InstanceId: string(id), Name: m.Name, Input: optionalText(m.SerializedInput),
		Version: optionalText(m.Version), Tags: m.Tags, OrchestrationIdReusePolicy: terminalPolicy(),
	}
	if newID {
		req.InstanceId, req.OrchestrationIdReusePolicy = "", nil
	}
	if err := startInstance(ctx, be, req); err != nil {
		return api.EmptyInstanceID, fmt.Errorf("restart %q: %w", id, err)
	}
	return api.InstanceID(req.GetInstanceId()), nil
}
