package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

func fanOut(n int) script {
	return func(events []*protos.HistoryEvent) (actions []*protos.OrchestratorAction) {
		done := 0
		for _, e := range events {
			if e.GetTaskCompleted() != nil {
				done++
			}
		}
		if done == n {
			return []*protos.OrchestratorAction{complete(fmt.Sprint(n))}
		}
		for id := int32(1); id <= int32(n); id++ {
			if !scheduled(events, id) {
				a := call("a")
				a.Id = id
				actions = append(actions, a)
			}
		}
		return actions
	}
}

// TestFanOutOverWorkers spreads activities over workers with and without a bound on what they take at a time.
func TestFanOutOverWorkers(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	b := start(t, "", Options{})
	const n, workers, credit = 1000, 3, 4
	var ran [workers]atomic.Int32
	var at, most atomic.Int32
	for i := range workers {
		w := fullWorker()
		w.scripts["fan"] = fanOut(n)
		w.activities["a"] = func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails) {
			ran[i].Add(1)
			if i > 0 {
				return `1`, nil
			}
			if now := at.Add(1); now > most.Load() {
				most.Store(now)
			}
			at.Add(-1)
			return `1`, nil
		}
		req := &protos.GetWorkItemsRequest{}
		if i == 0 {
			req.MaxConcurrentActivityWorkItems = credit
		}
		b.work(t, w, req)
	}
	b.startAs(t, "fan", "i")
	if s := b.finish(t, "i"); s.GetOutput().GetValue() != fmt.Sprint(n) {
		t.Fatalf("it ended with %v", s)
	}
	for i := range workers {
		if ran[i].Load() == 0 {
			t.Errorf("worker %d ran nothing", i)
		}
	}
	if most.Load() > credit {
		t.Errorf("%d at a time to a worker with a credit of %d", most.Load(), credit)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}

