package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend/internal/store"
)

// hub opens a store that the test closes.
func hub(tb testing.TB, path string) (*db, store.Marks) {
	tb.Helper()
	s := newStore(path, false)
	_, m, err := s.Open(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s, m
}

func row(key int64) *store.Instance {
	return &store.Instance{Key: key, ID: fmt.Sprintf("id-%d", key), Name: "n", Unfinished: true}
}

func insert(epoch int64, keys ...int64) *store.Batch {
	b := &store.Batch{Epoch: epoch}
	for _, k := range keys {
		b.Insert = append(b.Insert, row(k))
	}
	return b
}

func commit(tb testing.TB, s store.Store, b *store.Batch) {
	tb.Helper()
	if err := s.Commit(tb.Context(), b); err != nil {
		tb.Fatal(err)
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		path, file string
		memory     bool
	}{
		{"", "", true},
		{":memory:", "", true},
		{"file:", "", true},
		{"file::memory:", "", true},
		{"file::memory:?cache=shared", "", true},
		{"file:x?mode=memory", "", true},
		{"a%20b?c#d.db", "a%20b?c#d.db", false},
		{"file:a.db?mode=rwc&_pragma=busy_timeout(1)", "a.db", false},
		{"file:a%20b.db", "a b.db", false},
		{"file:/x/a.db", "/x/a.db", false},
		{"file:///x/a.db", "/x/a.db", false},
		{"file://localhost/x/a.db", "/x/a.db", false},
	} {
		if file, memory := locate(c.path); file != c.file || memory != c.memory {
			t.Errorf("locate(%q) = %q, %v, want %q, %v", c.path, file, memory, c.file, c.memory)
		}
	}
}

func TestOddFileNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a b%20c?d#e.db", "日本語.db"} {
		s, m := hub(t, filepath.Join(dir, name))
		commit(t, s, insert(m.Epoch, 1))
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestSecondOpenKeepsTheFirst(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hub.db")
	s, m := hub(t, path)
	for _, other := range []*db{s, newStore(path, false), newStore("file:"+path, false)} {
		if _, _, err := other.Open(t.Context()); !errors.Is(err, store.ErrLocked) {
			t.Errorf("second Open: %v", err)
		}
	}
	commit(t, s, insert(m.Epoch, 1))
	if err := newStore(path, false).Destroy(t.Context()); !errors.Is(err, store.ErrLocked) {
		t.Errorf("Destroy beside the owner: %v", err)
	}
}

func TestSymlinkSharesTheLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link := filepath.Join(dir, "link.db")
	hub(t, filepath.Join(dir, "hub.db"))
	if err := os.Symlink("hub.db", link); err != nil {
		t.Skip(err)
	}
	if _, _, err := newStore(link, false).Open(t.Context()); !errors.Is(err, store.ErrLocked) {
		t.Errorf("Open through a link: %v", err)
	}
}

func TestUnusableLockFileIsNotHeld(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hub.db")
	if err := os.Mkdir(path+".lock", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, _, err := newStore(path, false).Open(t.Context()); err == nil || errors.Is(err, store.ErrLocked) {
		t.Errorf("Open: %v", err)
	}
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	hub(t, path)
}

func TestDestroyDeletesHubsOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	letter, empty, path := filepath.Join(dir, "letter"), filepath.Join(dir, "empty"), filepath.Join(dir, "hub.db")
	for name, text := range map[string]string{letter: strings.Repeat("dear diary ", 99), empty: ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := newStore(name, false).Destroy(t.Context()); err == nil {
			t.Errorf("Destroy of %s", name)
		}
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	s, _ := hub(t, path)
	if err := s.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
	if err := s.Destroy(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("second Destroy: %v", err)
	}
	if created, m, err := s.Open(t.Context()); err != nil || !created || m.Epoch != 1 {
		t.Errorf("Open after Destroy: %v %+v %v", created, m, err)
	}
}

func TestReopenKeepsData(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"file": filepath.Join(t.TempDir(), "hub.db"), "memory": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, m := hub(t, path)
			b := insert(m.Epoch, 7)
			b.History = []store.HistoryRow{{LSN: 8, Key: 7}}
			b.Inbox = []store.InboxRow{{Seq: 9, Key: 12}} // a number in any table is in use
			commit(t, s, b)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(t.Context(), insert(m.Epoch, 8)); !errors.Is(err, errClosed) {
				t.Errorf("Commit after Close: %v", err)
			}
			if _, err := s.ByKey(t.Context(), 7); !errors.Is(err, errClosed) {
				t.Errorf("ByKey after Close: %v", err)
			}
			created, m, err := s.Open(t.Context())
			if want := (store.Marks{Key: 12, LSN: 8, Seq: 9, Epoch: 2}); err != nil || created || m != want {
				t.Fatalf("Open: %v %+v %v, want %+v", created, m, err, want)
			}
			if _, err := s.ByKey(t.Context(), 7); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCloseWaitsForReaders(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hub.db")
	s, _ := hub(t, path)
	reading, release, closed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_ = s.read(context.Background(), func(*conn) error { close(reading); <-release; return nil })
	}()
	<-reading
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		t.Errorf("Close did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a connection stayed open: %v", err) // the last one to close deletes the log
	}
}

func TestForeignReaderWhileWriting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hub.db")
	s, m := hub(t, path)
	c, err := sqlite3.OpenFlags(path, sqlite3.OPEN_READONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	st, _, err := c.Prepare(`SELECT count(*) FROM instances`)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for n := int64(1); n <= 20; n++ {
		commit(t, s, insert(m.Epoch, n))
		if !st.Step() || st.ColumnInt64(0) != n {
			t.Fatalf("the reader sees %d rows of %d: %v", st.ColumnInt64(0), n, st.Err())
		}
		if n%2 == 0 { // else it holds its snapshot through the next commit
			if err := st.Reset(); err != nil {
				t.Fatal(err)
			}
		} else {
			commit(t, s, &store.Batch{Epoch: m.Epoch, Consume: []int64{n}})
			if err := st.Reset(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
