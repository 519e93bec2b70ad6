package backendtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// rpcs are the services of an executor, called without a network between.
type rpcs struct {
	names   []string
	calls   map[string]func(ctx context.Context, request []byte) error
	streams map[string]func(*itemStream) error
	items   *itemStream // what the worker was sent
}

// RegisterService implements grpc.ServiceRegistrar.
func (r *rpcs) RegisterService(desc *grpc.ServiceDesc, impl any) {
	for _, m := range desc.Methods {
		r.names = append(r.names, m.MethodName)
		r.calls[m.MethodName] = func(ctx context.Context, request []byte) error {
			_, err := m.Handler(impl, ctx, func(v any) error {
				if err := proto.Unmarshal(request, v.(proto.Message)); err != nil {
					return status.Error(codes.InvalidArgument, err.Error()) // gRPC's own answer
				}
				return nil
			}, nil)
			return err
		}
	}
	for _, s := range desc.Streams {
		r.names = append(r.names, s.StreamName)
		r.streams[s.StreamName] = func(to *itemStream) error { return s.Handler(impl, to) }
		r.calls[s.StreamName] = func(ctx context.Context, request []byte) error {
			return s.Handler(impl, &itemStream{ctx: ctx, request: request})
		}
	}
}

// itemStream is the server's end of a stream; it keeps what is sent.
type itemStream struct {
	ctx     context.Context
	request []byte
	mu      sync.Mutex
	sent    []any
}

func (*itemStream) SetHeader(metadata.MD) error  { return nil }
func (*itemStream) SendHeader(metadata.MD) error { return nil }
func (*itemStream) SetTrailer(metadata.MD)       {}
func (s *itemStream) Context() context.Context   { return s.ctx }

func (s *itemStream) SendMsg(m any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, m)
	return s.ctx.Err()
}

func (s *itemStream) RecvMsg(m any) error {
	if err := proto.Unmarshal(s.request, m.(proto.Message)); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

// take returns the first kept item that f accepts.
func (s *itemStream) take(f func(*protos.WorkItem) bool) *protos.WorkItem {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, m := range s.sent {
		if wi, ok := m.(*protos.WorkItem); ok && f(wi) {
			s.sent = slices.Delete(s.sent, n, n+1)
			return wi
		}
	}
	return nil
}

// answers are the calls of a worker that does not make up its tokens: they answer an item that it was sent.
func (r *rpcs) answers() {
	add := func(name string, call string, has func(*protos.WorkItem) bool, fill func(wi *protos.WorkItem, request []byte) proto.Message) {
		r.names = append(r.names, name)
		r.calls[name] = func(ctx context.Context, request []byte) error {
			wi := r.items.take(has)
			if wi == nil {
				return nil
			}
			m := fill(wi, request)
			if m == nil {
				return nil
			}
			b, err := proto.Marshal(m)
			if err != nil {
				return nil //nolint:nilerr // such text cannot come over a wire
			}
			return r.calls[call](ctx, b)
		}
	}
	add("AnswerTurn", "CompleteOrchestratorTask", func(wi *protos.WorkItem) bool { return wi.GetOrchestratorRequest() != nil },
		func(wi *protos.WorkItem, request []byte) proto.Message {
			m := &protos.OrchestratorResponse{}
			_ = proto.Unmarshal(request, m)
			m.InstanceId, m.CompletionToken = wi.GetOrchestratorRequest().GetInstanceId(), wi.GetCompletionToken()
			return m
		})
	add("AnswerActivity", "CompleteActivityTask", func(wi *protos.WorkItem) bool { return wi.GetActivityRequest() != nil },
		func(wi *protos.WorkItem, request []byte) proto.Message {
			m := &protos.ActivityResponse{}
			_ = proto.Unmarshal(request, m)
			a := wi.GetActivityRequest()
			m.InstanceId, m.TaskId, m.CompletionToken = a.GetOrchestrationInstance().GetInstanceId(), a.GetTaskId(), wi.GetCompletionToken()
			return m
		})
	add("AnswerEntity", "CompleteEntityTask",
		func(wi *protos.WorkItem) bool { return wi.GetEntityRequest() != nil || wi.GetEntityRequestV2() != nil },
		func(wi *protos.WorkItem, request []byte) proto.Message {
			m := &protos.EntityBatchResult{}
			_ = proto.Unmarshal(request, m)
			m.CompletionToken = wi.GetCompletionToken()
			return m
		})
}

// sensible are the codes that a server may answer any request with.
var sensible = []codes.Code{
	codes.OK, codes.Canceled, codes.InvalidArgument, codes.DeadlineExceeded, codes.NotFound, codes.AlreadyExists,
	codes.ResourceExhausted, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Unimplemented, codes.Unavailable,
}

// FuzzRPC makes any calls with any messages, those of a worker among them. Each is
// answered with a code that tells what is wrong, and the server goes on.
func FuzzRPC(f *testing.F) {
	r, _, _ := newRPCs()
	names := r.names
	type call struct {
		name string
		m    proto.Message
	}
	seed := func(calls ...call) {
		var data []byte
		for _, c := range calls {
			b, err := proto.Marshal(c.m)
			if err != nil {
				f.Fatal(err)
			}
			data = protowire.AppendBytes(append(data, byte(slices.Index(names, c.name))), b)
		}
		f.Add(data)
	}
	for _, name := range names {
		seed(call{name, &protos.GetInstanceRequest{}}, call{name, &protos.GetInstanceRequest{InstanceId: "a", GetInputsAndOutputs: true}})
	}
	start := call{"StartInstance", &protos.CreateInstanceRequest{InstanceId: "a", Name: "o", Input: wrapperspb.String("1")}}
	at := timestamppb.New(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC))
	seed(start, call{"RaiseEvent", &protos.RaiseEventRequest{InstanceId: "a", Name: "e"}},
		call{"AnswerTurn", &protos.OrchestratorResponse{Actions: []*protos.OrchestratorAction{
			callTask(1, "act"), setTimer(2, at.AsTime()), callChild(3, "kid"), sendEvent(4, "a", "1"),
		}}},
		call{"AnswerActivity", &protos.ActivityResponse{Result: wrapperspb.String("1")}},
		call{"AnswerTurn", &protos.OrchestratorResponse{Actions: []*protos.OrchestratorAction{end(5, api.RUNTIME_STATUS_CONTINUED_AS_NEW, "2")}}},
		call{"StreamInstanceHistory", &protos.StreamInstanceHistoryRequest{InstanceId: "a"}},
		call{"RestartInstance", &protos.RestartInstanceRequest{InstanceId: "a"}})
	seed(start, call{"SuspendInstance", &protos.SuspendRequest{InstanceId: "a"}}, call{"ResumeInstance", &protos.ResumeRequest{InstanceId: "a"}},
		call{"TerminateInstance", &protos.TerminateRequest{InstanceId: "a", Recursive: true}},
		call{"QueryInstances", &protos.QueryInstancesRequest{Query: &protos.InstanceQuery{MaxInstanceCount: 1, CreatedTimeFrom: at}}},
		call{"PurgeInstances", &protos.PurgeInstancesRequest{Recursive: true,
			Request: &protos.PurgeInstancesRequest_InstanceId{InstanceId: "a"}}})
	seed(call{"SignalEntity", &protos.SignalEntityRequest{InstanceId: "@c@1", Name: "add", RequestId: "r", ScheduledTime: at}},
		call{"AnswerEntity", &protos.EntityBatchResult{Results: []*protos.OperationResult{{
			ResultType: &protos.OperationResult_Success{Success: &protos.OperationResultSuccess{}}}}, EntityState: wrapperspb.String("1")}},
		call{"QueryEntities", &protos.QueryEntitiesRequest{Query: &protos.EntityQuery{IncludeState: true}}},
		call{"GetEntity", &protos.GetEntityRequest{InstanceId: "@c@1", IncludeState: true}})
	seed(start, call{"AnswerTurn", &protos.OrchestratorResponse{Actions: []*protos.OrchestratorAction{end(1, api.RUNTIME_STATUS_FAILED, "why")}}},
		call{"RewindInstance", &protos.RewindInstanceRequest{InstanceId: "a"}}, call{"DeleteTaskHub", &protos.DeleteTaskHubRequest{}})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		synctest.Test(t, func(t *testing.T) { callAny(t, data) })
	})
}

