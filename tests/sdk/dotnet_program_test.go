package sdk_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

// program is an orchestrator that does one step after the other. Its output is
// the answers of all steps, each on a line. The ids of its actions count from 0, as those of .NET.
type program []step

// step is some actions and how many answers it waits for.
type step struct {
	actions []*protos.OrchestratorAction
	answers int
}

func await(actions ...*protos.OrchestratorAction) step { return step{actions, len(actions)} }
func tell(actions ...*protos.OrchestratorAction) step  { return step{actions, 0} }
func event() step                                      { return step{nil, 1} }

func (p program) run(events []*protos.HistoryEvent) []*protos.OrchestratorAction {
	if p == nil {
		return []*protos.OrchestratorAction{finish(protos.OrchestrationStatus_ORCHESTRATION_STATUS_FAILED, "no such orchestrator")}
	}
	var answers []string
	confirmed := map[int32]bool{}
	for _, e := range events {
		if e.GetEventId() >= 0 {
			confirmed[e.GetEventId()] = true
		}
		switch t := e.GetEventType().(type) {
		case *protos.HistoryEvent_TaskCompleted:
			answers = append(answers, t.TaskCompleted.GetResult().GetValue())
		case *protos.HistoryEvent_TimerFired:
			answers = append(answers, "timer")
		case *protos.HistoryEvent_SubOrchestrationInstanceCompleted:
			answers = append(answers, t.SubOrchestrationInstanceCompleted.GetResult().GetValue())
		case *protos.HistoryEvent_EventRaised:
			answers = append(answers, t.EventRaised.GetInput().GetValue())
		case *protos.HistoryEvent_EntityOperationCompleted:
			answers = append(answers, t.EntityOperationCompleted.GetOutput().GetValue())
		case *protos.HistoryEvent_EntityOperationFailed:
			answers = append(answers, t.EntityOperationFailed.GetFailureDetails().GetErrorMessage())
		case *protos.HistoryEvent_EntityLockGranted:
			answers = append(answers, "locked")
		case *protos.HistoryEvent_TaskFailed:
			return []*protos.OrchestratorAction{finish(protos.OrchestrationStatus_ORCHESTRATION_STATUS_FAILED, t.TaskFailed.GetFailureDetails().GetErrorMessage())}
		}
	}
	var out []*protos.OrchestratorAction
	id, wanted := int32(0), 0
	for _, s := range p {
		for _, a := range s.actions {
			if !confirmed[id] {
				out = append(out, &protos.OrchestratorAction{Id: id, OrchestratorActionType: a.GetOrchestratorActionType()})
			}
			id++
		}
		if wanted += s.answers; len(answers) < wanted {
			return out
		}
	}
	last := finish(protos.OrchestrationStatus_ORCHESTRATION_STATUS_COMPLETED, strings.Join(answers, "\n"))
	last.Id = id
	return append(out, last)
}

// finish is the end of an orchestration, with an output or a failure.
func finish(status protos.OrchestrationStatus, text string) *protos.OrchestratorAction {
	end := &protos.CompleteOrchestrationAction{OrchestrationStatus: status}
	if status == protos.OrchestrationStatus_ORCHESTRATION_STATUS_FAILED {
		end.FailureDetails = &protos.TaskFailureDetails{ErrorType: "System.Exception", ErrorMessage: text}
	} else {
		end.Result = wrapperspb.String(text)
	}
	return &protos.OrchestratorAction{OrchestratorActionType: &protos.OrchestratorAction_CompleteOrchestration{CompleteOrchestration: end}}
}

func callActivity(name, version, input string) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{OrchestratorActionType: &protos.OrchestratorAction_ScheduleTask{ScheduleTask: &protos.ScheduleTaskAction{
		Name: name, Version: wrapperspb.String(version), Input: wrapperspb.String(input), Tags: map[string]string{"of": "activity"},
	}}}
}

func callChild(name, id string) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{OrchestratorActionType: &protos.OrchestratorAction_CreateSubOrchestration{
		CreateSubOrchestration: &protos.CreateSubOrchestrationAction{Name: name, InstanceId: id},
	}}
}

func timer(d time.Duration) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{OrchestratorActionType: &protos.OrchestratorAction_CreateTimer{
		CreateTimer: &protos.CreateTimerAction{FireAt: timestamppb.New(time.Now().Add(d))},
	}}
}

