package task

import (
	"context"
	"sync"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

var (
	_ backend.Executor     = (*executor)(nil)
	_ backend.TurnExecutor = (*executor)(nil)
	_ backend.Continuation = (*continuation)(nil)
)

type executor struct{ registry *TaskRegistry }

// NewTaskExecutor returns an executor of the registered code. It also
// implements [backend.TurnExecutor], and may be used by many goroutines; turns
// of one instance must not overlap.
func NewTaskExecutor(registry *TaskRegistry) backend.Executor { return &executor{registry: registry} }

// ExecuteOrchestrator replays the old events, runs the new ones and unwinds
// the orchestrator. It fails only with the error of a context that has ended.
func (x *executor) ExecuteOrchestrator(
	ctx context.Context, iid api.InstanceID, oldEvents []*protos.HistoryEvent, newEvents []*protos.HistoryEvent,
) (*backend.ExecutionResults, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	octx := NewOrchestrationContext(x.registry, iid, oldEvents, newEvents)
	defer octx.stop()
	octx.run()
	return &backend.ExecutionResults{Response: octx.response()}, nil
}

// ExecuteTurn goes on with the orchestrator that waits in the state's
// continuation, or replays where there is none, and leaves it there.
func (x *executor) ExecuteTurn(
	ctx context.Context, state *backend.OrchestrationRuntimeState,
) (*backend.ExecutionResults, error) {
	prev := state.Continuation()
	if err := ctx.Err(); err != nil {
		drop(state, prev)
		return nil, err
	}
	c, ok := prev.(*continuation)
	var resp *protos.OrchestratorResponse
	if ok && c.executor == x {
		resp, ok = c.turn(state.NewEvents())
	} else {
		ok = false
	}
	if !ok {
		drop(state, prev)
		octx := NewOrchestrationContext(x.registry, state.InstanceID(), state.OldEvents(), nil)
		c = &continuation{executor: x, octx: octx}
		resp, _ = c.turn(state.NewEvents())
	}
	if c.octx.finished() {
		drop(state, c)
	} else {
		state.SetContinuation(c)
	}
	return &backend.ExecutionResults{Response: resp}, nil
}

func drop(state *backend.OrchestrationRuntimeState, c backend.Continuation) {
	if c == nil {
		return
	}
	c.Stop()
	state.SetContinuation(nil)
}

// continuation is an orchestrator between two turns.
type continuation struct {
	executor *executor
	mu       sync.Mutex // orders turns and Stop
	stopped  bool
	octx     *OrchestrationContext
}

// turn runs the orchestrator; false where it was stopped before.
func (c *continuation) turn(events []*protos.HistoryEvent) (*protos.OrchestratorResponse, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil, false
	}
	c.octx.feed.next(events)
	c.octx.run()
	return c.octx.response(), true
}

// Stop implements backend.Continuation.
func (c *continuation) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.octx.stop()
}
