package server

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// worker of all that the tests below start.
func fullWorker() *wireWorker {
	return &wireWorker{
		scripts: map[string]script{
			"echo":  steps(`"done"`),
			"all":   steps(`"all"`, call("a"), sleep(0), child("echo", "sub")),
			"wait":  steps(`"got it"`, nil),
			"child": steps(`"parent"`, child("wait", "child-1")),
			"fails": func([]*protos.HistoryEvent) []*protos.OrchestratorAction {
				return []*protos.OrchestratorAction{failWith("Boom", "no")}
			},
		},
		activities: map[string]func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails){
			"a": func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails) { return `1`, nil },
		},
	}
}

// TestHistoryOfTurns checks the sequence that the JavaScript SDK's own tests expect.
func TestHistoryOfTurns(t *testing.T) {
	b := start(t, "", Options{})
	b.work(t, fullWorker(), nil)
	b.startAs(t, "all", "i")
	if s := b.finish(t, "i"); s.GetOutput().GetValue() != `"all"` {
		t.Fatalf("it ended with %v", s)
	}
	names, events := b.history(t, "i")
	want := []string{
		"OrchestratorStarted", "ExecutionStarted", "TaskScheduled", "OrchestratorStarted", "TaskCompleted", "TimerCreated",
		"OrchestratorStarted", "TimerFired", "SubOrchestrationInstanceCreated", "OrchestratorStarted",
		"SubOrchestrationInstanceCompleted", "ExecutionCompleted",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("history: -want +got\n%s", diff)
	}
	last := int32(-1)
	for _, e := range events {
		if e.GetTimestamp() == nil {
			t.Errorf("no timestamp: %v", e)
		}
		if id := e.GetEventId(); id >= 0 {
			if id <= last {
				t.Errorf("event id %d after %d", id, last)
			}
			last = id
		}
	}
	_, err := drainHistory(t, b, &protos.StreamInstanceHistoryRequest{InstanceId: "nobody"})
	wantCode(t, "history of an unknown id", err, codes.NotFound)
	exec := b.state(t, "i").GetExecutionId()
	if n, err := drainHistory(t, b, &protos.StreamInstanceHistoryRequest{
		InstanceId: "i", ExecutionId: exec, ForWorkItemProcessing: true,
	}); err != nil || n != len(want) {
		t.Errorf("history of its execution: %d events, %v", n, err)
	}
	_, err = drainHistory(t, b, &protos.StreamInstanceHistoryRequest{InstanceId: "i", ExecutionId: wrapperspb.String("x")})
	wantCode(t, "history of another execution", err, codes.NotFound)
}

func drainHistory(t *testing.T, b *bench, req *protos.StreamInstanceHistoryRequest) (int, error) {
	t.Helper()
	s, err := b.client.StreamInstanceHistory(t.Context(), req)
	for n := 0; err == nil; {
		var c *protos.HistoryChunk
		if c, err = s.Recv(); err != nil {
			if status.Code(err) == codes.Unknown { // io.EOF
				err = nil
			}
			return n, err
		}
		n += len(c.GetEvents())
	}
	return 0, err
}

