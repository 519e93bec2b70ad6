package backendtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// desk is a backend without workers: a test takes each work item by hand.
type desk struct {
	t     *testing.T
	hub   Hub
	be    backend.Backend
	turns map[api.InstanceID]*backend.OrchestrationWorkItem // taken, and not looked at yet
}

func openDesk(t *testing.T, hub Hub, s Settings) *desk {
	t.Helper()
	s.Logger = hub.log
	be := hub.Open(s)
	if err := be.CreateTaskHub(t.Context()); err != nil && !errors.Is(err, backend.ErrTaskHubExists) {
		t.Fatal(err)
	}
	d := &desk{t: t, hub: hub, be: be, turns: map[api.InstanceID]*backend.OrchestrationWorkItem{}}
	must(t, be.Start(t.Context()))
	t.Cleanup(d.close)
	return d
}

func newDesk(t *testing.T, hubs NewHub) *desk {
	t.Helper()
	return openDesk(t, hubs(t), Settings{})
}

func (d *desk) close() {
	if d.be == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := d.be.Stop(ctx); err != nil {
		d.t.Error(err)
	}
	d.be = nil
}

// reopen stops the backend and opens the hub as another process would.
func (d *desk) reopen() {
	d.t.Helper()
	d.close()
	*d = *openDesk(d.t, d.hub, Settings{})
}

// optional returns the backend as one of the optional interfaces, or skips the test.
func optional[T any](d *desk) T { return as[T](d.t, d.be) }

func as[T any](t testing.TB, be backend.Backend) T {
	t.Helper()
	v, ok := be.(T)
	if !ok {
		t.Skipf("the backend has no %v", reflect.TypeFor[T]())
	}
	return v
}

func (d *desk) ctx() context.Context { return d.t.Context() }

func event() *backend.HistoryEvent {
	return &backend.HistoryEvent{EventId: -1, Timestamp: timestamppb.Now()}
}

func startEvent(id api.InstanceID, name string) *backend.HistoryEvent {
	e := event()
	e.EventType = &protos.HistoryEvent_ExecutionStarted{ExecutionStarted: &protos.ExecutionStartedEvent{
		Name: name, Input: wrapperspb.String(fmt.Sprintf("%q", "input of "+string(id))),
		OrchestrationInstance: &protos.OrchestrationInstance{
			InstanceId: string(id), ExecutionId: wrapperspb.String(backend.NewExecutionID()),
		},
	}}
	return e
}

func raised(name, data string) *backend.HistoryEvent {
	e := event()
	e.EventType = &protos.HistoryEvent_EventRaised{
		EventRaised: &protos.EventRaisedEvent{Name: name, Input: wrapperspb.String(data)},
	}
	return e
}

func (d *desk) start(id api.InstanceID) {
	d.t.Helper()
	must(d.t, d.be.CreateOrchestrationInstance(d.ctx(), startEvent(id, "o")))
}

func (d *desk) raise(id api.InstanceID, name, data string) {
	d.t.Helper()
	must(d.t, d.be.AddNewOrchestrationEvent(d.ctx(), id, raised(name, data)))
}

// turn takes the next turn of the instance, with its state.
func (d *desk) turn(id api.InstanceID) *backend.OrchestrationWorkItem {
	d.t.Helper()
	eventually(d.t, patience, fmt.Sprintf("a turn of %s", id), func() bool { return d.takeTurn() == nil && d.turns[id] != nil })
	wi := d.turns[id]
	if wi == nil {
		d.t.FailNow()
	}
	delete(d.turns, id)
	if wi.State == nil {
		s, err := d.be.GetOrchestrationRuntimeState(d.ctx(), wi)
		must(d.t, err)
		wi.State = s
	}
	return wi
}

// takeTurn takes what there is, for turn to look at.
func (d *desk) takeTurn() error {
	d.t.Helper()
	for {
		wi, err := d.be.GetOrchestrationWorkItem(d.ctx())
		switch {
		case errors.Is(err, backend.ErrNoWorkItems):
			return nil
		case err != nil:
			d.t.Fatal(err)
		case d.turns[wi.InstanceID] != nil:
			d.t.Fatalf("two turns of %s at a time", wi.InstanceID)
		}
		d.turns[wi.InstanceID] = wi
	}
}

// noTurn wants that no instance has a turn now.
func (d *desk) noTurn() {
	d.t.Helper()
	if wi, err := d.be.GetOrchestrationWorkItem(d.ctx()); !errors.Is(err, backend.ErrNoWorkItems) {
		d.t.Fatalf("a turn where none is due: %v %v", wi, err)
	}
}

// apply adds the messages and the decisions to the state of a turn.
func (d *desk) apply(wi *backend.OrchestrationWorkItem, actions ...*protos.OrchestratorAction) {
	d.t.Helper()
	begin := event()
	begin.EventType = &protos.HistoryEvent_OrchestratorStarted{OrchestratorStarted: &protos.OrchestratorStartedEvent{}}
	must(d.t, wi.State.AddEvent(begin))
	for _, e := range wi.NewEvents {
		must(d.t, wi.State.AddEvent(e))
	}
	_, err := wi.State.ApplyActions(actions, nil)
	must(d.t, err)
}

