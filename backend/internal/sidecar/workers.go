package sidecar

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/perdure/perdure/api"
)

// identify notes what the connection says of the worker.
func (s *stream) identify(ctx context.Context) {
	if p, ok := peer.FromContext(ctx); ok {
		s.who.Address = p.Addr.String()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	first := func(keys ...string) string {
		for _, k := range keys {
			if v := md.Get(k); len(v) > 0 {
				return v[0]
			}
		}
		return ""
	}
	s.who.Name, s.who.Agent = first("workerid"), first("x-user-agent", "user-agent")
}

var kindNames = [kinds]string{orchestration: "orchestration", activity: "activity", entity: "entity"}

// Workers lists the connected workers, in the order in which they came.
func (d *Dispatcher) Workers() []api.Worker {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]api.Worker, 0, len(d.streams))
	for _, s := range d.streams {
		w := s.who
		w.Draining, w.Late = d.draining, s.late
		w.Orchestrations, w.Activities, w.Entities = s.slots(orchestration), s.slots(activity), s.slots(entity)
		for it := range s.items {
			w.Items = append(w.Items, api.WorkerItem{
				Kind: kindNames[it.key.kind], InstanceID: api.InstanceID(it.key.instance), TaskID: it.key.task,
				Name: it.name, Since: it.since,
			})
		}
		slices.SortFunc(w.Items, func(a, b api.WorkerItem) int {
			return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.InstanceID, b.InstanceID), cmp.Compare(a.TaskID, b.TaskID))
		})
		all = append(all, w)
	}
	return all
}

func (s *stream) slots(k kind) api.WorkerSlots {
	return api.WorkerSlots{
		Limit: s.limit[k], Running: s.count[k], All: s.filters[k] == nil, Hosts: maps.Clone(s.filters[k]),
	}
}
