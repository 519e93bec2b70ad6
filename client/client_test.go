package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

var _ backend.Client = client.NewClient((*grpc.ClientConn)(nil), nil)

// workflows are what the tests below run.
func workflows(t *testing.T) *task.TaskRegistry {
	t.Helper()
	return registry(t, map[string]task.Orchestrator{
		"echo": func(ctx *task.OrchestrationContext) (any, error) {
			var in string
			if err := ctx.GetInput(&in); err != nil {
				return nil, err
			}
			var out string
			err := ctx.CallActivity("shout", task.WithActivityInput(in)).Await(&out)
			return out, err
		},
		"wait": func(ctx *task.OrchestrationContext) (any, error) {
			ctx.SetCustomStatus("waiting")
			var data string
			err := ctx.WaitForSingleEvent("go", -1).Await(&data)
			return data, err
		},
		"parent": func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallSubOrchestrator("wait", task.WithSubOrchestrationInstanceID(string(ctx.ID)+"-child")).Await(nil)
		},
		"flaky": func(ctx *task.OrchestrationContext) (any, error) {
			var out string
			err := ctx.CallActivity("flaky").Await(&out)
			return out, err
		},
	}, map[string]task.Activity{
		"shout": func(ctx task.ActivityContext) (any, error) {
			var in string
			err := ctx.GetInput(&in)
			return strings.ToUpper(in), err
		},
		"flaky": failOnce(),
	})
}

func failOnce() task.Activity {
	failed := make(chan struct{}, 1)
	failed <- struct{}{}
	return func(task.ActivityContext) (any, error) {
		select {
		case <-failed:
			return nil, errors.New("not today")
		default:
			return "today", nil
		}
	}
}

func TestClientDoesWhatTheInProcessClientDoes(t *testing.T) {
	s := newServer(t)
	c := client.NewClient(dial(t, s.addr), quiet())
	run(t, dial(t, s.addr), workflows(t))
	ctx := within(t)

	id, err := c.ScheduleNewOrchestration(ctx, "echo", api.WithInstanceID("a"), api.WithInput("hello"),
		api.WithVersion("v2"), api.WithTags(map[string]string{"team": "blue"}))
	if err != nil || id != "a" {
		t.Fatalf("start: %q, %v", id, err)
	}
	m, err := c.WaitForOrchestrationCompletion(ctx, "a")
	if err != nil || m.SerializedOutput != `"HELLO"` || m.Version != "v2" || m.Tags["team"] != "blue" || m.CompletedAt.IsZero() {
		t.Fatalf("completion: %+v, %v", m, err)
	}
	if again, err := c.FetchOrchestrationMetadata(ctx, "a"); err != nil || cmp.Diff(m, again, protocmp.Transform()) != "" {
		t.Errorf("fetch and wait differ: %v, %s", err, cmp.Diff(m, again, protocmp.Transform()))
	}
	if _, err := c.ScheduleNewOrchestration(ctx, "echo", api.WithInstanceID("a")); !errors.Is(err, backend.ErrDuplicateEvent) {
		t.Errorf("taken id of a finished instance: %v", err)
	}
	if id, err := c.Restart(ctx, "a", false); err != nil || id != "a" {
		t.Errorf("restart: %q, %v", id, err)
	}

	for _, id := range []api.InstanceID{"w1", "w2"} {
		if _, err := c.ScheduleNewOrchestration(ctx, "wait", api.WithInstanceID(id)); err != nil {
			t.Fatal(err)
		}
		if m, err := c.WaitForOrchestrationStart(ctx, id); err != nil || m.SerializedCustomStatus != "waiting" {
			t.Errorf("start of %s: %+v, %v", id, m, err)
		}
	}
	if _, err := c.Purge(ctx, "w1"); !errors.Is(err, api.ErrNotCompleted) {
		t.Errorf("purge of a running instance: %v", err)
	}
	if err := c.SuspendOrchestration(ctx, "w1", "lunch"); err != nil {
		t.Error(err)
	}
	if err := c.ResumeOrchestration(ctx, "w1", "back"); err != nil {
		t.Error(err)
	}
	if err := c.RaiseEvent(ctx, "w1", "go", "now"); err != nil {
		t.Error(err)
	}
	if m, err := c.WaitForOrchestrationCompletion(ctx, "w1"); err != nil || m.SerializedOutput != `"now"` {
		t.Errorf("event: %+v, %v", m, err)
	}
	if err := c.TerminateOrchestration(ctx, "w2", "enough"); err != nil {
		t.Error(err)
	}
	if m, err := c.WaitForOrchestrationCompletion(ctx, "w2"); err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_TERMINATED || m.SerializedOutput != "enough" {
		t.Errorf("terminate: %+v, %v", m, err)
	}

	page, err := c.Query(ctx, api.InstanceQuery{Name: "wait", Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED}, Payloads: true})
	if err != nil || len(page.Instances) != 1 || page.Instances[0].InstanceID != "w1" || page.Instances[0].SerializedOutput != `"now"` {
		t.Errorf("query: %+v, %v", page, err)
	}
	events := 0
	if err := c.History(ctx, "w1", func(e []*backend.HistoryEvent) error { events += len(e); return nil }); err != nil || events < 5 {
		t.Errorf("history: %d events, %v", events, err)
	}
	if err := c.History(ctx, "w1", func([]*backend.HistoryEvent) error { return errEnough }); !errors.Is(err, errEnough) {
		t.Errorf("history that is cut short: %v", err)
	}
	if n, err := c.Purge(ctx, "w1"); err != nil || n != 1 {
		t.Errorf("purge: %d, %v", n, err)
	}
	if err := c.PurgeOrchestrationState(ctx, "w2"); err != nil {
		t.Error(err)
	}
}

