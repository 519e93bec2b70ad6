package task

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// launch makes the coroutine of the orchestrator, or fails where there is none.
func (ctx *OrchestrationContext) launch() {
	f, ok := ctx.registry.orchestrator(ctx.Name)
	if !ok {
		ctx.finishFailed(&protos.TaskFailureDetails{
			ErrorType:    ErrorTypeOrchestratorNotRegistered,
			ErrorMessage: fmt.Sprintf("orchestrator named '%s' is not registered", ctx.Name),
		})
		return
	}
	ctx.co = newCoroutine(
		func() {
			output, err := f(ctx)
			if !ctx.stopping {
				ctx.finish(output, err)
			}
		},
		func(cr crash) { ctx.finishFailed(cr.details(ErrorTypePanic)) },
	)
}

// run processes all events; user code runs as far as they carry it.
func (ctx *OrchestrationContext) run() {
	for {
		switch {
		case ctx.started && ctx.co == nil && !ctx.completed:
			ctx.launch()
		case ctx.co != nil && !ctx.co.done:
			if ctx.co.resume() {
				return
			}
			if !ctx.completed { // user code ended the goroutine while its crash was recorded
				ctx.finishFailed(crash{goexit: true}.details(""))
			}
		case !ctx.step():
			return
		}
	}
}

// finish completes the orchestration as its function returned.
func (ctx *OrchestrationContext) finish(output any, err error) {
	c := &protos.CompleteOrchestrationAction{OrchestrationStatus: api.RUNTIME_STATUS_COMPLETED}
	switch {
	case err != nil:
	case ctx.next != nil:
		c.OrchestrationStatus = api.RUNTIME_STATUS_CONTINUED_AS_NEW
		c.Result, err = ctx.next.input, ctx.next.err
	default:
		c.Result, err = encode("orchestration output", output)
	}
	if err != nil {
		ctx.finishFailed(failureDetails(err))
		return
	}
	ctx.complete(c)
}

func (ctx *OrchestrationContext) finishFailed(d *protos.TaskFailureDetails) {
	ctx.complete(&protos.CompleteOrchestrationAction{
		OrchestrationStatus: api.RUNTIME_STATUS_FAILED, FailureDetails: d,
	})
}

// complete adds the completion to the journal. Events that come later in the
// turn still count: they may be carried over, or terminate the orchestration.
func (ctx *OrchestrationContext) complete(c *protos.CompleteOrchestrationAction) {
	ctx.completed = true
	ctx.inbox.close()
	ctx.completion = ctx.journal.add(kindComplete, "", &protos.OrchestratorAction{
		OrchestratorActionType: &protos.OrchestratorAction_CompleteOrchestration{CompleteOrchestration: c},
	})
}

// terminate ends the orchestration in place of whatever else this turn did.
func (ctx *OrchestrationContext) terminate(output *wrapperspb.StringValue) {
	ctx.end(&protos.CompleteOrchestrationAction{OrchestrationStatus: api.RUNTIME_STATUS_TERMINATED, Result: output})
}

// nonDeterministic fails the orchestration in place of whatever else this turn did.
func (ctx *OrchestrationContext) nonDeterministic(problem string) {
	where := "at the end of history"
	if n := ctx.feed.at; n > 0 && n <= len(ctx.feed.old)+len(ctx.feed.new) {
		e := ctx.feed.event(n - 1)
		where = fmt.Sprintf("at event %d of history (%s)", n, eventName(e))
	}
	ctx.end(&protos.CompleteOrchestrationAction{
		OrchestrationStatus: api.RUNTIME_STATUS_FAILED,
		FailureDetails: &protos.TaskFailureDetails{
			ErrorType: ErrorTypeNonDeterminism, IsNonRetriable: true,
			ErrorMessage: fmt.Sprintf("orchestrator '%s' is not deterministic: %s: %s", ctx.Name, where, problem),
		},
	})
}

func (ctx *OrchestrationContext) end(c *protos.CompleteOrchestrationAction) {
	ctx.journal.clear()
	ctx.complete(c)
	ctx.halted = true
}

// eventName is the kind of an event, such as TaskScheduled.
func eventName(e *protos.HistoryEvent) string {
	m := e.ProtoReflect()
	f := m.WhichOneof(m.Descriptor().Oneofs().ByName("eventType"))
	if f == nil {
		return "empty event"
	}
	return strings.TrimSuffix(string(f.Message().Name()), "Event")
}

// finished reports whether there is no further turn.
func (ctx *OrchestrationContext) finished() bool {
	return ctx.halted || ctx.completed && !ctx.suspended
}

// response is what the turn wants done. A suspended orchestration wants nothing.
func (ctx *OrchestrationContext) response() *protos.OrchestratorResponse {
	r := &protos.OrchestratorResponse{InstanceId: string(ctx.ID), CustomStatus: ctx.customStatus}
	if ctx.suspended && !ctx.halted {
		return r
	}
	c := ctx.completion.outcome()
	if c.GetOrchestrationStatus() == api.RUNTIME_STATUS_CONTINUED_AS_NEW && ctx.next.keepEvents {
		c.CarryoverEvents = ctx.inbox.unprocessed()
	}
	r.Actions = ctx.journal.actions()
	ctx.journal.clear()
	return r
}

func (a *action) outcome() *protos.CompleteOrchestrationAction {
	if a == nil {
		return nil
	}
	return a.GetCompleteOrchestration()
}

// stop unwinds the coroutine.
func (ctx *OrchestrationContext) stop() {
	if ctx.co == nil || ctx.co.done {
		return
	}
	ctx.stopping, ctx.IsReplaying = true, true
	ctx.co.stop()
}
