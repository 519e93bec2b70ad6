package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// chunkSize keeps each message of a response below the 4 MiB that servers accept by default.
const chunkSize = 3 << 20

// process runs one item and answers it. After the end of its stream there is
// nobody who waits for the answer.
func (l *listener) process(s *stream, w *protos.WorkItem) {
	var err error
	if r := w.GetOrchestratorRequest(); r != nil {
		err = l.turn(s, r, w.GetCompletionToken())
	} else if r := w.GetActivityRequest(); r != nil {
		err = l.activity(s.ctx, r, w.GetCompletionToken())
	} else if r := w.GetEntityRequestV2(); r != nil {
		err = l.entity(s.ctx, r, w.GetCompletionToken())
	} else {
		err = fmt.Errorf("no code for a work item of type %T", w.GetRequest())
	}
	if err != nil && s.ctx.Err() == nil {
		l.client.log.Errorf("work item given back: %v", err)
		l.abandon(s, w)
	}
}

// abandon gives the item back, as far as the stream is still there.
func (l *listener) abandon(s *stream, w *protos.WorkItem) {
	token := w.GetCompletionToken()
	var err error
	switch w.GetRequest().(type) {
	case *protos.WorkItem_OrchestratorRequest:
		_, err = l.client.hub.AbandonTaskOrchestratorWorkItem(s.ctx, &protos.AbandonOrchestrationTaskRequest{CompletionToken: token})
	case *protos.WorkItem_ActivityRequest:
		_, err = l.client.hub.AbandonTaskActivityWorkItem(s.ctx, &protos.AbandonActivityTaskRequest{CompletionToken: token})
	default:
		_, err = l.client.hub.AbandonTaskEntityWorkItem(s.ctx, &protos.AbandonEntityTaskRequest{CompletionToken: token})
	}
	if err != nil && s.ctx.Err() == nil {
		l.client.log.Warnf("give a work item back: %v", err)
	}
}

// afterProperty is where the server says that it leaves out the history up to a turn.
const afterProperty = "perdure.after"

func (l *listener) turn(s *stream, r *protos.OrchestratorRequest, token string) error {
	ctx, id, past := s.ctx, api.InstanceID(r.GetInstanceId()), r.GetPastEvents()
	after := r.GetProperties()[afterProperty].GetStringValue()
	waiting := s.residents.take(r.GetInstanceId(), after)
	response := &protos.OrchestratorResponse{RequiresHistory: true}
	if after == "" || waiting != nil {
		if r.GetRequiresHistoryStreaming() {
			var err error
			if past, err = l.history(ctx, r); err != nil {
				return fmt.Errorf("history of %q: %w", id, err)
			}
		}
		state := backend.NewTurnState(id, past, r.GetNewEvents(), waiting)
		result, err := l.execute(ctx, state)
		if err != nil {
			state.Release()
			return fmt.Errorf("turn of %q: %w", id, err)
		}
		response, waiting = result.Response, state.Continuation()
	}
	if waiting != nil {
		s.residents.put(r.GetInstanceId(), token, waiting) // the next turn may come before the answer to the answer
	}
	response.InstanceId, response.CompletionToken = r.GetInstanceId(), token
	for _, part := range split(response) {
		if err := l.answer(ctx, func() error {
			_, err := l.client.hub.CompleteOrchestratorTask(ctx, part)
			return err
		}); err != nil {
			return fmt.Errorf("complete the turn of %q: %w", id, err)
		}
	}
	return nil
}

// execute runs a turn, and leaves the orchestrator with the state if the executor can.
func (l *listener) execute(ctx context.Context, state *backend.OrchestrationRuntimeState) (*backend.ExecutionResults, error) {
	if t, ok := l.executor.(backend.TurnExecutor); ok && l.opts.resident > 0 {
		return t.ExecuteTurn(ctx, state)
	}
	return l.executor.ExecuteOrchestrator(ctx, state.InstanceID(), state.OldEvents(), state.NewEvents())
}

func (l *listener) history(ctx context.Context, r *protos.OrchestratorRequest) (events []*protos.HistoryEvent, err error) {
	stream, err := l.client.hub.StreamInstanceHistory(ctx, &protos.StreamInstanceHistoryRequest{
		InstanceId: r.GetInstanceId(), ExecutionId: r.GetExecutionId(), ForWorkItemProcessing: true,
	}, anySize)
	if err != nil {
		return nil, err
	}
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		events = append(events, chunk.GetEvents()...)
	}
}

