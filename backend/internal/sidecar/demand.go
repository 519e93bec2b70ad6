package sidecar

import (
	"context"

	"github.com/perdure/perdure/api/protos"
)

// Demand is what the connected workers take of one kind of work, so that only
// that is fetched. From its first use on the dispatcher gives back what nobody hosts.
type Demand struct {
	d *Dispatcher
	k kind
}

// demand is guarded by Dispatcher.mu.
type demand struct {
	used bool
	more context.Context // ends when it grows; nil where nobody asked
	end  context.CancelFunc
}

// OrchestratorDemand is the demand for turns.
func (d *Dispatcher) OrchestratorDemand() Demand { return Demand{d, orchestration} }

// ActivityDemand is the demand for activities.
func (d *Dispatcher) ActivityDemand() Demand { return Demand{d, activity} }

// EntityDemand is the demand for batches of entities, which have no version.
func (d *Dispatcher) EntityDemand() Demand { return Demand{d, entity} }

// Wants reports whether a worker would take such an item now.
func (m Demand) Wants(name, version string) bool {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	m.d.demand[m.k].used = true
	if m.d.draining {
		return false
	}
	for _, s := range m.d.streams {
		if s.hosts(m.k, name, version) && s.credit(m.k) {
			return true
		}
	}
	return false
}

// More returns a context that ends when Wants may accept what it does not accept now.
func (m Demand) More() context.Context {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	c := m.d.demand[m.k]
	c.used = true
	if c.more == nil {
		c.more, c.end = context.WithCancel(context.Background())
	}
	return c.more
}

func (c *demand) grow() {
	if c.more != nil {
		c.end()
		c.more, c.end = nil, nil
	}
}

// unhosted says why no connected worker will ever take the item; nil where one
// may, or where it waits for whoever comes.
func (d *Dispatcher) unhosted(it *item) error {
	limit := 0
	for _, s := range d.streams {
		if s.hosts(it.key.kind, it.name, it.version) {
			if s.fits(it) {
				return nil
			}
			limit = max(limit, s.maxMessage)
		}
	}
	switch {
	case limit > 0:
		return oversize(it, limit)
	case d.demand[it.key.kind].used && it.lost:
		return ErrWorkerLost
	case d.demand[it.key.kind].used:
		return ErrNotBegun
	}
	return nil
}

// withoutHistory is the request without its past events.
func withoutHistory(req *protos.OrchestratorRequest) *protos.OrchestratorRequest {
	return &protos.OrchestratorRequest{
		InstanceId: req.GetInstanceId(), ExecutionId: req.GetExecutionId(), NewEvents: req.GetNewEvents(),
		EntityParameters: req.GetEntityParameters(), Properties: req.GetProperties(),
		OrchestrationTraceContext: req.GetOrchestrationTraceContext(),
	}
}
