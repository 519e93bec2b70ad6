package sqlite

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ncruces/go-sqlite3"

	"github.com/perdure/perdure/backend/internal/store"
)

func ptr(s string) *string { return &s }

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	s, m := hub(t, filepath.Join(t.TempDir(), "hub.db"))
	full := &store.Instance{
		Key: 1, ID: "a\x00b ☕", Partition: 255, ExecutionID: "x", Name: "n", Version: ptr("v"), Status: 3, Unfinished: true,
		CreatedAt: 1 << 62, UpdatedAt: 11, CompletedAt: 12, ScheduledAt: 13, Due: store.Far, Attempts: 4,
		ParentID: "p", ParentExec: "pe", ParentTask: -1, Tags: []byte(`{"k":"v"}`), Failure: []byte{0, 255}, Stalled: "why",
		CustomStatus: ptr("c"), Input: ptr(strings.Repeat("i", 1<<20)), Output: ptr("o"),
	}
	none := &store.Instance{Key: 2, ID: "none"}
	empty := &store.Instance{
		Key: 3, ID: "empty", Version: ptr(""), Tags: []byte{}, Failure: []byte{}, CustomStatus: ptr(""), Input: ptr(""), Output: ptr(""),
	}
	commit(t, s, &store.Batch{Epoch: m.Epoch, Insert: []*store.Instance{full, none, empty}})
	check := func(want ...*store.Instance) {
		t.Helper()
		for _, w := range want {
			got, err := s.ByID(t.Context(), w.ID)
			if diff := cmp.Diff(w, got); err != nil || diff != "" {
				t.Errorf("%q (-want +got): %v\n%s", w.ID, err, diff)
			}
		}
	}
	check(full, none, empty)

	// Each takes all that may change from another, and a missing row is skipped.
	a, b := *none, *full
	a.Key, a.ID, a.Partition, a.CreatedAt = full.Key, full.ID, full.Partition, full.CreatedAt
	a.ParentID, a.ParentExec, a.ParentTask = full.ParentID, full.ParentExec, full.ParentTask
	b.Key, b.ID, b.Partition, b.CreatedAt = none.Key, none.ID, none.Partition, none.CreatedAt
	b.ParentID, b.ParentExec, b.ParentTask = none.ParentID, none.ParentExec, none.ParentTask
	commit(t, s, &store.Batch{Epoch: m.Epoch, Update: []*store.Instance{&a, &b, row(99)}})
	check(&a, &b, empty)
	if _, err := s.ByKey(t.Context(), 99); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the missing row: %v", err)
	}

	// A row is as new as its newest turn.
	commit(t, s, &store.Batch{Epoch: m.Epoch, History: []store.HistoryRow{{LSN: 5, Key: 3, At: 70}, {LSN: 6, Key: 3, At: 50}}})
	empty.UpdatedAt = 50
	check(empty)
}

func TestRefusedBatchWritesNothing(t *testing.T) {
	t.Parallel()
	s, m := hub(t, filepath.Join(t.TempDir(), "hub.db"))
	commit(t, s, insert(m.Epoch, 1))
	twin := insert(m.Epoch, 2, 3)
	twin.Insert[1].ID = "id-1"
	twin.Consume = []int64{1}
	if err := s.Commit(t.Context(), twin); !errors.Is(err, sqlite3.CONSTRAINT) {
		t.Errorf("a taken id: %v", err)
	}
	for _, epoch := range []int64{0, m.Epoch - 1, m.Epoch + 1} {
		if err := s.Commit(t.Context(), insert(epoch, 2)); !errors.Is(err, store.ErrStaleEpoch) {
			t.Errorf("epoch %d: %v", epoch, err)
		}
	}
	if done, err := s.Committed(t.Context(), twin); done || err != nil {
		t.Errorf("Committed: %v %v", done, err)
	}
	commit(t, s, insert(m.Epoch, 2))
	if done, err := s.Committed(t.Context(), insert(m.Epoch, 2)); !done || err != nil {
		t.Errorf("Committed: %v %v", done, err)
	}
}

// dying is cancelled after it was asked n times whether it is.
type dying struct {
	context.Context
	n int
}

func (c *dying) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

func TestCancelledCommitLeavesTheWriterUsable(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"file": filepath.Join(t.TempDir(), "hub.db"), "memory": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, m := hub(t, path)
			for n := range 12 { // cancelled at each of its statements
				b := insert(m.Epoch, int64(2*n+1))
				err := s.Commit(&dying{t.Context(), n}, b)
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("cancelled after %d: %v", n, err)
				}
				if done, cerr := s.Committed(t.Context(), b); cerr != nil || done != (err == nil) {
					t.Errorf("cancelled after %d: error %v, but written: %v %v", n, err, done, cerr)
				}
				commit(t, s, insert(m.Epoch, int64(2*n+2)))
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := s.ByKey(ctx, 2); !errors.Is(err, context.Canceled) {
				t.Errorf("read with a cancelled context: %v", err)
			}
		})
	}
}

