package backend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

const (
	// maxGenerations bounds how often one turn continues as new before its
	// progress is stored; the orchestration goes on in a new turn.
	maxGenerations = 20
	// maxTurnAttempts is how often a turn that cannot be executed is tried
	// before its instance fails with the last error.
	maxTurnAttempts = 10
)

// RewoundTurn is the EventId of the OrchestratorStarted event of a turn that was
// rewound: the code may decide more in it than is recorded, and does so in the next.
const RewoundTurn = int32(-2)

// RewoundGrant is the EventId of the EntityLockGranted event of a critical section
// whose locks were given back as its execution failed: a rewind asks for them again.
const RewoundGrant = int32(-2)

type orchestrationProcessor struct {
	be   Backend
	exec OrchestratorExecutor
	log  Logger
}

// NewOrchestrationWorker returns a worker that executes turns, and the batches
// of entities where both the backend and the executor know them.
func NewOrchestrationWorker(be Backend, executor OrchestratorExecutor, logger Logger, opts ...NewTaskWorkerOptions) TaskWorker {
	turns := newTaskWorker(&orchestrationProcessor{be: be, exec: executor, log: logger}, logger, opts...)
	b, ok := be.(EntityBackend)
	x, runs := executor.(EntityExecutor)
	if !ok || !runs {
		return turns
	}
	return &turnWorker{turns: turns, entities: newTaskWorker(&entityProcessor{be: b, exec: x, log: logger}, logger, opts...)}
}

func (*orchestrationProcessor) Name() string { return "orchestration-processor" }

func (p *orchestrationProcessor) FetchWorkItem(ctx context.Context) (WorkItem, error) {
	wi, err := p.be.GetOrchestrationWorkItem(ctx)
	if wi == nil {
		return nil, err
	}
	return wi, err
}

func (p *orchestrationProcessor) awaitWorkItem(ctx context.Context) (WorkItem, error) {
	a, ok := p.be.(WorkItemAwaiter)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	await := a.AwaitOrchestrationWorkItem
	if s, ok := a.(WorkItemSelector); ok {
		if d, ok := p.exec.(dispatching); ok {
			demand := d.dispatcher().OrchestratorDemand()
			await = func(ctx context.Context) (*OrchestrationWorkItem, error) {
				return selectWorkItem(ctx, demand, s.SelectOrchestrationWorkItem)
			}
		}
	}
	wi, err := await(ctx)
	if wi == nil {
		return nil, err
	}
	return wi, err
}

func (p *orchestrationProcessor) ProcessWorkItem(ctx context.Context, item WorkItem) error {
	wi, ok := item.(*OrchestrationWorkItem)
	if !ok {
		return fmt.Errorf("%T is no orchestration work item", item)
	}
	if wi.State == nil {
		state, err := p.be.GetOrchestrationRuntimeState(ctx, wi)
		if err != nil {
			return fmt.Errorf("load state: %w", err)
		}
		wi.State = state
	}
	wi.State.tries = int(wi.RetryCount)
	now := timeIn(p.be)
	if !p.addEvents(wi, now) {
		return nil // nothing to run, but the messages are consumed
	}
	if wi.RetryCount >= maxTurnAttempts {
		return p.fail(wi, "OrchestrationPoisoned", fmt.Sprintf("the turn was tried %d times and never stored", wi.RetryCount))
	}
	err := p.run(ctx, wi, now)
	wi.unbegun = notBegun(err)
	if st, ok := p.be.(InstanceStaller); ok {
		if stall := (*stallError)(nil); errors.As(err, &stall) {
			if err := st.StallInstance(ctx, wi, stall.Error()); err != nil {
				return err
			}
			if e, ok := p.exec.(*grpcExecutor); ok {
				e.stalled(ctx, stall)
			}
			return fmt.Errorf("%w: %s is stalled", ErrWorkItemLockLost, wi.InstanceID)
		}
	}
	if err != nil && ctx.Err() == nil && !wi.unbegun && (wi.RetryCount+1 >= maxTurnAttempts || hopeless(err)) {
		p.log.Errorf("%s: failed after %d attempts: %v", wi.InstanceID, wi.RetryCount+1, err)
		return p.fail(wi, "OrchestrationPoisoned", fmt.Sprintf("the turn failed %d times, the last time with: %v", wi.RetryCount+1, err))
	}
	return err
}

