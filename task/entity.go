package task

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// Entity is the code of all entities of one name: it runs one operation, and
// its result goes to the caller. It may do anything, I/O too. Where it fails or panics, its
// changes of the state and its messages are undone.
type Entity func(ctx *EntityContext) (any, error)

// AddEntity registers an entity under the name of its function.
func (r *TaskRegistry) AddEntity(e Entity) error {
	return r.AddEntityN(functionName(reflect.ValueOf(e)), e)
}

// AddEntityN registers an entity under a name, as AddOrchestratorN does. The
// names of entities are compared without regard to case and contain no "@".
func (r *TaskRegistry) AddEntityN(name string, e Entity) error {
	if strings.Contains(name, "@") {
		return fmt.Errorf("%w: entity name %q contains an @", api.ErrInvalidInput, name)
	}
	return register(r, r.entities, "entity", strings.ToLower(name), e, e == nil)
}

func (r *TaskRegistry) entity(name string) (Entity, bool) {
	return lookUp(r, r.entities, strings.ToLower(name))
}

// EntityContext is what one operation of an entity knows, and its way to
// change the state and to send messages. It must not be used after its function returned.
type EntityContext struct {
	ID        api.EntityID
	Operation string

	ctx   context.Context //nolint:containedctx // it is what Context returns
	input *wrapperspb.StringValue
	state *wrapperspb.StringValue // nil: none
	began time.Time
	sent  []*protos.OperationAction
}

// Context ends when the worker stops.
func (e *EntityContext) Context() context.Context { return e.ctx }

// CurrentTimeUTC is when the operation began.
func (e *EntityContext) CurrentTimeUTC() time.Time { return e.began }

// GetInput decodes the input of the operation into v; without input it leaves v as it is.
func (e *EntityContext) GetInput(v any) error { return decode("entity input", e.input, v) }

// HasState reports whether the entity has a state.
func (e *EntityContext) HasState() bool { return e.state != nil }

// GetState decodes the state into v; without a state it leaves v as it is.
func (e *EntityContext) GetState(v any) error { return decode("entity state", e.state, v) }

// SetState replaces the state, as JSON; nil deletes it.
func (e *EntityContext) SetState(state any) error {
	s, err := encode("entity state", state)
	if err == nil {
		e.state = s
	}
	return err
}

// DeleteState deletes the state: the entity is as if it had never been there.
func (e *EntityContext) DeleteState() { e.state = nil }

// SignalEntity sends an operation to another entity, or to this one, once this
// operation's batch is durable; nobody learns its result.
func (e *EntityContext) SignalEntity(id api.EntityID, operation string, input any, opts ...SignalEntityOption) error {
	o, err := signalOptions(id, operation, append([]SignalEntityOption{WithSignalEntityInput(input)}, opts...))
	if err != nil {
		return err
	}
	e.send(&protos.OperationAction{OperationActionType: &protos.OperationAction_SendSignal{
		SendSignal: &protos.SendSignalAction{InstanceId: id.String(), Name: operation, Input: o.input, ScheduledTime: o.at},
	}})
	return nil
}

func (e *EntityContext) send(a *protos.OperationAction) {
	a.Id = int32(len(e.sent))
	e.sent = append(e.sent, a)
}

type entityStartOptions struct {
	input      *wrapperspb.StringValue
	instanceID api.InstanceID
	at         *timestamppb.Timestamp
}

// EntityStartOption sets one thing of a start by an entity.
type EntityStartOption func(*entityStartOptions) error

// WithEntityStartOrchestrationInput gives the orchestration an input, as JSON; nil is no input.
func WithEntityStartOrchestrationInput(input any) EntityStartOption {
	return func(o *entityStartOptions) (err error) {
		o.input, err = encode("orchestration input", input)
		return err
	}
}

// WithEntityStartOrchestrationInstanceID gives the orchestration an explicit
// id; without it the id is a random UUID.
func WithEntityStartOrchestrationInstanceID(id api.InstanceID) EntityStartOption {
	return func(o *entityStartOptions) error { o.instanceID = id; return nil }
}

// WithEntityStartOrchestrationTime delays the start until t.
func WithEntityStartOrchestrationTime(t time.Time) EntityStartOption {
	return func(o *entityStartOptions) (err error) { o.at, err = timestamp("start time", t); return err }
}

