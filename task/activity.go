package task

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// ActivityContext is what an activity knows of its execution.
type ActivityContext interface {
	// GetInput decodes the input into resultPtr; without input it leaves it as it is.
	GetInput(resultPtr any) error
	// Context ends when the result is no longer wanted.
	Context() context.Context
	// GetTaskID is the id of the task in its orchestration.
	GetTaskID() int32
	// ExecutionID is that of the orchestration; "" where the host does not say it.
	ExecutionID() string
	// InstanceID is that of the orchestration.
	InstanceID() api.InstanceID
	// IdempotencyKey is the same for all deliveries of this task, and for no
	// other task: "<instance>/<execution>/<task id>".
	IdempotencyKey() string
	// Attempt says, from 1, how often this task was begun in this process, without
	// those that a shutdown stopped.
	Attempt() int32
}

type activityContext struct {
	ctx   context.Context //nolint:containedctx // it is what Context returns
	info  backend.ActivityInfo
	input *wrapperspb.StringValue
}

func (a *activityContext) GetInput(resultPtr any) error {
	return decode("activity input", a.input, resultPtr)
}
func (a *activityContext) Context() context.Context   { return a.ctx }
func (a *activityContext) GetTaskID() int32           { return a.info.TaskID }
func (a *activityContext) ExecutionID() string        { return a.info.ExecutionID }
func (a *activityContext) InstanceID() api.InstanceID { return a.info.InstanceID }
func (a *activityContext) Attempt() int32             { return a.info.Attempt }

func (a *activityContext) IdempotencyKey() string {
	return fmt.Sprintf("%s/%s/%d", a.info.InstanceID, a.info.ExecutionID, a.info.TaskID)
}

// ExecuteActivity runs an activity in a goroutine of its own and waits for it.
// Whatever it does becomes its TaskCompleted or TaskFailed event; an error is
// returned only where the context ended and the activity says so.
func (x *executor) ExecuteActivity(
	ctx context.Context, iid api.InstanceID, e *protos.HistoryEvent,
) (*protos.HistoryEvent, error) {
	scheduled, id := e.GetTaskScheduled(), e.GetEventId()
	if scheduled == nil {
		return nil, fmt.Errorf("%w: activity of %s: the event is a %s", api.ErrInvalidInput, iid, eventName(e))
	}
	f, ok := x.registry.activity(scheduled.GetName())
	if !ok {
		return taskFailed(id, &protos.TaskFailureDetails{
			ErrorType:    ErrorTypeActivityNotRegistered,
			ErrorMessage: fmt.Sprintf("activity named '%s' is not registered", scheduled.GetName()),
		}), nil
	}
	info, ok := backend.ActivityInfoFromContext(ctx)
	if !ok {
		info = backend.ActivityInfo{InstanceID: iid, TaskID: id, Attempt: 1}
	}
	r := runActivity(f, &activityContext{ctx: ctx, info: info, input: scheduled.GetInput()})
	if ctx.Err() != nil && r.aborted {
		return nil, fmt.Errorf("activity '%s' of %s: %w", scheduled.GetName(), iid, context.Cause(ctx))
	}
	if r.failure != nil {
		return taskFailed(id, r.failure), nil
	}
	return &protos.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(),
		EventType: &protos.HistoryEvent_TaskCompleted{
			TaskCompleted: &protos.TaskCompletedEvent{TaskScheduledId: id, Result: r.result},
		},
	}, nil
}

type activityResult struct {
	result  *wrapperspb.StringValue
	failure *protos.TaskFailureDetails
	aborted bool // it returned the error of an ended context
}

func runActivity(f Activity, actx *activityContext) (r activityResult) {
	r.failure = crash{goexit: true}.details("") // unless the activity returns
	done := make(chan struct{})
	go func() {
		defer close(done)
		protect(func() {
			var done activityResult
			output, err := f(actx)
			if err == nil {
				done.result, err = encode("activity output", output)
			} else {
				done.aborted = errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
			}
			if err != nil {
				done.failure = failureDetails(err)
			}
			r = done
		}, func(cr crash) { r = activityResult{failure: cr.details(ErrorTypeActivityPanic)} })
	}()
	<-done
	return r
}

func taskFailed(id int32, d *protos.TaskFailureDetails) *protos.HistoryEvent {
	return &protos.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(),
		EventType: &protos.HistoryEvent_TaskFailed{
			TaskFailed: &protos.TaskFailedEvent{TaskScheduledId: id, FailureDetails: d},
		},
	}
}
