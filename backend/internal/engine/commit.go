package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// outgoing is a message of a turn and the instance it is for.
type outgoing struct {
	to   *instance
	msg  backend.OrchestratorMessage
	in   *message        // what the target receives; nil where it is dropped
	row  *store.Instance // the new row, where the message starts a child
	bad  error           // why the target's id is refused
	next *instance       // the child that this message starts, or that the turn started before it sent this
}

// turnCommit is a turn on its way through the lane.
type turnCommit struct {
	e      *Engine
	i      *instance
	t      *turn
	s      *backend.OrchestrationRuntimeState
	events []byte
	row    *store.Instance // the new row
	write  bool            // the row changed
	out    []outgoing
	self   []*message // messages to the instance itself, made by build
	kept   []*task    // tasks that outlive their execution, those handed out or queued before first
	keptAt []int64
	queued int      // how many of them were
	start  *message // the create that this turn makes durable
	orphan bool     // the engine was closed meanwhile: nobody holds the state
}

// CompleteOrchestrationWorkItem stores a turn.
func (e *Engine) CompleteOrchestrationWorkItem(ctx context.Context, wi *backend.OrchestrationWorkItem) error {
	e.mu.Lock()
	i, err := e.lockedTurn(wi)
	if err != nil {
		e.mu.Unlock()
		dropState(wi)
		return err
	}
	if wi.State == nil {
		e.mu.Unlock()
		return fmt.Errorf("%w: %s: the work item has no state", api.ErrInvalidInput, i.id)
	}
	c := &turnCommit{e: e, i: i, t: i.turn, s: wi.State}
	e.mu.Unlock()
	if c.events, err = encodeEvents(c.s.NewEvents()); err != nil {
		return fmt.Errorf("encode turn of %s: %w", i.id, err)
	}
	defer c.release()
	if err := c.address(ctx); err != nil {
		return fmt.Errorf("complete turn of %s: %w", i.id, err)
	}
	e.mu.Lock()
	if i.turn != c.t || i.gone {
		e.mu.Unlock()
		dropState(wi)
		return fmt.Errorf("%w: %s", backend.ErrWorkItemLockLost, i.id)
	}
	for _, m := range c.t.msgs {
		m.state = riding
	}
	c.t.done = e.now()
	e.mu.Unlock()
	over := c.s.IsCompleted() // once the op is applied, the state belongs to the next turn
	err = e.submit(&op{build: c.build, apply: c.apply})
	if err != nil || c.orphan || over {
		c.s.Release()
	}
	return err
}

// dropState unwinds the orchestrator of a turn whose lock was lost: nobody else will.
func dropState(wi *backend.OrchestrationWorkItem) {
	if wi != nil && wi.State != nil {
		wi.State.Release()
	}
}

// address pins the instances that the turn's messages are for.
func (c *turnCommit) address(ctx context.Context) error {
	msgs := c.s.PendingMessages()
	if c.s.TerminatedRecursively() {
		more, err := c.descendants(ctx, msgs)
		if err != nil {
			return err
		}
		msgs = append(msgs[:len(msgs):len(msgs)], more...)
	}
	return c.addressAll(ctx, msgs)
}

func (c *turnCommit) addressAll(ctx context.Context, msgs []backend.OrchestratorMessage) error {
	for _, m := range msgs {
		o := outgoing{msg: m, to: c.i, bad: checkChild(m.TargetInstanceID)}
		if m.TargetInstanceID != c.i.id && o.bad == nil {
			var err error
			if o.to, err = c.e.pin(ctx, m.TargetInstanceID); err != nil {
				return err
			}
		}
		if m.HistoryEvent.GetExecutionStarted() != nil {
			if o.to.ent != nil && o.bad == nil {
				o.bad = fmt.Errorf("%w: sub-orchestration id %q begins with @, which is kept for entities",
					api.ErrInvalidInput, m.TargetInstanceID)
			}
			row, err := c.e.newRow(m.HistoryEvent)
			if err != nil {
				return errors.Join(err, c.unpin(o))
			}
			o.row = row
		}
		c.out = append(c.out, o)
	}
	return nil
}

