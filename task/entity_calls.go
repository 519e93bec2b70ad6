package task

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// ErrCriticalSection says that a call is not allowed inside of a critical
// section, or while one is being entered. It wraps api.ErrInvalidInput.
var ErrCriticalSection = fmt.Errorf("%w: critical section", api.ErrInvalidInput)

type (
	callEntityOptions   struct{ input *wrapperspb.StringValue }
	signalEntityOptions struct {
		input *wrapperspb.StringValue
		at    *timestamppb.Timestamp
	}

	// CallEntityOption sets one thing of a call of an entity.
	CallEntityOption func(*callEntityOptions) error
	// SignalEntityOption sets one thing of a signal to an entity.
	SignalEntityOption func(*signalEntityOptions) error
)

// WithEntityInput gives the operation an input, as JSON; nil is no input.
func WithEntityInput(input any) CallEntityOption {
	return func(o *callEntityOptions) (err error) { o.input, err = encode("entity input", input); return err }
}

// WithRawEntityInput gives the operation an input as it is.
func WithRawEntityInput(input string) CallEntityOption {
	return func(o *callEntityOptions) error { o.input = wrapperspb.String(input); return nil }
}

// WithSignalEntityInput gives the operation an input, as JSON; nil is no input.
func WithSignalEntityInput(input any) SignalEntityOption {
	return func(o *signalEntityOptions) (err error) { o.input, err = encode("signal input", input); return err }
}

// WithRawSignalEntityInput gives the operation an input as it is.
func WithRawSignalEntityInput(input string) SignalEntityOption {
	return func(o *signalEntityOptions) error { o.input = wrapperspb.String(input); return nil }
}

// WithSignalEntityScheduledTime delivers the signal at t, or at once where t is past.
func WithSignalEntityScheduledTime(t time.Time) SignalEntityOption {
	return func(o *signalEntityOptions) (err error) { o.at, err = timestamp("scheduled time", t); return err }
}

func signalOptions(id api.EntityID, operation string, opts []SignalEntityOption) (o signalEntityOptions, err error) {
	err = checkOperation(id, operation)
	for _, set := range opts {
		if set != nil && err == nil {
			err = set(&o)
		}
	}
	return o, err
}

func checkOperation(id api.EntityID, operation string) error {
	if operation == "" {
		return fmt.Errorf("%w: operation of entity %s has no name", api.ErrInvalidInput, id)
	}
	return id.Check()
}

// criticalSection is the one that an orchestrator is in, or enters.
type criticalSection struct {
	id      string
	locks   []string        // ids of the entities, in the order of locking
	busy    map[string]bool // has a call that is not answered
	entered bool
	handle  *handle
}

// CallEntity runs an operation of an entity and gives its result. Refused
// arguments give a failed task and call nothing; so does, inside of a critical section,
// an entity that is not locked or that has a call going on.
func (ctx *OrchestrationContext) CallEntity(id api.EntityID, operation string, opts ...CallEntityOption) Task {
	err := checkOperation(id, operation)
	var o callEntityOptions
	for _, set := range opts {
		if set != nil && err == nil {
			err = set(&o)
		}
	}
	target := id.String()
	if s := ctx.section; err == nil && s != nil {
		switch {
		case !s.entered:
			err = fmt.Errorf("%w: %s is called while the locks are not there yet", ErrCriticalSection, target)
		case !slices.Contains(s.locks, target):
			err = fmt.Errorf("%w: %s is called, which is not locked", ErrCriticalSection, target)
		case s.busy[target]:
			err = fmt.Errorf("%w: %s is called while a call of it goes on", ErrCriticalSection, target)
		}
	}
	h := ctx.newHandle("operation " + operation + " of " + target)
	switch {
	case err != nil:
		h.fail(refused(operation, err))
		return h
	case ctx.closed():
		return h
	}
	a := ctx.journal.add(kindEntityCall, operationName(operation, target), nil)
	request := ctx.requestID(a.GetId())
	a.sends(&protos.SendEntityMessageAction{EntityMessageType: &protos.SendEntityMessageAction_EntityOperationCalled{
		EntityOperationCalled: &protos.EntityOperationCalledEvent{
			RequestId: request, Operation: operation, Input: o.input, TargetInstanceId: wrapperspb.String(target),
			ParentInstanceId: wrapperspb.String(string(ctx.ID)), ParentExecutionId: wrapperspb.String(ctx.ExecutionID),
		},
	}})
	actionID, began, section := a.GetId(), ctx.CurrentTimeUtc, ctx.section
	if section != nil {
		section.busy[target] = true
	}
	ctx.requests[request] = func(result *wrapperspb.StringValue, failure *TaskFailedError) {
		if section != nil {
			delete(section.busy, target)
		}
		if failure == nil {
			h.complete(result)
			return
		}
		failure.TaskName, failure.TaskID, failure.Attempt = operation, actionID, 1
		failure.Elapsed = ctx.CurrentTimeUtc.Sub(began)
		h.fail(failure)
	}
	return h
}

