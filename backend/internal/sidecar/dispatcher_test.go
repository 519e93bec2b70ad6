package sidecar

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// worker is the far end of a stream, which takes what is sent to it at once.
type worker struct {
	mu   sync.Mutex
	got  []*protos.WorkItem
	stop context.CancelFunc
	err  error
	done bool
}

func (w *worker) take(wi *protos.WorkItem) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, wi)
	return nil
}

func (w *worker) items() []*protos.WorkItem {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got
}

func connect(d *Dispatcher, req *protos.GetWorkItemsRequest, shutdown <-chan any) *worker {
	ctx, cancel := context.WithCancel(context.Background())
	w := &worker{stop: cancel}
	go func() {
		w.err = d.Serve(ctx, req, shutdown, w.take)
		w.done = true
	}()
	synctest.Wait()
	return w
}

// call is one Orchestrator or Activity call.
type call struct {
	turn *protos.OrchestratorResponse
	by   Turned
	act  *protos.ActivityResponse
	err  error
	done bool
	stop context.CancelFunc
}

func turn(d *Dispatcher, id, name, version string) *call {
	ctx, cancel := context.WithCancel(context.Background())
	c := &call{stop: cancel}
	go func() {
		c.turn, c.by, c.err = d.Orchestrator(ctx, name, version, &protos.OrchestratorRequest{InstanceId: id}, Turned{}, 0)
		c.done = true
	}()
	synctest.Wait()
	return c
}

func act(d *Dispatcher, id string, task int32, name string) *call {
	ctx, cancel := context.WithCancel(context.Background())
	c := &call{stop: cancel}
	go func() {
		c.act, c.err = d.Activity(ctx, "", &protos.ActivityRequest{
			Name: name, TaskId: task, OrchestrationInstance: &protos.OrchestrationInstance{InstanceId: id},
		}, 0)
		c.done = true
	}()
	synctest.Wait()
	return c
}

func finish(d *Dispatcher, w *protos.WorkItem) bool {
	defer synctest.Wait()
	if o := w.GetOrchestratorRequest(); o != nil {
		return d.CompleteOrchestrator(&protos.OrchestratorResponse{InstanceId: o.GetInstanceId(), CompletionToken: w.GetCompletionToken()})
	}
	a := w.GetActivityRequest()
	return d.CompleteActivity(&protos.ActivityResponse{
		InstanceId: a.GetOrchestrationInstance().GetInstanceId(), TaskId: a.GetTaskId(), CompletionToken: w.GetCompletionToken(),
	})
}

// checkEmpty verifies that the dispatcher keeps nothing once all is done.
func checkEmpty(t *testing.T, d *Dispatcher) {
	t.Helper()
	synctest.Wait()
	if len(d.streams)+len(d.queue)+len(d.tokens)+len(d.keys) != 0 {
		t.Errorf("left: %d streams, %d queued, %d tokens, %d keys", len(d.streams), len(d.queue), len(d.tokens), len(d.keys))
	}
}

func TestCreditBoundsItemsOfAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		w := connect(d, &protos.GetWorkItemsRequest{MaxConcurrentActivityWorkItems: 2}, nil)
		var calls []*call
		for i := range int32(5) {
			calls = append(calls, act(d, "i", i, "a"))
		}
		o := turn(d, "i", "o", "")
		if len(w.items()) != 3 || w.items()[2].GetOrchestratorRequest() == nil {
			t.Fatalf("got %v, want two activities and the turn, which has no limit", w.items())
		}
		finish(d, w.items()[2])
		for i := 0; i < len(w.items()); i++ {
			if i != 2 && !finish(d, w.items()[i]) {
				t.Errorf("completion %d was stale", i)
			}
		}
		for i, c := range calls {
			if !c.done || c.act.GetTaskId() != int32(i) {
				t.Errorf("call %d: %+v", i, c)
			}
		}
		if !o.done {
			t.Error("the turn is not done")
		}
		w.stop()
		checkEmpty(t, d)
	})
}

func TestItemsOfAnEndedStreamGoToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		w1 := connect(d, &protos.GetWorkItemsRequest{}, nil)
		c1, c2 := turn(d, "1", "o", ""), act(d, "2", 7, "a")
		w1.stop()
		synctest.Wait()
		if status.Code(w1.err) != codes.Canceled || c1.done || c2.done {
			t.Fatalf("stream: %v, calls: %+v %+v", w1.err, c1, c2)
		}
		w2 := connect(d, &protos.GetWorkItemsRequest{}, nil)
		if len(w2.items()) != 2 || w2.items()[0].GetOrchestratorRequest().GetInstanceId() != "1" {
			t.Fatalf("second worker got %v", w2.items())
		}
		for _, stale := range w1.items() {
			if finish(d, stale) {
				t.Errorf("the answer to an old offer of %v was taken", stale)
			}
		}
		finish(d, w2.items()[0])
		finish(d, w2.items()[1])
		if !c1.done || !c2.done || finish(d, w2.items()[0]) {
			t.Errorf("calls: %+v %+v", c1, c2)
		}
		w2.stop()
		checkEmpty(t, d)
	})
}

func TestAbandonedItemRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		w1 := connect(d, &protos.GetWorkItemsRequest{}, nil)
		c := turn(d, "1", "o", "")
		if !d.AbandonOrchestrator(w1.items()[0].GetCompletionToken()) || d.AbandonOrchestrator(w1.items()[0].GetCompletionToken()) {
			t.Fatal("the first abandon counts, the second is stale")
		}
		synctest.Wait()
		if len(w1.items()) != 1 {
			t.Fatal("the worker that abandoned the item got it again at once")
		}
		<-time.After(restMin)
		synctest.Wait()
		if len(w1.items()) != 2 {
			t.Fatal("the item did not come back after its rest")
		}
		w2 := connect(d, &protos.GetWorkItemsRequest{}, nil)
		d.AbandonOrchestrator(w1.items()[1].GetCompletionToken())
		synctest.Wait()
		if len(w2.items()) != 1 {
			t.Fatal("the other worker did not get the item at once")
		}
		w2.stop() // w1 must see it although it abandoned it before
		synctest.Wait()
		if len(w1.items()) != 3 {
			t.Fatal("the item is lost")
		}
		finish(d, w1.items()[2])
		if !c.done || c.err != nil {
			t.Errorf("call: %+v", c)
		}
		w1.stop()
		checkEmpty(t, d)
	})
}

func TestEmptyTokenMatchesByID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		if d.CompleteOrchestrator(&protos.OrchestratorResponse{InstanceId: "1"}) {
			t.Error("an answer to nothing was taken")
		}
		c1, c2 := turn(d, "1", "o", ""), act(d, "1", 3, "a")
		if d.CompleteOrchestrator(&protos.OrchestratorResponse{InstanceId: "1"}) {
			t.Error("an answer to an item that was not offered was taken")
		}
		w := connect(d, &protos.GetWorkItemsRequest{}, nil)
		if d.CompleteActivity(&protos.ActivityResponse{InstanceId: "1", TaskId: 4}) {
			t.Error("an answer to another task was taken")
		}
		if !d.CompleteActivity(&protos.ActivityResponse{InstanceId: "1", TaskId: 3, Result: wrapperspb.String("r")}) ||
			!d.CompleteOrchestrator(&protos.OrchestratorResponse{InstanceId: "1"}) {
			t.Error("answers without a token were not taken")
		}
		synctest.Wait()
		if !c1.done || c2.act.GetResult().GetValue() != "r" {
			t.Errorf("calls: %+v %+v", c1, c2)
		}
		w.stop()
		checkEmpty(t, d)
	})
}

func TestTokenIsBoundToItsKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		w := connect(d, &protos.GetWorkItemsRequest{}, nil)
		c := turn(d, "1", "o", "")
		token := w.items()[0].GetCompletionToken()
		if d.AbandonActivity(token) || d.CompleteActivity(&protos.ActivityResponse{CompletionToken: token}) {
			t.Error("an activity's answer was taken for a turn")
		}
		finish(d, w.items()[0])
		if !c.done {
			t.Error("the turn is not done")
		}
		w.stop()
		checkEmpty(t, d)
	})
}

