package backend

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/google/uuid"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// openKind is what an open task id of an execution waits for.
type openKind uint8

const (
	openTask openKind = iota + 1
	openTimer
	openChild
)

// OrchestrationRuntimeState is one execution of one instance: its history, the
// events of the turn at hand and what that turn wants done. It is pure: it does
// no I/O. It belongs to whoever holds the instance's work item and is
// not safe for concurrent use.
type OrchestrationRuntimeState struct {
	// CustomStatus is what the last turn set; nil leaves what is stored.
	CustomStatus *wrapperspb.StringValue

	instanceID api.InstanceID
	oldEvents  []*HistoryEvent
	newEvents  []*HistoryEvent

	started    *HistoryEvent
	completed  *HistoryEvent
	suspended  bool
	terminate  *HistoryEvent // not yet acted upon
	updatedAt  *timestamppb.Timestamp
	open       map[int32]openEvent
	openTasks  int
	generation int  // how often this value continued as new
	unexecuted bool // the events of this execution have not been executed yet
	recurse    bool // the turn terminated the instance with its descendants
	tries      int  // how often the turn was tried before
	entities   entityLedger

	traceContext *protos.OrchestrationTraceContext // what the worker last said of its span

	pendingTasks    []*HistoryEvent
	detachedTasks   []DetachedTask
	pendingTimers   []*HistoryEvent
	pendingMessages []OrchestratorMessage
	carried         int // so many of the first messages are of executions that continued as new in this turn
	continuation    Continuation
}

type openEvent struct {
	kind  openKind
	event *HistoryEvent
}

// OrchestratorMessage is an event on its way to another instance.
type OrchestratorMessage struct {
	HistoryEvent     *HistoryEvent
	TargetInstanceID string

	targetExecution string
	toChild         bool
}

// TargetExecutionID is the execution that the message is for; "" for whichever is current.
func (m OrchestratorMessage) TargetExecutionID() string { return m.targetExecution }

// ToChild reports whether the message is meant for a child of the sender, and for no other
// instance that may have the id.
func (m OrchestratorMessage) ToChild() bool { return m.toChild }

// DetachedTask is an activity that an earlier execution scheduled in the turn
// in which it continued as new: it runs, and its result is ignored.
type DetachedTask struct {
	Event       *HistoryEvent
	ExecutionID string
}

// NewOrchestrationRuntimeState makes the state of an instance from its
// history. Events that the history holds twice are taken once.
func NewOrchestrationRuntimeState(instanceID api.InstanceID, existingHistory []*HistoryEvent) *OrchestrationRuntimeState {
	s := &OrchestrationRuntimeState{
		instanceID: instanceID,
		oldEvents:  make([]*HistoryEvent, 0, len(existingHistory)),
		open:       map[int32]openEvent{},
	}
	for _, e := range existingHistory {
		if s.accept(e) == nil {
			s.oldEvents = append(s.oldEvents, e)
		}
	}
	s.terminate = nil
	return s
}

// NewTurnState makes the state of one turn as a worker elsewhere sees it: nothing
// is checked, and a continuation from the turn before may take the place of old events.
func NewTurnState(instanceID api.InstanceID, oldEvents, newEvents []*HistoryEvent, c Continuation) *OrchestrationRuntimeState {
	return &OrchestrationRuntimeState{instanceID: instanceID, oldEvents: oldEvents, newEvents: newEvents, continuation: c}
}

// AddEvent adds a new event. A second start or completion, and a result whose task is
// not open (never scheduled, or answered already), is ErrDuplicateEvent and not added; nor is
// a task, timer or child with the number of one that is open.
func (s *OrchestrationRuntimeState) AddEvent(e *HistoryEvent) error {
	e = s.entities.legacyAnswer(e)
	if err := s.accept(e); err != nil {
		return err
	}
	s.newEvents = append(s.newEvents, e)
	return nil
}

