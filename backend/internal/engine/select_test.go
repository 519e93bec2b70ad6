package engine_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/backend/internal/memstore"
)

// TestSelect hands out instances and tasks to those who take them, and what
// needs no worker to anybody.
func TestSelect(t *testing.T) {
	e := engine.New(memstore.New(), quiet{backend.DefaultLogger()}, engine.Options{})
	ctx := t.Context()
	if err := e.CreateTaskHub(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	begin := func(id, name, version string) {
		t.Helper()
		if err := e.CreateOrchestrationInstance(ctx, &backend.HistoryEvent{
			EventId: -1, Timestamp: timestamppb.Now(), EventType: &protos.HistoryEvent_ExecutionStarted{
				ExecutionStarted: &protos.ExecutionStartedEvent{
					Name: name, Version: wrapperspb.String(version),
					OrchestrationInstance: &protos.OrchestrationInstance{InstanceId: id, ExecutionId: wrapperspb.String(backend.NewExecutionID())},
				},
			},
		}); err != nil {
			t.Fatal(err)
		}
	}
	only := func(name, version string) func(string, string) bool {
		return func(n, v string) bool { return n == name && v == version }
	}
	nothing := func(string, string) bool { return false }

	begin("a1", "a", "1")
	begin("b1", "b", "1")
	begin("a2", "a", "2")
	for _, want := range []struct{ name, version, id string }{{"a", "2", "a2"}, {"b", "1", "b1"}, {"a", "1", "a1"}} {
		wi, err := e.SelectOrchestrationWorkItem(ctx, only(want.name, want.version))
		if err != nil || string(wi.InstanceID) != want.id {
			t.Fatalf("for %v it hands out %v, %v", want, wi, err)
		}
		if want.id == "a1" { // as if a worker had gone before it began: other than an abandoned item, it is ready at once
			if err := e.ReturnOrchestrationWorkItem(ctx, wi); err != nil {
				t.Fatal(err)
			}
			again, err := e.SelectOrchestrationWorkItem(ctx, only("a", "1"))
			if err != nil || again.RetryCount != 0 {
				t.Fatalf("a returned item: %v, %v", again, err)
			}
			complete(t, e, again, &protos.OrchestratorAction{Id: 1, OrchestratorActionType: &protos.OrchestratorAction_ScheduleTask{
				ScheduleTask: &protos.ScheduleTaskAction{Name: "act"},
			}})
		}
	}
	wi, err := e.SelectActivityWorkItem(ctx, only("act", "1"))
	if err != nil || wi.Info().Version != "1" {
		t.Fatalf("an activity without a version: %v, %v", wi, err)
	}

	// One who waits gets what comes later, if it is for him.
	got := make(chan *backend.OrchestrationWorkItem, 1)
	go func() {
		wi, _ := e.SelectOrchestrationWorkItem(ctx, only("late", ""))
		got <- wi
	}()
	begin("other", "other", "")
	begin("late", "late", "")
	if wi := <-got; wi == nil || wi.InstanceID != "late" {
		t.Errorf("it waits for late and gets %v", wi)
	}

	// A terminated instance is ended without one who hosts it.
	if err := e.AddNewOrchestrationEvent(ctx, "other", &backend.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(),
		EventType: &protos.HistoryEvent_ExecutionTerminated{ExecutionTerminated: &protos.ExecutionTerminatedEvent{}},
	}); err != nil {
		t.Fatal(err)
	}
	end, err := e.SelectOrchestrationWorkItem(ctx, nothing)
	if err != nil || end.InstanceID != "other" {
		t.Errorf("to one who takes nothing it hands out %v, %v", end, err)
	}

	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := e.SelectOrchestrationWorkItem(short, nothing); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled wait: %v", err)
	}
}

// complete stores a turn with the actions.
func complete(t *testing.T, e *engine.Engine, wi *backend.OrchestrationWorkItem, actions ...*protos.OrchestratorAction) {
	t.Helper()
	s := wi.State
	for _, ev := range wi.NewEvents {
		if err := s.AddEvent(ev); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.ApplyActions(actions, nil); err != nil {
		t.Fatal(err)
	}
	if err := e.CompleteOrchestrationWorkItem(t.Context(), wi); err != nil {
		t.Fatal(err)
	}
	if s.RuntimeStatus() != api.RUNTIME_STATUS_RUNNING {
		t.Errorf("after the turn it is %v", s.RuntimeStatus())
	}
}
