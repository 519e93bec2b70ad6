package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/google/uuid"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// TaskHubClient starts orchestrations and talks to them. Its errors name the
// operation and wrap the sentinels of the backend and of package api.
type TaskHubClient interface {
	// ScheduleNewOrchestration starts an instance of an orchestrator, given by
	// name or as a function, and returns its id. A taken id is ErrDuplicateEvent
	// unless a reuse policy allows to replace its instance.
	ScheduleNewOrchestration(ctx context.Context, orchestrator interface{}, opts ...api.NewOrchestrationOptions) (api.InstanceID, error)
	// FetchOrchestrationMetadata reads one instance; api.ErrInstanceNotFound.
	FetchOrchestrationMetadata(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error)
	// WaitForOrchestrationStart waits until the instance has left PENDING; api.ErrInstanceNotFound.
	// Where ctx ends first it returns ctx.Err() itself.
	WaitForOrchestrationStart(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error)
	// WaitForOrchestrationCompletion waits until the instance is over; api.ErrInstanceNotFound.
	// Where ctx ends first it returns ctx.Err() itself.
	WaitForOrchestrationCompletion(ctx context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error)
	// TerminateOrchestration ends the instance and its sub-orchestrations; the
	// reason becomes its raw output. api.ErrInstanceNotFound.
	TerminateOrchestration(ctx context.Context, id api.InstanceID, reason string) error
	// RaiseEvent sends an event; api.ErrInstanceNotFound. The data becomes its
	// payload as JSON: none for nil; an api.RaiseEventOptions is applied instead.
	RaiseEvent(ctx context.Context, id api.InstanceID, eventName string, data any) error
	// SuspendOrchestration pauses the instance; api.ErrInstanceNotFound.
	SuspendOrchestration(ctx context.Context, id api.InstanceID, reason string) error
	// ResumeOrchestration ends a pause; api.ErrInstanceNotFound.
	ResumeOrchestration(ctx context.Context, id api.InstanceID, reason string) error
	// PurgeOrchestrationState deletes one finished instance;
	// api.ErrInstanceNotFound, api.ErrNotCompleted.
	PurgeOrchestrationState(ctx context.Context, id api.InstanceID) error
}

// Client is a TaskHubClient with what operators need besides. Where the backend
// lacks the optional interface for a call, the call returns api.ErrUnsupported.
type Client interface {
	TaskHubClient
	EntityClient
	// Terminate ends the instance and, unless told otherwise, its
	// sub-orchestrations; api.ErrInstanceNotFound.
	Terminate(ctx context.Context, id api.InstanceID, opts ...api.TerminateOptions) error
	// ForceTerminate ends the instance without running it and without loading its history.
	ForceTerminate(ctx context.Context, id api.InstanceID, opts ...api.TerminateOptions) error
	// Purge deletes a finished instance and, unless told otherwise, its
	// finished descendants, and returns how many were deleted;
	// api.ErrInstanceNotFound, api.ErrNotCompleted.
	Purge(ctx context.Context, id api.InstanceID, opts ...api.PurgeOptions) (int, error)
	// ForcePurge deletes the instance and its descendants in whatever state they are.
	ForcePurge(ctx context.Context, id api.InstanceID) (int, error)
	// Query lists instances.
	Query(ctx context.Context, q api.InstanceQuery) (*api.InstancePage, error)
	// CountInstances counts the instances of a query by status; order, paging and payloads do not count.
	CountInstances(ctx context.Context, q api.InstanceQuery) (map[api.OrchestrationStatus]int64, error)
	// History reads the stored history, oldest event first, in portions; an
	// error of f ends it and is returned. api.ErrInstanceNotFound.
	History(ctx context.Context, id api.InstanceID, f func([]*HistoryEvent) error) error
	// Rewind lets a failed instance go on from before its failure;
	// api.ErrInstanceNotFound, api.ErrNotFailed.
	Rewind(ctx context.Context, id api.InstanceID, reason string) error
	// Restart starts the orchestrator of the instance again, with the same
	// input, version and tags, and returns the id: a new one where newID is
	// set, else the same, which must be over. api.ErrInstanceNotFound, api.ErrNotCompleted.
	Restart(ctx context.Context, id api.InstanceID, newID bool) (api.InstanceID, error)
}

type backendClient struct{ be Backend }

// NewTaskHubClient returns a client of the backend in this process. The value also implements Client.
func NewTaskHubClient(be Backend) TaskHubClient { return NewClient(be) }

// NewClient returns a client of the backend in this process.
func NewClient(be Backend) Client { return &backendClient{be: be} }