var errEnough = errors.New("enough")

func TestClientManagesTrees(t *testing.T) {
	s := newServer(t)
	c := client.NewClient(dial(t, s.addr), quiet())
	run(t, dial(t, s.addr), workflows(t))
	ctx := within(t)
	start := func(name, id string) {
		t.Helper()
		if _, err := c.ScheduleNewOrchestration(ctx, name, api.WithInstanceID(api.InstanceID(id))); err != nil {
			t.Fatal(err)
		}
	}
	start("parent", "p")
	await(t, c, "p-child")
	page, err := c.Query(ctx, api.InstanceQuery{ParentID: "p"})
	if err != nil || len(page.Instances) != 1 || page.Instances[0].InstanceID != "p-child" {
		t.Errorf("children: %+v, %v", page, err)
	}
	if n, err := c.ForcePurge(ctx, "p"); err != nil || n != 2 {
		t.Errorf("force purge: %d, %v", n, err)
	}
	start("wait", "f")
	if err := c.ForceTerminate(ctx, "f", api.WithOutput("stop")); err != nil {
		t.Error(err)
	}
	if m, err := c.WaitForOrchestrationCompletion(ctx, "f"); err != nil || m.SerializedOutput != `"stop"` {
		t.Errorf("force terminate: %+v, %v", m, err)
	}
	start("flaky", "r")
	m, err := c.WaitForOrchestrationCompletion(ctx, "r")
	if err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_FAILED || !strings.Contains(m.FailureDetails.GetErrorMessage(), "not today") {
		t.Fatalf("failure: %+v, %v", m, err)
	}
	if err := c.Rewind(ctx, "r", "try again"); err != nil {
		t.Fatal(err)
	}
	if m, err := c.WaitForOrchestrationCompletion(ctx, "r"); err != nil || m.SerializedOutput != `"today"` {
		t.Errorf("rewind: %+v, %v", m, err)
	}
	if err := c.Rewind(ctx, "r", ""); !errors.Is(err, api.ErrNotFailed) {
		t.Errorf("rewind of a completed instance: %v", err)
	}
}

// await waits for an instance that another one is about to start.
func await(t *testing.T, c backend.Client, id api.InstanceID) {
	t.Helper()
	ctx, tick := within(t), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.WaitForOrchestrationStart(ctx, id)
		if err == nil {
			return
		}
		if !errors.Is(err, api.ErrInstanceNotFound) {
			t.Fatal(err)
		}
		<-tick.C
	}
}

func TestUnknownInstances(t *testing.T) {
	s := newServer(t)
	c, ctx := client.NewClient(dial(t, s.addr), quiet()), within(t)
	for name, call := range map[string]func() error{
		"fetch":           func() error { _, err := c.FetchOrchestrationMetadata(ctx, "x"); return err },
		"wait start":      func() error { _, err := c.WaitForOrchestrationStart(ctx, "x"); return err },
		"wait completion": func() error { _, err := c.WaitForOrchestrationCompletion(ctx, "x"); return err },
		"terminate":       func() error { return c.TerminateOrchestration(ctx, "x", "") },
		"force terminate": func() error { return c.ForceTerminate(ctx, "x") },
		"raise":           func() error { return c.RaiseEvent(ctx, "x", "e", 1) },
		"suspend":         func() error { return c.SuspendOrchestration(ctx, "x", "") },
		"resume":          func() error { return c.ResumeOrchestration(ctx, "x", "") },
		"purge":           func() error { _, err := c.Purge(ctx, "x"); return err },
		"force purge":     func() error { _, err := c.ForcePurge(ctx, "x"); return err },
		"purge state":     func() error { return c.PurgeOrchestrationState(ctx, "x") },
		"history":         func() error { return c.History(ctx, "x", func([]*backend.HistoryEvent) error { return nil }) },
		"rewind":          func() error { return c.Rewind(ctx, "x", "") },
		"restart":         func() error { _, err := c.Restart(ctx, "x", false); return err },
	} {
		if err := call(); !errors.Is(err, api.ErrInstanceNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, call := range map[string]func() error{
		"no name": func() error { _, err := c.ScheduleNewOrchestration(ctx, ""); return err },
		"bad input": func() error {
			_, err := c.ScheduleNewOrchestration(ctx, "o", api.WithInput(make(chan int)))
			return err
		},
		"bad event": func() error { return c.RaiseEvent(ctx, "x", "e", make(chan int)) },
		"bad token": func() error { _, err := c.Query(ctx, api.InstanceQuery{Token: "?"}); return err },
		"negative":  func() error { _, err := c.Query(ctx, api.InstanceQuery{PageSize: -1}); return err },
	} {
		if err := call(); !errors.Is(err, api.ErrInvalidInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.ScheduleNewOrchestration(ctx, "wait", api.WithInstanceID("p")); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := c.WaitForOrchestrationStart(short, "p"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait without a worker: %v", err)
	}
}

func TestQueryPages(t *testing.T) {
	s := newServer(t)
	c, ctx := client.NewClient(dial(t, s.addr), quiet()), within(t)
	for i := range 25 {
		if _, err := c.ScheduleNewOrchestration(ctx, "wait", api.WithInstanceID(api.InstanceID(fmt.Sprintf("i%02d", i)))); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for q := (api.InstanceQuery{PageSize: 10}); ; {
		page, err := c.Query(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Instances {
			got = append(got, string(m.InstanceID))
		}
		if q.Token = page.Token; q.Token == "" {
			break
		}
	}
	if len(got) != 25 || got[0] != "i00" || got[24] != "i24" {
		t.Errorf("pages: %v", got)
	}
}
