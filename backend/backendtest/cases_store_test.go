package backendtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/task"
)

func TestC57AForeignLockDelays(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	h := newHost(t, sqliteFile(file), orchestrators{"other": other}, activities{"echo": echo})
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
	h := newHost(t, sqliteFile(file), orchestrators{"other": other}, activities{"echo": echo})
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
	h := newHost(t, sqliteFile(file), all, activities{"echo": echo})
	second := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(file), &recorder{})
	if err := second.CreateTaskHub(t.Context()); !errors.Is(err, api.ErrTaskHubLocked) || !strings.Contains(err.Error(), file) {
		t.Errorf("second engine: %v", err)
	}
	h.others()()
	h.stop()
	h = newHost(t, sqliteFile(file), all, activities{"echo": echo})
	h.others()()
}

const c64File = "PERDURE_BT_C64_FILE"

func TestC64AnActivityThatKillsTheProcess(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	h := idleHost(t, sqliteFile(file))
	id := h.begin("deadly")
	h.stop()
	for round := range 20 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestC64Child$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), c64File+"="+file)
		if out, err := cmd.CombinedOutput(); err == nil { // it survived: the activity did not run
			h = idleHost(t, sqliteFile(file))
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
	h := newHost(t, sqliteFile(file), orchestrators{"deadly": callA, "other": other}, activities{
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
		case !errors.Is(err, api.ErrTaskHubLocked):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d engines opened the file", won)
	}
	for _, be := range backends {
		must(t, be.Stop(context.Background()))
	}
	h := newHost(t, sqliteFile(file), orchestrators{"other": other}, activities{"echo": echo})
	h.others()()
	if n := number(t, file, `SELECT count(*) FROM instances`); n != 10 {
		t.Error(fmt.Sprint(n, " instances, want 10"))
	}
}

// What cannot be read stays behind an instance that is ended by force: nothing of it comes back.
func TestC64AnUnreadableMessage(t *testing.T) {
	t.Parallel()
	file := newFile(t)
	hub := sqliteFile(file)
	all := orchestrators{"wait": waitForever}
	ids := []api.InstanceID{"forced", "terminated"}
	h := newHost(t, hub, all, nil)
	for _, id := range ids {
		h.begin("wait", api.WithInstanceID(id))
		h.waits(id)
	}
	h.stop()
	h = idleHost(t, hub)
	for _, id := range ids {
		h.raise(id, "lost", nil)
	}
	h.stop()
	rowEdit(t, file, `UPDATE inbox SET event = x'ffffffff'`)
	h = newHost(t, hub, all, nil)
	for _, id := range ids {
		if h.fetch(id).Stalled == "" {
			t.Errorf("%s is not set aside", id)
		}
	}
	must(t, h.ForceTerminate(t.Context(), "forced"))
	must(t, h.TerminateOrchestration(t.Context(), "terminated", ""))
	for range 2 {
		for _, id := range ids {
			if m := h.status(id, api.RUNTIME_STATUS_TERMINATED, patience); m.Stalled != "" {
				t.Errorf("%s is set aside: %s", id, m.Stalled)
			}
		}
		h.noMessages(time.Second)
		h.stop()
		h = newHost(t, hub, all, nil)
	}
}
