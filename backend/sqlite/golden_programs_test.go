package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

// goldenRun says how a program is driven while it is recorded, and how it ends.
type goldenRun struct {
	drive  func(context.Context, backend.Client, api.InstanceID) error
	status protos.OrchestrationStatus
}

func raise(names ...string) func(context.Context, backend.Client, api.InstanceID) error {
	return func(ctx context.Context, c backend.Client, id api.InstanceID) error {
		for _, n := range names {
			if err := c.RaiseEvent(ctx, id, n, n+"!"); err != nil {
				return err
			}
		}
		return nil
	}
}

var goldenRuns = map[string]goldenRun{
	"sequence": {raise(), api.RUNTIME_STATUS_COMPLETED}, "fanout": {raise(), api.RUNTIME_STATUS_COMPLETED},
	"retries": {raise(), api.RUNTIME_STATUS_COMPLETED}, "timers": {raise("never"), api.RUNTIME_STATUS_COMPLETED},
	"events": {raise("a", "b", "a"), api.RUNTIME_STATUS_COMPLETED}, "again": {raise("e", "e", "e"), api.RUNTIME_STATUS_COMPLETED},
	"children": {raise(), api.RUNTIME_STATUS_COMPLETED}, "entities": {raise(), api.RUNTIME_STATUS_COMPLETED},
	"versions": {raise(), api.RUNTIME_STATUS_COMPLETED}, "fails": {raise(), api.RUNTIME_STATUS_FAILED},
	"kept": {raise("e", "e", "begin", "begin"), api.RUNTIME_STATUS_COMPLETED},
	"terminated": {func(ctx context.Context, c backend.Client, id api.InstanceID) error {
		if _, err := c.WaitForOrchestrationStart(ctx, id); err != nil {
			return err
		}
		return c.TerminateOrchestration(ctx, id, "enough")
	}, api.RUNTIME_STATUS_TERMINATED},
	"suspended": {func(ctx context.Context, c backend.Client, id api.InstanceID) error {
		if _, err := c.WaitForOrchestrationStart(ctx, id); err != nil {
			return err
		}
		return errors.Join(c.SuspendOrchestration(ctx, id, "wait"), c.RaiseEvent(ctx, id, "a", "a!"), c.ResumeOrchestration(ctx, id, "go"))
	}, api.RUNTIME_STATUS_COMPLETED},
}

