package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

// dotNetChunk is the size at which the .NET SDK splits what it answers.
const dotNetChunk = 3_900_000

// dotNetWorker does over the wire what the worker of the .NET SDK does, and
// checks each thing that it is sent for all that the SDK stumbles over.
type dotNetWorker struct {
	t          *testing.T
	client     protos.TaskHubSidecarServiceClient
	programs   map[string]program
	activities map[string]func(*protos.ActivityRequest) (string, error)
	entity     func(*protos.EntityRequest) *protos.EntityBatchResult
	// reject says which items are given back when they come for the first time.
	reject func(*protos.WorkItem) bool

	mu       sync.Mutex
	rejected map[string]bool
	streamed int // histories that were read from the server
	partial  int // partial answers
	pings    int
	wg       sync.WaitGroup
}

// dotNet connects to the server as the .NET SDK does, whose messages are at most 4 MB.
func dotNet(t *testing.T, p *process) protos.TaskHubSidecarServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return protos.NewTaskHubSidecarServiceClient(conn)
}

// start connects the worker until the test ends.
func (w *dotNetWorker) start(t *testing.T, client protos.TaskHubSidecarServiceClient, filters *protos.WorkItemFilters) {
	t.Helper()
	w.t, w.client, w.rejected = t, client, map[string]bool{}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		w.wg.Wait()
	})
	hello, done := context.WithTimeout(ctx, 30*time.Second)
	defer done()
	if _, err := client.Hello(hello, &emptypb.Empty{}); err != nil {
		t.Fatal(err)
	}
	stream, err := client.GetWorkItems(ctx, &protos.GetWorkItemsRequest{
		MaxConcurrentOrchestrationWorkItems: 200, MaxConcurrentActivityWorkItems: 200, MaxConcurrentEntityWorkItems: 200,
		Capabilities:    []protos.WorkerCapability{protos.WorkerCapability_WORKER_CAPABILITY_HISTORY_STREAMING},
		WorkItemFilters: filters,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.wg.Go(func() {
		for {
			item, err := stream.Recv()
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("the stream ends with %v", err)
				}
				return
			}
			w.wg.Go(func() {
				if err := w.handle(ctx, item); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			})
		}
	})
}

func (w *dotNetWorker) handle(ctx context.Context, item *protos.WorkItem) error {
	if item.GetHealthPing() != nil {
		w.mu.Lock()
		w.pings++
		w.mu.Unlock()
		return nil
	}
	if item.GetCompletionToken() == "" {
		return fmt.Errorf("an item without a token: %v", item)
	}
	if w.rejects(item) {
		return w.abandon(ctx, item)
	}
	switch r := item.GetRequest().(type) {
	case *protos.WorkItem_OrchestratorRequest:
		return w.turn(ctx, item.GetCompletionToken(), r.OrchestratorRequest)
	case *protos.WorkItem_ActivityRequest:
		return w.activity(ctx, item.GetCompletionToken(), r.ActivityRequest)
	case *protos.WorkItem_EntityRequestV2:
		for _, e := range r.EntityRequestV2.GetOperationRequests() {
			id := e.GetEntityOperationCalled().GetRequestId() + e.GetEntityOperationSignaled().GetRequestId() +
				e.GetEntityLockRequested().GetCriticalSectionId()
			if _, err := uuid.Parse(id); err != nil {
				return fmt.Errorf("Guid.Parse of a request: %w", err)
			}
			if err := inspect(e); err != nil {
				return err
			}
		}
		result := w.entity(r.EntityRequestV2)
		result.CompletionToken = item.GetCompletionToken()
		_, err := w.client.CompleteEntityTask(ctx, result)
		return err
	}
	return fmt.Errorf("a kind of item that .NET cannot answer: %v", item)
}

// rejects reports whether the item is to be given back: each that the test wants, once.
func (w *dotNetWorker) rejects(item *protos.WorkItem) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	kind := fmt.Sprintf("%T", item.GetRequest())
	if w.reject == nil || w.rejected[kind] || !w.reject(item) {
		return false
	}
	w.rejected[kind] = true
	return true
}