func (c *turnCommit) unpin(o outgoing) error {
	if o.to != c.i {
		c.e.unpin(o.to)
	}
	return nil
}

// checkChild refuses the id of a child; where it does, the parent's task fails.
// The limit is above that of ids which callers give, as SDKs derive the ids of
// children from those of parents.
func checkChild(id string) error {
	switch {
	case !utf8.ValidString(id) || strings.ContainsRune(id, 0):
		return fmt.Errorf("%w of a sub-orchestration, %q, is not valid UTF-8 or contains a NUL", api.ErrInvalidInstanceID, id)
	case len(id) > maxIDBytes:
		return fmt.Errorf("%w of a sub-orchestration has a length of %d bytes, the limit is %d: %.40q…",
			api.ErrInvalidInstanceID, len(id), maxIDBytes, id)
	}
	return nil
}

func (c *turnCommit) release() {
	for _, o := range c.out {
		_ = c.unpin(o)
	}
}

// descendants are terminates for the unfinished children that the state no
// longer knows, those of executions before a continue-as-new.
func (c *turnCommit) descendants(ctx context.Context, known []backend.OrchestratorMessage) ([]backend.OrchestratorMessage, error) {
	has := map[string]bool{}
	var terminate *backend.HistoryEvent
	for _, m := range known {
		has[m.TargetInstanceID] = true
	}
	for _, ev := range c.s.NewEvents() {
		if ev.GetExecutionTerminated() != nil {
			terminate = ev
		}
	}
	var more []backend.OrchestratorMessage
	err := c.e.children(ctx, c.i.id, func(row *store.Instance) error {
		if row.Unfinished && !has[row.ID] {
			more = append(more, backend.OrchestratorMessage{HistoryEvent: terminate, TargetInstanceID: row.ID})
		}
		return nil
	})
	return more, err
}

func (c *turnCommit) build(b *builder) error {
	i, e := c.i, c.e
	if i.gone || i.turn != c.t || (i.row != nil && !i.row.Unfinished) || (i.sealed == b && i.ends) {
		return fmt.Errorf("%w: %s", backend.ErrWorkItemLockLost, i.id)
	}
	i.turnIn = b
	c.self, c.kept, c.keptAt, c.write = nil, nil, nil, false
	if c.s.ContinuedAsNew() || c.s.IsCompleted() {
		i.sealed, i.ends = b, c.s.IsCompleted()
	}
	if (c.s.ContinuedAsNew() || c.s.IsCompleted()) && !c.terminated() {
		if err := c.detach(b); err != nil {
			return err
		}
	}
	if err := c.send(b); err != nil {
		return err
	}
	for _, m := range c.t.msgs {
		if !keepsConsumed {
			b.consume(m.seq)
		}
	}
	if c.s.IsCompleted() {
		for _, m := range i.inbox {
			b.consume(m.seq)
		}
	}
	if c.terminated() {
		for _, t := range i.kept {
			b.consume(t.detached)
		}
	}
	now := e.now()
	if len(c.s.NewEvents()) > 0 {
		lsn := b.history(i.key, now, c.events)
		if c.s.ContinuedAsNew() {
			b.Truncate = append(b.Truncate, store.Truncate{Key: i.key, Before: lsn})
		}
	}
	c.start = i.start
	base := i.row
	if base == nil {
		base = i.startRow
	}
	if err := c.newRow(base, now); err != nil {
		return err
	}
	switch {
	case i.row == nil && i.startIn != b:
		b.insert(c.row)
	case c.write || i.row == nil:
		b.update(c.row)
	}
	return nil
}

func (c *turnCommit) terminated() bool {
	return c.s.CompletionEvent().GetOrchestrationStatus() == api.RUNTIME_STATUS_TERMINATED
}

