package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/task"
)

// TestBackupUnderLoad: what was acknowledged before a backup began is in it, and goes on from it.
func TestBackupUnderLoad(t *testing.T) {
	dir := t.TempDir()
	file, copied, restored := filepath.Join(dir, "hub.db"), filepath.Join(dir, "copy.db"), filepath.Join(dir, "restored.db")
	log := backend.NewLogger(slog.New(slog.DiscardHandler))
	r := task.NewTaskRegistry()
	if err := errors.Join(
		r.AddOrchestratorN("o", func(ctx *task.OrchestrationContext) (any, error) {
			var n int
			err := ctx.CallActivity("a").Await(&n)
			return n, err
		}),
		r.AddActivityN("a", func(task.ActivityContext) (any, error) { return 7, nil }),
	); err != nil {
		t.Fatal(err)
	}
	work := func(file string) (backend.Client, func()) {
		be, ex := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(file), log), task.NewTaskExecutor(r)
		w := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, ex, log, backend.WithMaxParallelism(8)),
			backend.NewActivityTaskWorker(be, ex, log, backend.WithMaxParallelism(8)), log)
		if err := w.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return backend.NewClient(be), func() {
			if err := w.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}
	c, stop := work(file)
	ctx, cancel := context.WithCancel(t.Context())
	var acknowledged atomic.Int64
	var wg sync.WaitGroup
	for starter := range 4 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := api.InstanceID(fmt.Sprintf("%d-%d", starter, n))
				if _, err := c.ScheduleNewOrchestration(ctx, "o", api.WithInstanceID(id)); err == nil {
					acknowledged.Add(1)
				}
			}
		})
	}
	for acknowledged.Load() < 300 {
		if _, err := c.Query(ctx, api.InstanceQuery{PageSize: 1}); err != nil {
			t.Fatal(err)
		}
	}
	before := acknowledged.Load()
	if err := sqlite.Backup(t.Context(), file, copied); err != nil {
		t.Fatal(err)
	}
	cancel()
	wg.Wait()
	stop()

	if err := sqlite.Backup(t.Context(), file, copied); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a backup over another: %v", err)
	}
	if err := sqlite.Restore(t.Context(), copied, restored); err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Restore(t.Context(), copied, restored); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a restore over a hub: %v", err)
	}
	reader, err := sqlite.OpenReader(t.Context(), restored)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := reader.VerifyHub(t.Context(), func(id api.InstanceID, fault string) error {
		t.Errorf("%s: %s", id, fault)
		return nil
	})
	if err != nil || int64(sum.Instances) < before || sum.Events == 0 {
		t.Errorf("%d were acknowledged before the backup; it has %+v, %v", before, sum, err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	c, stop = work(restored)
	defer stop()
	for q := (api.InstanceQuery{PageSize: 1000}); ; {
		page, err := c.Query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Instances {
			if m, err := c.WaitForOrchestrationCompletion(t.Context(), m.InstanceID); err != nil || m.SerializedOutput != "7" {
				t.Fatalf("%+v, %v", m, err)
			}
		}
		if q.Token = page.Token; q.Token == "" {
			break
		}
	}
}

func TestCheckFindsDamage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "hub.db")
	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(file), backend.NewLogger(slog.New(slog.DiscardHandler)))
	if err := be.CreateTaskHub(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := backend.NewClient(be)
	for range 200 {
		if _, err := c.ScheduleNewOrchestration(t.Context(), "o", api.WithInput("some input that fills pages")); err != nil {
			t.Fatal(err)
		}
	}
	if err := be.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "copy.db")
	if err := sqlite.Backup(t.Context(), file, copied); err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Check(t.Context(), copied); err != nil {
		t.Error(err)
	}
	if v, latest, err := sqlite.SchemaVersion(t.Context(), copied); err != nil || v != latest || v == 0 {
		t.Errorf("schema version %d of %d, %v", v, latest, err)
	}
	info, err := os.Stat(copied)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(copied, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 8192), info.Size()/2/4096*4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := sqlite.Check(t.Context(), copied); !errors.Is(err, sqlite.ErrDamaged) {
		t.Errorf("two pages of zeros: %v", err)
	}
	if err := sqlite.Restore(t.Context(), copied, filepath.Join(dir, "restored.db")); !errors.Is(err, sqlite.ErrDamaged) {
		t.Errorf("a restore of it: %v", err)
	}
}
