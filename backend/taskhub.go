package backend

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// TaskHubWorker runs a backend with its two workers.
type TaskHubWorker interface {
	// Start creates or opens the task hub and starts to work; it does not wait for work.
	Start(context.Context) error
	// Shutdown stops fetching, lets work finish, cancels what still runs shortly before
	// ctx's deadline, hands unfinished work back and returns by the deadline; the
	// error says what was left. A second Shutdown does nothing.
	Shutdown(context.Context) error
}

type taskHubWorker struct {
	be        Backend
	orch, act TaskWorker
	log       Logger
	mu        sync.Mutex
	started   bool
}

// NewTaskHubWorker returns a TaskHubWorker of its parts.
func NewTaskHubWorker(be Backend, orchestrationWorker TaskWorker, activityWorker TaskWorker, logger Logger) TaskHubWorker {
	return &taskHubWorker{be: be, orch: orchestrationWorker, act: activityWorker, log: logger}
}

func (w *taskHubWorker) Start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started {
		return ErrBackendAlreadyStarted
	}
	if err := w.be.CreateTaskHub(ctx); err != nil && !errors.Is(err, ErrTaskHubExists) {
		return fmt.Errorf("create task hub: %w", err)
	}
	if err := w.be.Start(ctx); err != nil {
		return fmt.Errorf("start backend: %w", err)
	}
	w.log.Infof("worker started with backend %v", w.be)
	// The workers outlive the call, and so must not end with its context.
	w.orch.Start(context.WithoutCancel(ctx))
	w.act.Start(context.WithoutCancel(ctx))
	w.started = true
	return nil
}

func (w *taskHubWorker) Shutdown(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.started {
		return nil
	}
	w.started = false
	var wg sync.WaitGroup
	var errs [3]error
	for i, t := range []TaskWorker{w.orch, w.act} {
		wg.Go(func() {
			if s, ok := t.(interface{ shutdown(context.Context) error }); ok {
				errs[i] = s.shutdown(ctx)
			} else {
				t.StopAndDrain()
			}
		})
	}
	wg.Wait()
	if err := w.be.Stop(context.WithoutCancel(ctx)); err != nil {
		errs[2] = fmt.Errorf("stop backend: %w", err)
	}
	return errors.Join(errs[:]...)
}