// StartNewOrchestration starts an orchestration, given by name or as a
// function, once this operation's batch is durable. A finished instance that
// has the id is replaced; where an unfinished one has it, nothing is started.
func (e *EntityContext) StartNewOrchestration(orchestrator any, opts ...EntityStartOption) error {
	name, err := taskName("orchestrator", orchestrator)
	var o entityStartOptions
	for _, set := range opts {
		if set != nil && err == nil {
			err = set(&o)
		}
	}
	if err == nil && api.IsEntityID(o.instanceID) {
		err = fmt.Errorf("%w: instance id %q begins with @, which is kept for entities", api.ErrInvalidInput, o.instanceID)
	}
	if err != nil {
		return err
	}
	e.send(&protos.OperationAction{OperationActionType: &protos.OperationAction_StartNewOrchestration{
		StartNewOrchestration: &protos.StartNewOrchestrationAction{
			InstanceId: string(o.instanceID), Name: name, Input: o.input, ScheduledTime: o.at,
		},
	}})
	return nil
}

func timestamp(what string, t time.Time) (*timestamppb.Timestamp, error) {
	ts := timestamppb.New(t)
	if err := ts.CheckValid(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", api.ErrInvalidInput, what, err)
	}
	return ts, nil
}

var _ backend.EntityExecutor = (*executor)(nil)

// ExecuteEntity runs the operations one after the other. It stops early, with
// the results so far, where its context ends.
func (x *executor) ExecuteEntity(ctx context.Context, r *protos.EntityRequest) (*protos.EntityBatchResult, error) {
	id, err := api.EntityIDFromString(r.GetInstanceId())
	if err != nil {
		return nil, err
	}
	batch := &protos.EntityBatchResult{EntityState: r.GetEntityState()}
	f, ok := x.registry.entity(id.Name)
	for _, e := range r.GetOperationRequests() {
		if ctx.Err() != nil && len(batch.Results) > 0 {
			break
		} else if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		op := &EntityContext{ID: id, ctx: ctx, state: batch.GetEntityState(), began: time.Now().UTC()}
		switch t := e.GetEventType().(type) {
		case *protos.HistoryEvent_EntityOperationCalled:
			op.Operation, op.input = t.EntityOperationCalled.GetOperation(), t.EntityOperationCalled.GetInput()
		case *protos.HistoryEvent_EntityOperationSignaled:
			op.Operation, op.input = t.EntityOperationSignaled.GetOperation(), t.EntityOperationSignaled.GetInput()
		default:
			return nil, fmt.Errorf("%w: operation of %s: the event is a %s", api.ErrInvalidInput, id, eventName(e))
		}
		var output *wrapperspb.StringValue
		failure := &protos.TaskFailureDetails{
			ErrorType: ErrorTypeEntityNotRegistered, IsNonRetriable: true,
			ErrorMessage: fmt.Sprintf("entity named '%s' is not registered", id.Name),
		}
		if ok {
			output, failure = op.run(f)
		}
		result := &protos.OperationResult{}
		if failure != nil {
			result.ResultType = &protos.OperationResult_Failure{Failure: &protos.OperationResultFailure{
				FailureDetails: failure, StartTimeUtc: timestamppb.New(op.began), EndTimeUtc: timestamppb.Now(),
			}}
		} else {
			batch.EntityState = op.state
			for _, a := range op.sent {
				a.Id = int32(len(batch.Actions))
				batch.Actions = append(batch.Actions, a)
			}
			result.ResultType = &protos.OperationResult_Success{Success: &protos.OperationResultSuccess{
				Result: output, StartTimeUtc: timestamppb.New(op.began), EndTimeUtc: timestamppb.Now(),
			}}
		}
		batch.Results = append(batch.Results, result)
	}
	return batch, nil
}

// run runs the operation in a goroutine of its own and waits for it.
func (e *EntityContext) run(f Entity) (output *wrapperspb.StringValue, failure *protos.TaskFailureDetails) {
	failure = crash{goexit: true}.details("") // unless the function returns
	done := make(chan struct{})
	go func() {
		defer close(done)
		protect(func() {
			v, err := f(e)
			var s *wrapperspb.StringValue
			if err == nil {
				s, err = encode("entity output", v)
			}
			if output, failure = s, nil; err != nil {
				failure = failureDetails(err)
			}
		}, func(cr crash) { output, failure = nil, cr.details(ErrorTypePanic) })
	}()
	<-done
	return output, failure
}