func (s *OrchestrationRuntimeState) accept(e *HistoryEvent) error {
	switch t := e.GetEventType().(type) {
	case *protos.HistoryEvent_ExecutionStarted:
		if s.started != nil {
			return fmt.Errorf("%w: second ExecutionStarted for %s", ErrDuplicateEvent, s.instanceID)
		}
		s.started = e
	case *protos.HistoryEvent_ExecutionCompleted:
		if s.completed != nil {
			return fmt.Errorf("%w: second ExecutionCompleted for %s", ErrDuplicateEvent, s.instanceID)
		}
		s.completed = e
	case *protos.HistoryEvent_OrchestratorStarted:
		if c := t.OrchestratorStarted.GetOrchestrationTraceContext(); c != nil {
			s.traceContext = c
		}
	case *protos.HistoryEvent_ExecutionSuspended:
		s.suspended = true
	case *protos.HistoryEvent_ExecutionResumed:
		s.suspended = false
	case *protos.HistoryEvent_ExecutionTerminated:
		s.terminate = e
	case *protos.HistoryEvent_TaskScheduled:
		if err := s.begin(openTask, e); err != nil {
			return err
		}
		s.openTasks++
	case *protos.HistoryEvent_TimerCreated:
		return s.begin(openTimer, e)
	case *protos.HistoryEvent_SubOrchestrationInstanceCreated:
		return s.begin(openChild, e)
	case *protos.HistoryEvent_TaskCompleted:
		return s.close(openTask, t.TaskCompleted.GetTaskScheduledId(), e)
	case *protos.HistoryEvent_TaskFailed:
		return s.close(openTask, t.TaskFailed.GetTaskScheduledId(), e)
	case *protos.HistoryEvent_TimerFired:
		return s.close(openTimer, t.TimerFired.GetTimerId(), e)
	case *protos.HistoryEvent_SubOrchestrationInstanceCompleted:
		return s.close(openChild, t.SubOrchestrationInstanceCompleted.GetTaskScheduledId(), e)
	case *protos.HistoryEvent_SubOrchestrationInstanceFailed:
		return s.close(openChild, t.SubOrchestrationInstanceFailed.GetTaskScheduledId(), e)
	default:
		if err := s.entities.accept(e); err != nil {
			return fmt.Errorf("%s: %w", s.instanceID, err)
		}
	}
	s.touch(e)
	return nil
}

func (s *OrchestrationRuntimeState) begin(kind openKind, e *HistoryEvent) error {
	id := e.GetEventId()
	if s.open[id].kind != 0 {
		return fmt.Errorf("%w: %w: %s has an open task %d already, and is to begin another of that number",
			ErrDuplicateEvent, api.ErrInvalidInput, s.instanceID, id)
	}
	s.open[id] = openEvent{kind, e}
	s.touch(e)
	return nil
}

func (s *OrchestrationRuntimeState) close(kind openKind, id int32, e *HistoryEvent) error {
	if s.open[id].kind != kind {
		return fmt.Errorf("%w: %T for task %d of %s, which is not open", ErrDuplicateEvent, e.GetEventType(), id, s.instanceID)
	}
	delete(s.open, id)
	if kind == openTask {
		s.openTasks--
	}
	s.touch(e)
	return nil
}

// keepTraceContext stores what the worker said of its span with the turn, where it is new.
func (s *OrchestrationRuntimeState) keepTraceContext(c *protos.OrchestrationTraceContext) {
	if c == nil || proto.Equal(c, s.traceContext) {
		return
	}
	n := slices.IndexFunc(s.newEvents, func(e *HistoryEvent) bool { return e.GetOrchestratorStarted() != nil })
	if n < 0 {
		return
	}
	s.traceContext = c
	s.newEvents = slices.Clone(s.newEvents) // who executed the turn may still read its events
	s.newEvents[n] = &HistoryEvent{
		EventId: -1, Timestamp: s.newEvents[n].GetTimestamp(),
		EventType: &protos.HistoryEvent_OrchestratorStarted{
			OrchestratorStarted: &protos.OrchestratorStartedEvent{OrchestrationTraceContext: c},
		},
	}
}

