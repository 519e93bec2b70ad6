package backend

import (
	"context"
	"fmt"

	"github.com/perdure/perdure/api"
)

// Explain says why an instance does not move: what the backend knows, and
// where workers is not nil, what its workers have to do with it.
// api.ErrInstanceNotFound, api.ErrUnsupported.
func Explain(ctx context.Context, be any, workers WorkerReporter, id api.InstanceID) (*api.Verdict, error) {
	x, ok := be.(Explainer)
	if !ok {
		return nil, fmt.Errorf("explain %q: %w", id, api.ErrUnsupported)
	}
	v, err := x.ExplainInstance(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("explain %q: %w", id, err)
	}
	if workers == nil {
		return v, nil
	}
	switch v.Reason {
	case api.WaitTurn, api.WaitRunning:
		m, err := metadataOf(ctx, be, id)
		if err != nil {
			return nil, fmt.Errorf("explain %q: %w", id, err)
		}
		place(v, m, workers.Workers())
		return v, nil
	}
	all, found := workers.Workers(), false
	for n := range v.Waits {
		if w := &v.Waits[n]; w.Reason == api.WaitQueued || w.Reason == api.WaitActivity {
			placeActivity(w, id, all)
			found = true
		}
	}
	if found {
		suspended := *v
		v.Conclude()
		if suspended.Reason == api.WaitSuspended {
			v.Reason, v.Summary, v.Since, v.Until = suspended.Reason, suspended.Summary, suspended.Since, suspended.Until
		}
	}
	return v, nil
}

func metadataOf(ctx context.Context, be any, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	r, ok := be.(interface {
		GetOrchestrationMetadata(context.Context, api.InstanceID) (*api.OrchestrationMetadata, error)
	})
	if !ok {
		return nil, api.ErrUnsupported
	}
	return r.GetOrchestrationMetadata(ctx, id)
}

// place finds the worker that runs the orchestrator, or why there is none.
func place(v *api.Verdict, m *api.OrchestrationMetadata, workers []api.Worker) {
	for _, w := range workers {
		for _, it := range w.Items {
			if it.Kind == "orchestration" && it.InstanceID == v.InstanceID {
				v.Reason, v.Since = api.WaitRunning, it.Since
				v.Summary = fmt.Sprintf("its orchestrator runs on worker %s, since %s", w.ID, api.Clock(it.Since))
				return
			}
		}
	}
	hosts, free := 0, 0
	for _, w := range workers {
		if w.Orchestrations.Takes(m.Name, m.Version) {
			hosts++
			if !w.Orchestrations.Full() {
				free++
			}
		}
	}
	what := fmt.Sprintf("orchestrator %q", m.Name)
	if m.Version != "" {
		what += fmt.Sprintf(" of version %q", m.Version)
	}
	switch {
	case len(workers) == 0:
		v.Reason, v.Summary = api.WaitNoWorker, fmt.Sprintf("waits for a worker since %s: none is connected", api.Clock(v.Since))
	case hosts == 0:
		v.Reason = api.WaitNoWorker
		v.Summary = fmt.Sprintf("waits for a worker since %s: none of the %d that are connected hosts %s", api.Clock(v.Since), len(workers), what)
	case free == 0:
		v.Reason = api.WaitBusy
		v.Summary = fmt.Sprintf("waits for a worker since %s: all %d that host %s have all they take", api.Clock(v.Since), hosts, what)
	}
}

// placeActivity finds the worker that runs an activity, or why there is none.
func placeActivity(a *api.Wait, id api.InstanceID, workers []api.Worker) {
	a.Reason, a.Worker = api.WaitQueued, ""
	hosts, free := 0, 0
	for _, w := range workers {
		for _, it := range w.Items {
			if it.Kind == "activity" && it.InstanceID == id && it.TaskID == a.TaskID {
				a.Reason, a.Worker, a.Since = api.WaitActivity, w.ID, it.Since
				return
			}
		}
		if w.Activities.Takes(a.Name, a.Version) {
			hosts++
			if !w.Activities.Full() {
				free++
			}
		}
	}
	switch {
	case hosts == 0:
		a.Reason = api.WaitNoWorker
		a.Detail = fmt.Sprintf("%d workers are connected", len(workers))
	case free == 0:
		a.Reason = api.WaitBusy
		a.Detail = fmt.Sprintf("%d workers host it", hosts)
	}
}

var _ WorkerReporter = (*grpcExecutor)(nil)

// Workers implements WorkerReporter.
func (e *grpcExecutor) Workers() []api.Worker { return e.work.Workers() }
