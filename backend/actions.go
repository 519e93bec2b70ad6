package backend

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// ErrUnknownAction says that a worker returned an action that this version does not know.
var ErrUnknownAction = fmt.Errorf("%w: unknown action type", api.ErrInvalidInput)

// ApplyActions adds what a turn decided to the state, in order; the completion
// takes effect after all others and only the first one counts. It reports
// whether the orchestration continued as new: the state is then that of the new
// execution, and is to be executed again. On an error the state must be dropped.
func (s *OrchestrationRuntimeState) ApplyActions(
	actions []*protos.OrchestratorAction, currentTraceContext *protos.TraceContext,
) (bool, error) {
	return s.applyActions(actions, currentTraceContext, time.Now())
}

func (s *OrchestrationRuntimeState) applyActions(
	actions []*protos.OrchestratorAction, tc *protos.TraceContext, now time.Time,
) (bool, error) {
	ts := timestamppb.New(now)
	var completion *protos.OrchestratorAction
	for _, a := range actions {
		var err error
		switch t := a.GetOrchestratorActionType().(type) {
		case *protos.OrchestratorAction_CompleteOrchestration:
			if completion == nil {
				completion = a
			}
		case *protos.OrchestratorAction_CreateTimer:
			err = s.applyTimer(a.GetId(), t.CreateTimer, ts)
		case *protos.OrchestratorAction_ScheduleTask:
			err = s.applyTask(a.GetId(), t.ScheduleTask, tc, ts)
		case *protos.OrchestratorAction_CreateSubOrchestration:
			err = s.applyChild(a.GetId(), t.CreateSubOrchestration, tc, ts)
		case *protos.OrchestratorAction_SendEvent:
			err = s.applySend(a.GetId(), t.SendEvent, ts)
		case *protos.OrchestratorAction_SendEntityMessage:
			err = s.applyEntityMessage(a.GetId(), t.SendEntityMessage, ts)
		case *protos.OrchestratorAction_TerminateOrchestration:
			s.send(t.TerminateOrchestration.GetInstanceId(), "", &HistoryEvent{
				EventId: -1, Timestamp: ts,
				EventType: &protos.HistoryEvent_ExecutionTerminated{ExecutionTerminated: &protos.ExecutionTerminatedEvent{
					Input: t.TerminateOrchestration.GetReason(), Recurse: t.TerminateOrchestration.GetRecurse(),
				}},
			})
		default:
			err = fmt.Errorf("%w %T", ErrUnknownAction, a.GetOrchestratorActionType())
		}
		if err != nil {
			return false, fmt.Errorf("apply action %d of %s: %w", a.GetId(), s.instanceID, err)
		}
	}
	if completion == nil {
		return false, nil
	}
	c := completion.GetCompleteOrchestration()
	if c.GetOrchestrationStatus() == api.RUNTIME_STATUS_CONTINUED_AS_NEW {
		return true, s.continueAsNew(c, ts)
	}
	return false, s.complete(completion.GetId(), c, ts)
}

func (s *OrchestrationRuntimeState) applyTimer(id int32, a *protos.CreateTimerAction, ts *timestamppb.Timestamp) error {
	if err := a.GetFireAt().CheckValid(); err != nil {
		return fmt.Errorf("%w: timer: %w", api.ErrInvalidInput, err)
	}
	s.pendingTimers = append(s.pendingTimers, newTimerFired(id, a.GetFireAt(), a.GetFireAt()))
	return s.AddEvent(&HistoryEvent{
		EventId: id, Timestamp: ts,
		EventType: &protos.HistoryEvent_TimerCreated{TimerCreated: &protos.TimerCreatedEvent{FireAt: a.GetFireAt()}},
	})
}

func newTimerFired(id int32, fireAt, at *timestamppb.Timestamp) *HistoryEvent {
	return &HistoryEvent{
		EventId: -1, Timestamp: at,
		EventType: &protos.HistoryEvent_TimerFired{TimerFired: &protos.TimerFiredEvent{FireAt: fireAt, TimerId: id}},
	}
}

// NewTimerFired is the event that fires an open timer, from its TimerCreated event.
func NewTimerFired(created *HistoryEvent, now time.Time) *HistoryEvent {
	return newTimerFired(created.GetEventId(), created.GetTimerCreated().GetFireAt(), timestamppb.New(now))
}

func (s *OrchestrationRuntimeState) applyTask(
	id int32, a *protos.ScheduleTaskAction, tc *protos.TraceContext, ts *timestamppb.Timestamp,
) error {
	if a.GetParentTraceContext() != nil {
		tc = a.GetParentTraceContext()
	}
	e := &HistoryEvent{
		EventId: id, Timestamp: ts,
		EventType: &protos.HistoryEvent_TaskScheduled{TaskScheduled: &protos.TaskScheduledEvent{
			Name: a.GetName(), Version: a.GetVersion(), Input: a.GetInput(), ParentTraceContext: tc, Tags: a.GetTags(),
		}},
	}
	s.pendingTasks = append(s.pendingTasks, e)
	return s.AddEvent(e)
}