func (s *OrchestrationRuntimeState) touch(e *HistoryEvent) {
	ts := e.GetTimestamp()
	if ts != nil && (s.updatedAt == nil || !ts.AsTime().Before(s.updatedAt.AsTime())) {
		s.updatedAt = ts
	}
}

// InstanceID is the id of the instance.
func (s *OrchestrationRuntimeState) InstanceID() api.InstanceID { return s.instanceID }

// ExecutionID is the id of this execution; "" before it started.
func (s *OrchestrationRuntimeState) ExecutionID() string {
	return s.started.GetExecutionStarted().GetOrchestrationInstance().GetExecutionId().GetValue()
}

// StartEvent is the ExecutionStarted event; nil before it.
func (s *OrchestrationRuntimeState) StartEvent() *protos.ExecutionStartedEvent {
	return s.started.GetExecutionStarted()
}

// Name is the orchestrator's name; api.ErrNotStarted.
func (s *OrchestrationRuntimeState) Name() (string, error) {
	if s.started == nil {
		return "", api.ErrNotStarted
	}
	return s.started.GetExecutionStarted().GetName(), nil
}

// Input is the serialized input of this execution, "" where it has none; api.ErrNotStarted.
func (s *OrchestrationRuntimeState) Input() (string, error) {
	if s.started == nil {
		return "", api.ErrNotStarted
	}
	return s.started.GetExecutionStarted().GetInput().GetValue(), nil
}

// Output is the serialized output, "" where it has none; api.ErrNotCompleted.
func (s *OrchestrationRuntimeState) Output() (string, error) {
	if s.completed == nil {
		return "", api.ErrNotCompleted
	}
	return s.completed.GetExecutionCompleted().GetResult().GetValue(), nil
}

// CompletionEvent is the ExecutionCompleted event; nil before it.
func (s *OrchestrationRuntimeState) CompletionEvent() *protos.ExecutionCompletedEvent {
	return s.completed.GetExecutionCompleted()
}

// FailureDetails says why the orchestration failed; api.ErrNotCompleted, api.ErrNoFailures.
func (s *OrchestrationRuntimeState) FailureDetails() (*TaskFailureDetails, error) {
	if s.completed == nil {
		return nil, api.ErrNotCompleted
	}
	if f := s.completed.GetExecutionCompleted().GetFailureDetails(); f != nil {
		return f, nil
	}
	return nil, api.ErrNoFailures
}

// RuntimeStatus is the completion's status after it, PENDING before the start,
// else SUSPENDED or RUNNING.
func (s *OrchestrationRuntimeState) RuntimeStatus() protos.OrchestrationStatus {
	switch {
	case s.completed != nil:
		return s.completed.GetExecutionCompleted().GetOrchestrationStatus()
	case s.started == nil:
		return api.RUNTIME_STATUS_PENDING
	case s.suspended:
		return api.RUNTIME_STATUS_SUSPENDED
	}
	return api.RUNTIME_STATUS_RUNNING
}

// CreatedTime is the time of the start event; api.ErrNotStarted.
func (s *OrchestrationRuntimeState) CreatedTime() (time.Time, error) {
	if s.started == nil {
		return time.Time{}, api.ErrNotStarted
	}
	return s.started.GetTimestamp().AsTime(), nil
}

// LastUpdatedTime is the time of the newest event; api.ErrNotStarted.
func (s *OrchestrationRuntimeState) LastUpdatedTime() (time.Time, error) {
	if s.started == nil {
		return time.Time{}, api.ErrNotStarted
	}
	return s.updatedAt.AsTime(), nil
}

// CompletedTime is the time of the completion event; api.ErrNotCompleted.
func (s *OrchestrationRuntimeState) CompletedTime() (time.Time, error) {
	if s.completed == nil {
		return time.Time{}, api.ErrNotCompleted
	}
	return s.completed.GetTimestamp().AsTime(), nil
}

