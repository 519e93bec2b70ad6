package backend

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

func (f *plainFake) CreateTaskHub(context.Context) error { return ErrTaskHubExists }
func (f *plainFake) DeleteTaskHub(context.Context) error { return ErrTaskHubNotFound }

type executorBench struct {
	Executor
	be     *fullFake
	client protos.TaskHubSidecarServiceClient
}

// newExecutorBench serves an executor over a pipe; all its goroutines must have ended with the test.
func newExecutorBench(t *testing.T, be *fullFake, opts ...grpcExecutorOptions) *executorBench {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	server, pipe := grpc.NewServer(), bufconn.Listen(1<<20)
	b := &executorBench{be: be}
	b.Executor = NewGrpcExecutor(server, be, NewLogger(slog.New(slog.DiscardHandler)), opts...)
	served := make(chan error, 1)
	go func() { served <- server.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:///pipe", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	b.client = protos.NewTaskHubSidecarServiceClient(conn)
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return b
}

func (b *executorBench) worker(t *testing.T) (grpc.ServerStreamingClient[protos.WorkItem], context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := b.client.GetWorkItems(ctx, &protos.GetWorkItemsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return s, cancel
}

func receive(t *testing.T, s grpc.ServerStreamingClient[protos.WorkItem]) *protos.WorkItem {
	t.Helper()
	w, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func startOf(id, execution string) *HistoryEvent {
	return &HistoryEvent{EventId: -1, Timestamp: timestamppb.Now(), EventType: &protos.HistoryEvent_ExecutionStarted{
		ExecutionStarted: &protos.ExecutionStartedEvent{Name: "orch", OrchestrationInstance: &protos.OrchestrationInstance{
			InstanceId: id, ExecutionId: wrapperspb.String(execution),
		}},
	}}
}

func TestGrpcTurn(t *testing.T) {
	b := newExecutorBench(t, &fullFake{plainFake: newPlainFake()})
	type result struct {
		r   *ExecutionResults
		err error
	}
	results := make(chan result, 1)
	go func() {
		r, err := b.ExecuteOrchestrator(t.Context(), "i", []*HistoryEvent{startOf("i", "e1")}, []*HistoryEvent{{EventId: -1}})
		results <- result{r, err}
	}()
	first, leave := b.worker(t)
	lost := receive(t, first)
	leave() // without an answer
	s, leave := b.worker(t)
	defer leave()
	w := receive(t, s)
	r := w.GetOrchestratorRequest()
	if r.GetInstanceId() != "i" || r.GetExecutionId().GetValue() != "e1" || len(r.GetPastEvents()) != 1 || len(r.GetNewEvents()) != 1 ||
		r.GetEntityParameters().GetEntityMessageReorderWindow() == nil {
		t.Errorf("request: %v", r)
	}
	for _, token := range []string{lost.GetCompletionToken(), "unknown", w.GetCompletionToken(), w.GetCompletionToken()} {
		_, err := b.client.CompleteOrchestratorTask(t.Context(), &protos.OrchestratorResponse{
			InstanceId: "i", CompletionToken: token, CustomStatus: wrapperspb.String(token),
		})
		if err != nil {
			t.Errorf("complete with %q: %v", token, err)
		}
	}
	if got := <-results; got.err != nil || got.r.Response.GetCustomStatus().GetValue() != w.GetCompletionToken() {
		t.Errorf("result: %v, %v", got.r, got.err)
	}
}

func TestGrpcActivity(t *testing.T) {
	b := newExecutorBench(t, &fullFake{plainFake: newPlainFake(instance("i", api.RUNTIME_STATUS_RUNNING))})
	s, leave := b.worker(t)
	defer leave()
	ctx := ContextWithActivityInfo(t.Context(), ActivityInfo{InstanceID: "i", ExecutionID: "e1", TaskID: 4})
	for _, failure := range []*protos.TaskFailureDetails{nil, {ErrorType: "E", ErrorMessage: "m"}} {
		results := make(chan *HistoryEvent, 1)
		go func() {
			e, err := b.ExecuteActivity(ctx, "i", &HistoryEvent{EventId: 4, EventType: &protos.HistoryEvent_TaskScheduled{
				TaskScheduled: &protos.TaskScheduledEvent{
					Name: "act", Version: wrapperspb.String("v"), Input: wrapperspb.String("in"), Tags: map[string]string{"a": "b"},
				},
			}})
			if err != nil {
				t.Error(err)
			}
			results <- e
		}()
		w := receive(t, s)
		r := w.GetActivityRequest()
		if r.GetName() != "act" || r.GetVersion().GetValue() != "v" || r.GetInput().GetValue() != "in" || r.GetTags()["a"] != "b" ||
			r.GetTaskId() != 4 || r.GetOrchestrationInstance().GetExecutionId().GetValue() != "e1" {
			t.Errorf("request: %v", r)
		}
		if _, err := b.client.CompleteActivityTask(ctx, &protos.ActivityResponse{
			InstanceId: "i", TaskId: 4, Result: wrapperspb.String("out"), FailureDetails: failure,
		}); err != nil {
			t.Fatal(err)
		}
		e := <-results
		if failure == nil && (e.GetTaskCompleted().GetResult().GetValue() != "out" || e.GetTaskCompleted().GetTaskScheduledId() != 4) ||
			failure != nil && (e.GetTaskFailed().GetFailureDetails().GetErrorType() != "E" || e.GetTaskFailed().GetTaskScheduledId() != 4) ||
			e.GetEventId() != -1 || !e.GetTimestamp().IsValid() {
			t.Errorf("result: %v", e)
		}
	}
}

func TestGrpcExecutorContextEnd(t *testing.T) {
	b := newExecutorBench(t, &fullFake{plainFake: newPlainFake()})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := b.ExecuteOrchestrator(ctx, "i", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestGrpcWorkerConnection(t *testing.T) {
	refuse, shutdown := errors.New("not now"), make(chan any)
	var refused error = refuse
	b := newExecutorBench(t, &fullFake{plainFake: newPlainFake()}, WithStreamShutdownChannel(shutdown),
		WithOnGetWorkItemsConnectionCallback(func(context.Context) error { return refused }))
	s, leave := b.worker(t)
	defer leave()
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "not now") {
		t.Errorf("refused: %v", err)
	}
	refused = nil
	s, leave2 := b.worker(t)
	defer leave2()
	close(shutdown)
	if _, err := s.Recv(); status.Code(err) != codes.Canceled || !strings.Contains(err.Error(), "shutting down") {
		t.Errorf("shutdown: %v", err)
	}
}

// TestGrpcWorkerThatStopsReading fills the window of its stream: what it was sent goes
// to others, which were never held up.
func TestGrpcWorkerThatStopsReading(t *testing.T) {
	b := newExecutorBench(t, &fullFake{plainFake: newPlainFake(instance("i", api.RUNTIME_STATUS_RUNNING))},
		func(e *grpcExecutor) { e.options.SendTimeout = 2 * time.Second })
	const n = 40
	big := strings.Repeat("x", 64<<10) // two of them are more than the window of a stream
	results := make(chan error, n)
	begin := func(from, to int) {
		for i := from; i < to; i++ {
			go func() {
				_, err := b.ExecuteActivity(t.Context(), "i", &HistoryEvent{EventId: int32(i), EventType: &protos.HistoryEvent_TaskScheduled{
					TaskScheduled: &protos.TaskScheduledEvent{Name: "a", Input: wrapperspb.String(big)},
				}})
				results <- err
			}()
		}
	}
	deaf, leave := b.worker(t)
	defer leave()
	if _, err := b.client.Hello(t.Context(), &emptypb.Empty{}); err != nil {
		t.Fatal(err)
	}
	begin(0, n/2) // all are for the only worker, which reads none
	s, leave := b.worker(t)
	defer leave()
	begin(n/2, n)
	for range n {
		w := receive(t, s)
		if _, err := b.client.CompleteActivityTask(t.Context(), &protos.ActivityResponse{
			InstanceId: "i", TaskId: w.GetActivityRequest().GetTaskId(), CompletionToken: w.GetCompletionToken(),
		}); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	for {
		if _, err := deaf.Recv(); err != nil { // after what had fit into the window
			if status.Code(err) != codes.Unavailable {
				t.Errorf("its stream ended with %v", err)
			}
			break
		}
	}
}

func TestGrpcStatusCodes(t *testing.T) {
	b := newExecutorBench(t, &fullFake{plainFake: newPlainFake(instance("run", api.RUNTIME_STATUS_RUNNING),
		instance("done", api.RUNTIME_STATUS_COMPLETED), instance("failed", api.RUNTIME_STATUS_FAILED))})
	c, ctx := b.client, t.Context()
	start := func(r *protos.CreateInstanceRequest) func() error {
		return func() error { _, err := c.StartInstance(ctx, r); return err }
	}
	reuse := func(s ...protos.OrchestrationStatus) *protos.OrchestrationIdReusePolicy {
		return &protos.OrchestrationIdReusePolicy{ReplaceableStatus: s}
	}
	tests := []struct {
		name string
		call func() error
		want codes.Code
	}{
		{"hello", func() error { _, err := c.Hello(ctx, &emptypb.Empty{}); return err }, codes.OK},
		{"create hub", func() error {
			_, err := c.CreateTaskHub(ctx, &protos.CreateTaskHubRequest{RecreateIfExists: true})
			return err
		}, codes.OK},
		{"delete hub", func() error { _, err := c.DeleteTaskHub(ctx, &protos.DeleteTaskHubRequest{}); return err }, codes.OK},
		{"start", start(&protos.CreateInstanceRequest{Name: "o", ScheduledStartTimestamp: &timestamppb.Timestamp{}}), codes.OK},
		{"start nameless", start(&protos.CreateInstanceRequest{}), codes.InvalidArgument},
		{"start bad time", start(&protos.CreateInstanceRequest{
			Name: "o", ScheduledStartTimestamp: &timestamppb.Timestamp{Nanos: -1},
		}), codes.InvalidArgument},
		{"start over running", start(&protos.CreateInstanceRequest{Name: "o", InstanceId: "run"}), codes.AlreadyExists},
		{"start over done, refused", start(&protos.CreateInstanceRequest{
			Name: "o", InstanceId: "done", OrchestrationIdReusePolicy: reuse(),
		}), codes.AlreadyExists},
		{"start over done", start(&protos.CreateInstanceRequest{Name: "o", InstanceId: "done"}), codes.OK},
		{"start with bad policy", start(&protos.CreateInstanceRequest{
			Name: "o", InstanceId: "run", OrchestrationIdReusePolicy: reuse(api.RUNTIME_STATUS_RUNNING),
		}), codes.InvalidArgument},
		{"raise", func() error {
			_, err := c.RaiseEvent(ctx, &protos.RaiseEventRequest{InstanceId: "nobody", Name: "e"})
			return err
		}, codes.NotFound},
		{"raise nameless", func() error {
			_, err := c.RaiseEvent(ctx, &protos.RaiseEventRequest{InstanceId: "run"})
			return err
		}, codes.InvalidArgument},
		{"suspend", func() error {
			_, err := c.SuspendInstance(ctx, &protos.SuspendRequest{InstanceId: "nobody"})
			return err
		}, codes.NotFound},
		{"resume", func() error {
			_, err := c.ResumeInstance(ctx, &protos.ResumeRequest{InstanceId: "run"})
			return err
		}, codes.OK},
		{"terminate", func() error {
			_, err := c.TerminateInstance(ctx, &protos.TerminateRequest{InstanceId: "nobody"})
			return err
		}, codes.OK},
		{"rewind unknown", func() error {
			_, err := c.RewindInstance(ctx, &protos.RewindInstanceRequest{InstanceId: "nobody"})
			return err
		}, codes.NotFound},
		{"rewind running", func() error {
			_, err := c.RewindInstance(ctx, &protos.RewindInstanceRequest{InstanceId: "run"})
			return err
		}, codes.FailedPrecondition},
		{"restart unknown", func() error {
			_, err := c.RestartInstance(ctx, &protos.RestartInstanceRequest{InstanceId: "nobody"})
			return err
		}, codes.NotFound},
		{"restart running", func() error {
			_, err := c.RestartInstance(ctx, &protos.RestartInstanceRequest{InstanceId: "run"})
			return err
		}, codes.FailedPrecondition},
		{"purge nothing", func() error { _, err := c.PurgeInstances(ctx, &protos.PurgeInstancesRequest{}); return err }, codes.InvalidArgument},
		{"abandon", func() error {
			_, err := c.AbandonTaskActivityWorkItem(ctx, &protos.AbandonActivityTaskRequest{CompletionToken: "x"})
			return err
		}, codes.OK},
		{"entities", func() error { _, err := c.GetEntity(ctx, &protos.GetEntityRequest{}); return err }, codes.Unimplemented},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.call(); status.Code(err) != tt.want {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if s := b.be.starts[0].GetExecutionStarted(); s.GetScheduledStartTimestamp() != nil || s.GetOrchestrationInstance().GetInstanceId() == "" {
		t.Errorf("start without id and with an epoch start time: %v", s)
	}
}

func TestGrpcGetInstance(t *testing.T) {
	b := newExecutorBench(t, &fullFake{plainFake: newPlainFake(instance("i", api.RUNTIME_STATUS_RUNNING))})
	for _, payloads := range []bool{false, true} {
		r, err := b.client.GetInstance(t.Context(), &protos.GetInstanceRequest{InstanceId: "i", GetInputsAndOutputs: payloads})
		s := r.GetOrchestrationState()
		if err != nil || !r.GetExists() || (s.GetInput() != nil) != payloads || s.GetVersion().GetValue() != "v1" ||
			s.GetTags()["k"] != "v" || !s.GetCreatedTimestamp().AsTime().Equal(time.Unix(1, 0)) || s.GetCompletedTimestamp() != nil {
			t.Errorf("got %v, %v", r, err)
		}
	}
	if r, err := b.client.GetInstance(t.Context(), &protos.GetInstanceRequest{InstanceId: "nobody"}); err != nil || r.GetExists() {
		t.Errorf("unknown: %v, %v", r, err)
	}
}

func TestGrpcWait(t *testing.T) {
	be := &fullFake{plainFake: newPlainFake(instance("run", api.RUNTIME_STATUS_RUNNING))}
	s := &grpcService{grpcExecutor: &grpcExecutor{be: be}, patience: time.Millisecond}
	if r, err := s.WaitForInstanceStart(t.Context(), &protos.GetInstanceRequest{InstanceId: "nobody"}); err != nil || r.GetExists() {
		t.Errorf("unknown: %v, %v", r, err)
	}
	b := newExecutorBench(t, be)
	if r, err := b.client.WaitForInstanceStart(t.Context(), &protos.GetInstanceRequest{InstanceId: "run"}); err != nil || !r.GetExists() {
		t.Errorf("started: %v, %v", r, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := b.client.WaitForInstanceCompletion(ctx, &protos.GetInstanceRequest{InstanceId: "run"}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("deadline: %v", err)
	}
	time.AfterFunc(time.Millisecond, func() { be.set("late", api.RUNTIME_STATUS_COMPLETED) })
	if r, err := b.client.WaitForInstanceCompletion(t.Context(), &protos.GetInstanceRequest{InstanceId: "late"}); err != nil || !r.GetExists() {
		t.Errorf("an instance that appears: %v, %v", r, err)
	}
}

// TestGrpcWaitEndsBeforeItsDeadline has the status arrive before the transport resets the stream.
func TestGrpcWaitEndsBeforeItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		be := &fullFake{plainFake: newPlainFake(instance("run", api.RUNTIME_STATUS_RUNNING))}
		s := &grpcService{grpcExecutor: &grpcExecutor{be: be}, patience: time.Hour}
		for _, id := range []string{"run", "nobody"} {
			for limit, atLeast := range map[time.Duration]time.Duration{
				time.Minute: time.Minute - maxEarly, 100 * time.Millisecond: 90 * time.Millisecond,
			} {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				began := time.Now()
				_, err := s.WaitForInstanceCompletion(ctx, &protos.GetInstanceRequest{InstanceId: id})
				if status.Code(err) != codes.DeadlineExceeded || ctx.Err() != nil || time.Since(began) < atLeast {
					t.Errorf("%s, %v: %v after %v, context %v", id, limit, err, time.Since(began), ctx.Err())
				}
				cancel()
			}
		}
	})
}

func TestGrpcQueryPages(t *testing.T) {
	be := &fullFake{plainFake: newPlainFake()}
	big := instance("i", api.RUNTIME_STATUS_COMPLETED)
	big.SerializedInput = strings.Repeat("x", 1<<20)
	be.pages = func(q api.InstanceQuery) *api.InstancePage {
		n := 8
		if q.PageSize > 0 {
			n = min(n, q.PageSize)
		}
		p := &api.InstancePage{}
		for range n {
			p.Instances = append(p.Instances, big)
		}
		if q.Token == "" {
			p.Token = "next"
		}
		return p
	}
	b := newExecutorBench(t, be)
	q := &protos.InstanceQuery{FetchInputsAndOutputs: true, MaxInstanceCount: 1<<31 - 1}
	r, err := b.client.QueryInstances(t.Context(), &protos.QueryInstancesRequest{Query: q})
	if err != nil || len(r.GetOrchestrationState()) != 2 || r.GetContinuationToken().GetValue() != "next" || be.queries[0].PageSize != maxPage {
		t.Errorf("first page: %d, %v, %v, %v", len(r.GetOrchestrationState()), r.GetContinuationToken(), be.queries[0], err)
	}
	q.ContinuationToken, q.FetchInputsAndOutputs = r.GetContinuationToken(), false
	r, err = b.client.QueryInstances(t.Context(), &protos.QueryInstancesRequest{Query: q})
	if err != nil || r.GetContinuationToken() != nil {
		t.Errorf("last page: %v, %v", r.GetContinuationToken(), err)
	}
}

func TestGrpcPurge(t *testing.T) {
	b := newExecutorBench(t, &fullFake{plainFake: newPlainFake(instance("run", api.RUNTIME_STATUS_RUNNING),
		instance("a", api.RUNTIME_STATUS_COMPLETED), instance("b", api.RUNTIME_STATUS_FAILED), instance("c", api.RUNTIME_STATUS_TERMINATED))})
	byID := func(id string) *protos.PurgeInstancesRequest {
		return &protos.PurgeInstancesRequest{Request: &protos.PurgeInstancesRequest_InstanceId{InstanceId: id}}
	}
	byFilter := func(s ...protos.OrchestrationStatus) *protos.PurgeInstancesRequest {
		return &protos.PurgeInstancesRequest{Request: &protos.PurgeInstancesRequest_PurgeInstanceFilter{
			PurgeInstanceFilter: &protos.PurgeInstanceFilter{RuntimeStatus: s},
		}}
	}
	for _, tt := range []struct {
		name string
		req  *protos.PurgeInstancesRequest
		want int32
	}{
		{"unknown", byID("nobody"), 0},
		{"running", byID("run"), 0},
		{"running by filter", byFilter(api.RUNTIME_STATUS_RUNNING), 0},
		{"one", byID("a"), 1},
		{"failed by filter", byFilter(api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_RUNNING), 1},
		{"the rest", byFilter(), 1},
	} {
		r, err := b.client.PurgeInstances(t.Context(), tt.req)
		if err != nil || r.GetDeletedInstanceCount() != tt.want || !r.GetIsComplete().GetValue() {
			t.Errorf("%s: %v, %v", tt.name, r, err)
		}
	}
}

func TestGrpcStreamHistory(t *testing.T) {
	be := &fullFake{plainFake: newPlainFake(instance("i", api.RUNTIME_STATUS_RUNNING)), history: []*HistoryEvent{startOf("i", "e1")}}
	for range 5 {
		be.history = append(be.history, &HistoryEvent{EventId: 1, EventType: &protos.HistoryEvent_EventRaised{
			EventRaised: &protos.EventRaisedEvent{Input: wrapperspb.String(strings.Repeat("x", 1<<20))},
		}})
	}
	b := newExecutorBench(t, be)
	read := func(req *protos.StreamInstanceHistoryRequest) (events, chunks int, err error) {
		s, err := b.client.StreamInstanceHistory(t.Context(), req)
		if err != nil {
			return 0, 0, err
		}
		for {
			c, err := s.Recv()
			if errors.Is(err, io.EOF) {
				return events, chunks, nil
			}
			if err != nil {
				return events, chunks, err
			}
			events, chunks = events+len(c.GetEvents()), chunks+1
		}
	}
	if n, chunks, err := read(&protos.StreamInstanceHistoryRequest{InstanceId: "i", ExecutionId: wrapperspb.String("e1")}); err != nil ||
		n != 6 || chunks != 3 {
		t.Errorf("got %d events in %d chunks, %v", n, chunks, err)
	}
	for _, req := range []*protos.StreamInstanceHistoryRequest{
		{InstanceId: "nobody"}, {InstanceId: "i", ExecutionId: wrapperspb.String("e0")},
	} {
		if _, _, err := read(req); status.Code(err) != codes.NotFound {
			t.Errorf("%v: %v", req, err)
		}
	}
}

func TestIsDurableTaskGrpcRequest(t *testing.T) {
	for name, want := range map[string]bool{
		"/TaskHubSidecarService/Hello": true, "/TaskHubSidecarService/": true,
		"/TaskHubSidecarService": false, "/TaskHubSidecarServiceX/Hello": false, "TaskHubSidecarService/Hello": false, "": false,
	} {
		if got := IsDurableTaskGrpcRequest(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
