package server

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend/sqlite"
)

// BenchmarkTracing says what spans cost: a call, and an orchestration of one turn, of a
// client that has a trace and of one that has none; client, server and worker together.
//
//	go test ./server -run '^$' -bench Tracing -benchmem
func BenchmarkTracing(b *testing.B) {
	for _, name := range []string{"off", "on"} {
		var tracer trace.TracerProvider
		if name == "on" {
			tracer = sdktrace.NewTracerProvider()
		}
		ctx, client := benchServer(b, Options{Tracer: tracer})
		traced := metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+clientTrace+"-"+clientSpan+"-01")
		for _, kind := range []string{"", "OfATrace"} {
			ctx := ctx
			if kind != "" {
				ctx = traced
			}
			b.Run("Call"+kind+"/"+name, func(b *testing.B) {
				for b.Loop() {
					if _, err := client.GetInstance(ctx, &protos.GetInstanceRequest{InstanceId: "unknown"}); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("Orchestration"+kind+"/"+name, func(b *testing.B) {
				for b.Loop() {
					r, err := client.StartInstance(ctx, &protos.CreateInstanceRequest{Name: "o"})
					if err != nil {
						b.Fatal(err)
					}
					if _, err := client.WaitForInstanceCompletion(ctx, &protos.GetInstanceRequest{InstanceId: r.GetInstanceId()}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// benchServer runs a server whose hub is in memory, with a worker that completes each orchestration at once.
func benchServer(b *testing.B, opts Options) (context.Context, protos.TaskHubSidecarServiceClient) {
	b.Helper()
	opts.GRPC, opts.HTTP, opts.Log = "127.0.0.1:0", "127.0.0.1:0", silent
	s, err := New(b.Context(), sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(""), silent), opts)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	client := protos.NewTaskHubSidecarServiceClient(conn)
	b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		conn.Close()
	})
	stream, err := client.GetWorkItems(ctx, &protos.GetWorkItemsRequest{})
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for {
			w, err := stream.Recv()
			if err != nil {
				return
			}
			if w.GetOrchestratorRequest() == nil {
				continue
			}
			_, _ = client.CompleteOrchestratorTask(ctx, &protos.OrchestratorResponse{
				InstanceId: w.GetOrchestratorRequest().GetInstanceId(), CompletionToken: w.GetCompletionToken(),
				Actions: []*protos.OrchestratorAction{complete(`1`)},
			})
		}
	}()
	return ctx, client
}