// split cuts a response that is too large for one message between its actions.
func split(r *protos.OrchestratorResponse) []*protos.OrchestratorResponse {
	if proto.Size(r) <= chunkSize {
		return []*protos.OrchestratorResponse{r}
	}
	var parts []*protos.OrchestratorResponse
	add := func() *protos.OrchestratorResponse {
		p := &protos.OrchestratorResponse{
			InstanceId: r.GetInstanceId(), CompletionToken: r.GetCompletionToken(),
			IsPartial: true, ChunkIndex: wrapperspb.Int32(int32(len(parts))),
		}
		parts = append(parts, p)
		return p
	}
	p, size := add(), 0
	for _, a := range r.GetActions() {
		n := proto.Size(a) + 8
		if size > 0 && size+n > chunkSize {
			p, size = add(), 0
		}
		p.Actions, size = append(p.Actions, a), size+n
	}
	last := add() // it carries the rest, so that its size does not depend on the actions
	last.IsPartial, last.CustomStatus = false, r.GetCustomStatus()
	last.NumEventsProcessed, last.OrchestrationTraceContext = r.GetNumEventsProcessed(), r.GetOrchestrationTraceContext()
	return parts
}

func (l *listener) activity(ctx context.Context, r *protos.ActivityRequest, token string) error {
	id := api.InstanceID(r.GetOrchestrationInstance().GetInstanceId())
	run := backend.ContextWithActivityInfo(ctx, backend.ActivityInfo{
		InstanceID: id, ExecutionID: r.GetOrchestrationInstance().GetExecutionId().GetValue(),
		TaskID: r.GetTaskId(), Attempt: 1,
	})
	e, err := l.executor.ExecuteActivity(run, id, &protos.HistoryEvent{
		EventId: r.GetTaskId(), Timestamp: timestamppb.Now(),
		EventType: &protos.HistoryEvent_TaskScheduled{TaskScheduled: &protos.TaskScheduledEvent{
			Name: r.GetName(), Version: r.GetVersion(), Input: r.GetInput(), Tags: r.GetTags(),
			ParentTraceContext: r.GetParentTraceContext(),
		}},
	})
	if err != nil {
		return fmt.Errorf("activity %q of %q: %w", r.GetName(), id, err)
	}
	if ctx.Err() != nil {
		return ctx.Err() // its failure would be that of the stream
	}
	response := &protos.ActivityResponse{
		InstanceId: string(id), TaskId: r.GetTaskId(), CompletionToken: token,
		Result: e.GetTaskCompleted().GetResult(), FailureDetails: e.GetTaskFailed().GetFailureDetails(),
	}
	send := func() error {
		_, err := l.client.hub.CompleteActivityTask(ctx, response)
		return err
	}
	err = l.answer(ctx, send)
	if status.Code(err) == codes.ResourceExhausted { // it would be as large the next time
		response.Result, response.FailureDetails = nil, &protos.TaskFailureDetails{
			ErrorType: "ResultTooLarge", ErrorMessage: status.Convert(err).Message(), IsNonRetriable: true,
		}
		err = l.answer(ctx, send)
	}
	if err != nil {
		return fmt.Errorf("complete activity %q of %q: %w", r.GetName(), id, err)
	}
	return nil
}

// answer tries again while the server cannot be reached and the stream is still there.
func (l *listener) answer(ctx context.Context, send func() error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := send()
		if err != nil && status.Code(err) != codes.Unavailable {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(reconnect()), backoff.WithMaxElapsedTime(0))
	return err
}

func (l *listener) entity(ctx context.Context, r *protos.EntityRequest, token string) error {
	x, ok := l.executor.(backend.EntityExecutor)
	if !ok {
		return fmt.Errorf("entity %q: the executor runs no entities", r.GetInstanceId())
	}
	result, err := x.ExecuteEntity(ctx, r)
	if err != nil {
		return fmt.Errorf("batch of entity %q: %w", r.GetInstanceId(), err)
	}
	result.CompletionToken = token
	if err := l.answer(ctx, func() error {
		_, err := l.client.hub.CompleteEntityTask(ctx, result)
		return err
	}); err != nil {
		return fmt.Errorf("complete the batch of entity %q: %w", r.GetInstanceId(), err)
	}
	return nil
}
