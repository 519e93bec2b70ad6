package sidecar

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

func TestDemandFollowsWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		turns, acts := d.OrchestratorDemand(), d.ActivityDemand()
		grew := turns.More()
		if turns.Wants("a", "") {
			t.Error("it wants work without a worker")
		}
		w := connect(d, &protos.GetWorkItemsRequest{
			MaxConcurrentOrchestrationWorkItems: 1,
			WorkItemFilters:                     &protos.WorkItemFilters{Orchestrations: []*protos.OrchestrationFilter{{Name: "a", Versions: []string{"1"}}}},
		}, nil)
		if grew.Err() == nil {
			t.Error("a new worker is not told")
		}
		if !turns.Wants("a", "1") || turns.Wants("a", "2") || turns.Wants("b", "1") || acts.Wants("a", "1") {
			t.Error("it does not want what the worker's filter says")
		}
		grew = turns.More()
		c := turn(d, "1", "a", "1")
		if turns.Wants("a", "1") {
			t.Error("it wants more than the worker's credit")
		}
		if grew.Err() != nil {
			t.Error("less credit counts as growth")
		}
		finish(d, w.items()[0])
		if grew.Err() == nil || !turns.Wants("a", "1") || !c.done {
			t.Error("credit that came back is not told")
		}
		d.Drain()
		if turns.Wants("a", "1") {
			t.Error("it wants work while it drains")
		}
		synctest.Wait()
		checkEmpty(t, d)
	})
}

// TestUnhostedIsGivenBack has items return to their caller when the last
// worker that hosts them goes, in whatever state they are.
func TestUnhostedIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		d.OrchestratorDemand().Wants("", "") // whoever asks can take it back
		w := connect(d, &protos.GetWorkItemsRequest{MaxConcurrentOrchestrationWorkItems: 1}, nil)
		begun, queued := turn(d, "1", "a", ""), turn(d, "2", "a", "")
		w.stop()
		synctest.Wait()
		for c, want := range map[*call]error{begun: ErrWorkerLost, queued: ErrNotBegun} {
			if !c.done || !errors.Is(c.err, want) {
				t.Errorf("it ended: %v, with %v, want %v", c.done, c.err, want)
			}
		}
		if c := turn(d, "3", "a", ""); !c.done || !errors.Is(c.err, ErrNotBegun) {
			t.Errorf("without a worker: %v, %v", c.done, c.err)
		}
		checkEmpty(t, d)
	})
}

func TestLongHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{MaxMessage: 1000})
		long := &protos.OrchestratorRequest{
			InstanceId: "1", ExecutionId: wrapperspb.String("e"), NewEvents: []*protos.HistoryEvent{{EventId: -1}},
			PastEvents: []*protos.HistoryEvent{{EventType: &protos.HistoryEvent_EventRaised{
				EventRaised: &protos.EventRaisedEvent{Name: strings.Repeat("x", 1000)},
			}}},
		}
		plain := connect(d, &protos.GetWorkItemsRequest{}, nil)
		_, _, err := d.Orchestrator(t.Context(), "a", "", long, Turned{}, 0)
		if oversize := (*OversizeError)(nil); !errors.As(err, &oversize) || oversize.Limit != 1000 || oversize.Bytes <= 1000 {
			t.Errorf("for workers that cannot stream: %v", err)
		}
		streams := connect(d, &protos.GetWorkItemsRequest{
			Capabilities: []protos.WorkerCapability{99, protos.WorkerCapability_WORKER_CAPABILITY_HISTORY_STREAMING},
		}, nil)
		go func() { _, _, _ = d.Orchestrator(t.Context(), "a", "", long, Turned{}, 0) }()
		synctest.Wait()
		if len(plain.items()) != 0 || len(streams.items()) != 1 {
			t.Fatalf("%d to the plain worker, %d to the other", len(plain.items()), len(streams.items()))
		}
		r := streams.items()[0].GetOrchestratorRequest()
		if !r.GetRequiresHistoryStreaming() || len(r.GetPastEvents()) != 0 || len(r.GetNewEvents()) != 1 || r.GetExecutionId().GetValue() != "e" {
			t.Errorf("request: %v", r)
		}
		finish(d, streams.items()[0])
		plain.stop()
		streams.stop()
		checkEmpty(t, d)
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := NewDispatcher(Options{})
		busy := connect(d, &protos.GetWorkItemsRequest{MaxConcurrentActivityWorkItems: 1}, nil)
		begun, queued := act(d, "1", 1, "a"), act(d, "1", 2, "a")
		idle := connect(d, &protos.GetWorkItemsRequest{WorkItemFilters: &protos.WorkItemFilters{}}, nil)
		d.Drain()
		synctest.Wait()
		if !queued.done || !errors.Is(queued.err, ErrNotBegun) {
			t.Errorf("an item that nobody began: %v, %v", queued.done, queued.err)
		}
		if !idle.done || busy.done || begun.done {
			t.Errorf("idle ended: %v, busy ended: %v, its item: %v", idle.done, busy.done, begun.done)
		}
		if late := connect(d, &protos.GetWorkItemsRequest{}, nil); !late.done || status.Code(late.err) != codes.Unavailable {
			t.Errorf("a new worker: %v, %v", late.done, late.err)
		}
		finish(d, busy.items()[0])
		synctest.Wait()
		if !busy.done || status.Code(busy.err) != codes.Unavailable || !begun.done || begun.err != nil {
			t.Errorf("after its answer: %v, %v, %v", busy.done, busy.err, begun.err)
		}
		checkEmpty(t, d)
	})
}

// TestTakesWhatNobodyTook asks, after an OversizeError, whether a worker has come that can.
func TestTakesWhatNobodyTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		joined := 0
		d := NewDispatcher(Options{MaxMessage: 1000, Joined: func(context.Context, *protos.GetWorkItemsRequest) { joined++ }})
		streaming := []protos.WorkerCapability{protos.WorkerCapability_WORKER_CAPABILITY_HISTORY_STREAMING}
		hosting := func(name string) *protos.WorkItemFilters {
			return &protos.WorkItemFilters{Orchestrations: []*protos.OrchestrationFilter{{Name: name}}}
		}
		long := &protos.OrchestratorRequest{InstanceId: strings.Repeat("x", 1001)}
		plain := connect(d, &protos.GetWorkItemsRequest{}, nil)
		other := connect(d, &protos.GetWorkItemsRequest{WorkItemFilters: hosting("b"), Capabilities: streaming}, nil)
		_, _, err := d.Orchestrator(t.Context(), "a", "", long, Turned{}, 0)
		tooLarge := (*OversizeError)(nil)
		if !errors.As(err, &tooLarge) || d.Takes(tooLarge) {
			t.Fatalf("%v, though one takes it: %v", err, d.Takes(tooLarge))
		}
		able := connect(d, &protos.GetWorkItemsRequest{WorkItemFilters: hosting("a"), Capabilities: streaming}, nil)
		if !d.Takes(tooLarge) || joined != 3 {
			t.Errorf("a worker that can take it is not seen, after %d came", joined)
		}
		for _, w := range []*worker{plain, other, able} {
			w.stop()
		}
		checkEmpty(t, d)
	})
}