func (s *OrchestrationRuntimeState) applyChild(
	id int32, a *protos.CreateSubOrchestrationAction, tc *protos.TraceContext, ts *timestamppb.Timestamp,
) error {
	if a.GetParentTraceContext() != nil {
		tc = a.GetParentTraceContext()
	}
	childID := a.GetInstanceId()
	if childID == "" {
		childID = fmt.Sprintf("%s:%04x", s.ExecutionID(), id)
	}
	if err := s.AddEvent(&HistoryEvent{
		EventId: id, Timestamp: ts,
		EventType: &protos.HistoryEvent_SubOrchestrationInstanceCreated{
			SubOrchestrationInstanceCreated: &protos.SubOrchestrationInstanceCreatedEvent{
				InstanceId: childID, Name: a.GetName(), Version: a.GetVersion(), Input: a.GetInput(),
				ParentTraceContext: tc, Tags: a.GetTags(),
			},
		},
	}); err != nil {
		return err
	}
	start := s.started.GetExecutionStarted()
	s.send(childID, "", &HistoryEvent{
		EventId: -1, Timestamp: ts,
		EventType: &protos.HistoryEvent_ExecutionStarted{ExecutionStarted: &protos.ExecutionStartedEvent{
			Name: a.GetName(), Version: a.GetVersion(), Input: a.GetInput(), Tags: a.GetTags(), ParentTraceContext: tc,
			OrchestrationInstance: &protos.OrchestrationInstance{
				InstanceId: childID, ExecutionId: wrapperspb.String(NewExecutionID()),
			},
			ParentInstance: &protos.ParentInstanceInfo{
				TaskScheduledId: id, Name: wrapperspb.String(start.GetName()), Version: start.GetVersion(),
				OrchestrationInstance: &protos.OrchestrationInstance{
					InstanceId: string(s.instanceID), ExecutionId: wrapperspb.String(s.ExecutionID()),
				},
			},
		}},
	})
	return nil
}

func (s *OrchestrationRuntimeState) applySend(id int32, a *protos.SendEventAction, ts *timestamppb.Timestamp) error {
	target := a.GetInstance().GetInstanceId()
	if api.IsEntityID(api.InstanceID(target)) {
		s.sendLegacy(target, a.GetName(), a.GetData(), ts)
	} else {
		s.send(target, "", &HistoryEvent{
			EventId: -1, Timestamp: ts,
			EventType: &protos.HistoryEvent_EventRaised{EventRaised: &protos.EventRaisedEvent{Name: a.GetName(), Input: a.GetData()}},
		})
	}
	return s.AddEvent(&HistoryEvent{
		EventId: id, Timestamp: ts,
		EventType: &protos.HistoryEvent_EventSent{EventSent: &protos.EventSentEvent{
			InstanceId: target, Name: a.GetName(), Input: a.GetData(),
		}},
	})
}

func (s *OrchestrationRuntimeState) send(target, execution string, e *HistoryEvent) {
	s.pendingMessages = append(s.pendingMessages,
		OrchestratorMessage{HistoryEvent: e, TargetInstanceID: target, targetExecution: execution})
}

func (s *OrchestrationRuntimeState) complete(
	id int32, c *protos.CompleteOrchestrationAction, ts *timestamppb.Timestamp,
) error {
	if err := s.AddEvent(&HistoryEvent{
		EventId: id, Timestamp: ts,
		EventType: &protos.HistoryEvent_ExecutionCompleted{ExecutionCompleted: &protos.ExecutionCompletedEvent{
			OrchestrationStatus: c.GetOrchestrationStatus(), Result: c.GetResult(), FailureDetails: c.GetFailureDetails(),
		}},
	}); err != nil {
		return err
	}
	s.releaseLocks(ts)
	parent := s.started.GetExecutionStarted().GetParentInstance()
	if parent == nil {
		return nil
	}
	s.send(parent.GetOrchestrationInstance().GetInstanceId(), parent.GetOrchestrationInstance().GetExecutionId().GetValue(),
		childResult(parent.GetTaskScheduledId(), c, ts))
	return nil
}

