package server

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/perdure/perdure/api/protos"
)

// health answers the health checks of gRPC, for the server and for each of its services.
type health struct {
	healthpb.UnimplementedHealthServer
	server *Server
}

// lookInterval is how often a watched server is looked at.
const lookInterval = time.Second

func (h *health) status(service string) (healthpb.HealthCheckResponse_ServingStatus, bool) {
	switch service {
	case "", protos.TaskHubSidecarService_ServiceDesc.ServiceName, protos.Operations_ServiceDesc.ServiceName:
	default:
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN, false
	}
	if h.server.notReady() != "" {
		return healthpb.HealthCheckResponse_NOT_SERVING, true
	}
	return healthpb.HealthCheckResponse_SERVING, true
}

func (h *health) Check(_ context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	s, ok := h.status(req.GetService())
	if !ok {
		return nil, status.Errorf(codes.NotFound, "there is no service %q", req.GetService())
	}
	return &healthpb.HealthCheckResponse{Status: s}, nil
}

func (h *health) Watch(
	req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse],
) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for last := healthpb.HealthCheckResponse_UNKNOWN; ; {
		if now, _ := h.status(req.GetService()); now != last {
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: now}); err != nil {
				return err
			}
			last = now
		}
		select {
		case <-tick.C:
		case <-h.server.stopping:
			return status.Error(codes.Unavailable, "shutting down")
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}