func TestForeignWriterIsWaitedFor(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "hub.db")
	s, m := hub(t, path)
	c, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Exec(`BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Commit(ctx, insert(m.Epoch, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside a writer that stays: %v", err)
	}
	if err := s.w.c.BusyTimeout(time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), insert(m.Epoch, 1)); !errors.Is(err, sqlite3.BUSY) || !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("beside a writer that stays longer: %v", err)
	}
	if err := s.w.c.BusyTimeout(busyTimeout); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Commit(context.Background(), insert(m.Epoch, 1)) }()
	if err := c.Exec(`COMMIT`); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestBigBatchAndPaging(t *testing.T) {
	t.Parallel()
	const n = 50_000
	s, m := hub(t, filepath.Join(t.TempDir(), "hub.db"))
	b := &store.Batch{Epoch: m.Epoch}
	for k := int64(1); k <= n; k++ {
		b.Insert = append(b.Insert, row(k))
		b.History = append(b.History, store.HistoryRow{LSN: k, Key: k%2 + 1, Events: []byte("event")})
	}
	commit(t, s, b)
	seen := 0
	for after := int64(0); ; {
		keys, err := s.Active(t.Context(), after, 999)
		if err != nil {
			t.Fatal(err)
		}
		if seen += len(keys); len(keys) == 0 {
			break
		}
		after = keys[len(keys)-1]
	}
	if seen != n {
		t.Errorf("%d keys of %d", seen, n)
	}
	rows, last := 0, int64(0)
	if err := s.History(t.Context(), 1, 0, func(h store.HistoryRow) error {
		if h.LSN <= last {
			t.Fatalf("row %d after %d", h.LSN, last)
		}
		rows, last = rows+1, h.LSN
		return nil
	}); err != nil || rows != n/2 {
		t.Errorf("%d history rows of %d: %v", rows, n/2, err)
	}
	stop := errors.New("stop")
	if err := s.History(t.Context(), 1, 0, func(store.HistoryRow) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("History that is stopped: %v", err)
	}
}

func TestBigHistoryRows(t *testing.T) {
	t.Parallel()
	s, m := hub(t, filepath.Join(t.TempDir(), "hub.db"))
	b := insert(m.Epoch, 1)
	for lsn := int64(1); lsn <= 6; lsn++ { // several pages by size
		b.History = append(b.History, store.HistoryRow{LSN: lsn, Key: 1, Events: make([]byte, historyBytes/2)})
	}
	commit(t, s, b)
	rows := 0
	if err := s.History(t.Context(), 1, 0, func(store.HistoryRow) error { rows++; return nil }); err != nil || rows != 6 {
		t.Errorf("%d rows: %v", rows, err)
	}
}

func TestActiveAndDue(t *testing.T) {
	t.Parallel()
	s, m := hub(t, "")
	b := insert(m.Epoch, 1, 2, 3, 4, 5)
	b.Insert[1].Due, b.Insert[2].Due, b.Insert[3].Due = 20, 10, store.Far
	b.Insert[4].Unfinished = false
	b.Inbox = []store.InboxRow{{Seq: 1, Key: 4}, {Seq: 2, Key: 4}, {Seq: 3, Key: 77}}
	commit(t, s, b)
	keys, err := s.Active(t.Context(), 0, 10)
	if diff := cmp.Diff([]int64{1, 4}, keys); err != nil || diff != "" {
		t.Errorf("Active (-want +got): %v\n%s", err, diff)
	}
	due, err := s.DueAfter(t.Context(), store.DueKey{}, 10)
	if diff := cmp.Diff([]store.DueKey{{Due: 10, Key: 3}, {Due: 20, Key: 2}}, due); err != nil || diff != "" {
		t.Errorf("DueAfter (-want +got): %v\n%s", err, diff)
	}
}

func TestPrefixIsLiteral(t *testing.T) {
	t.Parallel()
	s, m := hub(t, "")
	ids := []string{"a%1", "a%2", "a_1", "ab1", "A%1", "é1", "è1", "日本", "日曜", "'; DROP TABLE meta; --", "\U0010FFFF", "\U0010FFFFx"}
	b := &store.Batch{Epoch: m.Epoch}
	for n, id := range ids {
		b.Insert = append(b.Insert, &store.Instance{Key: int64(n + 1), ID: id})
	}
	commit(t, s, b)
	for _, prefix := range append([]string{"", "a", "a%", "a_", "é", "日", "x", "\xff"}, ids...) {
		var want, got []string
		for _, id := range ids {
			if strings.HasPrefix(id, prefix) {
				want = append(want, id)
			}
		}
		for f := (store.Filter{IDPrefix: prefix, Limit: 2}); ; {
			rows, err := s.Query(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if len(rows) == 0 {
				break
			}
			for _, r := range rows {
				got = append(got, r.ID)
				f.AfterKey = r.Key
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("prefix %q (-want +got):\n%s", prefix, diff)
		}
	}
}