func (w *dotNetWorker) abandon(ctx context.Context, item *protos.WorkItem) (err error) {
	token := item.GetCompletionToken()
	switch item.GetRequest().(type) {
	case *protos.WorkItem_OrchestratorRequest:
		_, err = w.client.AbandonTaskOrchestratorWorkItem(ctx, &protos.AbandonOrchestrationTaskRequest{CompletionToken: token})
	case *protos.WorkItem_ActivityRequest:
		_, err = w.client.AbandonTaskActivityWorkItem(ctx, &protos.AbandonActivityTaskRequest{CompletionToken: token})
	default:
		_, err = w.client.AbandonTaskEntityWorkItem(ctx, &protos.AbandonEntityTaskRequest{CompletionToken: token})
	}
	return err
}

func (w *dotNetWorker) activity(ctx context.Context, token string, r *protos.ActivityRequest) error {
	answer := &protos.ActivityResponse{
		InstanceId: r.GetOrchestrationInstance().GetInstanceId(), TaskId: r.GetTaskId(), CompletionToken: token,
	}
	out, err := w.activities[r.GetName()](r)
	if err != nil {
		answer.FailureDetails = &protos.TaskFailureDetails{ErrorType: "System.Exception", ErrorMessage: err.Error()}
	} else {
		answer.Result = wrapperspb.String(out)
	}
	for range 2 { // the second is late: .NET tries again for a long time unless it is taken
		if _, err := w.client.CompleteActivityTask(ctx, answer); err != nil {
			return fmt.Errorf("complete activity: %w", err)
		}
	}
	return nil
}

func (w *dotNetWorker) turn(ctx context.Context, token string, r *protos.OrchestratorRequest) error {
	if r.GetEntityParameters().GetEntityMessageReorderWindow() == nil {
		return fmt.Errorf("%s: NullReferenceException: no entity parameters with a window", r.GetInstanceId())
	}
	events := r.GetPastEvents()
	if r.GetRequiresHistoryStreaming() {
		var err error
		if events, err = w.history(ctx, r); err != nil {
			return err
		}
	}
	events = append(events, r.GetNewEvents()...)
	if r.GetNewEvents()[0].GetOrchestratorStarted() == nil {
		return fmt.Errorf("%s: a turn begins with %v", r.GetInstanceId(), r.GetNewEvents()[0])
	}
	name, starts := "", 0
	for _, e := range events {
		if err := inspect(e); err != nil {
			return fmt.Errorf("%s: %w", r.GetInstanceId(), err)
		}
		if s := e.GetExecutionStarted(); s != nil {
			name, starts = s.GetName(), starts+1
			if s.GetOrchestrationInstance().GetInstanceId() != r.GetInstanceId() {
				return fmt.Errorf("%s: the start is of %v", r.GetInstanceId(), s.GetOrchestrationInstance())
			}
		}
	}
	if starts != 1 {
		return fmt.Errorf("%s: %d starts in a history", r.GetInstanceId(), starts)
	}
	return w.answer(ctx, &protos.OrchestratorResponse{
		InstanceId: r.GetInstanceId(), CompletionToken: token, Actions: w.programs[name].run(events),
		NumEventsProcessed: wrapperspb.Int32(int32(len(r.GetNewEvents()))),
	})
}

// history reads the events before a turn that are too many for a message.
func (w *dotNetWorker) history(ctx context.Context, r *protos.OrchestratorRequest) ([]*protos.HistoryEvent, error) {
	w.mu.Lock()
	w.streamed++
	w.mu.Unlock()
	stream, err := w.client.StreamInstanceHistory(ctx, &protos.StreamInstanceHistoryRequest{
		InstanceId: r.GetInstanceId(), ExecutionId: r.GetExecutionId(), ForWorkItemProcessing: true,
	})
	if err != nil {
		return nil, err
	}
	var events []*protos.HistoryEvent
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: history: %w", r.GetInstanceId(), err)
		}
		events = append(events, chunk.GetEvents()...)
	}
}

