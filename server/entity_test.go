package server

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

// adder is an entity as an SDK's worker runs it: "add", "fail", and "tell",
// which signals the entity named by its input.
func adder(r *protos.EntityRequest) *protos.EntityBatchResult {
	b := &protos.EntityBatchResult{EntityState: r.GetEntityState()}
	n, _ := strconv.Atoi(r.GetEntityState().GetValue())
	for _, e := range r.GetOperationRequests() {
		op, input := e.GetEntityOperationCalled().GetOperation(), e.GetEntityOperationCalled().GetInput().GetValue()
		info := &protos.OperationInfo{RequestId: e.GetEntityOperationCalled().GetRequestId()}
		if s := e.GetEntityOperationSignaled(); s != nil {
			op, input, info.RequestId = s.GetOperation(), s.GetInput().GetValue(), s.GetRequestId()
		}
		result := &protos.OperationResult{}
		switch op {
		case "fail":
			result.ResultType = &protos.OperationResult_Failure{Failure: &protos.OperationResultFailure{
				FailureDetails: &protos.TaskFailureDetails{ErrorType: "Refused", ErrorMessage: input},
			}}
		case "tell":
			b.Actions = append(b.Actions, &protos.OperationAction{Id: int32(len(b.Actions)), OperationActionType: &protos.OperationAction_SendSignal{
				SendSignal: &protos.SendSignalAction{InstanceId: input, Name: "add", Input: wrapperspb.String("1000")},
			}})
			fallthrough
		default:
			by, _ := strconv.Atoi(input)
			n += by
			b.EntityState = wrapperspb.String(strconv.Itoa(n))
			result.ResultType = &protos.OperationResult_Success{Success: &protos.OperationResultSuccess{Result: wrapperspb.String(strconv.Itoa(n))}}
		}
		b.Results = append(b.Results, result)
		b.OperationInfos = append(b.OperationInfos, info)
	}
	return b
}

func entityAction(id int32, m *protos.SendEntityMessageAction) *protos.OrchestratorAction {
	return &protos.OrchestratorAction{Id: id, OrchestratorActionType: &protos.OrchestratorAction_SendEntityMessage{SendEntityMessage: m}}
}

func callAction(id int32, target, op, input string) *protos.OrchestratorAction {
	return entityAction(id, &protos.SendEntityMessageAction{EntityMessageType: &protos.SendEntityMessageAction_EntityOperationCalled{
		EntityOperationCalled: &protos.EntityOperationCalledEvent{
			RequestId: fmt.Sprintf("00000000-0000-0000-0000-%012d", id), Operation: op, Input: wrapperspb.String(input),
			TargetInstanceId: wrapperspb.String(target),
		},
	}})
}

const sectionID = "11111111-0000-0000-0000-000000000001"

// locker locks two entities out of order, calls them, unlocks them and tells what came back.
func locker(events []*protos.HistoryEvent) []*protos.OrchestratorAction {
	var answers []string
	granted := false
	for _, e := range events {
		if c := e.GetEntityOperationCompleted(); c != nil {
			answers = append(answers, c.GetOutput().GetValue())
		}
		if f := e.GetEntityOperationFailed(); f != nil {
			answers = append(answers, f.GetFailureDetails().GetErrorType()+" "+f.GetFailureDetails().GetErrorMessage())
		}
		granted = granted || e.GetEntityLockGranted().GetCriticalSectionId() == sectionID
	}
	switch {
	case !granted && len(events) < 4:
		return []*protos.OrchestratorAction{entityAction(1, &protos.SendEntityMessageAction{
			EntityMessageType: &protos.SendEntityMessageAction_EntityLockRequested{EntityLockRequested: &protos.EntityLockRequestedEvent{
				CriticalSectionId: sectionID, LockSet: []string{"@adder@b", "@adder@a"},
			}},
		})}
	case granted && len(answers) == 0:
		return []*protos.OrchestratorAction{
			callAction(2, "@Adder@a", "add", "5"), callAction(3, "@adder@b", "fail", "no"), callAction(4, "@adder@a", "tell", "@adder@c"),
			callAction(5, "nonsense", "add", "1"),
		}
	case len(answers) == 4:
		var unlocks []*protos.OrchestratorAction
		for k, target := range []string{"@adder@b", "@adder@a"} {
			unlocks = append(unlocks, entityAction(int32(6+k), &protos.SendEntityMessageAction{
				EntityMessageType: &protos.SendEntityMessageAction_EntityUnlockSent{EntityUnlockSent: &protos.EntityUnlockSentEvent{
					CriticalSectionId: sectionID, TargetInstanceId: wrapperspb.String(target),
				}},
			}))
		}
		slices.Sort(answers)
		return append(unlocks, complete(fmt.Sprint(answers)))
	}
	return nil
}

