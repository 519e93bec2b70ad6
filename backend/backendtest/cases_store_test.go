package backendtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/task"
)

func TestC57AForeignLockDelays(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	h := newHost(t, file, orchestrators{"other": other}, activities{"echo": echo})
	before := h.others()
	db, err := sqlite3.Open(file)
	must(t, err)
	must(t, db.BusyTimeout(10*time.Second))
	must(t, db.Exec(`BEGIN IMMEDIATE`))
	type answer struct {
		id  api.InstanceID
		err error
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	answers := make(chan answer, 1)
	go func() {
		id, err := h.ScheduleNewOrchestration(ctx, "other")
		answers <- answer{id, err}
	}()
	select {
	case a := <-answers:
		t.Errorf("start under a foreign lock: %v", a.err)
		answers <- a
	case <-time.After(7 * time.Second):
	}
	must(t, errors.Join(db.Exec(`ROLLBACK`), db.Close()))
	a := recv(t, answers, "answer")
	if a.err != nil {
		t.Fatalf("start after the lock: %v", a.err)
	}
	h.output(a.id, `"fine"`)
	before()
}

func TestC57AReaderBesideTheEngine(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	h := newHost(t, file, orchestrators{"other": other}, activities{"echo": echo})
	h.others()()
	db, err := sqlite3.OpenFlags(file, sqlite3.OPEN_READONLY)
	must(t, err)
	must(t, db.Exec(`BEGIN; SELECT count(*) FROM instances`))
	for range 5 {
		h.others()()
	}
	must(t, errors.Join(db.Exec(`COMMIT`), db.Close()))
	if n := number(t, file, `SELECT count(*) FROM instances`); n != 60 {
		t.Errorf("a reader sees %d instances, want 60", n)
	}
	if l := h.log.taken(); len(l) != 0 {
		t.Errorf("log: %q", l)
	}
}

func TestC57ASecondEngineIsRefused(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	all := orchestrators{"other": other}
	h := newHost(t, file, all, activities{"echo": echo})
	second := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(file), &recorder{})
	if err := second.CreateTaskHub(t.Context()); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), file) {
		t.Errorf("second engine: %v", err)
	}
	h.others()()
	h.stop()
	h = newHost(t, file, all, activities{"echo": echo})
	h.others()()
}

func TestC63ADamagedInstanceStopsAlone(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	all := orchestrators{"o": func(c *task.OrchestrationContext) (any, error) {
		c.SetCustomStatus("waits")
		return nil, c.WaitForSingleEvent("go", -1).Await(nil)
	}, "other": other}
	h := newHost(t, file, all, activities{"echo": echo})
	for _, id := range []api.InstanceID{"good", "bad"} {
		h.begin("o", api.WithInstanceID(id))
		h.waits(id)
	}
	h.stop()
	rowEdit(t, file, `UPDATE history SET events = x'ffffffff' WHERE key = (SELECT key FROM instances WHERE id = 'bad')`)
	h = newHost(t, file, all, activities{"echo": echo})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := h.RaiseEvent(ctx, "bad", "go", nil); err != nil {
		t.Logf("raise to the damaged instance: %v", err)
	}
	h.raise("good", "go", nil)
	h.status("good", api.RUNTIME_STATUS_COMPLETED, 2*time.Second)
	eventually(t, 5*time.Second, "bad is set aside with a reason", func() bool { return h.fetch("bad").Stalled != "" })
	if t.Failed() {
		t.Logf("bad: %+v, log: %q", h.fetch("bad"), h.log.taken())
	}
	for range 5 {
		h.others()()
	}
	if n := len(h.log.taken()); n > 10 {
		t.Errorf("%d lines of log: %q", n, h.log.taken()[:10])
	}
}

func TestC64AnInstanceWithoutItsStart(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	all := orchestrators{"wait": waitForever, "other": other}
	h := newHost(t, file, all, activities{"echo": echo})
	h.begin("wait", api.WithInstanceID("bad"))
	h.waits("bad")
	h.stop()
	rowEdit(t, file, `DELETE FROM history; DELETE FROM inbox`)
	h = newHost(t, file, all, activities{"echo": echo})
	if err := h.RaiseEvent(t.Context(), "bad", "never", nil); err != nil {
		t.Logf("raise: %v", err)
	}
	h.others()()
	eventually(t, 90*time.Second, "bad has failed or is set aside", func() bool {
		m := h.fetch("bad")
		return m.RuntimeStatus == api.RUNTIME_STATUS_FAILED || m.Stalled != ""
	})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := h.ForceTerminate(ctx, "bad"); err != nil {
		t.Errorf("force terminate: %v", err)
	}
	if n, err := h.Purge(ctx, "bad"); n != 1 || err != nil {
		t.Errorf("purge: %d %v", n, err)
	}
}

// poisoned cannot execute one orchestrator.
type poisoned struct {
	backend.Executor
	calls chan struct{}
}

func (p poisoned) ExecuteOrchestrator(
	ctx context.Context, id api.InstanceID, old, fresh []*protos.HistoryEvent,
) (*backend.ExecutionResults, error) {
	if id == "poison" {
		p.calls <- struct{}{}
		return nil, errors.New("this turn never works")
	}
	return p.Executor.ExecuteOrchestrator(ctx, id, old, fresh)
}

