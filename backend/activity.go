package backend

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"google.golang.org/protobuf/types/known/timestamppb"
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

func (p *activityProcessor) ProcessWorkItem(ctx context.Context, item WorkItem) (err error) {
	wi, ok := item.(*ActivityWorkItem)
	if !ok {
		return fmt.Errorf("%T is no activity work item", item)
	}
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
	if result != nil {
		result.Timestamp = timestamppb.New(timeIn(p.be)) // not by the clock of another machine
	}
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
