package backend

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/google/uuid"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// EntityWorkItem is one batch of operations of one entity.
type EntityWorkItem struct {
	InstanceID  api.InstanceID
	ExecutionID string
	State       *wrapperspb.StringValue // nil: the entity has none
	Operations  []*HistoryEvent         // EntityOperationCalled and EntityOperationSignaled, in order
	LockedBy    string
	RetryCount  int32
	// Result is what the batch gives: a result for each of the first operations,
	// those that have none are handed out again; the new state; and what is to be sent.
	Result *protos.EntityBatchResult

	unbegun bool // nobody has begun it: to give it back is no attempt
}

// Description names the item for people: "<id> (<n> operation(s))".
func (wi *EntityWorkItem) Description() string {
	return fmt.Sprintf("%s (%d operation(s))", wi.InstanceID, len(wi.Operations))
}

// The optional interfaces for entities. A backend has both of the first two or
// none; its AddNewOrchestrationEvent then takes entity messages for entity ids.
type (
	// EntityBackend hands out the batches of entities, one at a time for each.
	EntityBackend interface {
		// GetEntityWorkItem hands out a batch, or returns ErrNoWorkItems at once.
		GetEntityWorkItem(context.Context) (*EntityWorkItem, error)
		// SelectEntityWorkItem blocks until there is a batch of an entity whose
		// name is wanted, or the context ends; a nil want takes any. The version is "".
		SelectEntityWorkItem(ctx context.Context, want func(name, version string) bool) (*EntityWorkItem, error)
		// CompleteEntityWorkItem stores the item's Result, atomically and durably; ErrWorkItemLockLost.
		CompleteEntityWorkItem(context.Context, *EntityWorkItem) error
		// AbandonEntityWorkItem puts the operations back; they rest as many
		// seconds as they were retried, five minutes at most. ErrWorkItemLockLost.
		AbandonEntityWorkItem(context.Context, *EntityWorkItem) error
		// ReturnEntityWorkItem puts the operations of a batch back that was not
		// begun: it counts as no attempt and is ready at once. ErrWorkItemLockLost.
		ReturnEntityWorkItem(context.Context, *EntityWorkItem) error
	}

	// EntityQuerier reads and cleans the storage of entities.
	EntityQuerier interface {
		// GetEntity reads one entity; api.ErrInstanceNotFound where it is not there or has no state.
		GetEntity(ctx context.Context, id api.EntityID, includeState bool) (*api.EntityMetadata, error)
		// QueryEntities lists entities.
		QueryEntities(context.Context, api.EntityQuery) (*api.EntityQueryResults, error)
		// CleanEntityStorage looks at one page of entities; its result says where to go on.
		CleanEntityStorage(context.Context, api.CleanEntityStorageRequest) (*api.CleanEntityStorageResult, error)
	}

	// EntityExecutor is the optional interface of an Executor that runs
	// entities. An error, and failure details of the whole batch, mean that nothing
	// was done and the batch is to be tried again.
	EntityExecutor interface {
		ExecuteEntity(context.Context, *protos.EntityRequest) (*protos.EntityBatchResult, error)
	}
)

type entityProcessor struct {
	be   EntityBackend
	exec EntityExecutor
	log  Logger
}

func (*entityProcessor) Name() string { return "entity-processor" }

func (p *entityProcessor) FetchWorkItem(ctx context.Context) (WorkItem, error) {
	return entityItem(p.be.GetEntityWorkItem(ctx))
}

func (p *entityProcessor) awaitWorkItem(ctx context.Context) (WorkItem, error) {
	if d, ok := p.exec.(dispatching); ok {
		return entityItem(selectWorkItem(ctx, d.dispatcher().EntityDemand(), p.be.SelectEntityWorkItem))
	}
	return entityItem(p.be.SelectEntityWorkItem(ctx, nil))
}

func entityItem(wi *EntityWorkItem, err error) (WorkItem, error) {
	if wi == nil {
		return nil, err
	}
	return wi, err
}