func TestStateAndRequest(t *testing.T) {
	b := start(t, "", Options{})
	requests := make(chan *protos.WorkItem, 10)
	w := fullWorker()
	w.seen = func(i *protos.WorkItem) { requests <- i }
	tags := map[string]string{"team": "blue"}
	trace := &protos.TraceContext{TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	if _, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{
		Name: "all", InstanceId: "i", Input: wrapperspb.String(`{"n":1}`), Version: wrapperspb.String("1.2"), Tags: tags,
		ParentTraceContext: trace, RequestTime: timestamppb.Now(),
	}); err != nil {
		t.Fatal(err)
	}
	if s := b.state(t, "i"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_PENDING {
		t.Errorf("before its first turn it is %v", s.GetOrchestrationStatus())
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	_, err := b.client.WaitForInstanceStart(short, &protos.GetInstanceRequest{InstanceId: "i"})
	cancel()
	wantCode(t, "wait for a start that does not come", err, codes.DeadlineExceeded)

	b.work(t, w, nil)
	item := <-requests
	r := item.GetOrchestratorRequest()
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(r.GetExecutionId().GetValue()) {
		t.Errorf("execution id %q", r.GetExecutionId().GetValue())
	}
	if len(r.GetNewEvents()) != 2 || r.GetNewEvents()[0].GetOrchestratorStarted() == nil {
		t.Fatalf("new events: %v", r.GetNewEvents())
	}
	want := &protos.ExecutionStartedEvent{
		Name: "all", Version: wrapperspb.String("1.2"), Input: wrapperspb.String(`{"n":1}`), Tags: tags, ParentTraceContext: trace,
		OrchestrationInstance: &protos.OrchestrationInstance{InstanceId: "i", ExecutionId: r.GetExecutionId()},
	}
	if diff := cmp.Diff(want, r.GetNewEvents()[1].GetExecutionStarted(), protocmp.Transform()); diff != "" {
		t.Errorf("start event: -want +got\n%s", diff)
	}
	if r.GetEntityParameters().GetEntityMessageReorderWindow() == nil || r.GetRequiresHistoryStreaming() {
		t.Errorf("request: %v", r)
	}
	s := b.finish(t, "i")
	if s.GetCreatedTimestamp() == nil || s.GetLastUpdatedTimestamp() == nil || s.GetCompletedTimestamp() == nil ||
		s.GetVersion().GetValue() != "1.2" || s.GetInput().GetValue() != `{"n":1}` || s.GetTags()["team"] != "blue" ||
		s.GetExecutionId().GetValue() != r.GetExecutionId().GetValue() {
		t.Errorf("state: %v", s)
	}
	if c := b.state(t, "sub"); c.GetParentInstanceId().GetValue() != "i" {
		t.Errorf("child: %v", c)
	}
	bare, err := b.client.GetInstance(t.Context(), &protos.GetInstanceRequest{InstanceId: "i"})
	if o := bare.GetOrchestrationState(); err != nil || o.GetInput() != nil || o.GetOutput() != nil || o.GetCreatedTimestamp() == nil {
		t.Errorf("without payloads: %v, %v", o, err)
	}
	none, err := b.client.GetInstance(t.Context(), &protos.GetInstanceRequest{InstanceId: "nobody"})
	if err != nil || none.GetExists() || none.GetOrchestrationState() != nil {
		t.Errorf("an unknown id: %v, %v", none, err)
	}
}

func TestWaitForUnknownInstance(t *testing.T) {
	b := start(t, "", Options{})
	b.work(t, fullWorker(), nil)
	got := make(chan *protos.GetInstanceResponse, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() {
		r, _ := b.client.WaitForInstanceCompletion(ctx, &protos.GetInstanceRequest{InstanceId: "late"})
		got <- r
	}()
	b.startAs(t, "echo", "other")
	b.finish(t, "other")
	b.startAs(t, "echo", "late")
	if r := <-got; r.GetOrchestrationState().GetOrchestrationStatus() != api.RUNTIME_STATUS_COMPLETED {
		t.Errorf("a wait that began before the start: %v", r)
	}
}

func TestStartRefusals(t *testing.T) {
	b := start(t, "", Options{})
	for _, tt := range []struct {
		name string
		req  *protos.CreateInstanceRequest
		says string
	}{
		{"no name", &protos.CreateInstanceRequest{InstanceId: "i"}, "name"},
		{"long id", &protos.CreateInstanceRequest{Name: "o", InstanceId: strings.Repeat("x", 101)}, "length"},
		{"bad time", &protos.CreateInstanceRequest{Name: "o", ScheduledStartTimestamp: &timestamppb.Timestamp{Nanos: -1}}, "time"},
		{"huge input", &protos.CreateInstanceRequest{Name: "o", Input: wrapperspb.String(strings.Repeat("x", 5<<20))}, "limit"},
		{"policy", &protos.CreateInstanceRequest{Name: "o", OrchestrationIdReusePolicy: &protos.OrchestrationIdReusePolicy{
			ReplaceableStatus: []protos.OrchestrationStatus{api.RUNTIME_STATUS_RUNNING},
		}}, "Invalid reusable statuses: cannot exclude 'Terminated' while also allowing reuse of running instances"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := b.client.StartInstance(t.Context(), tt.req)
			wantCode(t, "start", err, codes.InvalidArgument)
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it says %v, want %q", err, tt.says)
			}
		})
	}
}

func TestReuseOfIDs(t *testing.T) {
	b := start(t, "", Options{})
	w := b.work(t, fullWorker(), nil)
	policy := func(s ...protos.OrchestrationStatus) *protos.OrchestrationIdReusePolicy {
		return &protos.OrchestrationIdReusePolicy{ReplaceableStatus: s}
	}
	again := func(name string, p *protos.OrchestrationIdReusePolicy) error {
		_, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{Name: name, InstanceId: "i", OrchestrationIdReusePolicy: p})
		return err
	}
	b.startAs(t, "wait", "i")
	eventually(t, "it runs", func() bool { return b.state(t, "i").GetOrchestrationStatus() == api.RUNTIME_STATUS_RUNNING })
	wantCode(t, "a running id, without a policy", again("echo", nil), codes.AlreadyExists)
	wantCode(t, "a running id, with one for failed", again("echo", policy(api.RUNTIME_STATUS_FAILED)), codes.AlreadyExists)
	before := b.state(t, "i").GetExecutionId().GetValue()
	wantCode(t, "a running id that may be replaced", again("echo", policy(api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_TERMINATED)), codes.OK)
	if s := b.finish(t, "i"); s.GetName() != "echo" || s.GetExecutionId().GetValue() == before {
		t.Errorf("replaced by %v", s)
	}
	wantCode(t, "a finished id, without a policy", again("echo", nil), codes.OK)
	b.finish(t, "i")
	wantCode(t, "a completed id, with a policy for failed", again("echo", policy(api.RUNTIME_STATUS_FAILED)), codes.AlreadyExists)
	w.stop()
	b.startAs(t, "echo", "pending")
	_, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{Name: "echo", InstanceId: "pending"})
	wantCode(t, "a pending id", err, codes.AlreadyExists)
}

