package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

// addTask makes a scheduled activity an open task. The mutex is held.
func (e *Engine) addTask(i *instance, ev *backend.HistoryEvent) {
	t := &task{inst: i, event: ev}
	if i.row != nil {
		t.exec = i.row.ExecutionID
	}
	if i.tasks == nil {
		i.tasks = map[int32]*task{}
	}
	i.tasks[ev.GetEventId()] = t
	if !i.held {
		e.offerTask(t)
	}
}

// openTasks are the open tasks in the order in which they were scheduled.
func (i *instance) openTasks() []*task {
	return slices.SortedFunc(maps.Values(i.tasks), func(a, b *task) int { return int(a.event.GetEventId() - b.event.GetEventId()) })
}

// offerTask hands a task to a waiting worker, the one that waited least, or queues it. The mutex is held.
func (e *Engine) offerTask(t *task) {
	if e.fenced {
		return
	}
	k := t.workKey()
	t.since = e.now()
	if w, ok := e.queue.waiter(k); ok {
		w <- t
		return
	}
	e.queue.push(k, t)
}

// workKey is who may run the task: one without a version counts as of its orchestration's.
func (t *task) workKey() workKey {
	s := t.event.GetTaskScheduled()
	k := workKey{name: s.GetName(), version: s.GetVersion().GetValue()}
	if s.GetVersion() == nil && t.inst.row != nil {
		k.version = deref(t.inst.row.Version)
	}
	return k
}

// dropTask ends a task whose result is not wanted. The mutex is held.
func (e *Engine) dropTask(t *task) {
	t.over = true
	if t.item != nil {
		delete(e.running, t.item.SequenceNumber)
		t.item.Lose()
		t.item = nil
	}
}

func (e *Engine) nextTask(want wants) *task {
	for {
		t, ok := e.queue.pop(want)
		if !ok || !t.over {
			return t
		}
	}
}

// GetActivityWorkItem hands out a task, if there is one.
func (e *Engine) GetActivityWorkItem(context.Context) (*backend.ActivityWorkItem, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, backend.ErrNotInitialized
	}
	t := e.nextTask(nil)
	if t == nil {
		return nil, backend.ErrNoWorkItems
	}
	return e.handOut(t), nil
}

// AwaitActivityWorkItem blocks until it can hand out a task.
func (e *Engine) AwaitActivityWorkItem(ctx context.Context) (*backend.ActivityWorkItem, error) {
	return e.SelectActivityWorkItem(ctx, nil)
}

// SelectActivityWorkItem blocks until it can hand out a task that is wanted.
func (e *Engine) SelectActivityWorkItem(ctx context.Context, want wants) (*backend.ActivityWorkItem, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e.mu.Lock()
	for !e.closed {
		if t := e.nextTask(want); t != nil {
			wi := e.handOut(t)
			e.mu.Unlock()
			return wi, nil
		}
		w := e.queue.wait(want)
		e.mu.Unlock()
		select {
		case t, ok := <-w:
			e.mu.Lock()
			if ok && !t.over {
				wi := e.handOut(t)
				e.mu.Unlock()
				return wi, nil
			}
		case <-ctx.Done():
			e.mu.Lock()
			if !e.queue.leave(w) {
				if t, ok := <-w; ok && !t.over { // handed over at the same moment
					e.offerTask(t)
				}
			}
			e.mu.Unlock()
			return nil, ctx.Err()
		}
	}
	e.mu.Unlock()
	return nil, backend.ErrNotInitialized
}

func (e *Engine) handOut(t *task) *backend.ActivityWorkItem {
	e.nextItem++
	t.attempt++
	wi := &backend.ActivityWorkItem{
		SequenceNumber: e.nextItem, InstanceID: api.InstanceID(t.inst.id), NewEvent: t.event, LockedBy: e.self,
	}
	wi.SetInfo(backend.ActivityInfo{
		InstanceID: wi.InstanceID, ExecutionID: t.exec, TaskID: t.event.GetEventId(), Attempt: t.attempt,
		Version: t.workKey().version,
	})
	e.meter.Waited(backend.ActivityWork, e.since(t.since))
	t.item, t.since = wi, e.now()
	e.running[wi.SequenceNumber] = t
	return wi
}

