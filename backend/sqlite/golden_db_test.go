package sqlite_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/driver"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

// Databases under testdata/golden are never rewritten: each was made by the
// program of its time, while its instances were waiting. A new one is put
// beside them with
//
//	go test ./backend/sqlite -run TestRecordGoldenDatabase -recorddb NAME
var recordDB = flag.String("recorddb", "", "TestRecordGoldenDatabase: the name of the new golden database")

// goldenWaits says of each waiting instance what it has to give in the end.
var goldenWaits = map[api.InstanceID]string{
	"timer": `"fired"`, "event": `"hello"`, "activity": `"done:in"`, "child": `"child hello"`,
	"retry": `"second try"`, "entity": `1`, "holder": `"released"`, "locker": `2`, "suspended": `"hello"`, "again": `"two one"`,
}

// goldenRegistry has the code of the waiting instances. Their first try of an
// activity fails, or waits until block is closed.
func goldenRegistry(t *testing.T, block chan struct{}) *task.TaskRegistry {
	t.Helper()
	box := api.NewEntityID("box", "a")
	hear := func(ctx *task.OrchestrationContext) (s string, err error) {
		ctx.SetCustomStatus("waiting")
		return s, ctx.WaitForSingleEvent("go", -1).Await(&s)
	}
	event := func(ctx *task.OrchestrationContext) (any, error) { return hear(ctx) }
	r := newRegistry(t, map[string]task.Orchestrator{
		"event": event, "suspended": event,
		"timer": func(ctx *task.OrchestrationContext) (any, error) {
			ctx.SetCustomStatus("waiting")
			return "fired", ctx.CreateTimer(5 * time.Second).Await(nil)
		},
		"activity": func(ctx *task.OrchestrationContext) (any, error) {
			var s string
			ctx.SetCustomStatus("waiting")
			err := ctx.CallActivity("work", task.WithActivityInput("in")).Await(&s)
			return s, err
		},
		"child": func(ctx *task.OrchestrationContext) (any, error) {
			var s string
			ctx.SetCustomStatus("waiting")
			err := ctx.CallSubOrchestrator("event", task.WithSubOrchestrationInstanceID("the-child")).Await(&s)
			return "child " + s, err
		},
		"retry": func(ctx *task.OrchestrationContext) (any, error) {
			var s string
			ctx.SetCustomStatus("waiting")
			err := ctx.CallActivity("flaky", task.WithActivityRetryPolicy(&task.RetryPolicy{
				MaxAttempts: 2, InitialRetryInterval: 5 * time.Second,
			})).Await(&s)
			return s, err
		},
		"holder": func(ctx *task.OrchestrationContext) (any, error) {
			release, err := ctx.LockEntities(box)
			if err != nil {
				return nil, err
			}
			defer release()
			_, err = hear(ctx)
			return "released", err
		},
		"entity": func(ctx *task.OrchestrationContext) (any, error) {
			var n int
			ctx.SetCustomStatus("waiting")
			err := ctx.CallEntity(box, "add").Await(&n)
			return n, err
		},
		"locker": func(ctx *task.OrchestrationContext) (any, error) {
			var n int
			ctx.SetCustomStatus("waiting")
			release, err := ctx.LockEntities(box)
			if err != nil {
				return nil, err
			}
			defer release()
			err = ctx.CallEntity(box, "add").Await(&n)
			return n, err
		},
		"again": func(ctx *task.OrchestrationContext) (any, error) {
			var first, second string
			if err := ctx.GetInput(&first); err != nil {
				return nil, err
			}
			if first == "" {
				if err := ctx.WaitForSingleEvent("begin", -1).Await(&first); err != nil {
					return nil, err
				}
				ctx.ContinueAsNew(first, task.WithKeepUnprocessedEvents())
				return nil, nil
			}
			err := ctx.WaitForSingleEvent("kept", -1).Await(&second) // raised before the first execution ended
			if err == nil {
				_, err = hear(ctx)
			}
			return second + " " + first, err
		},
	}, map[string]task.Activity{
		"work": func(ctx task.ActivityContext) (any, error) {
			<-block
			var in string
			err := ctx.GetInput(&in)
			return "done:" + in, err
		},
		"flaky": func(task.ActivityContext) (any, error) {
			select {
			case <-block:
				return "second try", nil
			default:
				return nil, errors.New("first try")
			}
		},
	})
	if err := r.AddEntityN("box", func(ctx *task.EntityContext) (any, error) {
		var n int
		if err := ctx.GetState(&n); err != nil {
			return nil, err
		}
		return n + 1, ctx.SetState(n + 1)
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

// A database of each version of the schema, with instances that wait for
// something of each kind, is opened by this program and everything completes.
func TestC66GoldenDatabases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/golden/*.db")
	if err != nil || len(files) < 2 {
		t.Fatalf("golden databases: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "hub.db"), data, 0o600); err != nil {
				t.Fatal(err)
			}
			block := make(chan struct{})
			close(block)
			c := openGolden(t, dir, goldenRegistry(t, block))
			if err := c.ResumeOrchestration(t.Context(), "suspended", ""); err != nil {
				t.Fatal(err)
			}
			for _, id := range []api.InstanceID{"event", "the-child", "holder", "suspended", "again"} {
				if err := c.RaiseEvent(t.Context(), id, "go", "hello"); err != nil {
					t.Fatal(err)
				}
			}
			for id, want := range goldenWaits {
				if m := complete(t, c, id); m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED || m.SerializedOutput != want {
					t.Errorf("%s: %v %s %v, want %s", id, m.RuntimeStatus, m.SerializedOutput, m.FailureDetails, want)
				}
			}
			m, err := c.FetchOrchestrationMetadata(t.Context(), "ended")
			if err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_TERMINATED || m.SerializedOutput != "enough" {
				t.Errorf("the terminated one: %v, %v", m, err)
			}
		})
	}
}

func openGolden(t *testing.T, dir string, r *task.TaskRegistry) backend.Client {
	t.Helper()
	c, w, err := crashHub(t.Context(), dir, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestRecordGoldenDatabase writes a golden database, and never over another.
func TestRecordGoldenDatabase(t *testing.T) {
	if *recordDB == "" {
		t.Skip("-recorddb names no database")
	}
	out, err := filepath.Abs(filepath.Join("testdata/golden", *recordDB+".db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%s is there, and stays as it is: %v", out, err)
	}
	block, dir := make(chan struct{}), t.TempDir()
	c := openGolden(t, dir, goldenRegistry(t, block))
	t.Cleanup(func() { close(block) }) // before the shutdown
	begin(t, c, "event", api.WithInstanceID("ended"))
	wait := func(id api.InstanceID) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			m, err := c.FetchOrchestrationMetadata(t.Context(), id)
			if err != nil && !errors.Is(err, api.ErrInstanceNotFound) {
				t.Fatal(err)
			}
			if err == nil && m.SerializedCustomStatus == "waiting" {
				return
			}
		}
	}
	wait("ended")
	if err := c.TerminateOrchestration(t.Context(), "ended", "enough"); err != nil {
		t.Fatal(err)
	}
	complete(t, c, "ended")
	// In this order: the holder has the lock, the caller and the other one wait for it.
	for _, id := range []api.InstanceID{"retry", "holder", "entity", "locker", "event", "activity", "child", "again", "suspended", "timer"} {
		begin(t, c, string(id), api.WithInstanceID(id), api.WithInput(""))
		if id == "again" {
			for _, e := range [][2]string{{"kept", "two"}, {"begin", "one"}} {
				if err := c.RaiseEvent(t.Context(), id, e[0], e[1]); err != nil {
					t.Fatal(err)
				}
			}
		}
		wait(id)
	}
	wait("the-child")
	if err := c.SuspendOrchestration(t.Context(), "suspended", ""); err != nil {
		t.Fatal(err)
	}
	db, err := driver.Open("file:" + filepath.Join(dir, "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `VACUUM INTO ?`, out); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
