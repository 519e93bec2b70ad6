package backend

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// Workers of an older kind (.NET without its scheduler package) talk to
// entities by events with JSON in them: "op" and "release" to an entity, and
// from it an event that has the request's id for a name. They become the typed
// messages as they leave the orchestration, and the answers events as they come
// back, so that an entity knows nothing of it.

const (
	legacyOperation = "op" // or "op@<time>", of a scheduled one
	legacyRelease   = "release"
)

// legacyRequest is the JSON of an operation, a lock request or a release.
type legacyRequest struct {
	Operation *string      `json:"op"`
	Signal    bool         `json:"signal"`
	Input     *string      `json:"input"`
	ID        string       `json:"id"`
	Due       *string      `json:"due"`
	LockSet   []legacyLock `json:"lockset"`
	release   bool
	due       *timestamppb.Timestamp
}

// legacyLock is an entity id: as an object, or as one text.
type legacyLock string

func (l *legacyLock) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*l = legacyLock(text)
		return nil
	}
	var id struct{ Name, Key string }
	if err := json.Unmarshal(b, &id); err != nil {
		return err
	}
	*l = legacyLock(api.NewEntityID(id.Name, id.Key).String())
	return nil
}

// parseLegacy reads an event that was sent to an entity; api.ErrInvalidInput.
func parseLegacy(name string, data *wrapperspb.StringValue) (*legacyRequest, error) {
	r := &legacyRequest{release: name == legacyRelease}
	kind, _, _ := strings.Cut(name, "@")
	if kind != legacyOperation && !r.release {
		return nil, fmt.Errorf("%w: an entity takes no event %q", api.ErrInvalidInput, name)
	}
	if err := json.Unmarshal([]byte(data.GetValue()), r); err != nil {
		return nil, fmt.Errorf("%w: entity message: %w", api.ErrInvalidInput, err)
	}
	if r.ID == "" || (!r.release && len(r.LockSet) == 0 && r.Operation == nil) {
		return nil, fmt.Errorf("%w: entity message %q has no id or no operation", api.ErrInvalidInput, r.ID)
	}
	if r.Due != nil {
		at, err := time.Parse(time.RFC3339, *r.Due)
		if err != nil { // without a zone it is UTC
			at, err = time.Parse("2006-01-02T15:04:05.999999999", *r.Due)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: entity message %q: due: %w", api.ErrInvalidInput, r.ID, err)
		}
		r.due = timestamppb.New(at)
	}
	return r, nil
}

func (r *legacyRequest) input() *wrapperspb.StringValue {
	if r.Input == nil {
		return nil
	}
	return wrapperspb.String(*r.Input)
}

func (r *legacyRequest) operation() string {
	if r.Operation == nil {
		return ""
	}
	return *r.Operation
}

func (r *legacyRequest) locks() []string {
	set := make([]string, len(r.LockSet))
	for i, l := range r.LockSet {
		set[i] = string(l)
	}
	return lockOrder(set)
}

// NewLegacyEntitySignal is the typed form of a signal that a client of the older kind
// raised as an event; api.ErrInvalidInput.
func NewLegacyEntitySignal(id api.EntityID, e *HistoryEvent) (*HistoryEvent, error) {
	r, err := parseLegacy(e.GetEventRaised().GetName(), e.GetEventRaised().GetInput())
	if err != nil {
		return nil, err
	}
	if r.release || len(r.LockSet) > 0 || !r.Signal {
		return nil, fmt.Errorf("%w: a client can only signal entity %s", api.ErrInvalidInput, id)
	}
	return NewEntitySignal(&protos.SignalEntityRequest{
		InstanceId: id.String(), Name: r.operation(), Input: r.input(), RequestId: r.ID, ScheduledTime: r.due,
	}, e.GetTimestamp().AsTime())
}

