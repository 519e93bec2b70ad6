package server

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// rawCodec sends bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return v.([]byte), nil } //nolint:forcetypeassert // only bytes are sent
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (rawCodec) Name() string                       { return "proto" }

func (b *bench) dial(t *testing.T, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(b.GRPCAddr(), append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestMalformedAndHugeMessages(t *testing.T) {
	b := start(t, "", Options{MaxMessage: 6 << 20})
	b.work(t, fullWorker(), nil)
	conn := b.dial(t)
	for _, m := range protos.TaskHubSidecarService_ServiceDesc.Methods {
		if m.MethodName == "Hello" || m.MethodName == "DeleteTaskHub" || m.MethodName == "CreateTaskHub" {
			continue // whose message is empty: no bytes are wrong
		}
		var out []byte
		err := conn.Invoke(t.Context(), "/TaskHubSidecarService/"+m.MethodName, []byte("\x0a\xff\xff\xff\xffgarbage"), &out, grpc.ForceCodec(rawCodec{}))
		wantCode(t, m.MethodName+" with garbage", err, codes.Internal)
	}
	_, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{
		Name: "echo", Input: wrapperspb.String(strings.Repeat("x", 7<<20)),
	})
	wantCode(t, "a message over the limit", err, codes.ResourceExhausted)
	err = conn.Invoke(t.Context(), "/TaskHubSidecarService/Nothing", []byte{}, &[]byte{}, grpc.ForceCodec(rawCodec{}))
	wantCode(t, "an unknown method", err, codes.Unimplemented)
	b.startAs(t, "echo", "after")
	b.finish(t, "after")
}

// TestEmptyRequests sends each call with nothing in it: none may break the server.
func TestEmptyRequests(t *testing.T) {
	b := start(t, "", Options{})
	conn := b.dial(t)
	for _, m := range protos.TaskHubSidecarService_ServiceDesc.Methods {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		var out []byte
		err := conn.Invoke(ctx, "/TaskHubSidecarService/"+m.MethodName, []byte{}, &out, grpc.ForceCodec(rawCodec{}))
		cancel()
		if c := status.Code(err); c == codes.Internal || c == codes.Unknown || c == codes.Unimplemented {
			t.Errorf("%s: %v", m.MethodName, err)
		}
		if m.MethodName == "DeleteTaskHub" {
			if _, err := b.client.CreateTaskHub(t.Context(), &protos.CreateTaskHubRequest{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.work(t, fullWorker(), nil)
	b.startAs(t, "echo", "after")
	b.finish(t, "after")
}

// TestAnswersThatAreNotWanted are no errors, which the SDKs would retry or choke on, and change nothing.
func TestAnswersThatAreNotWanted(t *testing.T) {
	b := start(t, "", Options{})
	ctx := t.Context()
	ok := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, token := range []string{"", "unknown", strings.Repeat("x", 10000)} {
		_, err := b.client.CompleteOrchestratorTask(ctx, &protos.OrchestratorResponse{InstanceId: "i", CompletionToken: token})
		ok("turn", err)
		_, err = b.client.CompleteActivityTask(ctx, &protos.ActivityResponse{InstanceId: "i", TaskId: 1, CompletionToken: token})
		ok("activity", err)
		_, err = b.client.CompleteEntityTask(ctx, &protos.EntityBatchResult{CompletionToken: token})
		ok("entity", err)
		_, err = b.client.AbandonTaskOrchestratorWorkItem(ctx, &protos.AbandonOrchestrationTaskRequest{CompletionToken: token})
		ok("abandoned turn", err)
		_, err = b.client.AbandonTaskActivityWorkItem(ctx, &protos.AbandonActivityTaskRequest{CompletionToken: token})
		ok("abandoned activity", err)
		_, err = b.client.AbandonTaskEntityWorkItem(ctx, &protos.AbandonEntityTaskRequest{CompletionToken: token})
		ok("abandoned entity", err)
	}
	b.startAs(t, "two", "i")
	s := b.worker(t)
	w := receive(t, s)
	first, second := call("a"), call("a")
	first.Id, second.Id = 1, 2
	_, err := b.client.CompleteOrchestratorTask(ctx, &protos.OrchestratorResponse{
		InstanceId: "i", CompletionToken: w.GetCompletionToken(), Actions: []*protos.OrchestratorAction{first, second},
	})
	ok("turn", err)
	one, two := receive(t, s), receive(t, s)
	// The token of one kind of item is not one of another, and that of one activity not that of another.
	_, err = b.client.CompleteOrchestratorTask(ctx, &protos.OrchestratorResponse{
		InstanceId: "i", CompletionToken: one.GetCompletionToken(), Actions: []*protos.OrchestratorAction{complete(`"wrong"`)},
	})
	ok("an activity's token for a turn", err)
	_, err = b.client.CompleteActivityTask(ctx, &protos.ActivityResponse{InstanceId: "other", TaskId: 1, Result: wrapperspb.String(`"wrong"`)})
	ok("another instance without a token", err)
	result := func(w *protos.WorkItem, out string) {
		t.Helper()
		_, err := b.client.CompleteActivityTask(ctx, &protos.ActivityResponse{
			InstanceId: "i", TaskId: w.GetActivityRequest().GetTaskId(), CompletionToken: w.GetCompletionToken(), Result: wrapperspb.String(out),
		})
		ok("activity", err)
	}
	result(one, `"first"`)
	result(one, `"twice"`)
	result(two, `"second"`)
	results := map[int32]string{}
	for len(results) < 2 {
		turn := receive(t, s)
		for _, e := range turn.GetOrchestratorRequest().GetNewEvents() {
			if c := e.GetTaskCompleted(); c != nil {
				results[c.GetTaskScheduledId()] = c.GetResult().GetValue()
			}
		}
		var actions []*protos.OrchestratorAction
		if len(results) == 2 {
			actions = append(actions, complete(`1`))
		}
		_, err := b.client.CompleteOrchestratorTask(ctx, &protos.OrchestratorResponse{
			InstanceId: "i", CompletionToken: turn.GetCompletionToken(), Actions: actions,
		})
		ok("turn", err)
	}
	b.finish(t, "i")
	result(two, `"late"`)
	if got := [2]string{results[one.GetActivityRequest().GetTaskId()], results[two.GetActivityRequest().GetTaskId()]}; got != [2]string{`"first"`, `"second"`} {
		t.Errorf("the orchestration saw %v", got)
	}
	names, _ := b.history(t, "i")
	if n := strings.Count(strings.Join(names, " "), "TaskCompleted"); n != 2 {
		t.Errorf("%d results in the history %v", n, names)
	}
}

// TestAnswersForAnothersItem have the token of one item and the name of another, or the
// token of an attempt that another worker has by now: they change nothing and are no errors.
func TestAnswersForAnothersItem(t *testing.T) {
	b := start(t, "", Options{})
	ctx, leave := context.WithCancel(t.Context())
	first, err := b.client.GetWorkItems(ctx, &protos.GetWorkItemsRequest{MaxConcurrentOrchestrationWorkItems: 1})
	if err != nil {
		t.Fatal(err)
	}
	b.startAs(t, "two", "i")
	lost := receive(t, first)
	second := b.worker(t)
	b.startAs(t, "two", "j")
	other := receive(t, second)
	if other.GetOrchestratorRequest().GetInstanceId() != "j" {
		t.Fatalf("the second worker has %v", other)
	}
	answer := func(id, token string, actions ...*protos.OrchestratorAction) {
		t.Helper()
		if _, err := b.client.CompleteOrchestratorTask(t.Context(), &protos.OrchestratorResponse{
			InstanceId: id, CompletionToken: token, Actions: actions,
		}); err != nil {
			t.Errorf("an answer for %s: %v", id, err)
		}
	}
	answer("i", other.GetCompletionToken(), complete(`"mixed up"`))
	answer("j", lost.GetCompletionToken(), complete(`"mixed up"`))
	leave()
	again := receive(t, second)
	if r := again.GetOrchestratorRequest(); r.GetInstanceId() != "i" || again.GetCompletionToken() == lost.GetCompletionToken() {
		t.Fatalf("after the first worker left: %v", again)
	}
	answer("i", lost.GetCompletionToken(), complete(`"late"`))
	if _, err := b.client.AbandonTaskOrchestratorWorkItem(t.Context(), &protos.AbandonOrchestrationTaskRequest{
		CompletionToken: lost.GetCompletionToken(),
	}); err != nil {
		t.Errorf("a late abandon: %v", err)
	}
	a, c := call("a"), call("a")
	a.Id, c.Id = 1, 2
	answer("i", again.GetCompletionToken(), a, c)
	one, two := receive(t, second), receive(t, second)
	result := func(task int32, token, out string) {
		t.Helper()
		if _, err := b.client.CompleteActivityTask(t.Context(), &protos.ActivityResponse{
			InstanceId: "i", TaskId: task, CompletionToken: token, Result: wrapperspb.String(out),
		}); err != nil {
			t.Errorf("result of %d: %v", task, err)
		}
	}
	result(two.GetActivityRequest().GetTaskId(), one.GetCompletionToken(), `"mixed up"`)
	result(one.GetActivityRequest().GetTaskId(), one.GetCompletionToken(), `"right"`)
	turn := receive(t, second)
	answer("i", turn.GetCompletionToken(), complete(`"done"`))
	answer("j", other.GetCompletionToken(), complete(`"done"`))
	for _, id := range []string{"i", "j"} {
		if s := b.finish(t, id); s.GetOutput().GetValue() != `"done"` {
			t.Errorf("%s: %v", id, s)
		}
	}
	if _, events := b.history(t, "i"); strings.Contains(fmt.Sprint(events), "mixed up") || strings.Contains(fmt.Sprint(events), "late") {
		t.Errorf("a foreign answer is in the history: %v", events)
	}
}

// TestActionsThatMakeNoSense fail their instance, and nothing else.
func TestActionsThatMakeNoSense(t *testing.T) {
	b := start(t, "", Options{})
	w := fullWorker()
	bad := map[string]*protos.OrchestratorAction{
		"no type": {Id: 1},
		"no time": {Id: 1, OrchestratorActionType: &protos.OrchestratorAction_CreateTimer{CreateTimer: &protos.CreateTimerAction{}}},
		"bad time": {Id: 1, OrchestratorActionType: &protos.OrchestratorAction_CreateTimer{CreateTimer: &protos.CreateTimerAction{
			FireAt: &timestamppb.Timestamp{Seconds: 1 << 60},
		}}},
		"own rewind": {Id: 1, OrchestratorActionType: &protos.OrchestratorAction_RewindOrchestration{
			RewindOrchestration: &protos.RewindOrchestrationAction{},
		}},
	}
	for name, a := range bad {
		w.scripts[name] = func([]*protos.HistoryEvent) []*protos.OrchestratorAction {
			good := call("a")
			good.Id = 7
			return []*protos.OrchestratorAction{good, a}
		}
	}
	b.work(t, w, nil)
	for name := range bad {
		b.startAs(t, name, name)
	}
	for name := range bad {
		s := b.finish(t, name)
		if s.GetOrchestrationStatus() != api.RUNTIME_STATUS_FAILED || s.GetFailureDetails().GetErrorType() != "InvalidActions" {
			t.Errorf("%s: %v", name, s)
		}
		if names, _ := b.history(t, name); strings.Contains(strings.Join(names, " "), "TaskScheduled") {
			t.Errorf("%s: of the turn that failed something is left: %v", name, names)
		}
	}
	b.startAs(t, "all", "after")
	b.finish(t, "after")
}

// TestManyConnections has many idle workers and clients, which cost goroutines while they are there and nothing after.
func TestManyConnections(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	b := start(t, "", Options{})
	n := 2000
	if raceEnabled {
		n = 700 // the detector takes the memory of more
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil { // both ends are in this process
		n = min(n, int(files.Cur)/2-100)
	}
	before := runtime.NumGoroutine()
	var conns []*grpc.ClientConn
	for range n {
		conn, err := grpc.NewClient(b.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		stream, err := protos.NewTaskHubSidecarServiceClient(conn).GetWorkItems(t.Context(), &protos.GetWorkItemsRequest{
			WorkItemFilters: &protos.WorkItemFilters{},
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = stream
	}
	workers := func() int {
		r, ok := b.hubs.byName[defaultHub].executor.(interface{ Workers() []api.Worker })
		if !ok {
			t.Fatal("the executor does not tell its workers")
		}
		return len(r.Workers())
	}
	eventually(t, "all are connected", func() bool { return workers() == n })
	b.work(t, fullWorker(), nil)
	for i := range 50 {
		b.startAs(t, "all", fmt.Sprint("i", i))
	}
	for i := range 50 {
		b.finish(t, fmt.Sprint("i", i))
	}
	for _, c := range conns {
		c.Close()
	}
	eventually(t, "all are gone", func() bool { return workers() == 1 })
	eventually(t, "their goroutines are gone", func() bool { return runtime.NumGoroutine() < before+50 })
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}

// TestCancelledCalls has clients give up in the middle of all kinds of calls.
func TestCancelledCalls(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	b := start(t, t.TempDir()+"/hub.db", Options{})
	b.work(t, fullWorker(), nil)
	b.startAs(t, "wait", "w")
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
			defer cancel()
			id := fmt.Sprint("c", i)
			_, err := b.client.StartInstance(ctx, &protos.CreateInstanceRequest{Name: "echo", InstanceId: id})
			if err == nil {
				b.finish(t, id) // it was acknowledged: it runs
			}
			_, _ = b.client.RaiseEvent(ctx, &protos.RaiseEventRequest{InstanceId: "w", Name: "other"})
			_, _ = b.client.WaitForInstanceCompletion(ctx, &protos.GetInstanceRequest{InstanceId: "w"})
			_, _ = b.client.QueryInstances(ctx, &protos.QueryInstancesRequest{})
		})
	}
	wg.Wait()
	b.startAs(t, "echo", "after")
	b.finish(t, "after")
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}