func (p *entityProcessor) ProcessWorkItem(ctx context.Context, item WorkItem) (err error) {
	wi, ok := item.(*EntityWorkItem)
	if !ok {
		return fmt.Errorf("%T is no entity work item", item)
	}
	if wi.RetryCount >= maxTurnAttempts { // it could not be stored, or killed the process
		wi.Fail(&protos.TaskFailureDetails{
			ErrorType: "EntityPoisoned", IsNonRetriable: true,
			ErrorMessage: fmt.Sprintf("the operation was tried %d times and never stored", wi.RetryCount),
		})
		return nil
	}
	result, err := p.execute(ctx, wi)
	wi.unbegun = notBegun(err)
	if err == nil {
		wi.Result = result
		return nil
	}
	var final *finalFailure
	switch {
	case errors.As(err, &final), hopeless(err) && len(wi.Operations) > 1:
		if len(wi.Operations) > 1 {
			return err // each is tried alone, so that no other fails with the bad one
		}
	case ctx.Err() == nil && !wi.unbegun && (wi.RetryCount+1 >= maxTurnAttempts || hopeless(err)):
		final = &finalFailure{&protos.TaskFailureDetails{
			ErrorType:      "EntityPoisoned",
			ErrorMessage:   fmt.Sprintf("the batch failed %d times, the last time with: %v", wi.RetryCount+1, err),
			IsNonRetriable: true,
		}}
	default:
		return err
	}
	p.log.Errorf("%s: %d operation(s) failed: %v", wi.InstanceID, len(wi.Operations), err)
	wi.Fail(final.details)
	return nil
}

// finalFailure is one that another try would not mend.
type finalFailure struct{ details *protos.TaskFailureDetails }

func (f *finalFailure) Error() string {
	return f.details.GetErrorType() + ": " + f.details.GetErrorMessage()
}

func (p *entityProcessor) execute(ctx context.Context, wi *EntityWorkItem) (_ *protos.EntityBatchResult, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the executor panicked: %v\n%s", r, debug.Stack())
		}
	}()
	r, err := p.exec.ExecuteEntity(ctx, &protos.EntityRequest{
		InstanceId: string(wi.InstanceID), ExecutionId: wi.ExecutionID,
		EntityState: wi.State, OperationRequests: wi.Operations,
	})
	switch f := r.GetFailureDetails(); {
	case err != nil:
		return nil, fmt.Errorf("execute: %w", err)
	case f.GetIsNonRetriable():
		return nil, &finalFailure{f}
	case f != nil:
		return nil, fmt.Errorf("execute: %s: %s", f.GetErrorType(), f.GetErrorMessage())
	case r == nil || len(r.GetResults()) == 0 || len(r.GetResults()) > len(wi.Operations):
		return nil, fmt.Errorf("execute: %d results for %d operations", len(r.GetResults()), len(wi.Operations))
	}
	return r, nil
}

// Fail makes a failure of all operations the item's Result; the state stays as it is.
func (wi *EntityWorkItem) Fail(details *protos.TaskFailureDetails) {
	wi.Result = &protos.EntityBatchResult{EntityState: wi.State}
	for range wi.Operations {
		wi.Result.Results = append(wi.Result.Results, &protos.OperationResult{
			ResultType: &protos.OperationResult_Failure{Failure: &protos.OperationResultFailure{FailureDetails: details}},
		})
	}
}

func (p *entityProcessor) CompleteWorkItem(ctx context.Context, wi WorkItem) error {
	return p.be.CompleteEntityWorkItem(ctx, wi.(*EntityWorkItem))
}

func (p *entityProcessor) AbandonWorkItem(ctx context.Context, item WorkItem) error {
	wi := item.(*EntityWorkItem)
	if wi.unbegun {
		return p.be.ReturnEntityWorkItem(ctx, wi)
	}
	return p.be.AbandonEntityWorkItem(ctx, wi)
}

// turnWorker runs the turns of orchestrations and the batches of entities.
type turnWorker struct{ turns, entities *taskWorker }

func (w *turnWorker) Start(ctx context.Context) {
	w.turns.Start(ctx)
	w.entities.Start(ctx)
}

func (w *turnWorker) ProcessNext(ctx context.Context) (bool, error) {
	if ok, err := w.turns.ProcessNext(ctx); ok || err != nil {
		return ok, err
	}
	return w.entities.ProcessNext(ctx)
}

func (w *turnWorker) StopAndDrain() { _ = w.shutdown(context.Background()) }

func (w *turnWorker) shutdown(ctx context.Context) error {
	entities := make(chan error, 1)
	go func() { entities <- w.entities.shutdown(ctx) }()
	return errors.Join(w.turns.shutdown(ctx), <-entities)
}

// Messages are what the item's Result sends: the answers to the callers, then
// what the operations asked for.
func (wi *EntityWorkItem) Messages(now time.Time) ([]OrchestratorMessage, error) {
	ts := timestamppb.New(now)
	var all []OrchestratorMessage
	for i, r := range wi.Result.GetResults() {
		if i == len(wi.Operations) {
			return nil, fmt.Errorf("%w: %s: %d results for %d operations",
				api.ErrInvalidInput, wi.InstanceID, len(wi.Result.GetResults()), i)
		}
		call := wi.Operations[i].GetEntityOperationCalled()
		if call == nil || call.GetParentInstanceId() == nil {
			continue // nobody waits for an answer
		}
		all = append(all, NewOrchestratorMessage(
			call.GetParentInstanceId().GetValue(), call.GetParentExecutionId().GetValue(), operationAnswer(call, r, ts)))
	}
	for _, a := range wi.Result.GetActions() {
		m, err := operationMessage(a, ts)
		if err != nil {
			return nil, fmt.Errorf("action %d of %s: %w", a.GetId(), wi.InstanceID, err)
		}
		all = append(all, m)
	}
	return all, nil
}

