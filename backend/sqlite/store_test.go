package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/backend/internal/storetest"
)

func TestConformance(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		storetest.Run(t, func(tb testing.TB) store.Store { return newStore(filepath.Join(tb.TempDir(), "hub.db"), false) })
	})
	t.Run("memory", func(t *testing.T) {
		storetest.Run(t, func(testing.TB) store.Store { return newStore("", false) })
	})
}

func TestOneOwnerAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hub.db")
	a, b := newStore(path, false), newStore(path, false)
	if _, _, err := a.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _, err := b.Open(t.Context())
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "process") {
		t.Errorf("the second owner: %v", err)
	}
	// Another program may read meanwhile.
	c, err := sqlite3.OpenFlags(path, sqlite3.OPEN_READONLY)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Exec(`SELECT count(*) FROM instances`); err != nil {
		t.Errorf("read beside the owner: %v", err)
	}
	if err := errors.Join(c.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	if _, m, err := b.Open(t.Context()); err != nil || m.Epoch != 2 {
		t.Errorf("after the first owner: epoch %d, %v", m.Epoch, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{garbage, dir, filepath.Join(dir, "none", "hub.db")} {
		be := NewSqliteBackend(NewSqliteOptions(path), nil)
		for range 2 { // nothing stays open or locked after the first refusal
			if err := be.CreateTaskHub(t.Context()); err == nil || errors.Is(err, backend.ErrTaskHubExists) {
				t.Errorf("CreateTaskHub of %s: %v", path, err)
			}
		}
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hub.db")
	s := newStore(path, false)
	if _, _, err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.w.exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Open(t.Context()); !errors.Is(err, store.ErrSchemaTooNew) || !strings.Contains(err.Error(), "99") {
		t.Errorf("a newer schema: %v", err)
	}
}
