package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

const parallelism = 256

// bed is an engine with the orchestrators that the workloads use.
type bed struct {
	be     backend.Backend
	client backend.Client
	stop   func(context.Context) error
	acts   atomic.Int64
	events chan int
	round  string // set before the ids of a second run on one file

	mu   sync.Mutex
	seen map[api.InstanceID]bool
	want int
	done chan struct{}
}

func open(ctx context.Context, c config, be backend.Backend) (*bed, error) {
	e := &bed{be: be, events: make(chan int, 1<<16)}
	r, err := e.registry()
	if err != nil {
		return nil, err
	}
	log := backend.DefaultLogger()
	if c.grpc {
		return e, e.far(ctx, c, be, r)
	}
	ex := task.NewTaskExecutor(r)
	worker := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, ex, log, backend.WithMaxParallelism(parallelism)),
		backend.NewActivityTaskWorker(be, ex, log, backend.WithMaxParallelism(parallelism)), log)
	e.client, e.stop = backend.NewClient(be), worker.Shutdown
	return e, worker.Start(ctx)
}

func (e *bed) registry() (*task.TaskRegistry, error) {
	r := task.NewTaskRegistry()
	orchestrator := func(name string, f func(*task.OrchestrationContext, int) error) error {
		return r.AddOrchestratorN(name, func(c *task.OrchestrationContext) (any, error) {
			var n int
			if err := c.GetInput(&n); err != nil {
				return nil, err
			}
			if err := f(c, n); err != nil {
				return nil, err
			}
			e.finished(c.ID)
			return "ok", nil
		})
	}
	return r, errors.Join(
		r.AddActivityN("act", func(task.ActivityContext) (any, error) { e.acts.Add(1); return "Hello, world!", nil }),
		orchestrator("seq", func(c *task.OrchestrationContext, n int) error {
			var s string
			for range n {
				if err := c.CallActivity("act").Await(&s); err != nil {
					return err
				}
			}
			return nil
		}),
		orchestrator("fan", func(c *task.OrchestrationContext, n int) error {
			tasks := make([]task.Task, n)
			for i := range tasks {
				tasks[i] = c.CallActivity("act")
			}
			var s string
			for _, t := range tasks {
				if err := t.Await(&s); err != nil {
					return err
				}
			}
			return nil
		}),
		orchestrator("event", func(c *task.OrchestrationContext, n int) error {
			for range n {
				var v int
				if err := c.WaitForSingleEvent("ev", -1).Await(&v); err != nil {
					return err
				}
				if !c.IsReplaying {
					e.events <- v
				}
			}
			return nil
		}),
		r.AddEntityN("counter", func(c *task.EntityContext) (any, error) {
			n := 0
			if err := c.GetState(&n); err != nil {
				return nil, err
			}
			return n + 1, c.SetState(n + 1)
		}),
		orchestrator("calls", func(c *task.OrchestrationContext, n int) error {
			for range n {
				if err := c.CallEntity(counterID(0), "add").Await(nil); err != nil {
					return err
				}
			}
			return nil
		}),
		orchestrator("timer", func(c *task.OrchestrationContext, n int) error {
			return c.CreateTimer(time.Duration(n) * time.Millisecond).Await(nil)
		}),
	)
}

func counterID(k int) api.EntityID { return api.NewEntityID("counter", fmt.Sprint(k)) }

// expect begins to count the orchestrator functions that reach their end.
func (e *bed) expect(n int) <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen, e.want, e.done = map[api.InstanceID]bool{}, n, make(chan struct{})
	return e.done
}

func (e *bed) finished(id api.InstanceID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen[id] {
		return
	}
	e.seen[id] = true
	if len(e.seen) == e.want {
		close(e.done)
	}
}

// reached is how many orchestrator functions have reached their end.
func (e *bed) reached() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.seen)
}

func (e *bed) start(ctx context.Context, name, id string, n int) error {
	_, err := e.client.ScheduleNewOrchestration(ctx, name, api.WithInstanceID(api.InstanceID(id)), api.WithInput(n))
	return err
}

func (e *bed) wait(ctx context.Context, id api.InstanceID) error {
	m, err := e.client.WaitForOrchestrationCompletion(ctx, id)
	if err == nil && m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
		err = fmt.Errorf("%s is %s", id, api.StatusName(m.RuntimeStatus))
	}
	return err
}

func until(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
