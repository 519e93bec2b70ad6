package sidecar

import (
	"context"

	"github.com/perdure/perdure/api/protos"
)

// Entity has a worker run a batch of operations of an entity. It returns what
// Orchestrator returns.
func (d *Dispatcher) Entity(ctx context.Context, name string, req *protos.EntityRequest) (*protos.EntityBatchResult, error) {
	a := d.do(ctx, &item{key: key{kind: entity, instance: req.GetInstanceId()}, name: name, entity: req})
	if a.err != nil {
		return nil, a.err
	}
	return a.message.(*protos.EntityBatchResult), nil
}

// CompleteEntity takes a worker's result and reports whether it belongs to a
// current offer. A result does not name its entity: it needs the token.
func (d *Dispatcher) CompleteEntity(r *protos.EntityBatchResult) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	it := d.tokens[r.GetCompletionToken()]
	switch {
	case it == nil || it.key.kind != entity:
		return false
	case r.GetRequiresState(): // it has always been sent: the worker has lost it
		d.retry(it)
	default:
		d.remove(it)
		it.done <- answer{message: r}
	}
	return true
}

// AbandonEntity gives a batch back and reports whether the token is of a current offer.
func (d *Dispatcher) AbandonEntity(token string) bool { return d.abandon(entity, token) }
