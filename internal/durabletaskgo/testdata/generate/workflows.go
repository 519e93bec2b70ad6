package main

import (
	"errors"
	"time"

	"github.com/microsoft/durabletask-go/task"
)

// register holds the code whose instances are in the databases. The tests of
// the import register the same code, with the other import path.
func register(r *task.TaskRegistry) error {
	return errors.Join(
		r.AddOrchestratorN("sequence", func(ctx *task.OrchestrationContext) (any, error) {
			var a, b int
			if err := ctx.CallActivity("first", task.WithActivityInput(20)).Await(&a); err != nil {
				return nil, err
			}
			err := ctx.CallActivity("second", task.WithActivityInput(a)).Await(&b)
			return b, err
		}),
		r.AddOrchestratorN("timer", func(ctx *task.OrchestrationContext) (any, error) {
			var seconds int
			if err := ctx.GetInput(&seconds); err != nil {
				return nil, err
			}
			return "rang", ctx.CreateTimer(time.Duration(seconds) * time.Second).Await(nil)
		}),
		r.AddOrchestratorN("event", func(ctx *task.OrchestrationContext) (any, error) {
			ctx.SetCustomStatus("waiting")
			var a, b string
			if err := ctx.WaitForSingleEvent("go", -1).Await(&a); err != nil {
				return nil, err
			}
			err := ctx.WaitForSingleEvent("GO", 10*365*24*time.Hour).Await(&b)
			return a + b, err
		}),
		r.AddOrchestratorN("parent", func(ctx *task.OrchestrationContext) (any, error) {
			var out string
			err := ctx.CallSubOrchestrator("event", task.WithSubOrchestrationInstanceID("child")).Await(&out)
			return "child said " + out, err
		}),
		r.AddOrchestratorN("loop", func(ctx *task.OrchestrationContext) (any, error) {
			var n int
			if err := ctx.GetInput(&n); err != nil {
				return nil, err
			}
			var add int
			if err := ctx.WaitForSingleEvent("add", -1).Await(&add); err != nil {
				return nil, err
			}
			if add == 0 {
				return n, nil
			}
			ctx.ContinueAsNew(n+add, task.WithKeepUnprocessedEvents())
			return nil, nil
		}),
		r.AddOrchestratorN("retry", func(ctx *task.OrchestrationContext) (any, error) {
			var out string
			err := ctx.CallActivity("flaky", task.WithActivityRetryPolicy(&task.RetryPolicy{
				MaxAttempts: 3, InitialRetryInterval: time.Second,
			})).Await(&out)
			return out, err
		}),
		r.AddOrchestratorN("bad", func(ctx *task.OrchestrationContext) (any, error) {
			return nil, errors.New("no such thing")
		}),
		r.AddActivityN("first", func(ctx task.ActivityContext) (any, error) {
			var n int
			err := ctx.GetInput(&n)
			return n + 1, err
		}),
		r.AddActivityN("second", func(ctx task.ActivityContext) (any, error) {
			var n int
			err := ctx.GetInput(&n)
			return 2 * n, err
		}),
		r.AddActivityN("flaky", func(task.ActivityContext) (any, error) { return nil, errors.New("not yet") }),
	)
}