// goldenPrograms has the code whose histories are stored. What has a history must not change.
func goldenPrograms(t *testing.T) *task.TaskRegistry {
	t.Helper()
	hear := func(ctx *task.OrchestrationContext) (any, error) {
		var s string
		err := ctx.WaitForSingleEvent("a", -1).Await(&s)
		return s, err
	}
	tries := 0
	r := newRegistry(t, map[string]task.Orchestrator{
		"terminated": hear, "suspended": hear,
		"sequence": func(ctx *task.OrchestrationContext) (any, error) {
			var n int
			if err := ctx.GetInput(&n); err != nil {
				return nil, err
			}
			for range 4 {
				if err := ctx.CallActivity("inc", task.WithActivityInput(n)).Await(&n); err != nil {
					return nil, err
				}
				ctx.SetCustomStatus(fmt.Sprint("at ", n))
			}
			return n, nil
		},
		"fanout": func(ctx *task.OrchestrationContext) (any, error) {
			var all []task.Task
			for n := range 8 {
				all = append(all, ctx.CallActivity("inc", task.WithActivityInput(n)))
			}
			if err := ctx.WhenAll(all...).Await(nil); err != nil {
				return nil, err
			}
			sum := 0
			for _, one := range all {
				var n int
				if err := one.Await(&n); err != nil {
					return nil, err
				}
				sum += n
			}
			return sum, nil
		},
		"retries": func(ctx *task.OrchestrationContext) (any, error) {
			policy := &task.RetryPolicy{MaxAttempts: 4, InitialRetryInterval: 20 * time.Millisecond, BackoffCoefficient: 2}
			var n int
			beside := ctx.CallActivity("inc", task.WithActivityInput(1))
			err := ctx.CallActivity("flaky", task.WithActivityRetryPolicy(policy)).Await(&n)
			return n, errors.Join(err, beside.Await(nil))
		},
		"timers": func(ctx *task.OrchestrationContext) (any, error) {
			first := ctx.WhenAny(ctx.CreateTimer(20*time.Millisecond), ctx.CreateTimer(time.Hour))
			if err := first.Await(nil); err != nil {
				return nil, err
			}
			err := ctx.WaitForSingleEvent("late", 20*time.Millisecond).Await(nil)
			return errors.Is(err, task.ErrTaskCanceled), ctx.CreateTimerAt(ctx.CurrentTimeUtc.Add(10 * time.Millisecond)).Await(nil)
		},
		"events": func(ctx *task.OrchestrationContext) (any, error) {
			var out []string
			for _, name := range []string{"a", "a", "b"} {
				var s string
				if err := ctx.WaitForSingleEvent(name, time.Hour).Await(&s); err != nil {
					return nil, err
				}
				out = append(out, s)
			}
			return out, ctx.CallActivity("inc", task.WithActivityInput(0)).Await(nil)
		},
		"again": func(ctx *task.OrchestrationContext) (any, error) {
			var n int
			if err := ctx.GetInput(&n); err != nil || n == 0 {
				return "over", err
			}
			if err := ctx.WaitForSingleEvent("e", -1).Await(nil); err != nil {
				return nil, err
			}
			if err := ctx.CallActivity("inc", task.WithActivityInput(n)).Await(nil); err != nil {
				return nil, err
			}
			ctx.ContinueAsNew(n-1, task.WithKeepUnprocessedEvents())
			return nil, nil
		},
		"kept": func(ctx *task.OrchestrationContext) (any, error) {
			var n int
			var s string
			if err := ctx.GetInput(&n); err != nil {
				return nil, err
			}
			if n == 0 {
				err := ctx.WaitForSingleEvent("e", -1).Await(nil)
				return s, errors.Join(err, ctx.WaitForSingleEvent("e", -1).Await(&s), ctx.CallActivity("inc", task.WithActivityInput(0)).Await(nil))
			}
			if err := ctx.WaitForSingleEvent("begin", -1).Await(nil); err != nil { // both e are there by now
				return nil, err
			}
			ctx.ContinueAsNew(0, task.WithKeepUnprocessedEvents())
			return nil, nil
		},
		"children": func(ctx *task.OrchestrationContext) (any, error) {
			var n int
			if err := ctx.CallSubOrchestrator("sequence", task.WithSubOrchestratorInput(10)).Await(&n); err != nil {
				return nil, err
			}
			err := ctx.CallSubOrchestrator("fails", task.WithSubOrchestrationInstanceID("bad")).Await(nil)
			var failed *task.TaskFailedError
			return fmt.Sprint(n, errors.As(err, &failed)), nil
		},
		"fails": func(ctx *task.OrchestrationContext) (any, error) { return nil, ctx.CallActivity("broken").Await(nil) },
		"entities": func(ctx *task.OrchestrationContext) (any, error) {
			a, b := api.NewEntityID("sum", "a"), api.NewEntityID("sum", "b")
			if err := ctx.SignalEntity(a, "add", task.WithSignalEntityInput(2)); err != nil {
				return nil, err
			}
			var n, k int
			if err := ctx.CallEntity(a, "add", task.WithEntityInput(3)).Await(&n); err != nil {
				return nil, err
			}
			release, err := ctx.LockEntities(b, a)
			if err != nil {
				return nil, err
			}
			err = ctx.CallEntity(b, "add", task.WithEntityInput(n)).Await(&k)
			release()
			return k, errors.Join(err, ctx.CallActivity("inc", task.WithActivityInput(k)).Await(nil))
		},
		"versions": func(ctx *task.OrchestrationContext) (any, error) {
			name := "broken"
			if ctx.Version == "2" {
				name = "inc"
			}
			if err := ctx.SendEvent("nobody", "hello", ctx.NewGuid().String()); err != nil {
				return nil, err
			}
			err := ctx.CallActivity(name, task.WithActivityInput(1)).Await(nil)
			ctx.Logger().Debug("done")
			return ctx.NewGuid().String(), err
		},
	}, map[string]task.Activity{
		"inc": func(ctx task.ActivityContext) (any, error) {
			var n int
			err := ctx.GetInput(&n)
			return n + 1, err
		},
		"flaky": func(task.ActivityContext) (any, error) {
			if tries++; tries < 3 {
				return nil, fmt.Errorf("try %d", tries)
			}
			return tries, nil
		},
		"broken": func(task.ActivityContext) (any, error) { return nil, errors.New("broken on purpose") },
	})
	if err := r.AddEntityN("sum", func(ctx *task.EntityContext) (any, error) {
		var n, more int
		if err := errors.Join(ctx.GetState(&n), ctx.GetInput(&more)); err != nil {
			return nil, err
		}
		return n + more, ctx.SetState(n + more)
	}); err != nil {
		t.Fatal(err)
	}
	return r
}