func TestEventsAndSuspension(t *testing.T) {
	b := start(t, "", Options{})
	ctx := t.Context()
	raise := func(id string) error {
		_, err := b.client.RaiseEvent(ctx, &protos.RaiseEventRequest{InstanceId: id, Name: "go", Input: wrapperspb.String(`1`)})
		return err
	}
	suspend := func(id string) error {
		_, err := b.client.SuspendInstance(ctx, &protos.SuspendRequest{InstanceId: id})
		return err
	}
	resume := func(id string) error {
		_, err := b.client.ResumeInstance(ctx, &protos.ResumeRequest{InstanceId: id, Reason: wrapperspb.String("now")})
		return err
	}
	terminate := func(id string, recursive bool) error {
		_, err := b.client.TerminateInstance(ctx, &protos.TerminateRequest{InstanceId: id, Output: wrapperspb.String(`"over"`), Recursive: recursive})
		return err
	}
	for what, f := range map[string]func(string) error{"raise": raise, "suspend": suspend, "resume": resume} {
		wantCode(t, what+" of an unknown id", f("nobody"), codes.NotFound)
	}
	wantCode(t, "terminate of an unknown id", terminate("nobody", true), codes.OK)

	b.startAs(t, "wait", "early") // pending: nobody works yet
	wantCode(t, "raise to a pending instance", raise("early"), codes.OK)
	if _, err := b.client.StartInstance(ctx, &protos.CreateInstanceRequest{
		Name: "echo", InstanceId: "scheduled", ScheduledStartTimestamp: timestamppb.New(time.Now().Add(time.Hour)),
	}); err != nil {
		t.Fatal(err)
	}
	b.work(t, fullWorker(), nil)
	if s := b.finish(t, "early"); s.GetOutput().GetValue() != `"got it"` {
		t.Errorf("an early event: %v", s)
	}
	wantCode(t, "raise to a finished instance", raise("early"), codes.OK)
	if s := b.state(t, "scheduled"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_PENDING || s.GetScheduledStartTimestamp() == nil {
		t.Errorf("a scheduled start: %v", s)
	}
	wantCode(t, "terminate of a scheduled instance", terminate("scheduled", false), codes.OK)
	if s := b.finish(t, "scheduled"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_TERMINATED || s.GetOutput().GetValue() != `"over"` {
		t.Errorf("a terminated scheduled start: %v", s)
	}

	b.startAs(t, "child", "parent")
	eventually(t, "the child runs", func() bool {
		return b.state(t, "child-1").GetOrchestrationStatus() == api.RUNTIME_STATUS_RUNNING && b.state(t, "child-1") != nil
	})
	wantCode(t, "suspend", suspend("parent"), codes.OK)
	eventually(t, "it is suspended", func() bool { return b.state(t, "parent").GetOrchestrationStatus() == api.RUNTIME_STATUS_SUSPENDED })
	wantCode(t, "resume", resume("parent"), codes.OK)
	eventually(t, "it runs again", func() bool { return b.state(t, "parent").GetOrchestrationStatus() == api.RUNTIME_STATUS_RUNNING })
	wantCode(t, "suspend", suspend("parent"), codes.OK)
	wantCode(t, "terminate of a suspended parent", terminate("parent", true), codes.OK)
	for _, id := range []string{"parent", "child-1"} {
		if s := b.finish(t, id); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_TERMINATED {
			t.Errorf("%s: %v", id, s)
		}
	}
}

func TestRewindAndRestart(t *testing.T) {
	b := start(t, "", Options{})
	w := fullWorker()
	healed := make(chan struct{})
	runs := make(chan string, 10)
	w.activities["a"] = func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails) {
		runs <- "a"
		return `1`, nil
	}
	w.activities["flaky"] = func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails) {
		runs <- "flaky"
		select {
		case <-healed:
			return `2`, nil
		default:
			return "", &protos.TaskFailureDetails{
				ErrorType: "Boom", ErrorMessage: "not yet", StackTrace: wrapperspb.String("at x"), IsNonRetriable: true,
				InnerFailure: &protos.TaskFailureDetails{ErrorType: "Inner", ErrorMessage: "deep"},
			}
		}
	}
	w.scripts["flow"] = steps(`"flow"`, call("a"), call("flaky"))
	w.scripts["tree"] = steps(`"tree"`, child("flow", "sub"))
	b.work(t, w, nil)
	ctx := t.Context()
	rewind := func(id string) error {
		_, err := b.client.RewindInstance(ctx, &protos.RewindInstanceRequest{InstanceId: id, Reason: wrapperspb.String("fixed")})
		return err
	}
	restart := func(id string, fresh bool) (string, error) {
		r, err := b.client.RestartInstance(ctx, &protos.RestartInstanceRequest{InstanceId: id, RestartWithNewInstanceId: fresh})
		return r.GetInstanceId(), err
	}
	wantCode(t, "rewind of an unknown id", rewind("nobody"), codes.NotFound)
	_, err := restart("nobody", true)
	wantCode(t, "restart of an unknown id", err, codes.NotFound)
	b.startAs(t, "wait", "waits")
	err = rewind("waits")
	wantCode(t, "rewind of a running instance", err, codes.FailedPrecondition)
	if !regexp.MustCompile(`(?i)not allow|precondition|running`).MatchString(status.Convert(err).Message()) {
		t.Errorf("it says %v", err)
	}
	_, err = restart("waits", false)
	wantCode(t, "restart of a running instance", err, codes.FailedPrecondition)
	if id, err := restart("waits", true); err != nil || id == "waits" || b.state(t, id).GetName() != "wait" {
		t.Errorf("restart of a running instance as another: %q, %v", id, err)
	}

	b.startAs(t, "tree", "i")
	s := b.finish(t, "i")
	if f := s.GetFailureDetails(); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_FAILED || !f.GetIsNonRetriable() ||
		f.GetInnerFailure().GetErrorMessage() != "deep" || f.GetStackTrace().GetValue() != "at x" {
		t.Errorf("failed with %v", s)
	}
	close(healed)
	wantCode(t, "rewind", rewind("i"), codes.OK)
	eventually(t, "the rewound tree completes", func() bool {
		return b.state(t, "i").GetOrchestrationStatus() == api.RUNTIME_STATUS_COMPLETED
	})
	close(runs)
	var ran []string
	for r := range runs {
		ran = append(ran, r)
	}
	if diff := cmp.Diff([]string{"a", "flaky", "flaky"}, ran); diff != "" {
		t.Errorf("activities: -want +got\n%s", diff)
	}
	before := b.state(t, "i").GetExecutionId().GetValue()
	runsOff(w)
	if id, err := restart("i", false); err != nil || id != "i" {
		t.Errorf("restart: %q, %v", id, err)
	}
	if s := b.finish(t, "i"); s.GetExecutionId().GetValue() == before || s.GetOutput().GetValue() != `"tree"` {
		t.Errorf("restarted: %v", s)
	}
}