func (d *desk) complete(wi *backend.OrchestrationWorkItem, actions ...*protos.OrchestratorAction) {
	d.t.Helper()
	d.apply(wi, actions...)
	must(d.t, d.be.CompleteOrchestrationWorkItem(d.ctx(), wi))
}

// task takes the next activity.
func (d *desk) task() *backend.ActivityWorkItem {
	d.t.Helper()
	var wi *backend.ActivityWorkItem
	eventually(d.t, patience, "an activity", func() bool {
		var err error
		wi, err = d.be.GetActivityWorkItem(d.ctx())
		if err != nil && !errors.Is(err, backend.ErrNoWorkItems) {
			d.t.Fatal(err)
		}
		return err == nil
	})
	if wi == nil {
		d.t.FailNow()
	}
	return wi
}

func (d *desk) noTask() {
	d.t.Helper()
	if wi, err := d.be.GetActivityWorkItem(d.ctx()); !errors.Is(err, backend.ErrNoWorkItems) {
		d.t.Fatalf("an activity where none is open: %v %v", wi, err)
	}
}

func (d *desk) result(wi *backend.ActivityWorkItem, data string) error {
	wi.Result = event()
	wi.Result.EventType = &protos.HistoryEvent_TaskCompleted{TaskCompleted: &protos.TaskCompletedEvent{
		TaskScheduledId: wi.NewEvent.GetEventId(), Result: wrapperspb.String(data),
	}}
	return d.be.CompleteActivityWorkItem(d.ctx(), wi)
}

func (d *desk) metadata(id api.InstanceID) *api.OrchestrationMetadata {
	d.t.Helper()
	m, err := d.be.GetOrchestrationMetadata(d.ctx(), id)
	must(d.t, err)
	return m
}

func (d *desk) wantStatus(id api.InstanceID, want protos.OrchestrationStatus) *api.OrchestrationMetadata {
	d.t.Helper()
	m := d.metadata(id)
	if m.RuntimeStatus != want {
		d.t.Errorf("%s is %s, want %s", id, api.StatusName(m.RuntimeStatus), api.StatusName(want))
	}
	return m
}

func (d *desk) wantErr(what string, err, want error) {
	d.t.Helper()
	if !errors.Is(err, want) {
		d.t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// kinds names the events, such as "ExecutionStarted".
func kinds(events []*backend.HistoryEvent) []string {
	names := make([]string, len(events))
	for n, e := range events {
		names[n] = kindOf(e)
	}
	return names
}

func kindOf(e *backend.HistoryEvent) string {
	m := e.ProtoReflect()
	f := m.WhichOneof(m.Descriptor().Oneofs().ByName("eventType"))
	if f == nil {
		return "none"
	}
	return string(f.Message().Name())
}

// The decisions of a turn.

func callTask(id int32, name string) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{Id: id, OrchestratorActionType: &protos.OrchestratorAction_ScheduleTask{
		ScheduleTask: &protos.ScheduleTaskAction{Name: name, Input: wrapperspb.String(fmt.Sprint(id))},
	}}
}

func setTimer(id int32, at time.Time) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{Id: id, OrchestratorActionType: &protos.OrchestratorAction_CreateTimer{
		CreateTimer: &protos.CreateTimerAction{FireAt: timestamppb.New(at)},
	}}
}

func callChild(id int32, child api.InstanceID) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{Id: id, OrchestratorActionType: &protos.OrchestratorAction_CreateSubOrchestration{
		CreateSubOrchestration: &protos.CreateSubOrchestrationAction{InstanceId: string(child), Name: "child"},
	}}
}

func sendEvent(id int32, to api.InstanceID, data string) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{Id: id, OrchestratorActionType: &protos.OrchestratorAction_SendEvent{
		SendEvent: &protos.SendEventAction{
			Instance: &protos.OrchestrationInstance{InstanceId: string(to)}, Name: "sent", Data: wrapperspb.String(data),
		},
	}}
}

func end(id int32, status protos.OrchestrationStatus, output string) *protos.OrchestratorAction {
	c := &protos.CompleteOrchestrationAction{OrchestrationStatus: status, Result: wrapperspb.String(output)}
	if status == api.RUNTIME_STATUS_FAILED {
		c.Result = nil
		c.FailureDetails = &protos.TaskFailureDetails{
			ErrorType: "Broken", ErrorMessage: output, StackTrace: wrapperspb.String("line 1"),
			InnerFailure: &protos.TaskFailureDetails{ErrorType: "Cause", ErrorMessage: "inner"},
		}
	}
	return &protos.OrchestratorAction{Id: id, OrchestratorActionType: &protos.OrchestratorAction_CompleteOrchestration{
		CompleteOrchestration: c,
	}}
}

func taskFailed(id int32, why string) *backend.HistoryEvent {
	e := event()
	e.EventType = &protos.HistoryEvent_TaskFailed{TaskFailed: &protos.TaskFailedEvent{
		TaskScheduledId: id, FailureDetails: &protos.TaskFailureDetails{ErrorType: "T", ErrorMessage: why},
	}}
	return e
}
