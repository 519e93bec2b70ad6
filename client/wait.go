package client

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// WaitForOrchestrationStart waits until the instance has left PENDING;
// api.ErrInstanceNotFound. A server that goes away meanwhile is waited for.
func (c *TaskHubGrpcClient) WaitForOrchestrationStart(
	ctx context.Context, id api.InstanceID, opts ...api.FetchOrchestrationMetadataOptions,
) (*api.OrchestrationMetadata, error) {
	return c.wait(ctx, id, opts, c.hub.WaitForInstanceStart, func(m *api.OrchestrationMetadata) bool {
		return m.RuntimeStatus != api.RUNTIME_STATUS_PENDING
	})
}

// WaitForOrchestrationCompletion waits until the instance is over;
// api.ErrInstanceNotFound. A server that goes away meanwhile is waited for.
func (c *TaskHubGrpcClient) WaitForOrchestrationCompletion(
	ctx context.Context, id api.InstanceID, opts ...api.FetchOrchestrationMetadataOptions,
) (*api.OrchestrationMetadata, error) {
	return c.wait(ctx, id, opts, c.hub.WaitForInstanceCompletion, (*api.OrchestrationMetadata).IsComplete)
}

type waitCall func(context.Context, *protos.GetInstanceRequest, ...grpc.CallOption) (*protos.GetInstanceResponse, error)

// wait looks before it waits, because a server is patient with an id that it does not know.
func (c *TaskHubGrpcClient) wait(
	ctx context.Context, id api.InstanceID, opts []api.FetchOrchestrationMetadataOptions,
	call waitCall, done func(*api.OrchestrationMetadata) bool,
) (*api.OrchestrationMetadata, error) {
	req := getRequest(id, opts)
	for _, attempt := range []waitCall{c.hub.GetInstance, call} {
		m, err := backoff.Retry(ctx, func() (*api.OrchestrationMetadata, error) {
			resp, err := attempt(ctx, req, anySize)
			if status.Code(err) == codes.Unavailable && ctx.Err() == nil {
				c.hurry()
				return nil, err
			}
			m, err := found(ctx, id, resp, err)
			if err != nil {
				return nil, backoff.Permanent(err)
			}
			return m, nil
		}, backoff.WithBackOff(reconnect()), backoff.WithMaxElapsedTime(0), backoff.WithNotify(
			func(err error, d time.Duration) { c.log.Warnf("wait for %s: try again in %v: %v", id, d, err) }))
		if ctx.Err() != nil && err != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("wait for %q: %w", id, err)
		}
		if done(m) {
			return m, nil
		}
	}
	return nil, fmt.Errorf("wait for %q: the server ended the wait too early", id)
}

// reconnect is how long to wait before the next attempt to reach a server that is away.
func reconnect() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, 5*time.Second
	return b
}