// IsValid reports whether the state is empty or has a start event.
func (s *OrchestrationRuntimeState) IsValid() bool {
	return s.started != nil || len(s.oldEvents)+len(s.newEvents) == 0
}

// IsCompleted reports whether the orchestration is over.
func (s *OrchestrationRuntimeState) IsCompleted() bool { return s.completed != nil }

// ContinuedAsNew reports whether the turn ended this execution's predecessor by continue-as-new.
func (s *OrchestrationRuntimeState) ContinuedAsNew() bool { return s.generation > 0 }

// OldEvents is the stored history; NewEvents what the turn adds to it. Callers must not change either.
func (s *OrchestrationRuntimeState) OldEvents() []*HistoryEvent { return s.oldEvents }

// NewEvents are the events of the turn at hand.
func (s *OrchestrationRuntimeState) NewEvents() []*HistoryEvent { return s.newEvents }

// PendingTasks are the activities that the turn scheduled.
func (s *OrchestrationRuntimeState) PendingTasks() []*HistoryEvent { return s.pendingTasks }

// DetachedTasks are the activities that an execution scheduled before it continued as new in this turn.
func (s *OrchestrationRuntimeState) DetachedTasks() []DetachedTask { return s.detachedTasks }

// PendingTimers are TimerFired events for the timers that the turn created.
func (s *OrchestrationRuntimeState) PendingTimers() []*HistoryEvent { return s.pendingTimers }

// PendingMessages are the events that the turn sends to other instances.
func (s *OrchestrationRuntimeState) PendingMessages() []OrchestratorMessage { return s.pendingMessages }

// OpenTasks calls f for each scheduled activity that has no result, in no particular order.
func (s *OrchestrationRuntimeState) OpenTasks(f func(*HistoryEvent)) {
	for _, o := range s.open {
		if o.kind == openTask {
			f(o.event)
		}
	}
}

// OpenTaskCount is how many scheduled activities have no result.
func (s *OrchestrationRuntimeState) OpenTaskCount() int { return s.openTasks }

// NeedsTurn reports whether the events of a fresh execution are stored but not executed yet.
func (s *OrchestrationRuntimeState) NeedsTurn() bool { return s.unexecuted }

// TerminatedRecursively reports whether the turn ended the instance together with its descendants.
func (s *OrchestrationRuntimeState) TerminatedRecursively() bool { return s.recurse }

// OpenTimers calls f for each created timer that has not fired, in no particular order.
func (s *OrchestrationRuntimeState) OpenTimers(f func(*HistoryEvent)) {
	for _, o := range s.open {
		if o.kind == openTimer {
			f(o.event)
		}
	}
}

// Continuation is what the executor left with the state; nil for none.
func (s *OrchestrationRuntimeState) Continuation() Continuation { return s.continuation }

// SetContinuation leaves c with the state, instead of what was there.
func (s *OrchestrationRuntimeState) SetContinuation(c Continuation) { s.continuation = c }

// Release stops the continuation; the next turn replays.
func (s *OrchestrationRuntimeState) Release() {
	if c := s.continuation; c != nil {
		s.continuation = nil
		c.Stop()
	}
}

// Commit makes the turn's events part of the history, once they are stored.
func (s *OrchestrationRuntimeState) Commit() {
	s.oldEvents = append(s.oldEvents, s.newEvents...)
	s.newEvents = nil
	s.pendingTasks, s.pendingTimers, s.pendingMessages, s.detachedTasks = nil, nil, nil, nil
	s.generation, s.unexecuted, s.recurse, s.carried = 0, false, false, 0
}

// String is "<instance id>:<STATUS>".
func (s *OrchestrationRuntimeState) String() string {
	return string(s.instanceID) + ":" + api.StatusName(s.RuntimeStatus())
}

// NewExecutionID makes the id of a new execution: 32 lowercase hexadecimal
// digits, the form that the SDKs expect.
func NewExecutionID() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }
