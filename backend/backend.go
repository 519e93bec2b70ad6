package backend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// Sentinel errors of a Backend; test for them with [errors.Is].
var (
	ErrTaskHubExists         = errors.New("task hub already exists")
	ErrTaskHubNotFound       = errors.New("task hub not found")
	ErrNotInitialized        = errors.New("backend not initialized")
	ErrWorkItemLockLost      = errors.New("lock on work-item was lost")
	ErrBackendAlreadyStarted = errors.New("backend is already started")
)

// ErrDuplicateEvent says that an event, or an instance with this id, is there already.
var ErrDuplicateEvent = errors.New("duplicate event")

// ErrNoWorkItems says that no work item is ready now.
var ErrNoWorkItems = errors.New("no work items were found")

type (
	// HistoryEvent is one fact of an orchestration's history, or one message on its way into it.
	HistoryEvent = protos.HistoryEvent
	// TaskFailureDetails says why a task or an orchestration failed.
	TaskFailureDetails = protos.TaskFailureDetails
)

// Backend stores instances and hands out their work. All methods may be called
// by many goroutines, and block on storage until their context ends at most.
// Before CreateTaskHub each of them returns ErrNotInitialized. A backend may
// implement the optional interfaces of this package besides.
type Backend interface {
	// CreateTaskHub creates the task hub, or opens it and returns ErrTaskHubExists.
	CreateTaskHub(context.Context) error
	// DeleteTaskHub deletes everything; ErrTaskHubNotFound where there is nothing.
	DeleteTaskHub(context.Context) error
	// Start makes the backend hand out work.
	Start(context.Context) error
	// Stop releases what the backend holds. Work items must have been completed or abandoned before.
	Stop(context.Context) error

	// CreateOrchestrationInstance stores a new instance from its ExecutionStarted
	// event, durably. A taken id is ErrDuplicateEvent.
	CreateOrchestrationInstance(context.Context, *HistoryEvent) error
	// AddNewOrchestrationEvent stores an event for an instance, durably.
	// An unknown id is api.ErrInstanceNotFound; an event for a finished instance is dropped.
	AddNewOrchestrationEvent(context.Context, api.InstanceID, *HistoryEvent) error
	// GetOrchestrationWorkItem hands out a ready instance, or returns ErrNoWorkItems at once.
	GetOrchestrationWorkItem(context.Context) (*OrchestrationWorkItem, error)
	// GetOrchestrationRuntimeState loads the history of the item's instance.
	GetOrchestrationRuntimeState(context.Context, *OrchestrationWorkItem) (*OrchestrationRuntimeState, error)
	// GetOrchestrationMetadata reads one instance; api.ErrInstanceNotFound.
	GetOrchestrationMetadata(context.Context, api.InstanceID) (*api.OrchestrationMetadata, error)
	// CompleteOrchestrationWorkItem stores the turn in the item's State,
	// atomically and durably; ErrWorkItemLockLost.
	CompleteOrchestrationWorkItem(context.Context, *OrchestrationWorkItem) error
	// AbandonOrchestrationWorkItem undoes the turn and puts the item back
	// after its GetAbandonDelay; ErrWorkItemLockLost.
	AbandonOrchestrationWorkItem(context.Context, *OrchestrationWorkItem) error
	// GetActivityWorkItem hands out a scheduled activity, or returns ErrNoWorkItems at once.
	GetActivityWorkItem(context.Context) (*ActivityWorkItem, error)
	// CompleteActivityWorkItem delivers the item's Result, durably; ErrWorkItemLockLost.
	CompleteActivityWorkItem(context.Context, *ActivityWorkItem) error
	// AbandonActivityWorkItem puts the item back, after a pause that grows from the
	// second attempt on; ErrWorkItemLockLost.
	AbandonActivityWorkItem(context.Context, *ActivityWorkItem) error
	// PurgeOrchestrationState deletes a finished instance;
	// api.ErrInstanceNotFound, api.ErrNotCompleted.
	PurgeOrchestrationState(context.Context, api.InstanceID) error
}

// WorkItem is something for a worker to do.
type WorkItem interface {
	Description() string
}