func (c *backendClient) ScheduleNewOrchestration(
	ctx context.Context, orchestrator interface{}, opts ...api.NewOrchestrationOptions,
) (api.InstanceID, error) {
	name, err := OrchestratorName(orchestrator)
	if err != nil {
		return api.EmptyInstanceID, fmt.Errorf("start orchestration: %w", err)
	}
	req := &protos.CreateInstanceRequest{Name: name}
	for _, f := range opts {
		if err := f(req); err != nil {
			return api.EmptyInstanceID, fmt.Errorf("start orchestration %.100q: %w", name, err)
		}
	}
	if err := startInstance(ctx, c.be, req); err != nil {
		return api.EmptyInstanceID, err
	}
	return api.InstanceID(req.GetInstanceId()), nil
}

// OrchestratorName is the name that ScheduleNewOrchestration starts: a string
// as it is, or the bare name of a function. Anything else is api.ErrInvalidInput.
func OrchestratorName(orchestrator any) (string, error) {
	name := ""
	switch v := reflect.ValueOf(orchestrator); {
	case !v.IsValid():
	case v.Kind() == reflect.String:
		name = v.String()
	case v.Kind() == reflect.Func && !v.IsNil():
		name = strings.TrimSuffix(runtime.FuncForPC(v.Pointer()).Name(), "[...]")
		name = strings.TrimSuffix(name[strings.LastIndexByte(name, '.')+1:], "-fm")
	}
	if name == "" {
		return "", fmt.Errorf("%w: the orchestrator is a %T, want a name or a function",
			api.ErrInvalidInput, orchestrator)
	}
	return name, nil
}

// startInstance stores the instance that req asks for, and makes an id where it has
// none. Without a policy a taken id is refused.
func startInstance(ctx context.Context, be Backend, req *protos.CreateInstanceRequest) (err error) {
	fresh, _ := be.(FreshCreator)
	if req.GetInstanceId() != "" {
		fresh = nil
	} else {
		req.InstanceId = uuid.NewString()
	}
	start := &HistoryEvent{
		EventId: -1, Timestamp: timestamppb.New(timeIn(be)),
		EventType: &protos.HistoryEvent_ExecutionStarted{ExecutionStarted: &protos.ExecutionStartedEvent{
			Name: req.GetName(), Version: req.GetVersion(), Input: req.GetInput(), Tags: req.GetTags(),
			OrchestrationInstance: &protos.OrchestrationInstance{
				InstanceId: req.GetInstanceId(), ExecutionId: wrapperspb.String(NewExecutionID()),
			},
			ScheduledStartTimestamp: req.GetScheduledStartTimestamp(),
			ParentTraceContext:      cmp.Or(req.GetParentTraceContext(), traceContext(ctx)),
		}},
	}
	if policy := req.GetOrchestrationIdReusePolicy(); fresh != nil {
		err = fresh.CreateFreshInstance(ctx, start)
	} else if policy == nil {
		err = be.CreateOrchestrationInstance(ctx, start)
	} else if r, ok := be.(InstanceReplacer); ok {
		err = r.CreateOrReplaceInstance(ctx, start, policy)
	} else {
		err = fmt.Errorf("%w: id reuse policy", api.ErrUnsupported)
	}
	if err != nil {
		return fmt.Errorf("start orchestration %.100q as %.100q: %w", req.GetName(), req.GetInstanceId(), err)
	}
	return nil
}

// terminalPolicy lets a start replace an instance that is over.
func terminalPolicy() *protos.OrchestrationIdReusePolicy {
	return &protos.OrchestrationIdReusePolicy{ReplaceableStatus: []protos.OrchestrationStatus{
		api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED,
		api.RUNTIME_STATUS_TERMINATED, api.RUNTIME_STATUS_CANCELED,
	}}
}

func (c *backendClient) FetchOrchestrationMetadata(
	ctx context.Context, id api.InstanceID,
) (*api.OrchestrationMetadata, error) {
	m, err := c.be.GetOrchestrationMetadata(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("fetch metadata of %q: %w", id, err)
	}
	return m, nil
}

func (c *backendClient) WaitForOrchestrationStart(
	ctx context.Context, id api.InstanceID,
) (*api.OrchestrationMetadata, error) {
	return awaitInstance(ctx, c.be, id, false)
}

func (c *backendClient) WaitForOrchestrationCompletion(
	ctx context.Context, id api.InstanceID,
) (*api.OrchestrationMetadata, error) {
	return awaitInstance(ctx, c.be, id, true)
}

