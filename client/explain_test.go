package client_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

// becomes polls for a verdict, because what it tells of happens in another goroutine.
func becomes(t *testing.T, c *client.TaskHubGrpcClient, id api.InstanceID, reason api.WaitReason, says string) *api.Verdict {
	t.Helper()
	ctx, tick := within(t), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		v, err := c.Explain(ctx, id)
		if err == nil && v.Reason == reason && strings.Contains(v.Summary, says) {
			return v
		}
		if err != nil && !errors.Is(err, api.ErrInstanceNotFound) {
			t.Fatalf("%s: %+v, %v; want %s: %s", id, v, err, reason, says)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %+v, %v; want %s: %s", id, v, err, reason, says)
		}
	}
}

func TestExplainOverTheWire(t *testing.T) {
	s, b := newServer(t), newBlocking()
	cc := dial(t, s.addr)
	c, hub := client.NewTaskHubGrpcClient(cc, quiet()), client.NewClient(cc, quiet())
	ctx := within(t)
	start := func(name, id string, opts ...api.NewOrchestrationOptions) {
		t.Helper()
		if _, err := hub.ScheduleNewOrchestration(ctx, name, append(opts, api.WithInstanceID(api.InstanceID(id)))...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Explain(ctx, "x"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("unknown instance: %v", err)
	}
	start("fan", "early", api.WithInput(1))
	becomes(t, c, "early", api.WaitNoWorker, "none is connected")
	start("fan", "later", api.WithInput(1), api.WithStartTime(time.Now().Add(time.Hour)))
	becomes(t, c, "later", api.WaitScheduled, "it starts at")

	inTurn, endTurn := make(chan struct{}), make(chan struct{})
	r := registry(t, map[string]task.Orchestrator{
		"fan": b.fanOut,
		"wait": func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.WaitForSingleEvent("go", -1).Await(nil)
		},
		"parent": func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallSubOrchestrator("wait", task.WithSubOrchestrationInstanceID("kid")).Await(nil)
		},
		"nap": func(ctx *task.OrchestrationContext) (any, error) { return nil, ctx.CreateTimer(time.Hour).Await(nil) },
		"foreign": func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallActivity("elsewhere").Await(nil)
		},
		"slow": func(*task.OrchestrationContext) (any, error) {
			inTurn <- struct{}{}
			<-endTurn
			return nil, nil
		},
		"again": func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallActivity("fail", task.WithActivityRetryPolicy(&task.RetryPolicy{
				MaxAttempts: 5, InitialRetryInterval: time.Hour,
			})).Await(nil)
		},
	}, map[string]task.Activity{
		"block": b.run,
		"fail":  func(task.ActivityContext) (any, error) { return nil, errors.New("no luck") },
	})
	run(t, dial(t, s.addr), r, client.WithRegisteredNamesOnly(), client.WithMaxConcurrentActivities(1))
	receive(t, b.began)
	v := becomes(t, c, "early", api.WaitActivity, `activity "block" (task 0) to run on worker w`)
	if len(v.Waits) != 1 || v.Waits[0].TaskID != 0 || v.Waits[0].Worker == "" || v.Since.IsZero() {
		t.Errorf("running activity: %+v", v)
	}
	start("fan", "crowd", api.WithInput(200))
	v = becomes(t, c, "crowd", api.WaitBusy, "every worker that hosts it has all it takes")
	if len(v.Waits) != api.MaxWaits || v.More != 100 || !strings.Contains(v.Summary, "and for 199 more") {
		t.Errorf("a wide fan-out: %d waits and %d more, %s", len(v.Waits), v.More, v.Summary)
	}
	start("foreign", "foreign")
	becomes(t, c, "foreign", api.WaitNoWorker, `activity "elsewhere" (task 0), which no connected worker hosts`)
	start("wait", "w")
	becomes(t, c, "w", api.WaitEvent, "an external event")
	if err := c.SuspendOrchestration(ctx, "w", "lunch"); err != nil {
		t.Fatal(err)
	}
	becomes(t, c, "w", api.WaitSuspended, ": lunch")
	start("parent", "p")
	becomes(t, c, "p", api.WaitChild, `child "kid" of orchestrator "wait"`)
	start("nap", "n")
	if v := becomes(t, c, "n", api.WaitTimer, "a timer that is due at"); time.Until(v.Until) < 50*time.Minute {
		t.Errorf("timer: %+v", v)
	}
	start("unhosted", "u")
	becomes(t, c, "u", api.WaitNoWorker, `none of the 1 that are connected hosts orchestrator "unhosted"`)
	start("slow", "s")
	receive(t, inTurn)
	becomes(t, c, "s", api.WaitRunning, "its orchestrator runs on worker w")
	close(endTurn)
	becomes(t, c, "s", api.WaitNothing, "it is COMPLETED")

	workers, err := c.Workers(ctx)
	if err != nil || len(workers) != 1 || workers[0].Activities.Limit != 1 || workers[0].Activities.Running != 1 ||
		!workers[0].Activities.Takes("block", "") || workers[0].Activities.Takes("elsewhere", "") || len(workers[0].Items) != 1 ||
		workers[0].Items[0].InstanceID != "early" || workers[0].Address == "" || !strings.Contains(workers[0].Agent, "grpc-go") {
		t.Errorf("workers: %+v, %v", workers, err)
	}
	close(b.release)
	completes(t, hub, "crowd")
	start("again", "a")
	becomes(t, c, "a", api.WaitTimer, `made as "fail" failed, so far 1 times: `)
	if v, err := backend.Explain(ctx, nil, nil, "x"); !errors.Is(err, api.ErrUnsupported) {
		t.Errorf("a backend that cannot: %+v, %v", v, err)
	}
}