func childResult(taskID int32, c *protos.CompleteOrchestrationAction, ts *timestamppb.Timestamp) *HistoryEvent {
	if c.GetOrchestrationStatus() == api.RUNTIME_STATUS_COMPLETED {
		return &HistoryEvent{
			EventId: -1, Timestamp: ts,
			EventType: &protos.HistoryEvent_SubOrchestrationInstanceCompleted{
				SubOrchestrationInstanceCompleted: &protos.SubOrchestrationInstanceCompletedEvent{
					TaskScheduledId: taskID, Result: c.GetResult(),
				},
			},
		}
	}
	failure := c.GetFailureDetails()
	if failure == nil {
		failure = &protos.TaskFailureDetails{
			ErrorType:    "SubOrchestration" + api.StatusName(c.GetOrchestrationStatus()),
			ErrorMessage: "sub-orchestration was " + api.StatusName(c.GetOrchestrationStatus()),
		}
	}
	return NewChildFailed(taskID, failure, ts)
}

// NewChildFailed is the event that fails a parent's sub-orchestration task.
func NewChildFailed(taskID int32, failure *protos.TaskFailureDetails, ts *timestamppb.Timestamp) *HistoryEvent {
	return &HistoryEvent{
		EventId: -1, Timestamp: ts,
		EventType: &protos.HistoryEvent_SubOrchestrationInstanceFailed{
			SubOrchestrationInstanceFailed: &protos.SubOrchestrationInstanceFailedEvent{
				TaskScheduledId: taskID, FailureDetails: failure,
			},
		},
	}
}

func (s *OrchestrationRuntimeState) continueAsNew(c *protos.CompleteOrchestrationAction, ts *timestamppb.Timestamp) error {
	prev := s.started.GetExecutionStarted()
	version, tags := prev.GetVersion(), prev.GetTags()
	if c.GetNewVersion() != nil {
		version = c.GetNewVersion()
	}
	if c.GetTags() != nil {
		tags = c.GetTags()
	}
	detached := s.detachedTasks
	for _, t := range s.pendingTasks {
		detached = append(detached, DetachedTask{Event: t, ExecutionID: s.ExecutionID()})
	}
	s.releaseLocks(ts)
	next := NewOrchestrationRuntimeState(s.instanceID, nil)
	next.CustomStatus, next.suspended = s.CustomStatus, s.suspended
	next.generation, next.detachedTasks, next.pendingMessages = s.generation+1, detached, s.pendingMessages
	next.carried = len(s.pendingMessages)
	suspended := s.suspended
	s.Release()
	*s = *next
	events := append([]*HistoryEvent{
		{
			EventId: -1, Timestamp: ts,
			EventType: &protos.HistoryEvent_OrchestratorStarted{OrchestratorStarted: &protos.OrchestratorStartedEvent{}},
		},
		{
			EventId: -1, Timestamp: ts,
			EventType: &protos.HistoryEvent_ExecutionStarted{ExecutionStarted: &protos.ExecutionStartedEvent{
				Name: prev.GetName(), Version: version, Input: c.GetResult(), Tags: tags,
				ParentInstance: prev.GetParentInstance(), ParentTraceContext: prev.GetParentTraceContext(),
				OrchestrationInstance: &protos.OrchestrationInstance{
					InstanceId: string(s.instanceID), ExecutionId: wrapperspb.String(NewExecutionID()),
				},
			}},
		},
	}, c.GetCarryoverEvents()...)
	if suspended { // the new execution starts suspended, and must learn so from its history
		events = append(events, &HistoryEvent{
			EventId: -1, Timestamp: ts,
			EventType: &protos.HistoryEvent_ExecutionSuspended{ExecutionSuspended: &protos.ExecutionSuspendedEvent{}},
		})
	}
	for _, e := range events {
		if err := s.AddEvent(e); err != nil {
			return err
		}
	}
	return nil
}

// applyTerminate ends the orchestration as its ExecutionTerminated event asks.
func (s *OrchestrationRuntimeState) applyTerminate(now time.Time) error {
	t := s.terminate.GetExecutionTerminated()
	s.terminate = nil
	s.pendingTasks, s.pendingTimers, s.pendingMessages = nil, nil, s.pendingMessages[:s.carried]
	ts := timestamppb.New(now)
	if s.recurse = t.GetRecurse(); s.recurse {
		for _, o := range s.open {
			if o.kind == openChild {
				s.send(o.event.GetSubOrchestrationInstanceCreated().GetInstanceId(), "", &HistoryEvent{
					EventId: -1, Timestamp: ts,
					EventType: &protos.HistoryEvent_ExecutionTerminated{ExecutionTerminated: t},
				})
				s.pendingMessages[len(s.pendingMessages)-1].toChild = true // the child's start may have been refused
			}
		}
	}
	return s.complete(-1, &protos.CompleteOrchestrationAction{
		OrchestrationStatus: api.RUNTIME_STATUS_TERMINATED, Result: t.GetInput(),
	}, ts)
}
