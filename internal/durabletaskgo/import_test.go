package durabletaskgo_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/internal/durabletaskgo"
	"github.com/perdure/perdure/task"
)

// register is the code of the instances in the databases; see testdata/generate.
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
		r.AddActivityN("flaky", func(task.ActivityContext) (any, error) { return "now", nil }),
	)
}

// hub is a fresh task hub of Perdure; it runs once run is called.
func hub(t *testing.T) (be backend.Backend, run func()) {
	t.Helper()
	before := goleak.IgnoreCurrent() // the database server that tests share
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	log := backend.NewLogger(slog.New(slog.DiscardHandler))
	be = sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(filepath.Join(t.TempDir(), "hub.db")), log)
	if err := be.CreateTaskHub(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := task.NewTaskRegistry()
	if err := register(r); err != nil {
		t.Fatal(err)
	}
	ex := task.NewTaskExecutor(r)
	w := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, ex, log), backend.NewActivityTaskWorker(be, ex, log), log)
	return be, func() {
		if err := w.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := w.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

func load(t *testing.T, target string, be backend.Backend) {
	t.Helper()
	src, err := durabletaskgo.Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := src.Each(t.Context(), func(b *api.InstanceBundle, err error) error {
		n++
		return errors.Join(err, be.(backend.InstanceImporter).ImportInstance(t.Context(), b))
	}); err != nil {
		t.Fatal(err)
	}
	if n != 16 {
		t.Errorf("%d instances, want 16", n)
	}
	if orphans, err := src.Orphans(t.Context()); err != nil || orphans != 1 {
		t.Errorf("%d events for nobody, %v", orphans, err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
}

// goOn checks that what was imported goes on, in every state that a stopped process leaves behind.
func goOn(t *testing.T, be backend.Backend) {
	t.Helper()
	c := backend.NewClient(be)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	send := func(id api.InstanceID, name string, data any) {
		t.Helper()
		if err := c.RaiseEvent(ctx, id, name, data); err != nil {
			t.Error(err)
		}
	}
	send("event", "go", "now")
	send("half-event", "go", "now")
	send("child", "go", "one ")
	send("child", "go", "two")
	if m, err := c.FetchOrchestrationMetadata(ctx, "suspended"); err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_SUSPENDED {
		t.Errorf("suspended: %+v, %v", m, err)
	}
	if err := c.ResumeOrchestration(ctx, "suspended", ""); err != nil {
		t.Error(err)
	}
	send("suspended", "go", "back")
	for id, want := range map[api.InstanceID]string{
		"completed": "42", "second-open": "42", "result-waits": "42", "first-open": "42", "pending": "42",
		"timer-due": `"rang"`, "event": `"from the inbox, now"`, "half-event": `"early now"`, "suspended": `"while away, back"`,
		"child": `"one two"`, "parent": `"child said one two"`, "loop": "6", "retrying": `"now"`,
	} {
		m, err := c.WaitForOrchestrationCompletion(ctx, id)
		if err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED || m.SerializedOutput != want {
			t.Errorf("%s: %+v, %v; want %s", id, m, err, want)
		}
	}
	if m, err := c.FetchOrchestrationMetadata(ctx, "failed"); err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_FAILED ||
		m.FailureDetails.GetErrorMessage() != "no such thing" || m.CompletedAt.IsZero() {
		t.Errorf("failed: %+v, %v", m, err)
	}
	if m, err := c.FetchOrchestrationMetadata(ctx, "terminated"); err != nil || m.RuntimeStatus != api.RUNTIME_STATUS_TERMINATED ||
		m.SerializedOutput != `"enough"` {
		t.Errorf("terminated: %+v, %v", m, err)
	}
	v, err := backend.Explain(ctx, be, nil, "timer-later")
	if err != nil || v.Reason != api.WaitTimer || time.Until(v.Until) < 365*24*time.Hour {
		t.Errorf("a timer of years: %+v, %v", v, err)
	}
	if m, err := c.FetchOrchestrationMetadata(ctx, "child"); err != nil || m.ParentInstanceID != "parent" || m.SerializedCustomStatus != "waiting" ||
		m.CreatedAt.Year() != 2026 || !strings.HasPrefix(m.Name, "event") {
		t.Errorf("child: %+v, %v", m, err)
	}
}

func TestSQLite06(t *testing.T) {
	be, run := hub(t)
	run()
	load(t, "testdata/hub06.db", be) // into a hub that is at work
	goOn(t, be)
}

// TestImportThenStart imports into a hub that nobody runs, as the command does.
func TestImportThenStart(t *testing.T) {
	be, run := hub(t)
	load(t, "testdata/hub06.db", be)
	err := be.(backend.InstanceImporter).ImportInstance(t.Context(), &api.InstanceBundle{
		Metadata: api.NewOrchestrationMetadata("event", "event", api.RUNTIME_STATUS_COMPLETED, time.Now(), time.Now(), "", "", "", nil),
	})
	if !errors.Is(err, backend.ErrDuplicateEvent) {
		t.Errorf("a taken id: %v", err)
	}
	if err := be.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	run()
	goOn(t, be)
}

func TestNoHub(t *testing.T) {
	for name, content := range map[string]string{"missing": "", "text": "this is no database at all, however long it may be"} {
		file := filepath.Join(t.TempDir(), name)
		if content != "" {
			if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := durabletaskgo.Open(t.Context(), file); !errors.Is(err, durabletaskgo.ErrNoHub) {
			t.Errorf("%s: %v", name, err)
		}
	}
	be, _ := hub(t)
	if err := be.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}
