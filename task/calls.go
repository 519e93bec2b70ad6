package task

import (
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// callOptions are those of both kinds of calls.
type callOptions struct {
	input      *wrapperspb.StringValue
	instanceID string
	policy     *RetryPolicy
}

// Options of CallActivity and CallSubOrchestrator. An option that returns an
// error makes its call a failed task.
type (
	callActivityOptions        struct{ callOptions }
	callSubOrchestratorOptions struct{ callOptions }

	// CallActivityOption sets one thing of an activity call.
	CallActivityOption func(*callActivityOptions) error
	// SubOrchestratorOption sets one thing of a sub-orchestration call.
	SubOrchestratorOption func(*callSubOrchestratorOptions) error
)

// WithActivityInput gives the activity an input, as JSON; nil is no input.
func WithActivityInput(input any) CallActivityOption {
	return func(o *callActivityOptions) (err error) { o.input, err = encode("activity input", input); return err }
}

// WithRawActivityInput gives the activity an input as it is.
func WithRawActivityInput(input string) CallActivityOption {
	return func(o *callActivityOptions) (err error) { o.input, err = raw("activity input", input); return err }
}

// WithActivityRetryPolicy retries the activity; nil does not. A policy that
// makes no sense fails the task with [ErrInvalidRetryPolicy].
func WithActivityRetryPolicy(policy *RetryPolicy) CallActivityOption {
	return func(o *callActivityOptions) (err error) { o.policy, err = policy.checked(); return err }
}

// WithSubOrchestratorInput gives the sub-orchestration an input, as JSON; nil is no input.
func WithSubOrchestratorInput(input any) SubOrchestratorOption {
	return func(o *callSubOrchestratorOptions) (err error) {
		o.input, err = encode("sub-orchestration input", input)
		return err
	}
}

// WithRawSubOrchestratorInput gives the sub-orchestration an input as it is.
func WithRawSubOrchestratorInput(input string) SubOrchestratorOption {
	return func(o *callSubOrchestratorOptions) (err error) {
		o.input, err = raw("sub-orchestration input", input)
		return err
	}
}

// WithSubOrchestrationInstanceID gives the sub-orchestration an explicit id;
// without it the id is made of the execution id and the task id. All tries of
// a retry policy have the explicit id.
func WithSubOrchestrationInstanceID(instanceID string) SubOrchestratorOption {
	return func(o *callSubOrchestratorOptions) error { o.instanceID = instanceID; return nil }
}

// WithSubOrchestrationRetryPolicy retries the sub-orchestration, as WithActivityRetryPolicy does.
func WithSubOrchestrationRetryPolicy(policy *RetryPolicy) SubOrchestratorOption {
	return func(o *callSubOrchestratorOptions) (err error) { o.policy, err = policy.checked(); return err }
}

// pendingOp is what waits for the result of an action.
type pendingOp struct {
	kind   actionKind
	settle func(result *wrapperspb.StringValue, failure *TaskFailedError)
}

// CallActivity schedules an activity, given by name or as a function. Refused
// arguments give a failed task and schedule nothing. An activity that nobody awaits
// runs too: also one that is scheduled just before the orchestrator returns. One that is
// open already when the orchestration ends, in a turn before, is cancelled then.
func (ctx *OrchestrationContext) CallActivity(activity any, opts ...CallActivityOption) Task {
	name, err := taskName("activity", activity)
	var o callActivityOptions
	for _, set := range opts {
		if set != nil && err == nil {
			err = set(&o)
		}
	}
	return ctx.call(kindActivity, name, o.callOptions, err)
}

// CallSubOrchestrator starts another orchestration, given by name or as a
// function, and waits for it. Refused arguments give a failed task and start
// nothing; among them are the ids of this instance and of its parent.
func (ctx *OrchestrationContext) CallSubOrchestrator(orchestrator any, opts ...SubOrchestratorOption) Task {
	name, err := taskName("orchestrator", orchestrator)
	var o callSubOrchestratorOptions
	for _, set := range opts {
		if set != nil && err == nil {
			err = set(&o)
		}
	}
	if err == nil && o.instanceID != "" && (o.instanceID == string(ctx.ID) || o.instanceID == ctx.parentID) {
		err = fmt.Errorf("%w: sub-orchestration id %q is that of the caller or of its parent",
			api.ErrInvalidInput, o.instanceID)
	}
	if err == nil && (!utf8.ValidString(o.instanceID) || strings.ContainsRune(o.instanceID, 0)) {
		err = fmt.Errorf("%w: sub-orchestration id %q is not valid UTF-8 or contains a NUL", api.ErrInvalidInput, o.instanceID)
	}
	if err == nil && ctx.section != nil {
		err = fmt.Errorf("%w: a sub-orchestration is called", ErrCriticalSection)
	}
	return ctx.call(kindChild, name, o.callOptions, err)
}

func (ctx *OrchestrationContext) call(kind actionKind, name string, o callOptions, err error) Task {
	h := ctx.newHandle(string(kind) + " " + name)
	if err != nil {
		h.fail(refused(name, err))
		return h
	}
	c := &call{ctx: ctx, kind: kind, name: name, callOptions: o, first: ctx.CurrentTimeUtc, handle: h}
	c.try()
	return h
}

// try schedules the next attempt.
func (c *call) try() {
	if c.ctx.closed() {
		return
	}
	c.attempt++
	a := c.ctx.journal.add(c.kind, c.name, &protos.OrchestratorAction{})
	id := a.GetId()
	if c.kind == kindActivity {
		a.OrchestratorActionType = &protos.OrchestratorAction_ScheduleTask{
			ScheduleTask: &protos.ScheduleTaskAction{Name: c.name, Input: c.input},
		}
	} else {
		instanceID := c.instanceID
		if instanceID == "" && c.ctx.ExecutionID != "" {
			instanceID = fmt.Sprintf("%s:%04x", c.ctx.ExecutionID, id)
		}
		a.OrchestratorActionType = &protos.OrchestratorAction_CreateSubOrchestration{
			CreateSubOrchestration: &protos.CreateSubOrchestrationAction{
				InstanceId: instanceID, Name: c.name, Input: c.input,
			},
		}
	}
	c.ctx.pending[id] = pendingOp{c.kind, func(result *wrapperspb.StringValue, failure *TaskFailedError) {
		if failure == nil {
			c.handle.complete(result)
			return
		}
		failure.TaskName, failure.TaskID, failure.Attempt = c.name, id, c.attempt
		failure.Elapsed = c.ctx.CurrentTimeUtc.Sub(c.first)
		c.failed(failure)
	}}
}

// begin takes over what the start event says.
func (ctx *OrchestrationContext) begin(e *protos.HistoryEvent) {
	s := e.GetExecutionStarted()
	ctx.started = true
	ctx.Name, ctx.Version, ctx.input = s.GetName(), s.GetVersion().GetValue(), s.GetInput()
	ctx.ExecutionID = s.GetOrchestrationInstance().GetExecutionId().GetValue()
	ctx.Tags = maps.Clone(s.GetTags())
	ctx.parentID = s.GetParentInstance().GetOrchestrationInstance().GetInstanceId()
}
