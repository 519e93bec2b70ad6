package server

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// growing is a worker whose orchestrator "grow" gets six results of 1 MiB, over a connection of its own.
func (b *bench) growing(t *testing.T, opts ...grpc.DialOption) *wireWorker {
	t.Helper()
	w := fullWorker()
	w.client = protos.NewTaskHubSidecarServiceClient(b.dial(t, opts...))
	big := `"` + strings.Repeat("x", 1<<20) + `"`
	w.activities["big"] = func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails) { return big, nil }
	w.scripts["grow"] = steps(`"grown"`, call("big"), call("big"), call("big"), call("big"), call("big"), call("big"))
	return w
}

func (b *bench) stalls(t *testing.T, id api.InstanceID) {
	t.Helper()
	eventually(t, "it is stalled, with a reason", func() bool {
		m, err := b.hubs.byName[defaultHub].be.GetOrchestrationMetadata(t.Context(), id)
		return err == nil && strings.Contains(m.Stalled, "4177920") && strings.Contains(m.Stalled, `orchestration "grow"`)
	})
}

// TestWorkersThatAcceptLargeMessages get histories beyond 4 MiB as they are: the SDK for
// JavaScript, known by its user agent, and whoever says so.
func TestWorkersThatAcceptLargeMessages(t *testing.T) {
	unlimited := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64 << 20))
	says := func(value string) grpc.DialOption {
		return grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, c *grpc.ClientConn, m string, s grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			return s(metadata.AppendToOutgoingContext(ctx, "perdure-worker-message", value), d, c, m, o...)
		})
	}
	for name, large := range map[string]grpc.DialOption{
		"JavaScript":  grpc.WithUserAgent("grpc-node-js/1.14.0"),
		"who says so": says("16777216"),
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, "", Options{})
			b.work(t, b.growing(t), nil)
			b.startAs(t, "grow", "i")
			b.stalls(t, "i")
			w := b.growing(t, unlimited, large)
			var inline atomic.Bool
			w.seen = func(i *protos.WorkItem) {
				if r := i.GetOrchestratorRequest(); len(r.GetPastEvents()) > 12 && !r.GetRequiresHistoryStreaming() {
					inline.Store(true)
				}
			}
			b.work(t, w, nil) // what stalled goes on, and the other worker's stream is as it was
			if s := b.finish(t, "i"); s.GetOutput().GetValue() != `"grown"` || !inline.Load() {
				t.Errorf("%v, sent whole: %t", s, inline.Load())
			}
			b.startAs(t, "grow", "j")
			b.finish(t, "j")
		})
	}
	t.Run("who says too little", func(t *testing.T) {
		b := start(t, "", Options{})
		b.work(t, b.growing(t, unlimited, says("5000000")), nil)
		b.startAs(t, "grow", "i")
		eventually(t, "it is stalled, with a reason", func() bool {
			m, err := b.hubs.byName[defaultHub].be.GetOrchestrationMetadata(t.Context(), "i")
			return err == nil && strings.Contains(m.Stalled, "4983616")
		})
	})
	t.Run("who says nonsense", func(t *testing.T) {
		b := start(t, "", Options{})
		for _, value := range []string{"4MB", "-1", "0", ""} {
			s, err := protos.NewTaskHubSidecarServiceClient(b.dial(t, says(value))).GetWorkItems(t.Context(), &protos.GetWorkItemsRequest{})
			if err == nil {
				_, err = s.Recv()
			}
			wantCode(t, fmt.Sprintf("%q", value), err, codes.InvalidArgument)
		}
	})
}

// TestLargeEntities has an entity whose state and operations do not fit into one message together.
func TestLargeEntities(t *testing.T) {
	b := start(t, t.TempDir()+"/hub.db", Options{})
	var batches atomic.Int32
	worker := func(opts ...grpc.DialOption) *wireWorker {
		return &wireWorker{
			client:  protos.NewTaskHubSidecarServiceClient(b.dial(t, opts...)),
			scripts: map[string]script{"caller": caller},
			entity: func(r *protos.EntityRequest) *protos.EntityBatchResult {
				batches.Add(1)
				result := &protos.EntityBatchResult{EntityState: r.GetEntityState()}
				for _, e := range r.GetOperationRequests() {
					input, request := e.GetEntityOperationSignaled().GetInput(), e.GetEntityOperationSignaled().GetRequestId()
					if c := e.GetEntityOperationCalled(); c != nil {
						input, request = c.GetInput(), c.GetRequestId()
					}
					result.EntityState = input
					result.Results = append(result.Results, &protos.OperationResult{ResultType: &protos.OperationResult_Success{
						Success: &protos.OperationResultSuccess{Result: wrapperspb.String(fmt.Sprint(len(input.GetValue())))},
					}})
					result.OperationInfos = append(result.OperationInfos, &protos.OperationInfo{RequestId: request})
				}
				return result
			},
		}
	}
	signal := func(mib int) {
		t.Helper()
		if _, err := b.client.SignalEntity(t.Context(), &protos.SignalEntityRequest{
			InstanceId: "@store@a", Name: "set", Input: wrapperspb.String(strings.Repeat("x", mib<<20)),
		}); err != nil {
			t.Fatal(err)
		}
	}
	state := func() int {
		r, err := b.client.GetEntity(t.Context(), &protos.GetEntityRequest{InstanceId: "@store@a", IncludeState: true})
		if err != nil {
			t.Fatal(err)
		}
		return len(r.GetEntity().GetSerializedState().GetValue()) >> 20
	}
	for range 3 {
		signal(1)
	}
	signal(2)
	plain := b.work(t, worker(), nil)
	eventually(t, "all operations are applied, as many at a time as fit", func() bool { return state() == 2 })
	if n := batches.Load(); n < 2 || n > 4 {
		t.Errorf("%d batches", n)
	}
	// The state of 2 MiB and an operation of 2.5 MiB make no message of 4 MiB: that operation fails, with the reason.
	b.startAs(t, "caller", "refused")
	if s := b.finish(t, "refused"); !strings.Contains(s.GetOutput().GetValue(), "MessageTooLarge") ||
		!strings.Contains(s.GetOutput().GetValue(), "4177920") {
		t.Errorf("with a worker that accepts 4 MiB: %v", s)
	}
	plain.stop()
	b.work(t, worker(grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)), grpc.WithUserAgent("grpc-node-js/1.14.0")), nil)
	b.startAs(t, "caller", "done")
	if s := b.finish(t, "done"); s.GetOutput().GetValue() != fmt.Sprintf("%q", fmt.Sprint(2<<20+1<<19)) {
		t.Errorf("with a worker that accepts any size: %v", s)
	}
}

// caller calls the entity with 2.5 MiB and tells what comes back.
func caller(events []*protos.HistoryEvent) []*protos.OrchestratorAction {
	for _, e := range events {
		if c := e.GetEntityOperationCompleted(); c != nil {
			return []*protos.OrchestratorAction{complete(fmt.Sprintf("%q", c.GetOutput().GetValue()))}
		}
		if f := e.GetEntityOperationFailed().GetFailureDetails(); f != nil {
			return []*protos.OrchestratorAction{complete(fmt.Sprintf("%q", f.GetErrorType()+": "+f.GetErrorMessage()))}
		}
	}
	if len(events) > 2 {
		return nil
	}
	return []*protos.OrchestratorAction{callAction(1, "@store@a", "set", strings.Repeat("y", 2<<20+1<<19))}
}
