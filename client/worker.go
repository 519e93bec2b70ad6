package client

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/task"
)

// workerOptions are the settings of a listener.
type workerOptions struct {
	orchestrations, activities, entities int
	resident                             int
	drain, silence                       time.Duration
	registeredOnly                       bool
}

// WorkerOption sets one thing of a work item listener.
type WorkerOption func(*workerOptions)

// WithMaxConcurrentOrchestrations limits how many turns run at a time (default 100).
func WithMaxConcurrentOrchestrations(n int) WorkerOption {
	return func(o *workerOptions) { o.orchestrations = max(n, 1) }
}

// WithMaxConcurrentActivities limits how many activities run at a time (default 100).
func WithMaxConcurrentActivities(n int) WorkerOption {
	return func(o *workerOptions) { o.activities = max(n, 1) }
}

// WithMaxConcurrentEntities limits how many entities run at a time (default 100).
func WithMaxConcurrentEntities(n int) WorkerOption {
	return func(o *workerOptions) { o.entities = max(n, 1) }
}

// WithDrainTimeout says how long what runs may go on after the listener's
// context has ended (default 30 s). Then its contexts are cancelled, and the
// server gives it to others.
func WithDrainTimeout(d time.Duration) WorkerOption {
	return func(o *workerOptions) { o.drain = d }
}

// WithMaxResident limits how many orchestrators wait for their next turn in
// this process (default 1,000): those go on where they are, all others replay
// their history. 0 has all of them replay.
func WithMaxResident(n int) WorkerOption {
	return func(o *workerOptions) { o.resident = max(n, 0) }
}

// WithRegisteredNamesOnly has the server send what is registered, and nothing
// else, so that workers that host different code can share a hub. The names are
// read when the listener starts. Without it unknown names fail, as in durabletask-go.
func WithRegisteredNamesOnly() WorkerOption {
	return func(o *workerOptions) { o.registeredOnly = true }
}

// StartWorkItemListener connects and then runs the registered code for the
// task hub, in the background, until ctx ends. It returns the error of the first
// attempt to connect; later it reconnects for ever. Use RunWorkItemListener to
// know when everything has ended.
func (c *TaskHubGrpcClient) StartWorkItemListener(
	ctx context.Context, r *task.TaskRegistry, opts ...WorkerOption,
) error {
	l := c.listener(r, opts)
	s, err := l.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect work item listener: %w", failed(ctx, err))
	}
	go func() {
		if err := l.run(ctx, s); err != nil {
			c.log.Warnf("work item listener: %v", err)
		}
	}()
	return nil
}

// RunWorkItemListener runs the registered code for the task hub until ctx has
// ended and what ran then is done, at most for the drain timeout; work that is
// still not done then makes it return an error. A server that is not there yet
// is waited for.
func (c *TaskHubGrpcClient) RunWorkItemListener(
	ctx context.Context, r *task.TaskRegistry, opts ...WorkerOption,
) error {
	return c.listener(r, opts).run(ctx, nil)
}

func (c *TaskHubGrpcClient) listener(r *task.TaskRegistry, opts []WorkerOption) *listener {
	o := workerOptions{orchestrations: 100, activities: 100, entities: 100, resident: 1000, drain: 30 * time.Second, silence: 2 * time.Minute}
	for _, f := range opts {
		f(&o)
	}
	l := &listener{
		client: c, executor: task.NewTaskExecutor(r), opts: o, idle: make(chan struct{}),
		turns: make(chan struct{}, o.orchestrations), activities: make(chan struct{}, o.activities),
		entities: make(chan struct{}, o.entities),
		request: &protos.GetWorkItemsRequest{
			MaxConcurrentOrchestrationWorkItems: int32(o.orchestrations),
			MaxConcurrentActivityWorkItems:      int32(o.activities),
			MaxConcurrentEntityWorkItems:        int32(o.entities),
			Capabilities:                        []protos.WorkerCapability{protos.WorkerCapability_WORKER_CAPABILITY_HISTORY_STREAMING},
		},
	}
	if o.resident > 0 {
		l.request.Capabilities = append(l.request.Capabilities, protos.WorkerCapability_WORKER_CAPABILITY_RESIDENT)
	}
	if o.registeredOnly {
		l.request.WorkItemFilters = filters(r)
	}
	return l
}

// filters is nil where a registered fallback takes every name.
func filters(r *task.TaskRegistry) *protos.WorkItemFilters {
	f := &protos.WorkItemFilters{}
	for _, name := range r.OrchestratorNames() {
		if name == task.FallbackName {
			return nil
		}
		f.Orchestrations = append(f.Orchestrations, &protos.OrchestrationFilter{Name: name})
	}
	for _, name := range r.ActivityNames() {
		if name == task.FallbackName {
			return nil
		}
		f.Activities = append(f.Activities, &protos.ActivityFilter{Name: name})
	}
	for _, name := range r.EntityNames() {
		if name == task.FallbackName {
			return nil
		}
		f.Entities = append(f.Entities, &protos.EntityFilter{Name: name})
	}
	return f
}
