package main

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/server"
	"github.com/perdure/perdure/task"
)

// serve has the workloads go over gRPC: client and worker have a connection
// each to a server in this process.
func (e *bed) serve(ctx context.Context, be backend.Backend, r *task.TaskRegistry) error {
	quiet := backend.NewLogger(slog.New(slog.DiscardHandler))
	ready := make(chan struct{})
	s, err := server.New(ctx, be, server.Options{
		GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", Log: quiet, OnReady: func() { close(ready) },
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 2)
	go func() { ended <- s.Run(running) }()
	select {
	case <-ready:
	case err := <-ended:
		stop()
		return err
	}
	dial := func() (*grpc.ClientConn, error) {
		return grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	calls, err := dial()
	work, werr := dial()
	if err := errors.Join(err, werr); err != nil {
		stop()
		return err
	}
	e.client = client.NewClient(calls, quiet)
	go func() {
		ended <- client.NewTaskHubGrpcClient(work, quiet).RunWorkItemListener(running, r,
			client.WithMaxConcurrentOrchestrations(parallelism), client.WithMaxConcurrentActivities(parallelism))
	}()
	e.stop = func(context.Context) error {
		stop()
		return errors.Join(<-ended, <-ended, calls.Close(), work.Close())
	}
	return nil
}