// addEvents puts the item's messages into the state. It reports whether there is a turn to run.
func (p *orchestrationProcessor) addEvents(wi *OrchestrationWorkItem, now time.Time) bool {
	s := wi.State
	if s.IsCompleted() {
		return false
	}
	turn := &HistoryEvent{
		EventId: -1, Timestamp: timestamppb.New(now),
		EventType: &protos.HistoryEvent_OrchestratorStarted{OrchestratorStarted: &protos.OrchestratorStartedEvent{}},
	}
	added := s.AddEvent(turn) == nil && len(wi.NewEvents) == 0 && s.started != nil
	for _, e := range wi.NewEvents {
		if !IsMessage(e) {
			p.log.Warnf("%s: dropped what is no message: %T", wi.InstanceID, e.GetEventType())
			continue
		}
		if err := s.AddEvent(e); err != nil {
			p.log.Warnf("%s: dropped a message: %v", wi.InstanceID, err)
			continue
		}
		added = true
		if s.terminate != nil {
			break // nothing that came later can matter
		}
	}
	if !added {
		s.newEvents = nil
	}
	return added
}

func (p *orchestrationProcessor) run(ctx context.Context, wi *OrchestrationWorkItem, now time.Time) error {
	s := wi.State
	if s.started == nil {
		if s.terminate != nil {
			return fmt.Errorf("%s: terminated, but there is no start event", wi.InstanceID)
		}
		return fmt.Errorf("%s: there is no start event", wi.InstanceID)
	}
	for round := 0; ; round++ {
		if s.terminate != nil {
			s.Release()
			return s.applyTerminate(now)
		}
		if round == maxGenerations {
			s.unexecuted = true // it is stored, and executed in a turn of its own
			return nil
		}
		results, err := p.execute(ctx, s)
		if err != nil {
			return err
		}
		if wi.RetryCount > 0 { // what could not be stored the last time is not tried again
			if _, err := proto.Marshal(results.Response); err != nil {
				return p.fail(wi, "OrchestrationPoisoned", fmt.Sprintf("the turn cannot be stored: %v", err))
			}
		}
		if l, ok := p.be.(PayloadLimiter); ok {
			if r, fits := within(l.MaxPayload(), results.Response); !fits {
				s.Release()
				results.Response = r
			}
		}
		if results.Response.GetCustomStatus() != nil {
			s.CustomStatus = results.Response.GetCustomStatus()
		}
		s.keepTraceContext(results.Response.GetOrchestrationTraceContext())
		before, kept := s.generation, len(s.newEvents)
		again, err := s.applyActions(results.Response.GetActions(), s.StartEvent().GetParentTraceContext(), now)
		if errors.Is(err, api.ErrInvalidInput) { // the worker would decide the same again
			if s.generation == before {
				s.newEvents = s.newEvents[:kept]
			}
			p.log.Errorf("%s: %v", wi.InstanceID, err)
			return p.fail(wi, "InvalidActions", err.Error())
		}
		if err != nil || !again {
			return err
		}
	}
}

func (p *orchestrationProcessor) execute(ctx context.Context, s *OrchestrationRuntimeState) (*ExecutionResults, error) {
	var results *ExecutionResults
	var err error
	if t, ok := p.exec.(TurnExecutor); ok {
		results, err = t.ExecuteTurn(ctx, s)
	} else {
		results, err = p.exec.ExecuteOrchestrator(ctx, s.instanceID, s.oldEvents, s.newEvents)
	}
	if err != nil {
		return nil, fmt.Errorf("execute: %w", err)
	}
	if results == nil || results.Response == nil {
		return nil, errors.New("execute: the executor gave no response")
	}
	return results, nil
}

// fail ends the instance in place of a turn that cannot be executed.
func (p *orchestrationProcessor) fail(wi *OrchestrationWorkItem, kind, message string) error {
	s := wi.State
	s.Release()
	s.forgetTurn()
	if s.completed != nil {
		return fmt.Errorf("%s: %s", kind, message)
	}
	return s.complete(-1, &protos.CompleteOrchestrationAction{
		OrchestrationStatus: api.RUNTIME_STATUS_FAILED,
		FailureDetails:      &protos.TaskFailureDetails{ErrorType: kind, ErrorMessage: message, IsNonRetriable: true},
	}, timestamppb.New(timeIn(p.be)))
}

func (p *orchestrationProcessor) CompleteWorkItem(ctx context.Context, wi WorkItem) error {
	return p.be.CompleteOrchestrationWorkItem(ctx, wi.(*OrchestrationWorkItem))
}

func (p *orchestrationProcessor) AbandonWorkItem(ctx context.Context, item WorkItem) error {
	wi := item.(*OrchestrationWorkItem)
	if s, ok := p.be.(WorkItemSelector); ok && wi.unbegun {
		return s.ReturnOrchestrationWorkItem(ctx, wi)
	}
	return p.be.AbandonOrchestrationWorkItem(ctx, wi)
}
