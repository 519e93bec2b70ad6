package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// A script decides a turn from all events of the execution; ids count from 1, as those of most SDKs.
type script func(events []*protos.HistoryEvent) []*protos.OrchestratorAction

// wireWorker is a worker as an SDK would be: all that it knows came over the wire.
type wireWorker struct {
	client     protos.TaskHubSidecarServiceClient
	scripts    map[string]script
	activities map[string]func(*protos.ActivityRequest) (string, *protos.TaskFailureDetails)
	entity     func(*protos.EntityRequest) *protos.EntityBatchResult
	seen       func(*protos.WorkItem) // called for each item, before it is run

	wg   sync.WaitGroup
	stop context.CancelFunc
}

// work connects a worker until the test ends.
func (b *bench) work(t *testing.T, w *wireWorker, req *protos.GetWorkItemsRequest) *wireWorker {
	t.Helper()
	if w.client == nil {
		w.client = b.client
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.stop = func() {
		cancel()
		w.wg.Wait()
	}
	t.Cleanup(w.stop)
	if req == nil {
		req = &protos.GetWorkItemsRequest{}
	}
	stream, err := w.client.GetWorkItems(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	w.wg.Go(func() {
		for {
			item, err := stream.Recv()
			if err != nil {
				if ctx.Err() == nil && !errors.Is(err, io.EOF) && status.Code(err) != codes.Unavailable {
					t.Errorf("stream: %v", err)
				}
				return
			}
			w.wg.Go(func() {
				if err := w.run(ctx, item); err != nil && ctx.Err() == nil && status.Code(err) != codes.Unavailable {
					t.Errorf("complete: %v", err)
				}
			})
		}
	})
	return w
}

func (w *wireWorker) run(ctx context.Context, item *protos.WorkItem) error {
	if w.seen != nil {
		w.seen(item)
	}
	if r := item.GetOrchestratorRequest(); r != nil {
		events, err := w.past(ctx, r)
		if err != nil {
			return err
		}
		events = append(events, r.GetNewEvents()...)
		name := ""
		for _, e := range events {
			if s := e.GetExecutionStarted(); s != nil {
				name = s.GetName()
			}
		}
		actions := []*protos.OrchestratorAction{failWith("UnknownOrchestrator", name)}
		if s := w.scripts[name]; s != nil {
			actions = s(events)
		}
		_, err = w.client.CompleteOrchestratorTask(ctx, &protos.OrchestratorResponse{
			InstanceId: r.GetInstanceId(), CompletionToken: item.GetCompletionToken(), Actions: actions,
		})
		return err
	}
	if r := item.GetEntityRequestV2(); r != nil && w.entity != nil {
		result := w.entity(r)
		result.CompletionToken = item.GetCompletionToken()
		_, err := w.client.CompleteEntityTask(ctx, result)
		return err
	}
	if r := item.GetActivityRequest(); r != nil {
		a := &protos.ActivityResponse{
			InstanceId: r.GetOrchestrationInstance().GetInstanceId(), TaskId: r.GetTaskId(), CompletionToken: item.GetCompletionToken(),
		}
		if f := w.activities[r.GetName()]; f != nil {
			out, failure := f(r)
			if a.FailureDetails = failure; failure == nil {
				a.Result = wrapperspb.String(out)
			}
		} else {
			a.FailureDetails = &protos.TaskFailureDetails{ErrorType: "UnknownActivity", ErrorMessage: r.GetName()}
		}
		_, err := w.client.CompleteActivityTask(ctx, a)
		return err
	}
	return nil
}

// past is the history before a turn, read from the server where it was too long to send.
func (w *wireWorker) past(ctx context.Context, r *protos.OrchestratorRequest) ([]*protos.HistoryEvent, error) {
	if !r.GetRequiresHistoryStreaming() {
		return r.GetPastEvents(), nil
	}
	stream, err := w.client.StreamInstanceHistory(ctx, &protos.StreamInstanceHistoryRequest{
		InstanceId: r.GetInstanceId(), ExecutionId: r.GetExecutionId(), ForWorkItemProcessing: true,
	})
	if err != nil {
		return nil, err
	}
	var events []*protos.HistoryEvent
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		events = append(events, chunk.GetEvents()...)
	}
}

// steps is an orchestrator that does one thing after the other and returns output.
// A step that fails fails it, with the step's failure.
func steps(output string, actions ...*protos.OrchestratorAction) script {
	return func(events []*protos.HistoryEvent) []*protos.OrchestratorAction {
		done := 0
		for _, e := range events {
			switch e.GetEventType().(type) {
			case *protos.HistoryEvent_TaskCompleted, *protos.HistoryEvent_TimerFired, *protos.HistoryEvent_SubOrchestrationInstanceCompleted,
				*protos.HistoryEvent_EventRaised:
				done++
			case *protos.HistoryEvent_TaskFailed:
				return []*protos.OrchestratorAction{failed(e.GetTaskFailed().GetFailureDetails())}
			case *protos.HistoryEvent_SubOrchestrationInstanceFailed:
				return []*protos.OrchestratorAction{failed(e.GetSubOrchestrationInstanceFailed().GetFailureDetails())}
			}
		}
		if done >= len(actions) {
			return []*protos.OrchestratorAction{complete(output)}
		}
		if actions[done] == nil || scheduled(events, int32(done+1)) { // nil waits for an event
			return nil
		}
		a := &protos.OrchestratorAction{Id: int32(done + 1), OrchestratorActionType: actions[done].GetOrchestratorActionType()}
		return []*protos.OrchestratorAction{a}
	}
}

func scheduled(events []*protos.HistoryEvent, id int32) bool {
	for _, e := range events {
		if e.GetEventId() == id {
			return true
		}
	}
	return false
}

func call(name string) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{OrchestratorActionType: &protos.OrchestratorAction_ScheduleTask{
		ScheduleTask: &protos.ScheduleTaskAction{Name: name},
	}}
}