func newRPCs() (*rpcs, backend.Backend, backend.Executor) {
	log := backend.NewLogger(slog.New(slog.DiscardHandler))
	be := NewModel(Settings{Logger: log})
	r := &rpcs{calls: map[string]func(context.Context, []byte) error{}, streams: map[string]func(*itemStream) error{}}
	ex := backend.RegisterGrpcExecutor(r, be, log)
	r.answers()
	return r, be, ex
}

func callAny(t *testing.T, data []byte) {
	t.Helper()
	r, be, ex := newRPCs()
	log, par := backend.NewLogger(slog.New(slog.DiscardHandler)), backend.WithMaxParallelism(4)
	hub := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, ex, log, par), backend.NewActivityTaskWorker(be, ex, log, par), log)
	must(t, hub.Start(t.Context()))
	work, leave := context.WithCancel(t.Context())
	r.items = &itemStream{ctx: work}
	var worker sync.WaitGroup
	worker.Go(func() { _ = r.streams["GetWorkItems"](r.items) })

	var made []string
	for len(data) > 1 {
		name := r.names[int(data[0])%len(r.names)]
		request, n := protowire.ConsumeBytes(data[1:])
		if n < 0 {
			break
		}
		data = data[1+n:]
		made = append(made, fmt.Sprintf("%s %x", name, request))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := r.calls[name](ctx, request)
		cancel()
		if code := status.Code(err); !slices.Contains(sensible, code) {
			t.Fatalf("%v: %v, after\n%s", code, err, strings.Join(made, "\n"))
		}
		synctest.Wait()
	}
	if err := be.CreateTaskHub(t.Context()); err != nil && !errors.Is(err, backend.ErrTaskHubExists) {
		t.Fatal(err)
	}
	if err := be.CreateOrchestrationInstance(t.Context(), startEvent("afterwards", "o")); err != nil {
		t.Fatalf("a start afterwards: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := hub.Shutdown(ctx); err != nil {
		t.Logf("shutdown: %v", err)
	}
	leave()
	worker.Wait()
}