// claim takes a task back from the worker that ran it. The mutex is held.
func (e *Engine) claim(wi *backend.ActivityWorkItem) (*task, error) {
	if e.closed {
		return nil, backend.ErrNotInitialized
	}
	if wi == nil {
		return nil, fmt.Errorf("%w: the work item is nil", api.ErrInvalidInput)
	}
	t := e.running[wi.SequenceNumber]
	if t == nil || t.inst.id != string(wi.InstanceID) || wi.LockedBy != e.self {
		return nil, fmt.Errorf("%w: %s", backend.ErrWorkItemLockLost, wi.InstanceID)
	}
	return t, nil
}

// CompleteActivityWorkItem delivers a result and blocks until it is durable.
func (e *Engine) CompleteActivityWorkItem(ctx context.Context, wi *backend.ActivityWorkItem) error {
	e.mu.Lock()
	t, err := e.claim(wi)
	if err != nil {
		e.mu.Unlock()
		return err
	}
	if wi.Result.GetTaskCompleted() == nil && wi.Result.GetTaskFailed() == nil {
		e.mu.Unlock()
		return fmt.Errorf("%w: %s: the result is %T", api.ErrInvalidInput, wi.InstanceID, wi.Result.GetEventType())
	}
	wi.Result = e.checkResult(t, wi.Result)
	delete(e.running, wi.SequenceNumber)
	i := t.inst
	if t.detached != 0 {
		e.mu.Unlock()
		return e.submit(e.detachedDone(t))
	}
	if i.gone || i.finished() {
		e.mu.Unlock()
		return fmt.Errorf("%w: %s is over", backend.ErrWorkItemLockLost, wi.InstanceID)
	}
	m := &message{event: wi.Result, ack: make(chan error, 1), task: t}
	i.pins++
	delete(i.tasks, t.event.GetEventId())
	i.inbox = append(i.inbox, m)
	wait := e.makeReady(i)
	e.mu.Unlock()
	defer e.unpin(i)
	return e.settleMessage(ctx, i, m, wait, func() *op { return e.messageOp(i, m) })
}

// reopen undoes the completion of a task, as its result could not be stored.
// The mutex is held.
func (e *Engine) reopen(m *message) {
	t := m.task
	if t == nil || t.over || t.inst.gone || t.inst.finished() {
		return
	}
	if t.inst.tasks == nil {
		t.inst.tasks = map[int32]*task{}
	}
	t.inst.tasks[t.event.GetEventId()] = t
	if m.left { // nobody waits for the answer: another worker shall run it
		t.item = nil
		e.offerTask(t)
		return
	}
	e.giveBack(t)
}

// detachedDone drops the record of a detached activity that has run.
func (e *Engine) detachedDone(t *task) *op {
	return &op{
		build: func(b *builder) error { b.consume(t.detached); return nil },
		apply: func(err error) {
			if err != nil {
				e.giveBack(t)
				return
			}
			t.inst.unkeep(t)
			e.settle(t.inst)
		},
	}
}

func (i *instance) unkeep(t *task) {
	i.kept = slices.DeleteFunc(i.kept, func(k *task) bool { return k == t })
}

// giveBack returns a task to the worker that has it. The mutex is held.
func (e *Engine) giveBack(t *task) {
	if !t.over && t.item != nil {
		e.running[t.item.SequenceNumber] = t
	}
}

// AbandonActivityWorkItem offers the task again: at once after its first attempt and
// where it was not begun, later after a pause that grows each time.
func (e *Engine) AbandonActivityWorkItem(_ context.Context, wi *backend.ActivityWorkItem) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	t, err := e.claim(wi)
	if err != nil {
		return err
	}
	delete(e.running, wi.SequenceNumber)
	t.item = nil
	if wi.NotBegun() {
		t.attempt--
	} else if t.attempt > 1 {
		t.since = e.now()
		time.AfterFunc(min(time.Duration(t.attempt-1)*retryPause, maxRetryPause), func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			if !e.closed && !t.over && !t.inst.gone {
				e.offerTask(t)
			}
		})
		return nil
	}
	e.offerTask(t)
	return nil
}