// awaitInstance polls only a backend that cannot wait.
func awaitInstance(
	ctx context.Context, be Backend, id api.InstanceID, completed bool,
) (*api.OrchestrationMetadata, error) {
	what := "start"
	if completed {
		what = "completion"
	}
	fail := func(err error) (*api.OrchestrationMetadata, error) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("wait for the %s of %q: %w", what, id, err)
	}
	if a, ok := be.(InstanceAwaiter); ok {
		m, err := a.AwaitInstance(ctx, id, completed)
		if err != nil {
			return fail(err)
		}
		return m, nil
	}
	for d := pollMin; ; d = min(d*3/2, pollMax) {
		m, err := be.GetOrchestrationMetadata(ctx, id)
		if err != nil {
			return fail(err)
		}
		if m.IsComplete() || !completed && m.RuntimeStatus != api.RUNTIME_STATUS_PENDING {
			return m, nil
		}
		if !pause(ctx, d) {
			return nil, ctx.Err()
		}
	}
}

func (c *backendClient) TerminateOrchestration(ctx context.Context, id api.InstanceID, reason string) error {
	return terminate(ctx, c.be, id, optionalText(reason), true)
}

func (c *backendClient) RaiseEvent(ctx context.Context, id api.InstanceID, eventName string, data any) error {
	req := &protos.RaiseEventRequest{InstanceId: string(id), Name: eventName}
	if err := api.WithEventData(data)(req); err != nil {
		if !errors.Is(err, api.ErrInvalidInput) {
			err = fmt.Errorf("%w: %w", api.ErrInvalidInput, err)
		}
		return fmt.Errorf("raise event %.100q to %q: %w", eventName, id, err)
	}
	return raiseEvent(ctx, c.be, id, req.GetName(), req.GetInput())
}

func (c *backendClient) SuspendOrchestration(ctx context.Context, id api.InstanceID, reason string) error {
	return suspend(ctx, c.be, id, optionalText(reason))
}

func (c *backendClient) ResumeOrchestration(ctx context.Context, id api.InstanceID, reason string) error {
	return resume(ctx, c.be, id, optionalText(reason))
}

func (c *backendClient) PurgeOrchestrationState(ctx context.Context, id api.InstanceID) error {
	if err := c.be.PurgeOrchestrationState(ctx, id); err != nil {
		return fmt.Errorf("purge %q: %w", id, err)
	}
	return nil
}

func optionalText(s string) *wrapperspb.StringValue {
	if s == "" {
		return nil
	}
	return wrapperspb.String(s)
}

// The functions below send one event each; in-process clients and the gRPC service share them.

func terminate(
	ctx context.Context, be Backend, id api.InstanceID, output *wrapperspb.StringValue, recurse bool,
) error {
	return sendEvent(ctx, be, id, "terminate", &HistoryEvent{EventType: &protos.HistoryEvent_ExecutionTerminated{
		ExecutionTerminated: &protos.ExecutionTerminatedEvent{Input: output, Recurse: recurse},
	}})
}

func raiseEvent(
	ctx context.Context, be Backend, id api.InstanceID, name string, input *wrapperspb.StringValue,
) error {
	if name == "" {
		return fmt.Errorf("raise event to %q: %w: the event has no name", id, api.ErrInvalidInput)
	}
	e := &HistoryEvent{EventType: &protos.HistoryEvent_EventRaised{
		EventRaised: &protos.EventRaisedEvent{Name: name, Input: input},
	}}
	return sendEvent(ctx, be, id, fmt.Sprintf("raise event %.100q to", name), e)
}

func suspend(ctx context.Context, be Backend, id api.InstanceID, reason *wrapperspb.StringValue) error {
	return sendEvent(ctx, be, id, "suspend", &HistoryEvent{EventType: &protos.HistoryEvent_ExecutionSuspended{
		ExecutionSuspended: &protos.ExecutionSuspendedEvent{Input: reason},
	}})
}

func resume(ctx context.Context, be Backend, id api.InstanceID, reason *wrapperspb.StringValue) error {
	return sendEvent(ctx, be, id, "resume", &HistoryEvent{EventType: &protos.HistoryEvent_ExecutionResumed{
		ExecutionResumed: &protos.ExecutionResumedEvent{Input: reason},
	}})
}

func sendEvent(ctx context.Context, be Backend, id api.InstanceID, what string, e *HistoryEvent) error {
	e.EventId, e.Timestamp = -1, timestamppb.New(timeIn(be))
	if err := be.AddNewOrchestrationEvent(ctx, id, e); err != nil {
		return fmt.Errorf("%s %q: %w", what, id, err)
	}
	return nil
}