// newRow makes the row after the turn, and says whether it must be written.
func (c *turnCommit) newRow(base *store.Instance, now int64) error {
	row := *base
	s := c.s
	row.Status, row.Unfinished, row.Attempts, row.Stalled = int32(s.RuntimeStatus()), !s.IsCompleted(), 0, ""
	row.UpdatedAt = now
	if s.CustomStatus != nil {
		row.CustomStatus = &s.CustomStatus.Value
	}
	if exec := s.ExecutionID(); exec != row.ExecutionID || s.ContinuedAsNew() {
		row.ExecutionID = exec
		start := s.StartEvent()
		row.Input, row.Version = text(start.GetInput()), text(start.GetVersion())
		var err error
		if row.Tags, err = encodeTags(start.GetTags()); err != nil {
			return err
		}
	}
	row.Due = 0
	if done := s.CompletionEvent(); done != nil {
		row.CompletedAt = max(now, 1)
		row.Output = text(done.GetResult())
		if f := done.GetFailureDetails(); f != nil {
			var err error
			if row.Failure, err = proto.Marshal(f); err != nil {
				return err
			}
		}
	} else if s.OpenTaskCount() == 0 && !s.NeedsTurn() && len(c.self) == 0 {
		row.Due = c.due()
	}
	c.row = &row
	c.write = base.Status != row.Status || base.Due != row.Due || base.ExecutionID != row.ExecutionID ||
		deref(base.CustomStatus) != deref(row.CustomStatus) || (base.CustomStatus == nil) != (row.CustomStatus == nil) ||
		base.Stalled != "" || base.Attempts != 0
	return nil
}

// due is when the next timer of a parked instance fires.
func (c *turnCommit) due() int64 {
	next := store.Far
	if !c.s.ContinuedAsNew() && len(c.i.timers) > 0 {
		next = c.i.timers[0].due
	}
	probe := instance{}
	for _, ev := range c.s.PendingTimers() {
		probe.addTimer(&backend.HistoryEvent{EventType: &protos.HistoryEvent_TimerCreated{
			TimerCreated: &protos.TimerCreatedEvent{FireAt: ev.GetTimerFired().GetFireAt()},
		}})
	}
	if len(probe.timers) > 0 {
		next = min(next, probe.timers[0].due)
	}
	return next
}

// detach keeps the activities that outlive their execution: the open ones where
// it ended by continue-as-new, and those that its last turn scheduled where the
// orchestration ended. Each gets a record, and its result will be ignored.
// Results that wait for an execution that continued as new are dropped.
func (c *turnCommit) detach(b *builder) error {
	if c.s.ContinuedAsNew() {
		for _, t := range c.i.tasks {
			c.kept = append(c.kept, t)
		}
	}
	c.queued = len(c.kept)
	for _, d := range c.s.DetachedTasks() {
		c.kept = append(c.kept, &task{inst: c.i, event: d.Event, exec: d.ExecutionID})
	}
	if c.s.IsCompleted() {
		for _, ev := range c.s.PendingTasks() {
			c.kept = append(c.kept, &task{inst: c.i, event: ev, exec: c.s.ExecutionID()})
		}
	}
	for _, t := range c.kept {
		seq, err := b.store(c.i.key, t.event)
		if err != nil {
			return err
		}
		c.keptAt = append(c.keptAt, seq)
	}
	for _, m := range c.i.inbox {
		if c.s.ContinuedAsNew() && isResult(m.event) {
			b.consume(m.seq)
		}
	}
	return nil
}

func isResult(ev *backend.HistoryEvent) bool {
	switch ev.GetEventType().(type) {
	case *protos.HistoryEvent_TaskCompleted, *protos.HistoryEvent_TaskFailed, *protos.HistoryEvent_TimerFired,
		*protos.HistoryEvent_SubOrchestrationInstanceCompleted, *protos.HistoryEvent_SubOrchestrationInstanceFailed,
		*protos.HistoryEvent_EntityOperationCompleted, *protos.HistoryEvent_EntityOperationFailed, *protos.HistoryEvent_EntityLockGranted:
		return true
	}
	return false
}

