package task

import (
	"fmt"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// feed is the events of a turn: those of earlier turns where it replays, then the new ones.
type feed struct {
	old, new []*protos.HistoryEvent
	resumed  []*protos.HistoryEvent // were set aside; come before all others
	at       int                    // how many of old and new were taken
	checked  bool                   // the end of old was looked at
}

// next adds the new events of a turn, and drops those of turns that are over.
func (f *feed) next(events []*protos.HistoryEvent) {
	if f.at > 0 {
		f.old, f.at = nil, 0
	}
	f.new = events
}

// peekOld returns the next event of an earlier turn, or nil.
func (f *feed) peekOld() *protos.HistoryEvent {
	if f.at < len(f.old) {
		return f.old[f.at]
	}
	return nil
}

// rewindAhead reports whether the turn that begins here rewinds the instance,
// so that what failed before it is not in the history any more.
func (f *feed) rewindAhead() bool {
	for i := f.at; i < len(f.old)+len(f.new); i++ {
		e := f.event(i)
		if e.GetExecutionRewound() != nil {
			return true
		}
		if i > f.at && e.GetOrchestratorStarted() != nil {
			return false
		}
	}
	return false
}

func (f *feed) event(i int) *protos.HistoryEvent {
	if i < len(f.old) {
		return f.old[i]
	}
	return f.new[i-len(f.old)]
}

// pull takes the next event; false where there is none left.
func (ctx *OrchestrationContext) pull() (*protos.HistoryEvent, bool) {
	f := &ctx.feed
	if len(f.resumed) > 0 {
		e := f.resumed[0]
		f.resumed = f.resumed[1:]
		return e, true
	}
	if f.at > 0 && f.peekOld().GetOrchestratorStarted() != nil {
		ctx.checkRecorded()
	}
	if f.at == len(f.old) && len(f.old) > 0 && !f.checked {
		f.checked = true
		ctx.checkRecorded()
	}
	if ctx.halted || f.at == len(f.old)+len(f.new) {
		return nil, false
	}
	e := f.event(f.at)
	ctx.IsReplaying = f.at < len(f.old)
	f.at++
	return e, true
}

// step processes one event; false where there is none left to process.
func (ctx *OrchestrationContext) step() bool {
	if ctx.halted {
		return false
	}
	e, ok := ctx.pull()
	if !ok {
		return false
	}
	ctx.process(e)
	return true
}

// process dispatches an event. What the engine says of its own turns takes
// effect at once; what user code may see waits while the orchestration is suspended.
func (ctx *OrchestrationContext) process(e *protos.HistoryEvent) {
	switch t := e.GetEventType().(type) {
	case *protos.HistoryEvent_OrchestratorStarted:
		ctx.rewound = e.GetEventId() == backend.RewoundTurn
		if e.GetTimestamp() != nil {
			ctx.CurrentTimeUtc = e.GetTimestamp().AsTime()
		}
	case *protos.HistoryEvent_TaskScheduled:
		ctx.confirm(e, kindActivity, t.TaskScheduled.GetName())
	case *protos.HistoryEvent_SubOrchestrationInstanceCreated:
		ctx.confirm(e, kindChild, t.SubOrchestrationInstanceCreated.GetName())
	case *protos.HistoryEvent_TimerCreated:
		ctx.confirm(e, kindTimer, "")
	case *protos.HistoryEvent_EventSent:
		ctx.confirm(e, kindSend, sendName(t.EventSent.GetName(), t.EventSent.GetInstanceId()))
	case *protos.HistoryEvent_EntityOperationCalled:
		c := t.EntityOperationCalled
		ctx.confirm(e, kindEntityCall, operationName(c.GetOperation(), c.GetTargetInstanceId().GetValue()))
	case *protos.HistoryEvent_EntityOperationSignaled:
		s := t.EntityOperationSignaled
		ctx.confirm(e, kindEntitySignal, operationName(s.GetOperation(), s.GetTargetInstanceId().GetValue()))
	case *protos.HistoryEvent_EntityLockRequested:
		ctx.confirm(e, kindLock, fmt.Sprint(t.EntityLockRequested.GetLockSet()))
	case *protos.HistoryEvent_EntityUnlockSent:
		ctx.confirm(e, kindUnlock, t.EntityUnlockSent.GetTargetInstanceId().GetValue())
	case *protos.HistoryEvent_ExecutionCompleted:
		ctx.confirmCompletion(e)
	case *protos.HistoryEvent_ExecutionSuspended:
		ctx.suspended = true
	case *protos.HistoryEvent_ExecutionResumed:
		ctx.suspended = false
		ctx.feed.resumed = append(ctx.feed.resumed, ctx.parked...)
		ctx.parked = nil
	case *protos.HistoryEvent_ExecutionTerminated:
		ctx.terminate(t.ExecutionTerminated.GetInput())
	default:
		if ctx.suspended {
			ctx.parked = append(ctx.parked, e)
			return
		}
		ctx.deliver(e)
	}
}

// deliver dispatches an event that user code may see.
func (ctx *OrchestrationContext) deliver(e *protos.HistoryEvent) {
	switch t := e.GetEventType().(type) {
	case *protos.HistoryEvent_ExecutionStarted:
		if !ctx.started {
			ctx.mayBeUnexecuted = e.GetTimestamp() != nil && e.GetTimestamp().AsTime().Equal(ctx.CurrentTimeUtc)
			ctx.begin(e)
		}
	case *protos.HistoryEvent_TaskCompleted:
		ctx.settle(kindActivity, t.TaskCompleted.GetTaskScheduledId(), t.TaskCompleted.GetResult(), nil)
	case *protos.HistoryEvent_TaskFailed:
		ctx.settle(kindActivity, t.TaskFailed.GetTaskScheduledId(), nil, newTaskFailed(t.TaskFailed.GetFailureDetails()))
	case *protos.HistoryEvent_SubOrchestrationInstanceCompleted:
		c := t.SubOrchestrationInstanceCompleted
		ctx.settle(kindChild, c.GetTaskScheduledId(), c.GetResult(), nil)
	case *protos.HistoryEvent_SubOrchestrationInstanceFailed:
		f := t.SubOrchestrationInstanceFailed
		ctx.settle(kindChild, f.GetTaskScheduledId(), nil, newTaskFailed(f.GetFailureDetails()))
	case *protos.HistoryEvent_TimerFired:
		ctx.settle(kindTimer, t.TimerFired.GetTimerId(), nil, nil)
	case *protos.HistoryEvent_EventRaised:
		ctx.inbox.raise(e)
	case *protos.HistoryEvent_EntityOperationCompleted:
		ctx.answered(t.EntityOperationCompleted.GetRequestId(), t.EntityOperationCompleted.GetOutput(), nil)
	case *protos.HistoryEvent_EntityOperationFailed:
		f := t.EntityOperationFailed
		ctx.answered(f.GetRequestId(), nil, newTaskFailed(f.GetFailureDetails()))
	case *protos.HistoryEvent_EntityLockGranted:
		ctx.granted(t.EntityLockGranted.GetCriticalSectionId())
	}
	// All others say nothing that an orchestrator could react to.
}

// settle delivers the result of an action. Ids that nothing waits for, or of
// another kind, are results of something else: an execution before this one.
func (ctx *OrchestrationContext) settle(
	kind actionKind, id int32, result *wrapperspb.StringValue, failure *TaskFailedError,
) {
	op, ok := ctx.pending[id]
	if !ok || op.kind != kind {
		return
	}
	delete(ctx.pending, id)
	op.settle(result, failure)
}

// confirm takes the action that history says was recorded out of the journal.
func (ctx *OrchestrationContext) confirm(e *protos.HistoryEvent, kind actionKind, name string) {
	a := ctx.journal.find(e.GetEventId())
	recorded := describe(kind, name, e.GetEventId())
	switch {
	case a == nil:
		ctx.nonDeterministic(fmt.Sprintf("history has %s, which the code did not ask for", recorded))
	case a.kind != kind || a.name != name:
		ctx.nonDeterministic(fmt.Sprintf("history has %s where the code did %s", recorded, a))
	default:
		ctx.mayBeUnexecuted = false
		ctx.journal.confirm(a)
	}
}

func (ctx *OrchestrationContext) confirmCompletion(e *protos.HistoryEvent) {
	if ctx.completion == nil {
		ctx.nonDeterministic("history has the completion, where the code goes on")
		return
	}
	if !ctx.completion.confirmed {
		ctx.journal.confirm(ctx.completion)
	}
}

// checkRecorded is called where a recorded turn ends: history must have
// confirmed all that the code did in it. Not yet where the turn was suspended
// at its end, for its actions are kept back; nor where it, or the next turn, rewinds;
// nor in the first turn of an execution that was continued as new (its two
// first events have one time) and stored without having been executed.
func (ctx *OrchestrationContext) checkRecorded() {
	a := ctx.journal.first()
	if a == nil || ctx.suspended || ctx.halted || ctx.rewound || ctx.feed.rewindAhead() {
		return
	}
	if ctx.mayBeUnexecuted {
		ctx.mayBeUnexecuted = false
		return
	}
	ctx.nonDeterministic(fmt.Sprintf("the code did %s, of which history has nothing by the end of the turn", a))
}
