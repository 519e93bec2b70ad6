package client_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/backendtest"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

// beside are the cases that have nothing to do with the wire, and why.
var beside = map[string]string{
	"C02EventsOfOneNameAreAFIFO":    "2,500 activities one after another take their time over a wire; the SDKs' many_events_in_order has 100",
	"C15TerminateStopsActivities":   "the protocol has no word for the end of an activity that runs; what is queued is in package server's TestC15",
	"C37ShutdownAbandonsActivities": "the worker has a stop of its own: TestWorkerDrainHasALimit",
	"C38ShutdownKeepsItsDeadline":   "the same",
	"C38ShutdownLetsWorkFinish":     "the same: TestWorkerDrains",
	"C40WideTurns":                  "the limits are those of stores, and 20,000 activities over a wire take their time",
	"C64ATurnThatAlwaysFails":       "the executor that fails is the backend's own",
	"C64AnActivityWithoutAResult":   "the same; for workers that die see package server's TestAnActivityThatKillsItsWorkers",
}

// TestCases runs what users met over gRPC: client and worker are connected to the hub, each by itself.
func TestCases(t *testing.T) {
	var far []backendtest.Test
	for _, x := range backendtest.Cases() {
		if beside[x.Name] == "" {
			far = append(far, x)
		}
	}
	if len(far)+len(beside) != len(backendtest.Cases()) {
		t.Errorf("a case is left out that is not there: %v", beside)
	}
	backendtest.RunTests(t, farHub, far...)
}

// farHub is a hub in a file whose programs run behind gRPC.
func farHub(tb testing.TB) backendtest.Hub {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "hub.db")
	return backendtest.Hub{
		Open: func(s backendtest.Settings) backend.Backend {
			o := sqlite.NewSqliteOptions(file)
			o.MaxResident, o.MaxPayload, o.MaxIDLength = s.MaxResident, s.MaxPayload, s.MaxIDLength
			return sqlite.NewSqliteBackend(o, s.Logger)
		},
		Far: behindGRPC,
	}
}

func behindGRPC(tb testing.TB, be backend.Backend, log backend.Logger, r *task.TaskRegistry) (backend.Executor, backend.Client) {
	tb.Helper()
	server, pipe := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20)), bufconn.Listen(1<<20)
	ex := backend.NewGrpcExecutor(server, be, log)
	served := make(chan error, 1)
	go func() { served <- server.Serve(pipe) }()
	dial := func() *grpc.ClientConn {
		conn, err := grpc.NewClient("passthrough:///pipe", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
		if err != nil {
			tb.Fatal(err)
		}
		return conn
	}
	working, calling := dial(), dial()
	ctx, stop := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- client.NewTaskHubGrpcClient(working, log).RunWorkItemListener(ctx, r) }()
	tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			tb.Errorf("the worker: %v", err)
		}
		if err := errors.Join(working.Close(), calling.Close()); err != nil {
			tb.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			tb.Errorf("the server: %v", err)
		}
	})
	return ex, client.NewClient(calling, log)
}
