package backend

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// split takes bytes as a row of messages, each behind its length, and keeps those that are valid.
func split[T any, M interface {
	*T
	proto.Message
}](data []byte) []M {
	var all []M
	for len(data) > 0 {
		b, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return all
		}
		data = data[n:]
		m := M(new(T))
		if proto.Unmarshal(b, m) == nil {
			all = append(all, m)
		}
	}
	return all
}

func join[M proto.Message](f *testing.F, all ...M) []byte {
	f.Helper()
	var data []byte
	for _, m := range all {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		data = protowire.AppendBytes(data, b)
	}
	return data
}

// FuzzRuntimeState gives a state any history, any new events and any decisions:
// it refuses with typed errors what makes no sense, and answers every question after that.
func FuzzRuntimeState(f *testing.F) {
	at := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
	started := &HistoryEvent{EventId: -1, Timestamp: at, EventType: &protos.HistoryEvent_ExecutionStarted{
		ExecutionStarted: &protos.ExecutionStartedEvent{
			Name: "o", Input: wrapperspb.String("1"),
			OrchestrationInstance: &protos.OrchestrationInstance{InstanceId: "i", ExecutionId: wrapperspb.String("e")},
			ParentInstance:        &protos.ParentInstanceInfo{TaskScheduledId: 3, OrchestrationInstance: &protos.OrchestrationInstance{InstanceId: "p"}},
		},
	}}
	scheduled := &HistoryEvent{EventId: 1, Timestamp: at, EventType: &protos.HistoryEvent_TaskScheduled{
		TaskScheduled: &protos.TaskScheduledEvent{Name: "a"},
	}}
	done := &HistoryEvent{EventId: -1, Timestamp: at, EventType: &protos.HistoryEvent_TaskCompleted{
		TaskCompleted: &protos.TaskCompletedEvent{TaskScheduledId: 1},
	}}
	terminated := &HistoryEvent{EventId: -1, Timestamp: at, EventType: &protos.HistoryEvent_ExecutionTerminated{
		ExecutionTerminated: &protos.ExecutionTerminatedEvent{Recurse: true},
	}}
	actions := join(f,
		&protos.OrchestratorAction{Id: 2, OrchestratorActionType: &protos.OrchestratorAction_ScheduleTask{ScheduleTask: &protos.ScheduleTaskAction{Name: "b"}}},
		&protos.OrchestratorAction{Id: 3, OrchestratorActionType: &protos.OrchestratorAction_CreateTimer{CreateTimer: &protos.CreateTimerAction{FireAt: at}}},
		&protos.OrchestratorAction{Id: 4, OrchestratorActionType: &protos.OrchestratorAction_CreateSubOrchestration{CreateSubOrchestration: &protos.CreateSubOrchestrationAction{Name: "c"}}},
		&protos.OrchestratorAction{Id: 5, OrchestratorActionType: &protos.OrchestratorAction_SendEvent{SendEvent: &protos.SendEventAction{Name: "e"}}},
		&protos.OrchestratorAction{Id: 6, OrchestratorActionType: &protos.OrchestratorAction_TerminateOrchestration{TerminateOrchestration: &protos.TerminateOrchestrationAction{InstanceId: "x"}}},
		&protos.OrchestratorAction{Id: 7, OrchestratorActionType: &protos.OrchestratorAction_CompleteOrchestration{CompleteOrchestration: &protos.CompleteOrchestrationAction{
			OrchestrationStatus: api.RUNTIME_STATUS_CONTINUED_AS_NEW, CarryoverEvents: []*protos.HistoryEvent{done, terminated}}}},
	)
	f.Add(join(f, started, scheduled), join(f, done), actions)
	f.Add([]byte{}, join(f, started, started, terminated), actions)
	f.Add(join(f, scheduled), join(f, done, done), []byte{})
	f.Add([]byte{}, []byte{}, actions)
	f.Add([]byte{0, 0}, []byte{0}, []byte{0})
	f.Fuzz(func(t *testing.T, history, fresh, decisions []byte) {
		old := append(split[HistoryEvent](history), nil)
		s := NewOrchestrationRuntimeState("i", old)
		ask(t, s)
		for _, e := range append(split[HistoryEvent](fresh), nil) {
			if err := s.AddEvent(e); err != nil && !errors.Is(err, ErrDuplicateEvent) && !errors.Is(err, api.ErrInvalidInput) {
				t.Fatalf("add %v: %v", e, err)
			}
		}
		ask(t, s)
		all := split[protos.OrchestratorAction](decisions)
		for round := range 3 {
			again, err := s.ApplyActions(all, nil)
			if err != nil {
				if !errors.Is(err, ErrDuplicateEvent) && !errors.Is(err, api.ErrInvalidInput) {
					t.Fatalf("apply %v: %v", all, err)
				}
				break
			}
			ask(t, s)
			if again != (round >= 0 && s.ContinuedAsNew()) && again {
				t.Fatalf("continued as new, and says it did not")
			}
			if !again {
				break
			}
		}
		if len(s.PendingTasks()) > len(s.NewEvents()) {
			t.Fatalf("%d tasks of %d events", len(s.PendingTasks()), len(s.NewEvents()))
		}
		s.Commit()
		ask(t, s)
		if _, err := s.ApplyActions(append(all, nil), nil); err == nil {
			t.Fatal("a nil action was accepted")
		}
	})
}

// ask calls everything that only reads.
func ask(t *testing.T, s *OrchestrationRuntimeState) {
	t.Helper()
	_, startErr := s.Name()
	for _, err := range []error{second(s.Input()), second(s.CreatedTime()), second(s.LastUpdatedTime())} {
		if (err == nil) != (startErr == nil) || (err != nil && !errors.Is(err, api.ErrNotStarted)) {
			t.Fatalf("started: %v, and then %v", startErr, err)
		}
	}
	if _, err := s.Output(); (err == nil) != s.IsCompleted() {
		t.Fatalf("completed: %v, output: %v", s.IsCompleted(), err)
	}
	_, _ = s.CompletedTime()
	_, _ = s.FailureDetails()
	open := 0
	s.OpenTasks(func(*HistoryEvent) { open++ })
	if open != s.OpenTaskCount() {
		t.Fatalf("%d open tasks, and the count says %d", open, s.OpenTaskCount())
	}
	s.OpenTimers(func(e *HistoryEvent) { NewTimerFired(e, time.Now()) })
	for _, m := range s.PendingMessages() {
		if m.HistoryEvent == nil {
			t.Fatal("a message without an event")
		}
	}
	_, _, _ = s.String(), s.RuntimeStatus(), s.IsValid()
	_, _, _, _ = s.ExecutionID(), s.StartEvent(), s.CompletionEvent(), s.InstanceID()
}

func second[T any](_ T, err error) error { return err }
