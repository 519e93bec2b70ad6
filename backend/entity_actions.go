package backend

import (
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// NewOrchestratorMessage is an event for an instance; execution is "" for whichever is current.
func NewOrchestratorMessage(target, execution string, e *HistoryEvent) OrchestratorMessage {
	return OrchestratorMessage{HistoryEvent: e, TargetInstanceID: target, targetExecution: execution}
}

// applyEntityMessage records a message to an entity and sends it.
func (s *OrchestrationRuntimeState) applyEntityMessage(
	id int32, a *protos.SendEntityMessageAction, ts *timestamppb.Timestamp,
) error {
	switch t := a.GetEntityMessageType().(type) {
	case *protos.SendEntityMessageAction_EntityOperationSignaled:
		return s.applySignal(id, t.EntityOperationSignaled, ts)
	case *protos.SendEntityMessageAction_EntityOperationCalled:
		return s.applyCall(id, t.EntityOperationCalled, ts)
	case *protos.SendEntityMessageAction_EntityLockRequested:
		return s.applyLock(id, t.EntityLockRequested, ts)
	case *protos.SendEntityMessageAction_EntityUnlockSent:
		u := t.EntityUnlockSent
		target := normalEntityID(u.GetTargetInstanceId().GetValue())
		if err := s.AddEvent(&HistoryEvent{
			EventId: id, Timestamp: ts, EventType: &protos.HistoryEvent_EntityUnlockSent{EntityUnlockSent: u},
		}); err != nil {
			return err
		}
		s.send(target, "", NewEntityUnlock(u.GetCriticalSectionId(), string(s.instanceID), target, ts))
		return nil
	}
	return fmt.Errorf("%w %T", ErrUnknownAction, a.GetEntityMessageType())
}

func (s *OrchestrationRuntimeState) applySignal(
	id int32, a *protos.EntityOperationSignaledEvent, ts *timestamppb.Timestamp,
) error {
	target, err := api.EntityIDFromString(a.GetTargetInstanceId().GetValue())
	if err != nil {
		return err
	}
	if at := a.GetScheduledTime(); at != nil {
		if err := at.CheckValid(); err != nil {
			return fmt.Errorf("%w: scheduled time: %w", api.ErrInvalidInput, err)
		}
	}
	s.send(target.String(), "", &HistoryEvent{
		EventId: -1, Timestamp: ts, EventType: &protos.HistoryEvent_EntityOperationSignaled{EntityOperationSignaled: a},
	})
	return s.AddEvent(&HistoryEvent{
		EventId: id, Timestamp: ts, EventType: &protos.HistoryEvent_EntityOperationSignaled{EntityOperationSignaled: a},
	})
}

// applyCall sends a call; one with an id that no entity can have fails at once.
func (s *OrchestrationRuntimeState) applyCall(
	id int32, a *protos.EntityOperationCalledEvent, ts *timestamppb.Timestamp,
) error {
	if _, open := s.entities.calls[a.GetRequestId()]; open || a.GetRequestId() == "" {
		return fmt.Errorf("%w: request id %q of an entity call is empty or in use", api.ErrInvalidInput, a.GetRequestId())
	}
	call := &protos.EntityOperationCalledEvent{
		RequestId: a.GetRequestId(), Operation: a.GetOperation(), ScheduledTime: a.GetScheduledTime(), Input: a.GetInput(),
		TargetInstanceId: a.GetTargetInstanceId(),
		ParentInstanceId: wrapperspb.String(string(s.instanceID)), ParentExecutionId: wrapperspb.String(s.ExecutionID()),
	}
	if err := s.AddEvent(&HistoryEvent{
		EventId: id, Timestamp: ts, EventType: &protos.HistoryEvent_EntityOperationCalled{EntityOperationCalled: call},
	}); err != nil {
		return err
	}
	target, err := api.EntityIDFromString(a.GetTargetInstanceId().GetValue())
	if err == nil && a.GetScheduledTime() != nil {
		err = a.GetScheduledTime().CheckValid()
	}
	if err != nil {
		s.send(string(s.instanceID), s.ExecutionID(), newOperationFailed(a.GetRequestId(), &protos.TaskFailureDetails{
			ErrorType: "InvalidEntityCall", ErrorMessage: err.Error(), IsNonRetriable: true,
		}, ts))
		return nil //nolint:nilerr // the caller in the orchestrator is told
	}
	s.send(target.String(), "", &HistoryEvent{
		EventId: -1, Timestamp: ts, EventType: &protos.HistoryEvent_EntityOperationCalled{EntityOperationCalled: call},
	})
	return nil
}

// applyLock sends a lock request to the first entity of the set. History has
// the request as the worker wrote it; what travels has the set in the order of locking.
func (s *OrchestrationRuntimeState) applyLock(
	id int32, a *protos.EntityLockRequestedEvent, ts *timestamppb.Timestamp,
) error {
	section := a.GetCriticalSectionId()
	if section == "" || s.entities.sections[section] != nil || len(a.GetLockSet()) == 0 {
		return fmt.Errorf("%w: lock request %q: its id is empty or in use, or its set is empty", api.ErrInvalidInput, section)
	}
	for _, id := range a.GetLockSet() {
		if _, err := api.EntityIDFromString(id); err != nil {
			return err
		}
	}
	set := lockOrder(a.GetLockSet())
	s.send(set[0], "", NewEntityLockRequest(section, string(s.instanceID), set, 0, ts))
	return s.AddEvent(&HistoryEvent{
		EventId: id, Timestamp: ts, EventType: &protos.HistoryEvent_EntityLockRequested{EntityLockRequested: a},
	})
}

// NewEntityLockRequest is the request for a critical section on its way to the set's entity at position.
func NewEntityLockRequest(section, owner string, set []string, position int, ts *timestamppb.Timestamp) *HistoryEvent {
	return &HistoryEvent{
		EventId: -1, Timestamp: ts,
		EventType: &protos.HistoryEvent_EntityLockRequested{EntityLockRequested: &protos.EntityLockRequestedEvent{
			CriticalSectionId: section, LockSet: set, Position: int32(position), ParentInstanceId: wrapperspb.String(owner),
		}},
	}
}

// NewEntityLockGranted tells an orchestration that its critical section may begin.
func NewEntityLockGranted(section string, ts *timestamppb.Timestamp) *HistoryEvent {
	return &HistoryEvent{
		EventId: -1, Timestamp: ts,
		EventType: &protos.HistoryEvent_EntityLockGranted{EntityLockGranted: &protos.EntityLockGrantedEvent{CriticalSectionId: section}},
	}
}

// releaseLocks gives back what this execution has locked, as it ends.
func (s *OrchestrationRuntimeState) releaseLocks(ts *timestamppb.Timestamp) {
	s.entities.release(s.instanceID, ts, func(target string, e *HistoryEvent) { s.send(target, "", e) })
}

// forgetTurn drops what the turn wanted done, so that it can end in another way.
func (s *OrchestrationRuntimeState) forgetTurn() {
	s.pendingTasks, s.pendingTimers, s.pendingMessages = nil, nil, s.pendingMessages[:s.carried]
	s.entities = entityLedger{}
	for _, e := range s.oldEvents {
		_ = s.entities.accept(e)
	}
	for _, e := range s.newEvents {
		if e.GetEventId() == -1 { // what came in, not what the turn decided
			_ = s.entities.accept(e)
		}
	}
}