func child(name, id string) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{OrchestratorActionType: &protos.OrchestratorAction_CreateSubOrchestration{
		CreateSubOrchestration: &protos.CreateSubOrchestrationAction{Name: name, InstanceId: id},
	}}
}

func sleep(d time.Duration) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{OrchestratorActionType: &protos.OrchestratorAction_CreateTimer{
		CreateTimer: &protos.CreateTimerAction{FireAt: timestamppb.New(time.Now().Add(d))},
	}}
}

func end(a *protos.CompleteOrchestrationAction) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{Id: 1 << 20, OrchestratorActionType: &protos.OrchestratorAction_CompleteOrchestration{
		CompleteOrchestration: a,
	}}
}

func complete(output string) *protos.OrchestratorAction {
	return end(&protos.CompleteOrchestrationAction{
		OrchestrationStatus: api.RUNTIME_STATUS_COMPLETED, Result: wrapperspb.String(output),
	})
}

func failed(f *protos.TaskFailureDetails) *protos.OrchestratorAction {
	return end(&protos.CompleteOrchestrationAction{OrchestrationStatus: api.RUNTIME_STATUS_FAILED, FailureDetails: f})
}

func failWith(kind, message string) *protos.OrchestratorAction {
	return failed(&protos.TaskFailureDetails{ErrorType: kind, ErrorMessage: message})
}

func (b *bench) startAs(t *testing.T, name, id string) {
	t.Helper()
	if _, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{
		Name: name, InstanceId: id, ScheduledStartTimestamp: timestamppb.New(time.Unix(0, 0)), // as JS does
	}); err != nil {
		t.Fatal(err)
	}
}

// finish waits until the instance is over and returns it.
func (b *bench) finish(t *testing.T, id string) *protos.OrchestrationState {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := b.client.WaitForInstanceCompletion(ctx, &protos.GetInstanceRequest{InstanceId: id, GetInputsAndOutputs: true})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetOrchestrationState()
}

func (b *bench) state(t *testing.T, id string) *protos.OrchestrationState {
	t.Helper()
	r, err := b.client.GetInstance(t.Context(), &protos.GetInstanceRequest{InstanceId: id, GetInputsAndOutputs: true})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetOrchestrationState()
}

// eventually polls a condition that another process decides.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("it never came true: %s", what)
		}
	}
}

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// history reads the stored events and names their types.
func (b *bench) history(t *testing.T, id string) (names []string, events []*protos.HistoryEvent) {
	t.Helper()
	stream, err := b.client.StreamInstanceHistory(t.Context(), &protos.StreamInstanceHistoryRequest{InstanceId: id})
	if err != nil {
		t.Fatal(err)
	}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return names, events
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range chunk.GetEvents() {
			events = append(events, e)
			kind := fmt.Sprintf("%T", e.GetEventType())
			names = append(names, kind[len("*protos.HistoryEvent_"):])
		}
	}
}
