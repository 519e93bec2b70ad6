package task_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// host runs the turns of one instance. Each turn runs twice, resident and as a
// replay of the whole history, and both must answer the same.
type host struct {
	tb    testing.TB
	exec  backend.Executor
	state *backend.OrchestrationRuntimeState
	now   time.Time
	// residentOnly skips the replay, for code that counts what it does.
	residentOnly bool
}

func newHost(tb testing.TB, o task.Orchestrator) *host {
	tb.Helper()
	h := &host{tb: tb, now: epoch, state: backend.NewOrchestrationRuntimeState("inst", nil)}
	h.code(o)
	tb.Cleanup(func() { h.state.Release() })
	return h
}

// code makes the host run another orchestrator from now on, as after a restart.
func (h *host) code(o task.Orchestrator) {
	h.tb.Helper()
	r := task.NewTaskRegistry()
	if err := r.AddOrchestratorN("o", o); err != nil {
		h.tb.Fatal(err)
	}
	h.exec = task.NewTaskExecutor(r)
	h.state.Release()
}

func (h *host) start(input string, more ...*protos.HistoryEvent) []*protos.OrchestratorAction {
	h.tb.Helper()
	return h.turn(append([]*protos.HistoryEvent{startEvent("o", input)}, more...)...)
}

// turn runs a turn at the host's time and records what it wants done.
func (h *host) turn(events ...*protos.HistoryEvent) []*protos.OrchestratorAction {
	h.tb.Helper()
	return h.respond(events...).GetActions()
}

func (h *host) respond(events ...*protos.HistoryEvent) *protos.OrchestratorResponse {
	h.tb.Helper()
	h.add(turnStarted(h.now))
	for _, e := range events {
		h.add(e)
	}
	results, err := h.exec.(backend.TurnExecutor).ExecuteTurn(context.Background(), h.state)
	if err != nil {
		h.tb.Fatal(err)
	}
	if !h.residentOnly {
		replay, err := h.exec.ExecuteOrchestrator(
			context.Background(), h.state.InstanceID(), h.state.OldEvents(), h.state.NewEvents())
		if err != nil {
			h.tb.Fatal(err)
		}
		if diff := cmp.Diff(results.Response, replay.Response, protocmp.Transform(),
			protocmp.IgnoreFields(&protos.TaskFailureDetails{}, "stackTrace")); diff != "" {
			h.tb.Fatalf("resident and replay differ (-resident +replay):\n%s", diff)
		}
	}
	if _, err := h.state.ApplyActions(proto.CloneOf(results.Response).GetActions(), nil); err != nil {
		h.tb.Fatal(err)
	}
	h.state.Commit()
	return results.Response
}

func (h *host) add(e *protos.HistoryEvent) {
	h.tb.Helper()
	if err := h.state.AddEvent(e); err != nil {
		h.tb.Logf("dropped: %v", err) // the engine drops late results too
	}
}

// completion is the one action of a turn that ends the orchestration.
func completion(tb testing.TB, actions []*protos.OrchestratorAction) *protos.CompleteOrchestrationAction {
	tb.Helper()
	if len(actions) == 0 || actions[len(actions)-1].GetCompleteOrchestration() == nil {
		tb.Fatalf("not completed: %v", actions)
	}
	return actions[len(actions)-1].GetCompleteOrchestration()
}

func wantOutput(tb testing.TB, actions []*protos.OrchestratorAction, want string) {
	tb.Helper()
	c := completion(tb, actions)
	if c.GetOrchestrationStatus() != api.RUNTIME_STATUS_COMPLETED || c.GetResult().GetValue() != want {
		tb.Fatalf("got %v, want output %s", c, want)
	}
}

func wantFailed(tb testing.TB, actions []*protos.OrchestratorAction, errorType string) *protos.TaskFailureDetails {
	tb.Helper()
	c := completion(tb, actions)
	if c.GetOrchestrationStatus() != api.RUNTIME_STATUS_FAILED || c.GetFailureDetails().GetErrorType() != errorType {
		tb.Fatalf("got %v, want a failure of type %s", c, errorType)
	}
	return c.GetFailureDetails()
}

func wantActions(tb testing.TB, actions []*protos.OrchestratorAction, want ...string) {
	tb.Helper()
	got := []string{}
	for _, a := range actions {
		got = append(got, brief(a))
	}
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		tb.Fatalf("actions (-want +got):\n%s", diff)
	}
}

