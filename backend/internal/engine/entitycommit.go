package engine

import (
	"context"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// entityCommit is a batch, or a step of locks, on its way through the lane. It
// sends as a turn does.
type entityCommit struct {
	turnCommit
	plan  entityPlan
	state *string
	row   *store.Instance
}

func (e *Engine) newEntityCommit(i *instance) *entityCommit {
	return &entityCommit{turnCommit: turnCommit{
		e: e, i: i, t: i.turn, s: backend.NewOrchestrationRuntimeState(api.InstanceID(i.id), nil),
	}}
}

// stepEntity does the steps of locks that come before the first operation.
func (e *Engine) stepEntity(i *instance) {
	e.mu.Lock()
	c := e.newEntityCommit(i)
	c.state = e.entityRow(i).Output
	c.plan = i.ent.plan(i.inbox, 0, 0, timestamppb.New(c.e.Now()))
	i.turn.msgs = c.plan.drawn
	e.mu.Unlock()
	switch err := c.run(context.Background(), c.plan.out); {
	case errors.Is(err, backend.ErrWorkItemLockLost), errors.Is(err, backend.ErrNotInitialized):
		e.log.Debugf("%s: lock: %v", i.id, err) // the next owner does it
	case err != nil:
		e.log.Errorf("%s: lock: %v", i.id, err)
	}
}

// CompleteEntityWorkItem stores a batch.
func (e *Engine) CompleteEntityWorkItem(ctx context.Context, wi *backend.EntityWorkItem) error {
	e.mu.Lock()
	i, err := e.lockedEntity(wi)
	if err != nil {
		e.mu.Unlock()
		return err
	}
	c := e.newEntityCommit(i)
	i.pins++
	e.mu.Unlock()
	defer e.unpin(i)
	msgs, err := e.outcomeOf(wi)
	if err != nil {
		if len(wi.Operations) > 1 {
			return err // each gets a batch of its own
		}
		wi.Fail(&protos.TaskFailureDetails{ErrorType: "InvalidEntityResult", ErrorMessage: err.Error(), IsNonRetriable: true})
		if msgs, err = e.outcomeOf(wi); err != nil {
			return err
		}
	}
	if wi.Result.GetEntityState() != nil {
		c.state = &wi.Result.GetEntityState().Value
	}
	e.mu.Lock()
	if i.turn != c.t {
		e.mu.Unlock()
		return fmt.Errorf("%w: %s", backend.ErrWorkItemLockLost, i.id)
	}
	en := i.ent
	limit := len(wi.Result.GetResults())
	c.plan = en.plan(en.inbox, limit, math.MaxInt, timestamppb.New(c.e.Now())) // as far as the batch got
	i.turn.msgs = c.plan.drawn
	e.mu.Unlock()
	return c.run(ctx, append(msgs, c.plan.out...))
}

// outcomeOf is what the result of a batch sends, where all of it can be stored.
func (e *Engine) outcomeOf(wi *backend.EntityWorkItem) ([]backend.OrchestratorMessage, error) {
	r := wi.Result
	if n := len(r.GetResults()); n == 0 || n > len(wi.Operations) {
		return nil, fmt.Errorf("%w: %s: %d results for %d operations", api.ErrInvalidInput, wi.InstanceID, n, len(wi.Operations))
	}
	if n := len(r.GetEntityState().GetValue()); n > e.opts.MaxPayload {
		return nil, fmt.Errorf("%w: the state of %s has %d bytes, the limit of a payload is %d",
			api.ErrInvalidInput, wi.InstanceID, n, e.opts.MaxPayload)
	}
	msgs, err := wi.Messages(e.Now())
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		if n := proto.Size(m.HistoryEvent); n > e.opts.MaxPayload+eventOverhead {
			return nil, fmt.Errorf("%w: an answer or message of %s has %d bytes, the limit of a payload is %d",
				api.ErrInvalidInput, wi.InstanceID, n, e.opts.MaxPayload)
		}
	}
	return msgs, nil
}

// run stores what was planned, and sends msgs.
func (c *entityCommit) run(ctx context.Context, msgs []backend.OrchestratorMessage) error {
	e, i := c.e, c.i
	defer c.release()
	if err := c.addressAll(ctx, msgs); err != nil {
		e.mu.Lock()
		c.drop(err)
		e.mu.Unlock()
		return fmt.Errorf("complete batch of %s: %w", i.id, err)
	}
	e.mu.Lock()
	if i.turn != c.t || i.gone {
		e.mu.Unlock()
		return fmt.Errorf("%w: %s", backend.ErrWorkItemLockLost, i.id)
	}
	for _, m := range c.plan.drawn {
		m.state = riding
	}
	e.mu.Unlock()
	return e.submit(&op{build: c.build, apply: c.apply})
}

func (c *entityCommit) build(b *builder) error {
	i, e := c.i, c.e
	if i.gone || i.turn != c.t {
		return fmt.Errorf("%w: %s", backend.ErrWorkItemLockLost, i.id)
	}
	e.bear(i, b)
	if err := c.send(b); err != nil {
		return err
	}
	for _, m := range c.plan.drawn {
		b.consume(m.seq)
	}
	row := *e.entityRow(i)
	row.Output, row.Tags, row.UpdatedAt, row.Stalled = c.state, encodeLock(c.plan.lock), e.now(), ""
	row.Attempts = 0
	row.Status = int32(api.RUNTIME_STATUS_RUNNING)
	if row.Output == nil {
		row.Status = int32(api.RUNTIME_STATUS_PENDING)
	}
	b.update(&row)
	c.row = &row
	return nil
}

// apply is the outcome of the batch's commit. The mutex is held.
func (c *entityCommit) apply(err error) {
	i, e := c.i, c.e
	if err != nil {
		c.drop(err)
		return
	}
	e.born(i, nil)
	i.judged()
	i.row, i.ent.lock = c.row, c.plan.lock
	i.retry, i.rest, i.pause = 0, 0, 0
	for _, m := range c.plan.drawn {
		m.answer(nil)
	}
	if !i.removeFirst(c.plan.drawn) {
		gone := map[*message]bool{}
		for _, m := range c.plan.drawn {
			gone[m] = true
		}
		i.remove(gone)
	}
	c.deliver()
	e.leaveEntity(i)
	e.makeReady(i)
	e.arm(i)
	e.settle(i)
}

// drop ends a batch that could not be stored: messages whose senders are told
// so are gone, the others run again. The mutex is held.
func (c *entityCommit) drop(err error) {
	i, e := c.i, c.e
	if i.turn != c.t || i.gone {
		return
	}
	gone := map[*message]bool{}
	for _, m := range c.plan.drawn {
		if m.seq == 0 && m.ack != nil {
			gone[m] = true
			m.answer(err)
		}
	}
	i.remove(gone)
	i.pause = e.now() + e.outagePause().Microseconds()
	e.undoEntity(i)
}
