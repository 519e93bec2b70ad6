package backendtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/task"
)

// A full disk is tried in a child process: as a small file system of its own where
// the kernel lets a process have one, and as a limit of the size of files.
const diskChild = "PERDURE_BT_DISK"

func TestDiskFaults(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"full", "full by limit", "read-only"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskChild$", "-test.timeout=120s", "-test.v")
			cmd.Env = append(os.Environ(), diskChild+"="+kind, "TMPDIR="+t.TempDir())
			if kind != "full by limit" {
				cmd.SysProcAttr = &syscall.SysProcAttr{
					Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
					UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
					GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
				}
			}
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			switch {
			case err == nil && strings.Contains(string(out), "--- SKIP"):
				t.Skipf("%s", out)
			case err == nil:
			case errors.As(err, &exit):
				t.Errorf("%v\n%s", err, out)
			default:
				t.Skipf("the kernel allows no file system of its own: %v", err)
			}
		})
	}
}

// TestDiskChild is the child process of TestDiskFaults.
func TestDiskChild(t *testing.T) {
	dir := t.TempDir()
	switch os.Getenv(diskChild) {
	case "read-only":
		mount(t, dir)
		diskReadOnly(t, dir)
	case "full":
		mount(t, dir)
		filler := filepath.Join(dir, "filler")
		diskFull(t, dir, func() {
			f, err := os.Create(filler)
			must(t, err)
			block := make([]byte, 1<<16)
			for err == nil {
				_, err = f.Write(block)
			}
			must(t, f.Close())
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}, func() { must(t, os.Remove(filler)) })
	case "full by limit":
		signal.Ignore(syscall.SIGXFSZ)
		var was syscall.Rlimit
		must(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was))
		diskFull(t, dir, func() {
			must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 17 << 20, Max: was.Max}))
		}, func() { must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was)) })
	default:
		t.Skip("only in a child process")
	}
}

// mount makes the folder a small file system until the test ends.
func mount(t *testing.T, dir string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}

// diskReadOnly opens a hub on a file system that was made read-only, and again once it is not.
func diskReadOnly(t *testing.T, dir string) {
	t.Helper()
	file := filepath.Join(dir, "hub.db")
	all, as := orchestrators{"o": waitsWith}, activities{"echo": echo}
	h := newHost(t, sqliteFile(file), all, as)
	id := h.begin("o", api.WithInput("x"))
	h.waits(id)
	h.stop()
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(file), &recorder{})
	for range 2 {
		if err := be.CreateTaskHub(t.Context()); !errors.Is(err, api.ErrUnavailable) || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("open: %v", err)
		}
	}
	if err := be.DeleteTaskHub(t.Context()); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("delete: %v", err)
	}
	must(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT, ""))
	h = newHost(t, sqliteFile(file), all, as)
	h.raise(id, "go", "z")
	h.output(id, `"z"`)
	h.stop()
}

func health(h *caseHost) error { return h.be.(backend.HealthReporter).Health() }

// diskFull works while the disk fills up, is full, and has room again.
func diskFull(t *testing.T, dir string, fill, free func()) {
	t.Helper()
	var runs atomic.Int32
	started, open := make(chan struct{}, 1), make(chan struct{})
	large := strings.Repeat("x", 100_000)
	os, as := orchestrators{
		"keep": func(c *task.OrchestrationContext) (any, error) {
			return nil, c.WaitForSingleEvent("end", -1).Await(nil)
		},
		"o": callA, "other": other,
		"timer": func(c *task.OrchestrationContext) (any, error) { return nil, c.CreateTimer(2 * time.Second).Await(nil) },
	}, activities{"echo": echo, "a": func(task.ActivityContext) (any, error) {
		n := runs.Add(1)
		started <- struct{}{}
		<-open
		return n, nil
	}}
	hub := sqliteFile(filepath.Join(dir, "hub.db"))
	h := newHost(t, hub, os, as)
	h.begin("keep", api.WithInstanceID("before"))
	slow := h.begin("o")
	recv(t, started, "activity")
	timers := make([]api.InstanceID, 20)
	for i := range timers {
		timers[i] = h.begin("timer")
	}
	if err := health(h); err != nil {
		t.Errorf("health before: %v", err)
	}
	fill()
	var kept []api.InstanceID
	var refused error
	for _, size := range []int{100_000, 10_000, 1000, 10} { // the last bytes need small starts
		for refused = nil; refused == nil && len(kept) < 10_000; {
			id := api.InstanceID(fmt.Sprintf("kept-%d-%d", size, len(kept)))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if _, refused = h.ScheduleNewOrchestration(ctx, "keep", api.WithInstanceID(id), api.WithInput(large[:size])); refused == nil {
				kept = append(kept, id)
			}
			cancel()
		}
	}
	if !errors.Is(refused, api.ErrUnavailable) || len(kept) == 0 {
		t.Fatalf("refused with %v after %d starts", refused, len(kept))
	}
	if s := refused.Error(); !strings.Contains(s, "no space left") && !strings.Contains(s, "file too large") {
		t.Errorf("refused without the cause: %v", s)
	}
	if err := h.RaiseEvent(t.Context(), "before", "other", large); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("event on a full disk: %v", err)
	}
	if err := health(h); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("health on a full disk: %v", err)
	}
	close(open) // its result cannot be stored
	for _, id := range append(kept, "before", slow) {
		if m := h.fetch(id); m.IsComplete() {
			t.Errorf("%s is %v on a full disk", id, m.RuntimeStatus)
		}
	}
	ill := time.After(4 * time.Second) // long enough that each loop which has no pause shows
	for waiting := true; waiting; {
		select {
		case <-ill:
			waiting = false
		case <-started:
			t.Error("an activity ran again because its result could not be stored")
			waiting = false
		}
	}
	if n := len(h.log.taken()); n > 100 {
		t.Errorf("%d lines of log in an outage: %q", n, h.log.taken()[:20])
	}
	free()
	eventually(t, 15*time.Second, "health again, without any work", func() bool { return health(h) == nil })
	h.output(slow, "1")
	for _, id := range timers {
		h.output(id, "")
	}
	h.others()()
	h.raise(kept[0], "end", nil)
	h.output(kept[0], "")
	if n := runs.Load(); n != 1 {
		t.Errorf("the activity ran %d times", n)
	}
	h.stop()
	h = newHost(t, hub, os, as)
	for _, id := range append(kept[1:], "before") {
		h.raise(id, "end", nil)
		h.output(id, "")
	}
	h.stop()
	if n := number(t, filepath.Join(dir, "hub.db"), `SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'`); n != 0 {
		t.Errorf("%d faults in the file", n)
	}
}