// OrchestrationWorkItem is one turn of one instance.
type OrchestrationWorkItem struct {
	InstanceID api.InstanceID
	NewEvents  []*HistoryEvent
	LockedBy   string
	RetryCount int32
	State      *OrchestrationRuntimeState
	Properties map[string]interface{}

	unbegun bool // nobody has begun it: to give it back is no attempt
}

// Description names the item for people: "<id> (<n> event(s))".
func (wi *OrchestrationWorkItem) Description() string {
	return fmt.Sprintf("%s (%d event(s))", wi.InstanceID, len(wi.NewEvents))
}

const maxAbandonDelay = 5 * time.Minute

// GetAbandonDelay is how long the item rests after it was abandoned: as many
// seconds as it was retried, at most five minutes.
func (wi *OrchestrationWorkItem) GetAbandonDelay() time.Duration {
	switch {
	case wi.RetryCount <= 0:
		return 0
	case wi.RetryCount > 100:
		return maxAbandonDelay
	}
	return time.Duration(wi.RetryCount) * time.Second
}

// ActivityWorkItem is one execution of one activity.
type ActivityWorkItem struct {
	SequenceNumber int64
	InstanceID     api.InstanceID
	NewEvent       *HistoryEvent
	Result         *HistoryEvent
	LockedBy       string
	Properties     map[string]interface{}

	lease   activityLease
	unbegun bool
}

// NotBegun reports whether the item comes back without having been begun, so
// that it counts as no attempt.
func (wi *ActivityWorkItem) NotBegun() bool { return wi.unbegun }

// Description names the item for people: "<id>/<activity>#<task id>".
func (wi *ActivityWorkItem) Description() string {
	return fmt.Sprintf("%s/%s#%d", wi.InstanceID, wi.NewEvent.GetTaskScheduled().GetName(), wi.NewEvent.GetEventId())
}

// ExecutionResults is what an executed turn wants done.
type ExecutionResults struct {
	Response *protos.OrchestratorResponse
}

// OrchestratorExecutor runs one turn of an orchestrator. It may implement TurnExecutor besides.
type OrchestratorExecutor interface {
	ExecuteOrchestrator(
		ctx context.Context,
		iid api.InstanceID,
		oldEvents []*protos.HistoryEvent,
		newEvents []*protos.HistoryEvent) (*ExecutionResults, error)
}

// ActivityExecutor runs one activity and returns its TaskCompleted or
// TaskFailed event. An error means that it could not be run and is to be tried again.
type ActivityExecutor interface {
	ExecuteActivity(context.Context, api.InstanceID, *protos.HistoryEvent) (*protos.HistoryEvent, error)
}

// Executor runs both kinds of work.
type Executor interface {
	ExecuteOrchestrator(ctx context.Context, iid api.InstanceID, oldEvents []*protos.HistoryEvent, newEvents []*protos.HistoryEvent) (*ExecutionResults, error)
	ExecuteActivity(context.Context, api.InstanceID, *protos.HistoryEvent) (*protos.HistoryEvent, error)
}

// IsMessage reports whether an event can be on its way into an instance. Only
// a turn of the instance itself writes the others, such as ExecutionCompleted.
func IsMessage(e *HistoryEvent) bool {
	switch e.GetEventType().(type) {
	case nil, *protos.HistoryEvent_ExecutionCompleted, *protos.HistoryEvent_TaskScheduled, *protos.HistoryEvent_TimerCreated,
		*protos.HistoryEvent_SubOrchestrationInstanceCreated, *protos.HistoryEvent_OrchestratorStarted,
		*protos.HistoryEvent_OrchestratorCompleted, *protos.HistoryEvent_ContinueAsNew, *protos.HistoryEvent_HistoryState:
		return false
	}
	return true
}

// MarshalHistoryEvent encodes an event as protobuf.
func MarshalHistoryEvent(e *HistoryEvent) ([]byte, error) {
	b, err := proto.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("marshal history event: %w", err)
	}
	return b, nil
}

// UnmarshalHistoryEvent decodes an event from protobuf.
func UnmarshalHistoryEvent(bytes []byte) (*HistoryEvent, error) {
	e := &protos.HistoryEvent{}
	if err := proto.Unmarshal(bytes, e); err != nil {
		return nil, fmt.Errorf("unmarshal history event: %w", err)
	}
	return e, nil
}
