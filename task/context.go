package task

import (
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// OrchestrationContext is what an orchestrator knows of its execution, and the
// only way in which it may affect the world. It belongs to the orchestrator's
// goroutine.
type OrchestrationContext struct {
	ID             api.InstanceID
	Name           string
	IsReplaying    bool      // the event that user code reacts to was handled in an earlier turn
	CurrentTimeUtc time.Time // when the turn of that event began
	Version        string
	ExecutionID    string
	Tags           map[string]string

	registry *TaskRegistry
	input    *wrapperspb.StringValue
	parentID string

	feed    feed
	co      *coroutine
	journal journal
	pending map[int32]pendingOp
	retries map[*call]struct{} // that wait for their next attempt
	inbox   inbox

	requests map[string]func(*wrapperspb.StringValue, *TaskFailedError) // calls of entities that are not answered
	section  *criticalSection
	parked   []*protos.HistoryEvent // set aside while suspended
	settled  int                    // how many tasks were completed; a change is worth a look

	started, completed, suspended bool
	halted                        bool // nothing more is to be processed: terminated or non-deterministic
	stopping                      bool // the coroutine is being unwound
	inHandler                     bool // a retry handler runs
	mayBeUnexecuted               bool // see checkRecorded
	rewound                       bool // the turn at hand was: see checkRecorded

	completion   *action
	next         *nextExecution
	customStatus *wrapperspb.StringValue
	guids        int
}

// nextExecution is what ContinueAsNew asked for.
type nextExecution struct {
	input      *wrapperspb.StringValue
	err        error
	keepEvents bool
}

// NewOrchestrationContext makes a context that has not begun: oldEvents were
// handled in earlier turns, newEvents are those of this one.
func NewOrchestrationContext(
	registry *TaskRegistry, id api.InstanceID, oldEvents, newEvents []*protos.HistoryEvent,
) *OrchestrationContext {
	return &OrchestrationContext{
		ID: id, registry: registry, pending: map[int32]pendingOp{}, retries: map[*call]struct{}{},
		requests: map[string]func(*wrapperspb.StringValue, *TaskFailedError){},
		feed:     feed{old: oldEvents, new: newEvents}, inbox: newInbox(),
	}
}

// GetInput decodes the input of this execution into v; without input it leaves v as it is.
func (ctx *OrchestrationContext) GetInput(v any) error {
	return decode("orchestration input", ctx.input, v)
}

// CreateTimer makes a durable timer. Zero and negative delays fire in the next turn.
func (ctx *OrchestrationContext) CreateTimer(delay time.Duration) Task {
	return ctx.CreateTimerAt(ctx.CurrentTimeUtc.Add(delay))
}

// CreateTimerAt makes a durable timer that fires at t, or in the next turn
// where t is past. A t after the year 9999 is its end.
func (ctx *OrchestrationContext) CreateTimerAt(t time.Time) Task {
	h := ctx.newHandle("timer")
	ctx.startTimer(t, func() { h.complete(nil) })
	return h
}

var (
	minTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	maxTime = time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
)

// startTimer schedules a timer action; fired is called once.
func (ctx *OrchestrationContext) startTimer(t time.Time, fired func()) {
	switch {
	case ctx.closed():
		return
	case t.After(maxTime):
		t = maxTime
	case t.Before(minTime):
		t = minTime
	}
	a := ctx.journal.add(kindTimer, "", &protos.OrchestratorAction{
		OrchestratorActionType: &protos.OrchestratorAction_CreateTimer{
			CreateTimer: &protos.CreateTimerAction{FireAt: timestamppb.New(t)},
		},
	})
	ctx.pending[a.GetId()] = pendingOp{kindTimer, func(*wrapperspb.StringValue, *TaskFailedError) { fired() }}
}

// WaitForSingleEvent waits for an external event; names are compared without
// regard to case, and each event completes one wait, in order. A negative
// timeout waits for ever; with 0 the task is done at once, with an event that
// has been received already or with [ErrTaskCanceled]; otherwise a durable
// timer cancels it. An event that was received before never loses to the timer.
func (ctx *OrchestrationContext) WaitForSingleEvent(eventName string, timeout time.Duration) Task {
	h := ctx.newHandle("event " + eventName)
	if ctx.closed() || ctx.inbox.take(eventName, h) {
		return h
	}
	if timeout == 0 {
		h.fail(ErrTaskCanceled)
		return h
	}
	ctx.inbox.wait(eventName, h)
	if timeout > 0 {
		h.deadline = ctx.CurrentTimeUtc.Add(timeout)
		ctx.startTimer(h.deadline, func() {
			if !h.done {
				ctx.inbox.forget(eventName, h)
				h.fail(ErrTaskCanceled)
			}
		})
	}
	return h
}

// SendEvent raises an event of another instance, with the payload as JSON, or
// without one where payload is nil. Refused arguments are errors that wrap
// [api.ErrInvalidInput].
func (ctx *OrchestrationContext) SendEvent(instanceID api.InstanceID, name string, payload any) error {
	if instanceID == api.EmptyInstanceID || name == "" {
		return fmt.Errorf("%w: send event %q to %q: instance id and name must not be empty",
			api.ErrInvalidInput, name, instanceID)
	}
	if !utf8.ValidString(name) || !utf8.ValidString(string(instanceID)) {
		return fmt.Errorf("send event %.100q to %.100q: %w", name, instanceID, errNotUTF8)
	}
	data, err := encode("payload of event "+name, payload)
	if err != nil || ctx.closed() {
		return err
	}
	ctx.journal.add(kindSend, sendName(name, string(instanceID)), &protos.OrchestratorAction{
		OrchestratorActionType: &protos.OrchestratorAction_SendEvent{SendEvent: &protos.SendEventAction{
			Instance: &protos.OrchestrationInstance{InstanceId: string(instanceID)}, Name: name, Data: data,
		}},
	})
	return nil
}

func sendName(name, target string) string { return name + " to " + target }

// ContinueAsNewOption sets one thing of ContinueAsNew.
type ContinueAsNewOption func(*OrchestrationContext)

// WithKeepUnprocessedEvents carries the events that no wait has consumed over
// to the next execution, in the order of their arrival. Without it they are dropped.
func WithKeepUnprocessedEvents() ContinueAsNewOption {
	return func(ctx *OrchestrationContext) { ctx.next.keepEvents = true }
}

// ContinueAsNew starts the orchestration over with a new input and an empty
// history once its function returns without an error. Actions issued before
// take effect, but nobody learns their results. The last call counts.
func (ctx *OrchestrationContext) ContinueAsNew(newInput any, options ...ContinueAsNewOption) {
	if ctx.closed() {
		return
	}
	ctx.next = &nextExecution{}
	ctx.next.input, ctx.next.err = encode("continue-as-new input", newInput)
	for _, set := range options {
		if set != nil {
			set(ctx)
		}
	}
}

// SetCustomStatus sets the custom status that clients see after this turn. What
// is not valid UTF-8 is replaced.
func (ctx *OrchestrationContext) SetCustomStatus(cs string) {
	if !ctx.closed() {
		ctx.customStatus = wrapperspb.String(readable(cs))
	}
}

var guidNamespace = uuid.MustParse("f5a2b0e1-6c5d-5e0e-9a39-2d1c5f0f8a61")

// NewGuid returns a UUID that is unique to this execution and this call, and
// the same on replay: version 5 of the instance id, the execution id and a counter.
func (ctx *OrchestrationContext) NewGuid() uuid.UUID {
	ctx.guids++
	return uuid.NewSHA1(guidNamespace, fmt.Appendf(nil, "%q %q %d", string(ctx.ID), ctx.ExecutionID, ctx.guids))
}

// Logger returns the default logger with the instance and the orchestrator's
// name; it is silent while the orchestrator replays.
func (ctx *OrchestrationContext) Logger() *slog.Logger {
	return slog.New(replayHandler{slog.Default().Handler(), ctx}).
		With("instance", string(ctx.ID), "orchestrator", ctx.Name)
}

// closed reports whether calls have no effect any more.
func (ctx *OrchestrationContext) closed() bool { return ctx.stopping || ctx.halted || ctx.completed }