func brief(a *protos.OrchestratorAction) string {
	switch {
	case a.GetScheduleTask() != nil:
		return "task " + a.GetScheduleTask().GetName()
	case a.GetCreateSubOrchestration() != nil:
		return "child " + a.GetCreateSubOrchestration().GetName()
	case a.GetCreateTimer() != nil:
		return "timer " + a.GetCreateTimer().GetFireAt().AsTime().Sub(epoch).String()
	case a.GetSendEvent() != nil:
		return "send " + a.GetSendEvent().GetName()
	}
	return api.StatusName(a.GetCompleteOrchestration().GetOrchestrationStatus())
}

func turnStarted(t time.Time) *protos.HistoryEvent {
	return &protos.HistoryEvent{EventId: -1, Timestamp: timestamppb.New(t), EventType: &protos.HistoryEvent_OrchestratorStarted{
		OrchestratorStarted: &protos.OrchestratorStartedEvent{},
	}}
}

func text(s string) *wrapperspb.StringValue {
	if s == "" {
		return nil
	}
	return wrapperspb.String(s)
}

func startEvent(name, input string) *protos.HistoryEvent {
	return &protos.HistoryEvent{EventId: -1, Timestamp: timestamppb.New(epoch.Add(-time.Second)), EventType: &protos.HistoryEvent_ExecutionStarted{
		ExecutionStarted: &protos.ExecutionStartedEvent{
			Name: name, Input: text(input), Version: text("v1"), Tags: map[string]string{"k": "v"},
			OrchestrationInstance: &protos.OrchestrationInstance{InstanceId: "inst", ExecutionId: text("exec")},
			ParentInstance: &protos.ParentInstanceInfo{
				OrchestrationInstance: &protos.OrchestrationInstance{InstanceId: "parent"},
			},
		},
	}}
}

func raised(name, payload string) *protos.HistoryEvent {
	return &protos.HistoryEvent{EventId: -1, EventType: &protos.HistoryEvent_EventRaised{
		EventRaised: &protos.EventRaisedEvent{Name: name, Input: text(payload)},
	}}
}

func taskDone(id int32, result string) *protos.HistoryEvent {
	return &protos.HistoryEvent{EventId: -1, EventType: &protos.HistoryEvent_TaskCompleted{
		TaskCompleted: &protos.TaskCompletedEvent{TaskScheduledId: id, Result: text(result)},
	}}
}

func taskFailed(id int32, d *protos.TaskFailureDetails) *protos.HistoryEvent {
	return &protos.HistoryEvent{EventId: -1, EventType: &protos.HistoryEvent_TaskFailed{
		TaskFailed: &protos.TaskFailedEvent{TaskScheduledId: id, FailureDetails: d},
	}}
}

func boom() *protos.TaskFailureDetails {
	return &protos.TaskFailureDetails{ErrorType: "E", ErrorMessage: "boom"}
}

func childDone(id int32, result string) *protos.HistoryEvent {
	return &protos.HistoryEvent{EventId: -1, EventType: &protos.HistoryEvent_SubOrchestrationInstanceCompleted{
		SubOrchestrationInstanceCompleted: &protos.SubOrchestrationInstanceCompletedEvent{TaskScheduledId: id, Result: text(result)},
	}}
}

func childFailed(id int32, d *protos.TaskFailureDetails) *protos.HistoryEvent {
	return &protos.HistoryEvent{EventId: -1, EventType: &protos.HistoryEvent_SubOrchestrationInstanceFailed{
		SubOrchestrationInstanceFailed: &protos.SubOrchestrationInstanceFailedEvent{TaskScheduledId: id, FailureDetails: d},
	}}
}

func fired(id int32) *protos.HistoryEvent {
	return &protos.HistoryEvent{EventId: -1, EventType: &protos.HistoryEvent_TimerFired{
		TimerFired: &protos.TimerFiredEvent{TimerId: id},
	}}
}

func suspended() *protos.HistoryEvent {
	return &protos.HistoryEvent{EventId: -1, EventType: &protos.HistoryEvent_ExecutionSuspended{
		ExecutionSuspended: &protos.ExecutionSuspendedEvent{},
	}}
}

func resumed() *protos.HistoryEvent {
	return &protos.HistoryEvent{EventId: -1, EventType: &protos.HistoryEvent_ExecutionResumed{
		ExecutionResumed: &protos.ExecutionResumedEvent{},
	}}
}

func terminated(output string) *protos.HistoryEvent {
	return &protos.HistoryEvent{EventId: -1, EventType: &protos.HistoryEvent_ExecutionTerminated{
		ExecutionTerminated: &protos.ExecutionTerminatedEvent{Input: text(output)},
	}}
}