func operationAnswer(
	call *protos.EntityOperationCalledEvent, r *protos.OperationResult, ts *timestamppb.Timestamp,
) *HistoryEvent {
	if f := r.GetFailure(); f != nil {
		return newOperationFailed(call.GetRequestId(), f.GetFailureDetails(), ts)
	}
	return &HistoryEvent{
		EventId: -1, Timestamp: ts,
		EventType: &protos.HistoryEvent_EntityOperationCompleted{EntityOperationCompleted: &protos.EntityOperationCompletedEvent{
			RequestId: call.GetRequestId(), Output: r.GetSuccess().GetResult(),
		}},
	}
}

func newOperationFailed(requestID string, f *protos.TaskFailureDetails, ts *timestamppb.Timestamp) *HistoryEvent {
	if f == nil {
		f = &protos.TaskFailureDetails{ErrorType: "EntityOperationFailed", ErrorMessage: "the operation failed without details"}
	}
	return &HistoryEvent{
		EventId: -1, Timestamp: ts,
		EventType: &protos.HistoryEvent_EntityOperationFailed{EntityOperationFailed: &protos.EntityOperationFailedEvent{
			RequestId: requestID, FailureDetails: f,
		}},
	}
}

// operationMessage is what one action of an operation sends.
func operationMessage(a *protos.OperationAction, ts *timestamppb.Timestamp) (OrchestratorMessage, error) {
	switch t := a.GetOperationActionType().(type) {
	case *protos.OperationAction_SendSignal:
		s := t.SendSignal
		id, err := api.EntityIDFromString(s.GetInstanceId())
		if err != nil {
			return OrchestratorMessage{}, err
		}
		e, err := NewEntitySignal(&protos.SignalEntityRequest{
			InstanceId: id.String(), Name: s.GetName(), Input: s.GetInput(), ScheduledTime: s.GetScheduledTime(),
		}, ts.AsTime())
		return NewOrchestratorMessage(id.String(), "", e), err
	case *protos.OperationAction_StartNewOrchestration:
		s := t.StartNewOrchestration
		target := s.GetInstanceId()
		if target == "" {
			target = uuid.NewString()
		}
		if s.GetName() == "" {
			return OrchestratorMessage{}, fmt.Errorf("%w: the orchestrator has no name", api.ErrInvalidInput)
		}
		return NewOrchestratorMessage(target, "", &HistoryEvent{
			EventId: -1, Timestamp: ts,
			EventType: &protos.HistoryEvent_ExecutionStarted{ExecutionStarted: &protos.ExecutionStartedEvent{
				Name: s.GetName(), Version: s.GetVersion(), Input: s.GetInput(), ParentTraceContext: s.GetParentTraceContext(),
				ScheduledStartTimestamp: s.GetScheduledTime(),
				OrchestrationInstance: &protos.OrchestrationInstance{
					InstanceId: target, ExecutionId: wrapperspb.String(NewExecutionID()),
				},
			}},
		}), nil
	}
	return OrchestratorMessage{}, fmt.Errorf("%w %T", ErrUnknownAction, a.GetOperationActionType())
}

// NewEntitySignal is the event of a signal. A request id is made where there is none.
func NewEntitySignal(r *protos.SignalEntityRequest, now time.Time) (*HistoryEvent, error) {
	if r.GetScheduledTime() != nil {
		if err := r.GetScheduledTime().CheckValid(); err != nil {
			return nil, fmt.Errorf("%w: scheduled time: %w", api.ErrInvalidInput, err)
		}
	}
	if r.GetName() == "" {
		return nil, fmt.Errorf("%w: the operation has no name", api.ErrInvalidInput)
	}
	id := r.GetRequestId()
	if id == "" {
		id = uuid.NewString()
	}
	return &HistoryEvent{
		EventId: -1, Timestamp: timestamppb.New(now),
		EventType: &protos.HistoryEvent_EntityOperationSignaled{EntityOperationSignaled: &protos.EntityOperationSignaledEvent{
			RequestId: id, Operation: r.GetName(), Input: r.GetInput(), ScheduledTime: r.GetScheduledTime(),
			TargetInstanceId: wrapperspb.String(r.GetInstanceId()),
		}},
	}, nil
}