// legacyMessage is how a plain .NET worker talks to an entity.
func legacyMessage(target, name, json string) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{OrchestratorActionType: &protos.OrchestratorAction_SendEvent{SendEvent: &protos.SendEventAction{
		Instance: &protos.OrchestrationInstance{InstanceId: target}, Name: name, Data: wrapperspb.String(json),
	}}}
}

func entityMessage(m *protos.SendEntityMessageAction) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{OrchestratorActionType: &protos.OrchestratorAction_SendEntityMessage{SendEntityMessage: m}}
}

func callEntity(target, operation, input, request string) *protos.OrchestratorAction {
	return entityMessage(&protos.SendEntityMessageAction{EntityMessageType: &protos.SendEntityMessageAction_EntityOperationCalled{
		EntityOperationCalled: &protos.EntityOperationCalledEvent{
			RequestId: request, Operation: operation, Input: wrapperspb.String(input), TargetInstanceId: wrapperspb.String(target),
		},
	}})
}

func signalEntity(target, operation, input, request string) *protos.OrchestratorAction {
	return entityMessage(&protos.SendEntityMessageAction{EntityMessageType: &protos.SendEntityMessageAction_EntityOperationSignaled{
		EntityOperationSignaled: &protos.EntityOperationSignaledEvent{
			RequestId: request, Operation: operation, Input: wrapperspb.String(input), TargetInstanceId: wrapperspb.String(target),
		},
	}})
}

func lockEntities(section string, set ...string) *protos.OrchestratorAction {
	return entityMessage(&protos.SendEntityMessageAction{EntityMessageType: &protos.SendEntityMessageAction_EntityLockRequested{
		EntityLockRequested: &protos.EntityLockRequestedEvent{CriticalSectionId: section, LockSet: slices.Sorted(slices.Values(set))},
	}})
}

func unlockEntity(section, target string) *protos.OrchestratorAction {
	return entityMessage(&protos.SendEntityMessageAction{EntityMessageType: &protos.SendEntityMessageAction_EntityUnlockSent{
		EntityUnlockSent: &protos.EntityUnlockSentEvent{CriticalSectionId: section, TargetInstanceId: wrapperspb.String(target)},
	}})
}

// counter is an entity: "add", "get", "fail", "delete", and "relay", which adds 5 to the entity that its input names.
func counter(r *protos.EntityRequest) *protos.EntityBatchResult {
	b := &protos.EntityBatchResult{EntityState: r.GetEntityState()}
	for _, e := range r.GetOperationRequests() {
		operation, input := e.GetEntityOperationSignaled().GetOperation(), e.GetEntityOperationSignaled().GetInput().GetValue()
		info := &protos.OperationInfo{RequestId: e.GetEntityOperationSignaled().GetRequestId()}
		if c := e.GetEntityOperationCalled(); c != nil {
			operation, input = c.GetOperation(), c.GetInput().GetValue()
			info = &protos.OperationInfo{RequestId: c.GetRequestId(), ResponseDestination: &protos.OrchestrationInstance{
				InstanceId: c.GetParentInstanceId().GetValue(), ExecutionId: c.GetParentExecutionId(),
			}}
		}
		n, _ := strconv.Atoi(b.GetEntityState().GetValue())
		by, _ := strconv.Atoi(input)
		result := &protos.OperationResult{}
		switch operation {
		case "fail":
			result.ResultType = &protos.OperationResult_Failure{Failure: &protos.OperationResultFailure{
				FailureDetails: &protos.TaskFailureDetails{ErrorType: "System.Exception", ErrorMessage: "the entity fails"},
			}}
		case "relay":
			b.Actions = append(b.Actions, &protos.OperationAction{OperationActionType: &protos.OperationAction_SendSignal{
				SendSignal: &protos.SendSignalAction{InstanceId: input, Name: "add", Input: wrapperspb.String("5")},
			}})
		case "delete":
			b.EntityState = nil
		default:
			b.EntityState = wrapperspb.String(fmt.Sprint(n + by))
		}
		if result.GetResultType() == nil {
			result.ResultType = &protos.OperationResult_Success{Success: &protos.OperationResultSuccess{Result: b.GetEntityState()}}
		}
		b.Results, b.OperationInfos = append(b.Results, result), append(b.OperationInfos, info)
	}
	return b
}