// answer sends a response in parts that are not too large, as the SDK does, and one that is whole a second time.
func (w *dotNetWorker) answer(ctx context.Context, r *protos.OrchestratorResponse) error {
	var parts []*protos.OrchestratorResponse
	rest := r.GetActions()
	for first := true; first || len(rest) > 0; first = false {
		part := &protos.OrchestratorResponse{InstanceId: r.GetInstanceId(), CompletionToken: r.GetCompletionToken(), IsPartial: true}
		if !first {
			part.NumEventsProcessed = wrapperspb.Int32(0)
		}
		size := 0
		for len(rest) > 0 && (size == 0 || size+proto.Size(rest[0]) < dotNetChunk) {
			size += proto.Size(rest[0])
			part.Actions, rest = append(part.Actions, rest[0]), rest[1:]
		}
		part.ChunkIndex = wrapperspb.Int32(int32(len(parts)))
		parts = append(parts, part)
	}
	parts[len(parts)-1].IsPartial = false
	w.mu.Lock()
	w.partial += len(parts) - 1
	w.mu.Unlock()
	if len(parts) == 1 {
		parts = []*protos.OrchestratorResponse{r, r}
	}
	for _, part := range parts {
		if _, err := w.client.CompleteOrchestratorTask(ctx, part); err != nil {
			return fmt.Errorf("complete turn of %s: %w", r.GetInstanceId(), err)
		}
	}
	return nil
}

// inspect finds what the .NET SDK cannot convert in an event.
func inspect(e *protos.HistoryEvent) error {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", e.GetEventType()), "*protos.HistoryEvent_")
	if e.GetTimestamp() == nil {
		return fmt.Errorf("NullReferenceException: %s without a timestamp", kind)
	}
	confirms := false // an action, with its id
	switch t := e.GetEventType().(type) {
	case *protos.HistoryEvent_TimerCreated:
		confirms = true
		if t.TimerCreated.GetFireAt() == nil {
			return errors.New("NullReferenceException: TimerCreated without its time")
		}
	case *protos.HistoryEvent_TimerFired:
		if t.TimerFired.GetFireAt() == nil {
			return errors.New("NullReferenceException: TimerFired without its time")
		}
	case *protos.HistoryEvent_TaskScheduled, *protos.HistoryEvent_SubOrchestrationInstanceCreated, *protos.HistoryEvent_EventSent,
		*protos.HistoryEvent_EntityUnlockSent:
		confirms = true
	case *protos.HistoryEvent_EntityOperationCalled, *protos.HistoryEvent_EntityOperationSignaled, *protos.HistoryEvent_EntityLockRequested:
		return nil // to an entity they have no id, in a history they have
	case *protos.HistoryEvent_ExecutionStarted, *protos.HistoryEvent_ExecutionTerminated, *protos.HistoryEvent_ExecutionSuspended,
		*protos.HistoryEvent_ExecutionResumed, *protos.HistoryEvent_OrchestratorStarted, *protos.HistoryEvent_EventRaised,
		*protos.HistoryEvent_TaskCompleted, *protos.HistoryEvent_TaskFailed, *protos.HistoryEvent_SubOrchestrationInstanceCompleted,
		*protos.HistoryEvent_SubOrchestrationInstanceFailed, *protos.HistoryEvent_EntityOperationCompleted,
		*protos.HistoryEvent_EntityOperationFailed, *protos.HistoryEvent_EntityLockGranted:
	default:
		return fmt.Errorf("NotSupportedException: a worker is sent %s", kind)
	}
	if (e.GetEventId() >= 0) != confirms {
		return fmt.Errorf("%s has the id %d", kind, e.GetEventId())
	}
	return nil
}

// wantCode expects that an RPC ended with a status.
func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: got %v (%v), want %v", what, got, err, want)
	}
}