// send stores the turn's messages in the inboxes of their targets.
func (c *turnCommit) send(b *builder) error {
	starts := map[string]*instance{}
	for n := range c.out {
		o := &c.out[n]
		o.in, o.next = nil, nil
		if o.row != nil {
			if err := c.startChild(b, o, starts); err != nil {
				return err
			}
			continue
		}
		to := o.to
		if next := starts[to.id]; next != nil && !isEntityMessage(o.msg.HistoryEvent) && o.msg.TargetExecutionID() == "" {
			var err error
			o.next, o.in = next, &message{event: o.msg.HistoryEvent, state: durable}
			if o.in.seq, err = b.store(next.key, o.msg.HistoryEvent); err != nil {
				return err
			}
			continue
		}
		if to.ent != nil && to.gone { // an entity is never over: the engine is
			return backend.ErrNotInitialized
		}
		if o.bad != nil || to.gone || !to.exists() || to.refuses(o.msg.HistoryEvent, b) {
			continue // nobody is there to read it
		}
		if (to.ent != nil) != isEntityMessage(o.msg.HistoryEvent) {
			continue // nobody can read it
		}
		if exec := o.msg.TargetExecutionID(); exec != "" && exec != to.execution() {
			continue // for an execution that is over
		}
		if o.msg.ToChild() && to.parent() != c.i.id {
			continue // another instance has the id
		}
		if to.start != nil && to.start.state == held {
			if err := c.e.buildStart(to, b); err != nil {
				return err
			}
		}
		var err error
		o.in = &message{event: o.msg.HistoryEvent, state: durable}
		if o.in.seq, err = b.store(c.e.bear(to, b), o.msg.HistoryEvent); err != nil {
			return err
		}
	}
	return nil
}

func (i *instance) execution() string {
	if row := i.anyRow(); row != nil {
		return row.ExecutionID
	}
	return ""
}

func (i *instance) parent() string {
	if row := i.anyRow(); row != nil {
		return row.ParentID
	}
	return ""
}

// anyRow is the instance's row, as committed or to be created; nil for none.
func (i *instance) anyRow() *store.Instance {
	if i.row != nil {
		return i.row
	}
	return i.startRow
}

// repin takes what has the target's id now, as what had it was purged or replaced meanwhile. The mutex is held.
func (e *Engine) repin(o *outgoing) {
	to := e.byID[o.to.id]
	if to == nil {
		to = &instance{id: o.to.id}
		e.byID[to.id] = to
	}
	if to.loading != nil {
		return
	}
	to.pins++
	o.to.pins--
	o.to = to
}

// startChild stores a child, in the place of a finished instance where one has
// the id. A taken id fails the parent's task.
func (c *turnCommit) startChild(b *builder, o *outgoing, starts map[string]*instance) error {
	e := c.e
	if o.to.gone && o.to != c.i {
		e.repin(o)
	}
	failure := &protos.TaskFailureDetails{
		ErrorType:    "DuplicateInstance",
		ErrorMessage: fmt.Sprintf("sub-orchestration id %q is taken by an instance that has not finished", o.row.ID),
	}
	if o.bad != nil {
		failure = &protos.TaskFailureDetails{ErrorType: "InvalidInstanceID", ErrorMessage: o.bad.Error(), IsNonRetriable: true}
	}
	if o.bad != nil || o.to == c.i || o.to.gone || o.to.deleted == b || (o.to.exists() && !o.to.finished()) || starts[o.to.id] != nil {
		if c.i.ent != nil { // it expects no answer
			e.log.Warnf("%s: the start of %s is dropped: %s", c.i.id, o.row.ID, failure.GetErrorMessage())
			return nil
		}
		ev := backend.NewChildFailed(o.row.ParentTask, failure, timestamppb.New(c.e.Now()))
		if c.s.IsCompleted() || o.row.ParentExec != c.s.ExecutionID() {
			return nil // the execution that called it is over
		}
		seq, err := b.store(c.i.key, ev)
		if err != nil {
			return err
		}
		c.self = append(c.self, &message{event: ev, state: durable, seq: seq})
		return nil
	}
	e.nextKey++
	row := *o.row
	row.Key = e.nextKey
	if o.to.row != nil {
		b.remove(o.to)
	}
	o.in = &message{event: o.msg.HistoryEvent, state: durable}
	var err error
	if o.in.seq, err = b.store(row.Key, o.msg.HistoryEvent); err != nil {
		return err
	}
	b.insert(&row)
	o.next = &instance{id: row.ID, key: row.Key, row: &row, rest: row.ScheduledAt}
	starts[o.to.id] = o.next
	return nil
}