// SignalEntity sends an operation to an entity; nobody learns its result. An
// entity that this orchestration has locked must not be signalled.
func (ctx *OrchestrationContext) SignalEntity(id api.EntityID, operation string, opts ...SignalEntityOption) error {
	o, err := signalOptions(id, operation, opts)
	target := id.String()
	if err == nil && ctx.section != nil && slices.Contains(ctx.section.locks, target) {
		err = fmt.Errorf("%w: %s is signalled, which is locked", ErrCriticalSection, target)
	}
	if err != nil || ctx.closed() {
		return err
	}
	a := ctx.journal.add(kindEntitySignal, operationName(operation, target), nil)
	a.sends(&protos.SendEntityMessageAction{EntityMessageType: &protos.SendEntityMessageAction_EntityOperationSignaled{
		EntityOperationSignaled: &protos.EntityOperationSignaledEvent{
			RequestId: ctx.requestID(a.GetId()), Operation: operation, Input: o.input, ScheduledTime: o.at,
			TargetInstanceId: wrapperspb.String(target),
		},
	}})
	return nil
}

// LockEntities enters a critical section: it blocks until all the entities are
// locked. Until release is called, or the orchestration ends or continues as
// new, only this orchestration's calls run at them. Inside of it no other
// entity may be called, no second section entered and no sub-orchestration
// called; the errors wrap [ErrCriticalSection]. release may be called more than once.
func (ctx *OrchestrationContext) LockEntities(ids ...api.EntityID) (release func(), err error) {
	release = func() {}
	if ctx.section != nil {
		return release, fmt.Errorf("%w: one is entered already", ErrCriticalSection)
	}
	s := &criticalSection{busy: map[string]bool{}}
	for _, id := range ids {
		err = errors.Join(err, id.Check())
		s.locks = append(s.locks, id.String())
	}
	slices.Sort(s.locks)
	s.locks = slices.Compact(s.locks)
	if len(s.locks) == 0 {
		err = fmt.Errorf("%w: no entities to lock", api.ErrInvalidInput)
	}
	if err != nil || ctx.closed() {
		return release, err
	}
	a := ctx.journal.add(kindLock, fmt.Sprint(s.locks), nil)
	s.id, s.handle, ctx.section = ctx.requestID(a.GetId()), ctx.newHandle("locks"), s
	a.sends(&protos.SendEntityMessageAction{EntityMessageType: &protos.SendEntityMessageAction_EntityLockRequested{
		EntityLockRequested: &protos.EntityLockRequestedEvent{
			CriticalSectionId: s.id, LockSet: s.locks, ParentInstanceId: wrapperspb.String(string(ctx.ID)),
		},
	}})
	if err := s.handle.Await(nil); err != nil {
		return release, err
	}
	return func() { ctx.leave(s) }, nil
}

// leave gives back the locks of a section.
func (ctx *OrchestrationContext) leave(s *criticalSection) {
	if ctx.section != s || ctx.closed() {
		return
	}
	ctx.section = nil
	for _, target := range s.locks {
		a := ctx.journal.add(kindUnlock, target, nil)
		a.sends(&protos.SendEntityMessageAction{EntityMessageType: &protos.SendEntityMessageAction_EntityUnlockSent{
			EntityUnlockSent: &protos.EntityUnlockSentEvent{
				CriticalSectionId: s.id, ParentInstanceId: wrapperspb.String(string(ctx.ID)), TargetInstanceId: wrapperspb.String(target),
			},
		}})
	}
}

// granted says that all locks of a section are there.
func (ctx *OrchestrationContext) granted(id string) {
	if s := ctx.section; s != nil && s.id == id && !s.entered {
		s.entered = true
		s.handle.complete(nil)
	}
}

// answered delivers the result of a call of an entity.
func (ctx *OrchestrationContext) answered(request string, result *wrapperspb.StringValue, failure *TaskFailedError) {
	if f := ctx.requests[request]; f != nil {
		delete(ctx.requests, request)
		f(result, failure)
	}
}

func operationName(operation, target string) string { return operation + " of " + target }

// requestID is the same for one action of one execution, whenever it is replayed.
func (ctx *OrchestrationContext) requestID(action int32) string {
	return uuid.NewSHA1(guidNamespace, fmt.Appendf(nil, "entity %q %q %d", string(ctx.ID), ctx.ExecutionID, action)).String()
}

func (a *action) sends(m *protos.SendEntityMessageAction) {
	a.OrchestratorActionType = &protos.OrchestratorAction_SendEntityMessage{SendEntityMessage: m}
}