func TestChunksAreJoined(t *testing.T) {
	chunk := func(token string, index int32, partial bool, ids ...int32) *protos.OrchestratorResponse {
		r := &protos.OrchestratorResponse{
			InstanceId: "1", CompletionToken: token, IsPartial: partial, ChunkIndex: wrapperspb.Int32(index),
			CustomStatus: wrapperspb.String(fmt.Sprint(index)),
		}
		for _, id := range ids {
			r.Actions = append(r.Actions, &protos.OrchestratorAction{Id: id})
		}
		return r
	}
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		w := connect(d, &protos.GetWorkItemsRequest{}, nil)
		c := turn(d, "1", "o", "")
		token := w.items()[0].GetCompletionToken()
		d.CompleteOrchestrator(chunk(token, 0, true, 1, 2))
		d.CompleteOrchestrator(chunk(token, 0, true, 1, 2)) // sent twice
		d.CompleteOrchestrator(chunk(token, 1, true, 3))
		synctest.Wait()
		if c.done {
			t.Fatal("done before the last chunk")
		}
		d.CompleteOrchestrator(chunk(token, 2, false, 4))
		synctest.Wait()
		var got []int32
		for _, a := range c.turn.GetActions() {
			got = append(got, a.GetId())
		}
		if fmt.Sprint(got) != "[1 2 3 4]" || c.turn.GetCustomStatus().GetValue() != "2" || c.turn.GetIsPartial() {
			t.Errorf("joined: %v", c.turn)
		}

		c = turn(d, "1", "o", "")
		d.CompleteOrchestrator(chunk(w.items()[1].GetCompletionToken(), 1, false, 9))
		<-time.After(restMin)
		synctest.Wait()
		if c.done || len(w.items()) != 3 {
			t.Errorf("a missing chunk: %+v, %d items", c, len(w.items()))
		}
		finish(d, w.items()[2])
		w.stop()
		checkEmpty(t, d)
	})
}

func TestFilters(t *testing.T) {
	filters := &protos.WorkItemFilters{
		Orchestrations: []*protos.OrchestrationFilter{{Name: "any"}, {Name: "v", Versions: []string{"1", ""}}},
	}
	tests := []struct {
		name, version string
		want          bool
	}{
		{"any", "", true}, {"any", "7", true}, {"v", "1", true}, {"v", "", true}, {"v", "2", false}, {"Any", "", false},
	}
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		w := connect(d, &protos.GetWorkItemsRequest{WorkItemFilters: filters}, nil)
		for _, tt := range tests {
			before := len(w.items())
			c := turn(d, "1", tt.name, tt.version)
			if got := len(w.items()) > before; got != tt.want {
				t.Errorf("%s@%q offered: %v, want %v", tt.name, tt.version, got, tt.want)
			}
			c.stop()
			synctest.Wait()
		}
		c := act(d, "1", 1, "any") // an absent category takes nothing
		if w2 := connect(d, &protos.GetWorkItemsRequest{}, nil); len(w2.items()) != 1 {
			t.Errorf("the unfiltered worker got %v", w2.items())
		} else {
			finish(d, w2.items()[0])
			w2.stop()
		}
		if !c.done {
			t.Error("the activity is not done")
		}
		w.stop()
		checkEmpty(t, d)
	})
}

func TestContextEndWithdrawsTheItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		queued := turn(d, "1", "o", "")
		queued.stop()
		synctest.Wait()
		if !errors.Is(queued.err, context.Canceled) {
			t.Errorf("queued: %v", queued.err)
		}
		w := connect(d, &protos.GetWorkItemsRequest{MaxConcurrentActivityWorkItems: 1}, nil)
		offered, next := act(d, "1", 1, "a"), act(d, "1", 2, "a")
		offered.stop()
		synctest.Wait()
		if !errors.Is(offered.err, context.Canceled) || len(w.items()) != 2 {
			t.Errorf("offered: %v; the worker got %v", offered.err, w.items())
		}
		if finish(d, w.items()[0]) || !finish(d, w.items()[1]) || !next.done {
			t.Error("the withdrawn item's answer is stale, the next one's is not")
		}
		w.stop()
		checkEmpty(t, d)
	})
}

func TestPingAndLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		w := connect(d, &protos.GetWorkItemsRequest{}, nil)
		<-time.After(time.Minute)
		synctest.Wait()
		if len(w.items()) != 2 || w.items()[0].GetHealthPing() == nil || w.items()[1].GetHealthPing() == nil {
			t.Fatalf("in a minute: %v", w.items())
		}
		dead := w
		c, a := turn(d, "1", "o", ""), act(d, "1", 1, "a")
		w = connect(d, &protos.GetWorkItemsRequest{}, nil)
		<-time.After(2 * time.Minute)
		synctest.Wait()
		var again *protos.WorkItem
		for _, g := range w.items() {
			if g.GetHealthPing() == nil {
				again = g
			}
		}
		if again.GetOrchestratorRequest().GetInstanceId() != "1" {
			t.Fatalf("the turn was not offered again: %v", w.items())
		}
		finish(d, again)
		if !c.done || a.done {
			t.Error("the turn is done, the activity still runs")
		}
		a.stop()
		w.stop()
		dead.stop()
		checkEmpty(t, d)
	})
}

func TestShutdownEndsAllStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		c := make(chan any, 1)
		w1, w2 := connect(d, &protos.GetWorkItemsRequest{}, c), connect(d, &protos.GetWorkItemsRequest{}, c)
		c <- "one value ends them all"
		synctest.Wait()
		for i, w := range []*worker{w1, w2} {
			if !w.done || status.Code(w.err) != codes.Canceled || status.Convert(w.err).Message() != "shutting down" {
				t.Errorf("worker %d: done %v, %v", i, w.done, w.err)
			}
		}
		w1.stop()
		w2.stop()
		checkEmpty(t, d)
	})
}

func TestWorkIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		w1, w2 := connect(d, &protos.GetWorkItemsRequest{}, nil), connect(d, &protos.GetWorkItemsRequest{}, nil)
		var calls []*call
		for i := range int32(6) {
			calls = append(calls, act(d, "1", i, "a"))
		}
		if len(w1.items()) != 3 || len(w2.items()) != 3 {
			t.Errorf("workers got %d and %d items", len(w1.items()), len(w2.items()))
		}
		for _, c := range calls {
			c.stop()
		}
		w1.stop()
		w2.stop()
		checkEmpty(t, d)
	})
}

func TestFailedSendPutsTheItemBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		c := turn(d, "1", "o", "")
		err := d.Serve(t.Context(), &protos.GetWorkItemsRequest{}, nil, func(*protos.WorkItem) error {
			return status.Error(codes.Unavailable, "gone")
		})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("stream: %v", err)
		}
		w := connect(d, &protos.GetWorkItemsRequest{}, nil)
		if len(w.items()) != 1 {
			t.Fatal("the item is lost")
		}
		finish(d, w.items()[0])
		if !c.done {
			t.Error("not done")
		}
		w.stop()
		checkEmpty(t, d)
	})
}

func TestStatusIsShort(t *testing.T) {
	err := fmt.Errorf("start %q: %w: the id is too long", strings.Repeat("\u4e16", 5000), api.ErrInvalidInput)
	s := status.Convert(Status(err))
	if s.Code() != codes.InvalidArgument {
		t.Errorf("got %v", s.Code())
	}
	m := s.Message()
	if len(m) > 1000 || !utf8.ValidString(m) || !strings.HasPrefix(m, "start ") || !strings.HasSuffix(m, "is too long") {
		t.Errorf("got a message of %d bytes: %s", len(m), m)
	}
}

func TestStatus(t *testing.T) {
	own := errors.New("own")
	tests := []struct {
		name string
		err  error
		want codes.Code
	}{
		{"nil", nil, codes.OK},
		{"invalid input", api.ErrInvalidInput, codes.InvalidArgument},
		{"duplicate", api.ErrDuplicateInstance, codes.AlreadyExists},
		{"not found", api.ErrInstanceNotFound, codes.NotFound},
		{"not completed", api.ErrNotCompleted, codes.FailedPrecondition},
		{"not failed", api.ErrNotFailed, codes.FailedPrecondition},
		{"not started", api.ErrNotStarted, codes.FailedPrecondition},
		{"no failures", api.ErrNoFailures, codes.FailedPrecondition},
		{"unsupported", api.ErrUnsupported, codes.Unimplemented},
		{"more", own, codes.DataLoss},
		{"status", status.Error(codes.ResourceExhausted, "x"), codes.ResourceExhausted},
		{"canceled", context.Canceled, codes.Canceled},
		{"deadline", context.DeadlineExceeded, codes.DeadlineExceeded},
		{"other", errors.New("x"), codes.Internal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.err
			if err != nil {
				err = fmt.Errorf("operation: %w", err)
			}
			got := Status(err, Mapping{own, codes.DataLoss, "OWN"})
			if status.Code(got) != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
