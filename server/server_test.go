package server

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
)

var silent = backend.NewLogger(slog.New(slog.DiscardHandler))

type bench struct {
	*Server
	client protos.TaskHubSidecarServiceClient
	stop   func() error // ends Run and returns what it says; later calls the same
}

// start runs a server on a file, with a connection to it, and expects no goroutine of it to be left.
func start(t *testing.T, file string, opts Options) *bench {
	t.Helper()
	return startOn(t, sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(file), silent), opts)
}

func startOn(t *testing.T, be backend.Backend, opts Options) *bench {
	t.Helper()
	opts.GRPC, opts.HTTP, opts.Log = "127.0.0.1:0", "127.0.0.1:0", silent
	ready := make(chan struct{})
	opts.OnReady = func() { close(ready) }
	s, err := New(t.Context(), be, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var ran error
	go func() {
		defer close(ended)
		ran = s.Run(ctx)
	}()
	b := &bench{Server: s, stop: func() error {
		cancel()
		<-ended
		return ran
	}}
	t.Cleanup(func() { _ = b.stop() })
	select {
	case <-ready:
	case <-ended:
		t.Fatal(ran)
	}
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	b.client = protos.NewTaskHubSidecarServiceClient(conn)
	return b
}

func (b *bench) worker(t *testing.T) grpc.ServerStreamingClient[protos.WorkItem] {
	t.Helper()
	s, err := b.client.GetWorkItems(t.Context(), &protos.GetWorkItemsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func receive(t *testing.T, s grpc.ServerStreamingClient[protos.WorkItem]) *protos.WorkItem {
	t.Helper()
	w, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// complete answers a turn: the orchestration is over and returns output.
func (b *bench) complete(t *testing.T, w *protos.WorkItem, output string) {
	t.Helper()
	if _, err := b.client.CompleteOrchestratorTask(t.Context(), &protos.OrchestratorResponse{
		InstanceId: w.GetOrchestratorRequest().GetInstanceId(), CompletionToken: w.GetCompletionToken(),
		Actions: []*protos.OrchestratorAction{{OrchestratorActionType: &protos.OrchestratorAction_CompleteOrchestration{
			CompleteOrchestration: &protos.CompleteOrchestrationAction{
				OrchestrationStatus: api.RUNTIME_STATUS_COMPLETED, Result: wrapperspb.String(output),
			},
		}}},
	}); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) http(t *testing.T, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.HTTPAddr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	return r.StatusCode
}

func TestServe(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	file := t.TempDir() + "/hub.db"
	b := start(t, file, Options{})
	for _, path := range []string{"/healthz", "/readyz"} {
		if code := b.http(t, path); code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
		}
	}
	begun, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{Name: "greet"})
	if err != nil {
		t.Fatal(err)
	}
	idle := b.worker(t) // never begins anything: the first that waits is the one that is served
	w := receive(t, idle)
	b.complete(t, w, `"hello"`)
	got, err := b.client.WaitForInstanceCompletion(t.Context(), &protos.GetInstanceRequest{
		InstanceId: begun.GetInstanceId(), GetInputsAndOutputs: true,
	})
	if err != nil || got.GetOrchestrationState().GetOutput().GetValue() != `"hello"` {
		t.Errorf("got %v, %v", got, err)
	}
	if err := b.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := idle.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream of an idle worker ends with %v", err)
	}
}

// TestDrain stops a server while a worker has a turn, and another instance waits for one.
func TestDrain(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	file := t.TempDir() + "/hub.db"
	b := start(t, file, Options{Drain: time.Minute})
	stream, err := b.client.GetWorkItems(t.Context(), &protos.GetWorkItemsRequest{MaxConcurrentOrchestrationWorkItems: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{Name: "o", InstanceId: "begun"}); err != nil {
		t.Fatal(err)
	}
	w := receive(t, stream)
	if _, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{Name: "o", InstanceId: "waiting"}); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- b.stop() }()
	for { // a new worker is refused once the server drains
		s, err := b.client.GetWorkItems(t.Context(), &protos.GetWorkItemsRequest{
			WorkItemFilters: &protos.WorkItemFilters{},
		})
		if err == nil {
			if b.http(t, "/readyz") == http.StatusServiceUnavailable {
				_, err = s.Recv()
			}
		}
		if status.Code(err) == codes.Unavailable {
			break
		}
	}
	b.complete(t, w, `1`)
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ends with %v", err)
	}
	b = start(t, file, Options{})
	if w := receive(t, b.worker(t)); w.GetOrchestratorRequest().GetInstanceId() != "waiting" {
		t.Errorf("after the restart: %v", w)
	}
	if got, err := b.client.GetInstance(t.Context(), &protos.GetInstanceRequest{InstanceId: "begun"}); err != nil ||
		got.GetOrchestrationState().GetOrchestrationStatus() != api.RUNTIME_STATUS_COMPLETED {
		t.Errorf("the turn that was begun: %v, %v", got, err)
	}
}