func runsOff(w *wireWorker) {
	for name := range w.activities {
		w.activities[name] = func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails) { return `0`, nil }
	}
}

func TestForcedEnd(t *testing.T) {
	b := start(t, "", Options{})
	b.startAs(t, "wait", "one") // without a worker
	b.startAs(t, "wait", "two")
	r, err := b.client.SkipGracefulOrchestrationTerminations(t.Context(), &protos.SkipGracefulOrchestrationTerminationsRequest{
		InstanceBatch: &protos.InstanceBatch{InstanceIds: []string{"one", "nobody", "two"}}, Reason: wrapperspb.String(`it is "late"`),
	})
	if err != nil || !slices.Equal(r.GetUnterminatedInstanceIds(), []string{"nobody"}) {
		t.Errorf("got %v, %v", r, err)
	}
	for _, id := range []string{"one", "two"} {
		if s := b.finish(t, id); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_TERMINATED || s.GetOutput().GetValue() != `"it is \"late\""` {
			t.Errorf("%s: %v", id, s)
		}
	}
}

func TestTaskHubLifecycle(t *testing.T) {
	b := start(t, t.TempDir()+"/hub.db", Options{})
	b.work(t, fullWorker(), nil)
	ctx := t.Context()
	b.startAs(t, "wait", "i")
	if _, err := b.client.CreateTaskHub(ctx, &protos.CreateTaskHubRequest{}); err != nil {
		t.Errorf("create what is there: %v", err)
	}
	if b.state(t, "i") == nil {
		t.Error("creating what is there deleted it")
	}
	if _, err := b.client.CreateTaskHub(ctx, &protos.CreateTaskHubRequest{RecreateIfExists: true}); err != nil {
		t.Fatalf("recreate: %v", err)
	}
	if s := b.state(t, "i"); s != nil {
		t.Errorf("after it was recreated: %v", s)
	}
	b.startAs(t, "echo", "fresh")
	b.finish(t, "fresh")
	for range 2 {
		if _, err := b.client.DeleteTaskHub(ctx, &protos.DeleteTaskHubRequest{}); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	_, err := b.client.StartInstance(ctx, &protos.CreateInstanceRequest{Name: "echo"})
	wantCode(t, "start without a task hub", err, codes.Unavailable)
	if _, err := b.client.CreateTaskHub(ctx, &protos.CreateTaskHubRequest{}); err != nil {
		t.Fatalf("create: %v", err)
	}
	b.startAs(t, "echo", "again")
	b.finish(t, "again")
}

// TestTraceContextOfWorker checks that what a worker says of its span comes back with the next turns, after a restart too.
func TestTraceContextOfWorker(t *testing.T) {
	file := t.TempDir() + "/hub.db"
	b := start(t, file, Options{})
	said := &protos.OrchestrationTraceContext{SpanID: wrapperspb.String("00f067aa0ba902b7"), SpanStartTime: timestamppb.Now()}
	b.startAs(t, "wait", "i")
	w := receive(t, b.worker(t))
	if got := w.GetOrchestratorRequest().GetOrchestrationTraceContext(); got != nil {
		t.Errorf("the first turn has %v", got)
	}
	if _, err := b.client.CompleteOrchestratorTask(t.Context(), &protos.OrchestratorResponse{
		InstanceId: "i", CompletionToken: w.GetCompletionToken(), OrchestrationTraceContext: said,
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its first turn is stored", func() bool { return b.state(t, "i").GetOrchestrationStatus() == api.RUNTIME_STATUS_RUNNING })
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	b = start(t, file, Options{})
	if _, err := b.client.RaiseEvent(t.Context(), &protos.RaiseEventRequest{InstanceId: "i", Name: "go"}); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, b.worker(t)).GetOrchestratorRequest().GetOrchestrationTraceContext(); !proto.Equal(got, said) {
		t.Errorf("the second turn has %v, want %v", got, said)
	}
}

func TestQueryPages(t *testing.T) {
	b := start(t, "", Options{})
	b.work(t, fullWorker(), nil)
	ctx := t.Context()
	begin := timestamppb.Now()
	for i := range 25 {
		b.startAs(t, "echo", fmt.Sprintf("echo-%02d", i))
	}
	b.startAs(t, "fails", "fails")
	b.startAs(t, "wait", "wait_1")
	for i := range 25 {
		b.finish(t, fmt.Sprintf("echo-%02d", i))
	}
	b.finish(t, "fails")
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprintf("echo-%02d", i))
	}
	pages := func(q *protos.InstanceQuery) (ids []string, n int) {
		for {
			r, err := b.client.QueryInstances(ctx, &protos.QueryInstancesRequest{Query: q})
			if err != nil {
				t.Fatal(err)
			}
			n++
			for _, s := range r.GetOrchestrationState() {
				ids = append(ids, s.GetInstanceId())
			}
			if r.GetContinuationToken() == nil {
				return ids, n
			}
			q.ContinuationToken = r.GetContinuationToken()
		}
	}
	completed := []protos.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED}
	if ids, n := pages(&protos.InstanceQuery{MaxInstanceCount: 10, RuntimeStatus: completed}); n != 3 || !slices.Equal(ids, want) {
		t.Errorf("%d pages with %v", n, ids)
	}
	if ids, _ := pages(&protos.InstanceQuery{MaxInstanceCount: 5, RuntimeStatus: completed}); !slices.Equal(ids, want) {
		t.Errorf("an even number of pages: %v", ids)
	}
	if ids, n := pages(&protos.InstanceQuery{MaxInstanceCount: 1<<31 - 1}); n != 1 || len(ids) != 27 {
		t.Errorf("all, as Python asks: %d pages with %v", n, ids)
	}
	if ids, _ := pages(&protos.InstanceQuery{InstanceIdPrefix: wrapperspb.String("wait_"), CreatedTimeFrom: begin}); !slices.Equal(ids, []string{"wait_1"}) {
		t.Errorf("by prefix: %v", ids)
	}
	if ids, _ := pages(&protos.InstanceQuery{CreatedTimeTo: begin}); len(ids) != 0 {
		t.Errorf("created before the test: %v", ids)
	}
	_, err := b.client.QueryInstances(ctx, &protos.QueryInstancesRequest{Query: &protos.InstanceQuery{ContinuationToken: wrapperspb.String("?")}})
	wantCode(t, "a bad token", err, codes.InvalidArgument)

	list := func(req *protos.ListInstanceIdsRequest) (ids []string, n int) {
		for {
			r, err := b.client.ListInstanceIds(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			n++
			ids = append(ids, r.GetInstanceIds()...)
			if r.GetLastInstanceKey() == nil {
				return ids, n
			}
			req.LastInstanceKey = r.GetLastInstanceKey()
		}
	}
	ids, n := list(&protos.ListInstanceIdsRequest{PageSize: 9, LastInstanceKey: wrapperspb.String("")})
	slices.Sort(ids)
	if n != 3 || !slices.Equal(ids, append(slices.Clone(want), "fails")) {
		t.Errorf("finished: %d pages with %v", n, ids)
	}
	if ids, _ := list(&protos.ListInstanceIdsRequest{RuntimeStatus: []protos.OrchestrationStatus{api.RUNTIME_STATUS_FAILED}}); !slices.Equal(ids, []string{"fails"}) {
		t.Errorf("failed: %v", ids)
	}
	at := b.state(t, "fails").GetCompletedTimestamp()
	if ids, _ := list(&protos.ListInstanceIdsRequest{CompletedTimeFrom: at, CompletedTimeTo: at}); !slices.Contains(ids, "fails") {
		t.Errorf("completed at a time, both bounds included: %v", ids)
	}
	if ids, _ := list(&protos.ListInstanceIdsRequest{CompletedTimeTo: begin}); len(ids) != 0 {
		t.Errorf("completed before the test: %v", ids)
	}
	_, err = b.client.ListInstanceIds(ctx, &protos.ListInstanceIdsRequest{LastInstanceKey: wrapperspb.String("?")})
	wantCode(t, "a bad key", err, codes.InvalidArgument)
}