// TestWhatNobodyHostsHoldsUpNothing starts more of it than a worker's slots, and works on another orchestration.
func TestWhatNobodyHostsHoldsUpNothing(t *testing.T) {
	b := start(t, "", Options{})
	for i := range 500 {
		b.startAs(t, "unknown", fmt.Sprint("u", i))
	}
	filters := &protos.WorkItemFilters{
		Orchestrations: []*protos.OrchestrationFilter{{Name: "all", Versions: []string{"", "2"}}, {Name: "echo"}},
		Activities:     []*protos.ActivityFilter{{Name: "a", Versions: []string{"2"}}},
	}
	w := b.work(t, fullWorker(), &protos.GetWorkItemsRequest{
		WorkItemFilters: filters, MaxConcurrentOrchestrationWorkItems: 1, MaxConcurrentActivityWorkItems: 1,
	})
	for i, version := range []string{"2", "1", ""} {
		if _, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{
			Name: "all", InstanceId: fmt.Sprint("i", i), Version: wrapperspb.String(version),
		}); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.finish(t, "i0"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_COMPLETED {
		t.Errorf("a version that is hosted: %v", s)
	}
	b.startAs(t, "echo", "echo")
	b.finish(t, "echo")
	if s := b.state(t, "i1"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_PENDING {
		t.Errorf("a version that nobody hosts: %v", s)
	}
	if s := b.state(t, "u0"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_PENDING {
		t.Errorf("a name that nobody hosts: %v", s)
	}
	// The activity of an unversioned orchestration has no version that the filter takes.
	if s := b.state(t, "i2"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_RUNNING {
		t.Errorf("an orchestration whose activity nobody hosts: %v", s)
	}
	if _, err := b.client.TerminateInstance(t.Context(), &protos.TerminateRequest{InstanceId: "u0"}); err != nil {
		t.Error(err)
	}
	if s := b.finish(t, "u0"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_TERMINATED {
		t.Errorf("terminated without a worker that hosts it: %v", s)
	}
	w.stop()
	b.work(t, fullWorker(), nil)
	for _, id := range []string{"i1", "i2", "u1"} {
		if s := b.finish(t, id); s.GetOrchestrationStatus() == api.RUNTIME_STATUS_TERMINATED {
			t.Errorf("with a worker that hosts all: %v", s)
		}
	}
}

// TestC45LostWorker takes the items of a worker that goes, in the middle of a turn and of an activity, and gives them to another.
func TestC45LostWorker(t *testing.T) {
	b := start(t, "", Options{})
	b.startAs(t, "all", "i")
	ctx, cut := context.WithCancel(t.Context())
	first, err := b.client.GetWorkItems(ctx, &protos.GetWorkItemsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	lost := receive(t, first)
	if lost.GetOrchestratorRequest() == nil {
		t.Fatalf("first item: %v", lost)
	}
	cut()
	ctx, cut = context.WithCancel(t.Context())
	second, err := b.client.GetWorkItems(ctx, &protos.GetWorkItemsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	turn := receive(t, second)
	if turn.GetCompletionToken() == lost.GetCompletionToken() {
		t.Error("both attempts have one token")
	}
	answer := func(token string, actions ...*protos.OrchestratorAction) {
		t.Helper()
		if _, err := b.client.CompleteOrchestratorTask(t.Context(), &protos.OrchestratorResponse{
			InstanceId: "i", CompletionToken: token, Actions: actions,
		}); err != nil {
			t.Error(err)
		}
	}
	answer(lost.GetCompletionToken(), failWith("Stale", "it must not count"))
	a := call("a")
	a.Id = 1
	answer(turn.GetCompletionToken(), a)
	answer(turn.GetCompletionToken(), failWith("Twice", "it must not count"))
	act := receive(t, second)
	if act.GetActivityRequest().GetName() != "a" {
		t.Fatalf("after the turn: %v", act)
	}
	cut()
	b.work(t, fullWorker(), nil)
	if s := b.finish(t, "i"); s.GetOutput().GetValue() != `"all"` {
		t.Errorf("it ended with %v", s)
	}
	// A late result of the lost activity changes nothing and is no error.
	if _, err := b.client.CompleteActivityTask(t.Context(), &protos.ActivityResponse{
		InstanceId: "i", TaskId: 1, CompletionToken: act.GetCompletionToken(), Result: wrapperspb.String(`"late"`),
	}); err != nil {
		t.Error(err)
	}
}

// TestC15TerminateDropsQueuedActivities and the result of the one that runs, whose worker cannot be told.
func TestC15TerminateDropsQueuedActivities(t *testing.T) {
	b := start(t, "", Options{})
	w := fullWorker()
	var runs atomic.Int32
	started, open := make(chan struct{}, 30), make(chan struct{})
	w.activities["a"] = func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails) {
		runs.Add(1)
		started <- struct{}{}
		<-open
		return `"late"`, nil
	}
	w.scripts["fan"] = fanOut(30)
	b.work(t, w, &protos.GetWorkItemsRequest{MaxConcurrentActivityWorkItems: 1})
	b.startAs(t, "fan", "i")
	<-started
	if _, err := b.client.TerminateInstance(t.Context(), &protos.TerminateRequest{InstanceId: "i"}); err != nil {
		t.Fatal(err)
	}
	if s := b.finish(t, "i"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_TERMINATED {
		t.Errorf("it ended with %v", s)
	}
	close(open)
	b.startAs(t, "all", "after") // has activities that were queued behind those
	b.finish(t, "after")
	if names, _ := b.history(t, "i"); strings.Contains(strings.Join(names, " "), "TaskCompleted") {
		t.Errorf("a result after the end: %v", names)
	}
	if n := runs.Load(); n > 3 { // one, and those of the instance after it
		t.Errorf("%d activities ran", n)
	}
}

// TestC42LongHistory lets histories outgrow a message, for workers with the limits that gRPC has by default.
func TestC42LongHistory(t *testing.T) {
	b := start(t, t.TempDir()+"/hub.db", Options{})
	big := `"` + strings.Repeat("x", 1<<20) + `"`
	worker := func() *wireWorker {
		w := fullWorker()
		w.activities["big"] = func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails) { return big, nil }
		w.scripts["grow"] = steps(`"grown"`, call("big"), call("big"), call("big"), call("big"), call("big"), call("big"))
		w.scripts["burst"] = func(events []*protos.HistoryEvent) []*protos.OrchestratorAction {
			actions := fanOut(3)(events)
			for _, a := range actions {
				if task := a.GetScheduleTask(); task != nil {
					task.Name = "big"
				}
			}
			return actions
		}
		return w
	}
	plain := b.work(t, worker(), nil)
	b.startAs(t, "grow", "i")
	b.startAs(t, "grow", "ended")
	b.startAs(t, "burst", "burst")
	for _, id := range []api.InstanceID{"i", "ended"} {
		eventually(t, "it is stalled, with a reason", func() bool {
			m, err := b.hubs.byName[defaultHub].be.GetOrchestrationMetadata(t.Context(), id)
			return err == nil && strings.Contains(m.Stalled, "stream")
		})
	}
	if _, err := b.client.TerminateInstance(t.Context(), &protos.TerminateRequest{InstanceId: "ended"}); err != nil {
		t.Error(err)
	}
	if s := b.finish(t, "ended"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_TERMINATED {
		t.Errorf("a stalled instance that was terminated: %v", s)
	}
	for i := range 20 { // the stream and the other instances are untouched
		b.startAs(t, "echo", fmt.Sprint("e", i))
		b.finish(t, fmt.Sprint("e", i))
	}
	if s := b.finish(t, "burst"); s.GetOutput().GetValue() != "3" {
		t.Errorf("a burst that fits: %v", s)
	}
	plain.stop()
	streams := worker()
	b.work(t, streams, &protos.GetWorkItemsRequest{
		Capabilities: []protos.WorkerCapability{protos.WorkerCapability_WORKER_CAPABILITY_HISTORY_STREAMING},
	})
	if s := b.finish(t, "i"); s.GetOutput().GetValue() != `"grown"` {
		t.Errorf("with a worker that streams: %v", s)
	}
}

// TestC46DeadPeer black-holes a worker's connection: the server finds out and gives the item to another.
func TestC46DeadPeer(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	b := start(t, "", Options{keepaliveTime: time.Second, keepaliveTimeout: time.Second})
	hole := listenHole(t, b.GRPCAddr())
	conn, err := grpc.NewClient(hole.addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := protos.NewTaskHubSidecarServiceClient(conn).GetWorkItems(t.Context(), &protos.GetWorkItemsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	b.startAs(t, "echo", "i")
	receive(t, stream)
	hole.open.Store(false) // from now on nothing passes, and nobody is told
	w := receive(t, b.worker(t))
	b.complete(t, w, `"saved"`)
	if s := b.finish(t, "i"); s.GetOutput().GetValue() != `"saved"` {
		t.Errorf("it ended with %v", s)
	}
	conn.Close()
	hole.close()
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}

// hole is a proxy that can swallow what passes.
type hole struct {
	net.Listener
	open  atomic.Bool
	conns chan net.Conn
}

func listenHole(t *testing.T, to string) *hole {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{Listener: l, conns: make(chan net.Conn, 100)}
	h.open.Store(true)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := new(net.Dialer).DialContext(t.Context(), "tcp", to)
			if err != nil {
				in.Close()
				return
			}
			h.conns <- in
			h.conns <- out
			go h.copy(in, out)
			go h.copy(out, in)
		}
	}()
	return h
}

func (h *hole) copy(to io.Writer, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if h.open.Load() {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

func (h *hole) addr() string { return h.Addr().String() }

func (h *hole) close() {
	h.Close()
	for {
		select {
		case c := <-h.conns:
			c.Close()
		default:
			return
		}
	}
}

// TestC47StopWithWorkers stops the server with idle workers and with work that nobody took.
func TestC47StopWithWorkers(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	file := t.TempDir() + "/hub.db"
	b := start(t, file, Options{Drain: time.Minute})
	stream, err := b.client.GetWorkItems(t.Context(), &protos.GetWorkItemsRequest{WorkItemFilters: &protos.WorkItemFilters{}})
	if err != nil {
		t.Fatal(err)
	}
	b.startAs(t, "echo", "i")
	began := time.Now()
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v to stop", d)
	}
	_, err = stream.Recv()
	wantCode(t, "an idle stream", err, codes.Unavailable)
	b = start(t, file, Options{})
	b.work(t, fullWorker(), nil)
	b.finish(t, "i")
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}

// TestC49Waits costs nothing once it ended, however many there were.
func TestC49Waits(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	b := start(t, "", Options{})
	b.startAs(t, "wait", "i")
	const n = 300
	done := make(chan error, n)
	for range n {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_, err := b.client.WaitForInstanceCompletion(ctx, &protos.GetInstanceRequest{InstanceId: "i"})
			done <- err
		}()
	}
	for range n {
		wantCode(t, "a wait whose time is over", <-done, codes.DeadlineExceeded)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}
