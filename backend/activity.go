package backend

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api/protos"
)

type activityProcessor struct {
	be   Backend
	exec ActivityExecutor
}

// NewActivityTaskWorker returns a worker that executes activities.
func NewActivityTaskWorker(be Backend, executor ActivityExecutor, logger Logger, opts ...NewTaskWorkerOptions) TaskWorker {
	return NewTaskWorker(be, &activityProcessor{be: be, exec: executor}, logger, opts...)
}

func (*activityProcessor) Name() string { return "activity-processor" }

func (p *activityProcessor) FetchWorkItem(ctx context.Context) (WorkItem, error) {
	wi, err := p.be.GetActivityWorkItem(ctx)
	if wi == nil {
		return nil, err
	}
	return wi, err
}

func (p *activityProcessor) awaitWorkItem(ctx context.Context) (WorkItem, error) {
	a, ok := p.be.(WorkItemAwaiter)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	await := a.AwaitActivityWorkItem
	if s, ok := a.(WorkItemSelector); ok {
		if d, ok := p.exec.(dispatching); ok {
			demand := d.dispatcher().ActivityDemand()
			await = func(ctx context.Context) (*ActivityWorkItem, error) {
				return selectWorkItem(ctx, demand, s.SelectActivityWorkItem)
			}
		}
	}
	wi, err := await(ctx)
	if wi == nil {
		return nil, err
	}
	return wi, err
}

// maxActivityAttempts is how often an activity is handed out that gives no
// result, such as one that ends the process of its worker, before it fails with the last error.
const maxActivityAttempts = 10

func (p *activityProcessor) ProcessWorkItem(ctx context.Context, item WorkItem) error {
	wi, ok := item.(*ActivityWorkItem)
	if !ok {
		return fmt.Errorf("%T is no activity work item", item)
	}
	err := p.execute(ctx, wi)
	wi.unbegun = notBegun(err) || (err != nil && ctx.Err() != nil) // a shutdown is no fault of the activity
	if err == nil || wi.unbegun || errors.Is(err, ErrWorkItemLockLost) || (wi.Info().Attempt < maxActivityAttempts && !hopeless(err)) {
		return err
	}
	wi.Result = &HistoryEvent{
		EventId: -1, Timestamp: timestamppb.New(timeIn(p.be)),
		EventType: &protos.HistoryEvent_TaskFailed{TaskFailed: &protos.TaskFailedEvent{
			TaskScheduledId: wi.NewEvent.GetEventId(),
			FailureDetails: &protos.TaskFailureDetails{
				ErrorType: "ActivityPoisoned", IsNonRetriable: true,
				ErrorMessage: fmt.Sprintf("the activity was tried %d times without a result, the last time with: %v", wi.Info().Attempt, err),
			},
		}},
	}
	return nil
}

func (p *activityProcessor) execute(ctx context.Context, wi *ActivityWorkItem) (err error) {
	if wi.NewEvent.GetTaskScheduled() == nil {
		return fmt.Errorf("%s: its event is no TaskScheduled", wi.InstanceID)
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the executor panicked: %v\n%s", r, debug.Stack())
		}
	}()
	run, cancel := context.WithCancel(ContextWithActivityInfo(ctx, wi.Info()))
	defer cancel()
	wi.OnLost(cancel)
	result, err := p.exec.ExecuteActivity(run, wi.InstanceID, wi.NewEvent)
	if ctx.Err() == nil && run.Err() != nil {
		return fmt.Errorf("%w: %s is over", ErrWorkItemLockLost, wi.InstanceID)
	}
	if err != nil {
		return err
	}
	if ctx.Err() != nil && result.GetTaskFailed() != nil {
		return fmt.Errorf("stopped by shutdown: %w", ctx.Err()) // not the activity's own failure: it runs again
	}
	if result.GetTaskCompleted() == nil && result.GetTaskFailed() == nil {
		return fmt.Errorf("%s: the result is neither TaskCompleted nor TaskFailed", wi.Description())
	}
	result.Timestamp = timestamppb.New(timeIn(p.be)) // not by the clock of another machine
	wi.Result = result
	return nil
}

func (p *activityProcessor) CompleteWorkItem(ctx context.Context, item WorkItem) error {
	wi := item.(*ActivityWorkItem)
	if wi.Result.GetTaskCompleted() == nil && wi.Result.GetTaskFailed() == nil {
		return fmt.Errorf("%s: the result is neither TaskCompleted nor TaskFailed", wi.Description())
	}
	return p.be.CompleteActivityWorkItem(ctx, wi)
}

func (p *activityProcessor) AbandonWorkItem(ctx context.Context, wi WorkItem) error {
	return p.be.AbandonActivityWorkItem(ctx, wi.(*ActivityWorkItem))
}
