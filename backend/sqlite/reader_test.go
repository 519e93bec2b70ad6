package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
)

func TestReaderBesideAnOwner(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hub.db")
	if _, err := sqlite.OpenReader(t.Context(), file); !errors.Is(err, backend.ErrTaskHubNotFound) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("reading made a file")
	}
	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(file), backend.DefaultLogger())
	if err := be.CreateTaskHub(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := backend.NewClient(be)
	if _, err := c.ScheduleNewOrchestration(t.Context(), "o", api.WithInstanceID("a"), api.WithInput(1)); err != nil {
		t.Fatal(err)
	}
	r, err := sqlite.OpenReader(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	look := func() {
		t.Helper()
		if m, err := r.GetOrchestrationMetadata(t.Context(), "a"); err != nil || m.SerializedInput != "1" {
			t.Errorf("read: %+v, %v", m, err)
		}
		if p, err := r.QueryInstances(t.Context(), api.InstanceQuery{}); err != nil || len(p.Instances) != 1 {
			t.Errorf("query: %+v, %v", p, err)
		}
		if _, err := r.GetOrchestrationMetadata(t.Context(), "b"); !errors.Is(err, api.ErrInstanceNotFound) {
			t.Errorf("unknown: %v", err)
		}
	}
	look()
	if err := be.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	look()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = sqlite.OpenReader(t.Context(), file); err != nil { // and without an owner
		t.Fatal(err)
	}
	look()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.OpenReader(t.Context(), other); !errors.Is(err, backend.ErrTaskHubNotFound) {
		t.Errorf("no hub: %v", err)
	}
}