func TestC64ATurnThatAlwaysFails(t *testing.T) {
	t.Parallel()
	r := task.NewTaskRegistry()
	must(t, errors.Join(r.AddOrchestratorN("other", other), r.AddActivityN("echo", echo)))
	h := idleHost(t, newFile(t))
	ex := poisoned{task.NewTaskExecutor(r), make(chan struct{}, 1000)}
	h.w = backend.NewTaskHubWorker(h.be,
		backend.NewOrchestrationWorker(h.be, ex, h.log, backend.WithMaxParallelism(4)),
		backend.NewActivityTaskWorker(h.be, ex, h.log, backend.WithMaxParallelism(4)), h.log)
	must(t, h.w.Start(t.Context()))
	h.begin("other", api.WithInstanceID("poison"))
	for range 3 {
		recv(t, ex.calls, "try")
	}
	h.others()()
	began := time.Now()
	m := h.status("poison", api.RUNTIME_STATUS_FAILED, 90*time.Second) // ten tries, each a second later than the last
	if !strings.Contains(m.FailureDetails.GetErrorMessage(), "this turn never works") {
		t.Errorf("failure after %v: %v", time.Since(began), m.FailureDetails)
	}
	if n := len(ex.calls); n > 20 {
		t.Errorf("%d tries", n)
	}
}

func TestC64ATurnThatCannotBeStored(t *testing.T) {
	t.Parallel()
	h := newHost(t, newFile(t), orchestrators{"other": other, "bad": func(c *task.OrchestrationContext) (any, error) {
		return nil, c.CallActivity("\xff").Await(nil) // no protobuf string
	}}, activities{"echo": echo})
	id := h.begin("bad")
	h.others()()
	h.status(id, api.RUNTIME_STATUS_FAILED, 75*time.Second)
}

const c64File = "PERDURE_BT_C64_FILE"

func TestC64AnActivityThatKillsTheProcess(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	h := idleHost(t, file)
	id := h.begin("deadly")
	h.stop()
	for round := range 20 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestC64Child$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), c64File+"="+file)
		if out, err := cmd.CombinedOutput(); err == nil { // it survived: the activity did not run
			h = idleHost(t, file)
			h.status(id, api.RUNTIME_STATUS_FAILED, time.Second)
			return
		} else if cmd.ProcessState.ExitCode() != 77 {
			t.Fatalf("round %d: %v %s", round, err, out)
		}
	}
	t.Error("an activity that kills its process was handed out in 20 processes")
}

// TestC64Child is a process of TestC64AnActivityThatKillsTheProcess.
func TestC64Child(t *testing.T) {
	file := os.Getenv(c64File)
	if file == "" {
		t.Skip("only in a child process")
	}
	h := newHost(t, file, orchestrators{"deadly": callA, "other": other}, activities{
		"a": func(task.ActivityContext) (any, error) { os.Exit(77); return nil, nil }, "echo": echo,
	})
	p, err := h.Query(t.Context(), api.InstanceQuery{Name: "deadly"})
	must(t, err)
	h.end(p.Instances[0].InstanceID, patience)
}

func TestC66FiveStartsOfAnEmptyFile(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	backends, errs := make([]backend.Backend, 5), make(chan error, 5)
	for i := range backends {
		backends[i] = sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(file), &recorder{})
		go func() { errs <- backends[i].CreateTaskHub(context.Background()) }()
	}
	won := 0
	for range backends {
		switch err := recv(t, errs, "start"); {
		case err == nil:
			won++
		case !errors.Is(err, store.ErrLocked):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d engines opened the file", won)
	}
	for _, be := range backends {
		must(t, be.Stop(context.Background()))
	}
	h := newHost(t, file, orchestrators{"other": other}, activities{"echo": echo})
	h.others()()
	if n := number(t, file, `SELECT count(*) FROM instances`); n != 10 {
		t.Error(fmt.Sprint(n, " instances, want 10"))
	}
}

func TestC64TextThatCannotBeStored(t *testing.T) {
	t.Parallel()
	h := newHost(t, newFile(t), orchestrators{
		"other": other,
		"input": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.CallActivity("echo", task.WithRawActivityInput("\xff")).Await(nil)
		},
		"result": func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity("result").Await(nil) },
		"error":  func(c *task.OrchestrationContext) (any, error) { return nil, c.CallActivity("error").Await(nil) },
		"status": func(c *task.OrchestrationContext) (any, error) {
			c.SetCustomStatus("half a rune: \xe2\x82")
			return nil, errors.New("\xe2\x82 in an error")
		},
	}, activities{
		"echo":   echo,
		"result": func(task.ActivityContext) (any, error) { return json.RawMessage("\"\xff\""), nil },
		"error":  func(task.ActivityContext) (any, error) { panic(errors.New("\xff in a panic")) },
	})
	for name, want := range map[string]string{
		"input": "UTF-8", "result": "UTF-8", "error": "\uFFFD in a panic", "status": "\uFFFD in an error",
	} {
		m := h.status(h.begin(name), api.RUNTIME_STATUS_FAILED, patience)
		if !strings.Contains(m.FailureDetails.String(), want) {
			t.Errorf("%s: %v, want %q", name, m.FailureDetails, want)
		}
	}
	h.others()()
}
