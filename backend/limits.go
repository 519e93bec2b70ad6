package backend

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// failureOverhead is what failure details and names may need beside payloads.
const failureOverhead = 16 << 10

// within returns the response of a turn, or one that fails the instance where a
// payload is larger than the backend allows: no later try could make it smaller.
func within(limit int, r *protos.OrchestratorResponse) (_ *protos.OrchestratorResponse, fits bool) {
	err := checkPayload(limit, "the custom status", r.GetCustomStatus())
	for _, a := range r.GetActions() {
		if err != nil {
			break
		}
		err = checkAction(limit, a)
	}
	if err == nil {
		return r, true
	}
	return &protos.OrchestratorResponse{
		InstanceId: r.GetInstanceId(),
		Actions: []*protos.OrchestratorAction{{
			Id: -1,
			OrchestratorActionType: &protos.OrchestratorAction_CompleteOrchestration{
				CompleteOrchestration: &protos.CompleteOrchestrationAction{
					OrchestrationStatus: api.RUNTIME_STATUS_FAILED,
					FailureDetails: &protos.TaskFailureDetails{
						ErrorType: "PayloadTooLarge", ErrorMessage: err.Error(), IsNonRetriable: true,
					},
				},
			},
		}},
	}, false
}

func checkAction(limit int, a *protos.OrchestratorAction) error {
	var what string
	var payload *wrapperspb.StringValue
	switch t := a.GetOrchestratorActionType().(type) {
	case *protos.OrchestratorAction_ScheduleTask:
		what, payload = fmt.Sprintf("the input of activity %.100q", t.ScheduleTask.GetName()), t.ScheduleTask.GetInput()
	case *protos.OrchestratorAction_CreateSubOrchestration:
		what = fmt.Sprintf("the input of sub-orchestration %.100q", t.CreateSubOrchestration.GetName())
		payload = t.CreateSubOrchestration.GetInput()
	case *protos.OrchestratorAction_SendEvent:
		what, payload = fmt.Sprintf("the data of event %.100q", t.SendEvent.GetName()), t.SendEvent.GetData()
	case *protos.OrchestratorAction_TerminateOrchestration:
		what, payload = "the output for a terminated instance", t.TerminateOrchestration.GetReason()
	case *protos.OrchestratorAction_CompleteOrchestration:
		c := t.CompleteOrchestration
		if n := proto.Size(c.GetFailureDetails()); n > limit+failureOverhead {
			return tooLarge("the failure", n, limit)
		}
		what, payload = "the output", c.GetResult()
		if c.GetOrchestrationStatus() == api.RUNTIME_STATUS_CONTINUED_AS_NEW {
			what = "the input of continue-as-new"
		}
	}
	return checkPayload(limit, what, payload)
}

func checkPayload(limit int, what string, payload *wrapperspb.StringValue) error {
	if n := len(payload.GetValue()); n > limit {
		return tooLarge(what, n, limit)
	}
	return nil
}

func tooLarge(what string, size, limit int) error {
	return fmt.Errorf("%w: %s has %d bytes, the limit of a payload is %d", api.ErrPayloadTooLarge, what, size, limit)
}