func TestEntityRequestsOnTheWire(t *testing.T) {
	b := start(t, "", Options{})
	items := make(chan *protos.WorkItem, 100)
	w := &wireWorker{scripts: map[string]script{"locker": locker}, entity: adder, seen: func(i *protos.WorkItem) { items <- i }}
	b.work(t, w, nil) // no limit of entities is not "no entities"
	request := uuid.NewString()
	if _, err := b.client.SignalEntity(t.Context(), &protos.SignalEntityRequest{
		InstanceId: "@adder@a", Name: "add", Input: wrapperspb.String("100"), RequestId: request, RequestTime: timestamppb.Now(),
	}); err != nil {
		t.Fatal(err)
	}
	for item := range items {
		r := item.GetEntityRequestV2()
		if r == nil {
			continue
		}
		if item.GetEntityRequest() != nil || r.GetInstanceId() != "@adder@a" || len(r.GetExecutionId()) != 32 || r.GetEntityState() != nil ||
			len(r.GetOperationRequests()) != 1 || r.GetOperationRequests()[0].GetTimestamp() == nil ||
			r.GetOperationRequests()[0].GetEntityOperationSignaled().GetRequestId() != request {
			t.Errorf("request: %v", r)
		}
		break
	}
	b.startAs(t, "locker", "o")
	want := `[105 105 InvalidEntityCall invalid input: entity id "nonsense" has not the form @name@key Refused no]`
	if out := b.finish(t, "o").GetOutput().GetValue(); out != want {
		t.Errorf("answers: %s", out)
	}
	_, history := b.history(t, "o")
	for _, e := range history {
		switch {
		case e.GetEntityLockRequested() != nil && (e.GetEventId() != 1 || e.GetEntityLockRequested().GetLockSet()[0] != "@adder@b"),
			e.GetEntityOperationCalled() != nil && (e.GetEntityOperationCalled().GetParentInstanceId().GetValue() != "o" || e.GetEventId() < 2),
			e.GetEntityUnlockSent() != nil && e.GetEventId() < 6, e.GetTimestamp() == nil:
			t.Errorf("history: %v", e)
		}
	}
	get := func(id string) *protos.GetEntityResponse {
		t.Helper()
		r, err := b.client.GetEntity(t.Context(), &protos.GetEntityRequest{InstanceId: id, IncludeState: true})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(20 * time.Second); get("@adder@c").GetEntity().GetSerializedState().GetValue() != "1000" || get("@adder@a").GetEntity().GetLockedBy() != nil; {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("the signal of the entity, or the unlock, did not arrive")
		}
	}
	if r := get("@adder@b"); r.GetExists() || r.GetEntity() != nil {
		t.Errorf("an entity whose only operation failed has no state: %v", r)
	}
	if r := get("@Adder@a").GetEntity(); r.GetSerializedState().GetValue() != "105" || r.GetLastModifiedTime() == nil || r.GetInstanceId() != "@adder@a" {
		t.Errorf("entity: %v", r)
	}
	page, err := b.client.QueryEntities(t.Context(), &protos.QueryEntitiesRequest{Query: &protos.EntityQuery{
		IncludeTransient: true, PageSize: wrapperspb.Int32(2),
	}})
	if err != nil || len(page.GetEntities()) != 2 || page.GetContinuationToken().GetValue() == "" {
		t.Fatalf("first page: %v %v", page, err)
	}
	page, err = b.client.QueryEntities(t.Context(), &protos.QueryEntitiesRequest{Query: &protos.EntityQuery{
		IncludeTransient: true, PageSize: wrapperspb.Int32(2), ContinuationToken: page.GetContinuationToken(),
	}})
	if err != nil || len(page.GetEntities()) != 1 || page.ContinuationToken != nil {
		t.Errorf("last page: %v %v", page, err)
	}
	clean, err := b.client.CleanEntityStorage(t.Context(), &protos.CleanEntityStorageRequest{RemoveEmptyEntities: true, ReleaseOrphanedLocks: true})
	if err != nil || clean.GetEmptyEntitiesRemoved() != 1 || clean.ContinuationToken != nil {
		t.Errorf("clean: %v %v", clean, err)
	}
}

func TestEntityCallsThatAreRefused(t *testing.T) {
	b := start(t, "", Options{})
	ctx := t.Context()
	signal := func(id, name string) error {
		_, err := b.client.SignalEntity(ctx, &protos.SignalEntityRequest{InstanceId: id, Name: name})
		return err
	}
	wantCode(t, "no key", signal("@counter", "add"), codes.InvalidArgument)
	wantCode(t, "no name", signal("counter", "add"), codes.InvalidArgument)
	wantCode(t, "no operation", signal("@counter@", ""), codes.InvalidArgument)
	_, err := b.client.GetEntity(ctx, &protos.GetEntityRequest{InstanceId: "counter"})
	wantCode(t, "get", err, codes.InvalidArgument)
	_, err = b.client.QueryEntities(ctx, &protos.QueryEntitiesRequest{Query: &protos.EntityQuery{ContinuationToken: wrapperspb.String("?")}})
	wantCode(t, "token", err, codes.InvalidArgument)
	_, err = b.client.StartInstance(ctx, &protos.CreateInstanceRequest{Name: "o", InstanceId: "@counter@a"})
	wantCode(t, "an orchestration with an entity's id", err, codes.InvalidArgument)
	_, err = b.client.CompleteEntityTask(ctx, &protos.EntityBatchResult{CompletionToken: "stale"})
	wantCode(t, "a stale result", err, codes.OK)
	_, err = b.client.AbandonTaskEntityWorkItem(ctx, &protos.AbandonEntityTaskRequest{CompletionToken: "stale"})
	wantCode(t, "a stale abandon", err, codes.OK)
	_, err = b.client.TerminateInstance(ctx, &protos.TerminateRequest{InstanceId: "@counter@a"})
	wantCode(t, "terminate", err, codes.InvalidArgument)
}