// TestQueryPageOfBytes has pages end before they are too large for a client's default limit of 4 MiB.
func TestQueryPageOfBytes(t *testing.T) {
	b := start(t, "", Options{})
	const n, size = 6, 1 << 20
	for i := range n {
		if _, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{
			Name: "o", InstanceId: fmt.Sprint(i), Input: wrapperspb.String(strings.Repeat("x", size)),
		}); err != nil {
			t.Fatal(err)
		}
	}
	q, seen := &protos.InstanceQuery{FetchInputsAndOutputs: true}, 0
	for {
		r, err := b.client.QueryInstances(t.Context(), &protos.QueryInstancesRequest{Query: q})
		if err != nil {
			t.Fatal(err)
		}
		seen += len(r.GetOrchestrationState())
		if q.ContinuationToken = r.GetContinuationToken(); q.GetContinuationToken() == nil {
			break
		}
	}
	if seen != n {
		t.Errorf("%d instances, want %d", seen, n)
	}
}

func TestPurge(t *testing.T) {
	b := start(t, "", Options{})
	w := fullWorker()
	b.work(t, w, nil)
	ctx := t.Context()
	purge := func(req *protos.PurgeInstancesRequest) int32 {
		t.Helper()
		r, err := b.client.PurgeInstances(ctx, req)
		if err != nil || r.GetIsComplete() == nil || !r.GetIsComplete().GetValue() {
			t.Errorf("purge: %v, %v", r, err)
		}
		return r.GetDeletedInstanceCount()
	}
	byID := func(id string, recursive bool) *protos.PurgeInstancesRequest {
		return &protos.PurgeInstancesRequest{Request: &protos.PurgeInstancesRequest_InstanceId{InstanceId: id}, Recursive: recursive, IsOrchestration: true}
	}
	b.startAs(t, "wait", "runs")
	if n := purge(byID("nobody", true)) + purge(byID("runs", true)); n != 0 {
		t.Errorf("%d purged of an unknown and a running one", n)
	}
	b.startAs(t, "all", "tree")
	b.finish(t, "tree")
	if n := purge(byID("tree", true)); n != 2 {
		t.Errorf("%d purged of a tree of 2", n)
	}
	if b.state(t, "tree") != nil || b.state(t, "sub") != nil {
		t.Error("the tree is still there")
	}
	for i := range 5 {
		b.startAs(t, "echo", fmt.Sprint("e", i))
		b.finish(t, fmt.Sprint("e", i))
	}
	b.startAs(t, "fails", "f")
	b.finish(t, "f")
	filter := func(f *protos.PurgeInstanceFilter) *protos.PurgeInstancesRequest {
		return &protos.PurgeInstancesRequest{Request: &protos.PurgeInstancesRequest_PurgeInstanceFilter{PurgeInstanceFilter: f}}
	}
	if n := purge(filter(&protos.PurgeInstanceFilter{CreatedTimeTo: timestamppb.New(time.Now().Add(-time.Hour))})); n != 0 {
		t.Errorf("%d purged that are older than they are", n)
	}
	if n := purge(filter(&protos.PurgeInstanceFilter{RuntimeStatus: []protos.OrchestrationStatus{api.RUNTIME_STATUS_RUNNING}})); n != 0 {
		t.Errorf("%d running ones purged", n)
	}
	if n := purge(filter(&protos.PurgeInstanceFilter{RuntimeStatus: []protos.OrchestrationStatus{api.RUNTIME_STATUS_FAILED}})); n != 1 {
		t.Errorf("%d failed ones purged, want 1", n)
	}
	if n := purge(&protos.PurgeInstancesRequest{Request: &protos.PurgeInstancesRequest_InstanceBatch{
		InstanceBatch: &protos.InstanceBatch{InstanceIds: []string{"e0", "nobody", "e1"}},
	}}); n != 2 {
		t.Errorf("%d of a batch purged, want 2", n)
	}
	if n := purge(filter(&protos.PurgeInstanceFilter{})); n != 3 {
		t.Errorf("%d of the rest purged, want 3", n)
	}
	_, err := b.client.PurgeInstances(ctx, &protos.PurgeInstancesRequest{})
	wantCode(t, "a purge of nothing", err, codes.InvalidArgument)
	if s := b.state(t, "runs"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_RUNNING {
		t.Errorf("the running one: %v", s)
	}
}
