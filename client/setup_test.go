package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

func quiet() backend.Logger { return backend.NewLogger(slog.New(slog.DiscardHandler)) }

// server is a task hub in a file, served over TCP on an address that survives a restart.
type server struct {
	addr, file string
	stop       func()
}

// serve starts a server; it is stopped with the test, or by stop.
func serve(t *testing.T, addr, file string) *server {
	t.Helper()
	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(file), quiet())
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: listener.Addr().String(), file: file}
	grpcServer := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	ex := backend.NewGrpcExecutor(grpcServer, be, quiet())
	w := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, ex, quiet(), backend.WithMaxParallelism(64)),
		backend.NewActivityTaskWorker(be, ex, quiet(), backend.WithMaxParallelism(64)), quiet())
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- grpcServer.Serve(listener) }()
	s.stop = func() {
		grpcServer.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serve: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := w.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		s.stop = func() {}
	}
	t.Cleanup(func() { s.stop() })
	return s
}

func newServer(t *testing.T) *server {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	return serve(t, "127.0.0.1:0", filepath.Join(t.TempDir(), "hub.db"))
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// run runs a listener and returns what ends it and waits for that.
func run(t *testing.T, cc grpc.ClientConnInterface, r *task.TaskRegistry, opts ...client.WorkerOption) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.NewTaskHubGrpcClient(cc, quiet()).RunWorkItemListener(ctx, r, opts...) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			return fmt.Errorf("the listener did not end")
		}
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return stop
}

func registry(t *testing.T, orchestrators map[string]task.Orchestrator, activities map[string]task.Activity) *task.TaskRegistry {
	t.Helper()
	r := task.NewTaskRegistry()
	for name, f := range orchestrators {
		if err := r.AddOrchestratorN(name, f); err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range activities {
		if err := r.AddActivityN(name, f); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