// sendLegacy sends the typed form of an event to an entity. One that cannot be
// read is dropped, as an event to an unknown instance is.
func (s *OrchestrationRuntimeState) sendLegacy(target, name string, data *wrapperspb.StringValue, ts *timestamppb.Timestamp) {
	id, err := api.EntityIDFromString(target)
	if err != nil {
		return
	}
	target = id.String()
	r, err := parseLegacy(name, data)
	var e *HistoryEvent
	switch {
	case err != nil:
		return
	case r.release:
		e = NewEntityUnlock(r.ID, string(s.instanceID), target, ts)
	case len(r.LockSet) > 0:
		set := r.locks()
		target, e = set[0], NewEntityLockRequest(r.ID, string(s.instanceID), set, 0, ts)
	case r.Signal:
		e = &HistoryEvent{EventId: -1, Timestamp: ts, EventType: &protos.HistoryEvent_EntityOperationSignaled{
			EntityOperationSignaled: &protos.EntityOperationSignaledEvent{
				RequestId: r.ID, Operation: r.operation(), Input: r.input(), ScheduledTime: r.due,
				TargetInstanceId: wrapperspb.String(target),
			},
		}}
	default:
		e = &HistoryEvent{EventId: -1, Timestamp: ts, EventType: &protos.HistoryEvent_EntityOperationCalled{
			EntityOperationCalled: &protos.EntityOperationCalledEvent{
				RequestId: r.ID, Operation: r.operation(), Input: r.input(), ScheduledTime: r.due,
				TargetInstanceId: wrapperspb.String(target),
				ParentInstanceId: wrapperspb.String(string(s.instanceID)), ParentExecutionId: wrapperspb.String(s.ExecutionID()),
			},
		}}
	}
	s.send(target, "", e)
}

// acceptLegacy takes an event that the execution sent to an entity, or that answers one.
func (l *entityLedger) acceptLegacy(e *HistoryEvent) {
	if sent := e.GetEventSent(); sent != nil {
		if !api.IsEntityID(api.InstanceID(sent.GetInstanceId())) {
			return
		}
		r, err := parseLegacy(sent.GetName(), sent.GetInput())
		if err != nil {
			return
		}
		switch {
		case r.release:
			l.unlocked(r.ID, normalEntityID(sent.GetInstanceId()))
		case len(r.LockSet) > 0:
			l.requested(r.ID, r.locks())
			l.sections[r.ID].legacy = true
		case !r.Signal:
			if l.legacy == nil {
				l.legacy = map[string]struct{}{}
			}
			l.legacy[r.ID] = struct{}{}
		}
		return
	}
	name := e.GetEventRaised().GetName()
	delete(l.legacy, name)
	if s := l.sections[name]; s != nil && s.legacy {
		s.granted = true
	}
}

// legacyAnswer is what the execution receives for e: an event, where it asked by one.
func (l *entityLedger) legacyAnswer(e *HistoryEvent) *HistoryEvent {
	var id string
	var answer struct {
		Result  *string        `json:"result"`
		Error   string         `json:"exceptionType,omitempty"`
		Details *legacyFailure `json:"failureDetails,omitempty"`
	}
	switch t := e.GetEventType().(type) {
	case *protos.HistoryEvent_EntityOperationCompleted:
		id = t.EntityOperationCompleted.GetRequestId()
		if out := t.EntityOperationCompleted.GetOutput(); out != nil {
			answer.Result = &out.Value
		}
	case *protos.HistoryEvent_EntityOperationFailed:
		f := t.EntityOperationFailed.GetFailureDetails()
		id, answer.Error, answer.Details = t.EntityOperationFailed.GetRequestId(), f.GetErrorMessage(), newLegacyFailure(f)
		if answer.Error == "" { // that there is one tells a failure
			answer.Error = "EntityOperationFailed"
		}
		b, _ := json.Marshal(answer.Error)
		text := string(b)
		answer.Result = &text
	case *protos.HistoryEvent_EntityLockGranted:
		id = t.EntityLockGranted.GetCriticalSectionId()
		if s := l.sections[id]; s == nil || !s.legacy || s.granted {
			return e
		}
		text := "Lock Acquisition Completed"
		answer.Result = &text
		return newLegacyAnswer(id, answer, e.GetTimestamp())
	default:
		return e
	}
	if _, ok := l.legacy[id]; !ok {
		return e
	}
	return newLegacyAnswer(id, answer, e.GetTimestamp())
}

func newLegacyAnswer(id string, answer any, ts *timestamppb.Timestamp) *HistoryEvent {
	b, _ := json.Marshal(answer) // texts only
	return &HistoryEvent{EventId: -1, Timestamp: ts, EventType: &protos.HistoryEvent_EventRaised{
		EventRaised: &protos.EventRaisedEvent{Name: id, Input: wrapperspb.String(string(b))},
	}}
}

type legacyFailure struct {
	ErrorType      string
	ErrorMessage   string
	StackTrace     string         `json:",omitempty"`
	InnerFailure   *legacyFailure `json:",omitempty"`
	IsNonRetriable bool
}

func newLegacyFailure(f *protos.TaskFailureDetails) *legacyFailure {
	if f == nil {
		return nil
	}
	return &legacyFailure{
		ErrorType: f.GetErrorType(), ErrorMessage: f.GetErrorMessage(), StackTrace: f.GetStackTrace().GetValue(),
		InnerFailure: newLegacyFailure(f.GetInnerFailure()), IsNonRetriable: f.GetIsNonRetriable(),
	}
}
