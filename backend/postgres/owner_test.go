package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/internal/pgtest"
)

func opened(tb testing.TB, d *db) store.Marks {
	tb.Helper()
	_, m, err := d.Open(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func insert(m store.Marks, n int64) *store.Batch {
	key := m.Key + n
	return &store.Batch{
		Epoch:  m.Epoch,
		Insert: []*store.Instance{{Key: key, ID: fmt.Sprintf("id-%d", key), Name: "n", Unfinished: true}},
	}
}

func TestOneOwnerAtATime(t *testing.T) {
	t.Parallel()
	a := newHub(t, "lease=500ms")
	b := beside(t, a)
	opened(t, a)
	_, _, err := b.Open(t.Context())
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "process") {
		t.Errorf("the second owner: %v", err)
	}
	if err := b.Destroy(t.Context()); !errors.Is(err, store.ErrLocked) {
		t.Errorf("Destroy beside the owner: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if m := opened(t, b); m.Epoch != 2 {
		t.Errorf("after the first owner: epoch %d", m.Epoch)
	}
}

func TestGracefulHandOver(t *testing.T) {
	t.Parallel()
	a := newHub(t, "lease=1m")
	b := beside(t, a)
	opened(t, a)
	took := make(chan error, 1)
	go func() {
		_, _, err := b.Open(context.Background())
		took <- err
	}()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-took:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second): // far less than the lease
		t.Error("the lease was not handed over")
	}
}

// TestTakeover: the lease of an owner that renews no more ends; what it sends after that is refused.
func TestTakeover(t *testing.T) {
	t.Parallel()
	a := newHub(t, "lease=500ms")
	b := beside(t, a)
	m := opened(t, a)
	if err := a.Commit(t.Context(), insert(m, 1)); err != nil {
		t.Fatal(err)
	}
	a.stop() // as if the process stood still
	begin := time.Now()
	next := opened(t, b)
	if took := time.Since(begin); took > 5*time.Second || next.Epoch != m.Epoch+1 || next.LSN <= m.LSN {
		t.Errorf("took over in %v with %+v after %+v", took, next, m)
	}
	late := insert(m, 2)
	if err := a.Commit(t.Context(), late); !errors.Is(err, store.ErrStaleEpoch) {
		t.Errorf("a commit of the old owner: %v", err)
	}
	if _, err := a.Committed(t.Context(), late); !errors.Is(err, store.ErrStaleEpoch) {
		t.Errorf("Committed of the old owner: %v", err)
	}
	if _, err := b.ByKey(t.Context(), late.Insert[0].Key); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it left a row: %v", err)
	}
	if err := b.Commit(t.Context(), insert(next, 1)); err != nil {
		t.Error(err)
	}
}

// TestLateCommit: once Committed has said no, the lost commit cannot arrive any more.
func TestLateCommit(t *testing.T) {
	t.Parallel()
	d := newHub(t)
	m := opened(t, d)
	lost := insert(m, 1)
	before := d.gate
	if done, err := d.Committed(t.Context(), lost); done || err != nil {
		t.Fatalf("Committed: %v %v", done, err)
	}
	after := d.gate
	d.gate = before // as the server would see it: the words of before
	if err := d.send(t.Context(), lost); codeOf(err) != divisionByZero {
		t.Errorf("the lost commit arrived: %v", err)
	}
	d.gate = after
	if err := d.Commit(t.Context(), lost); err != nil {
		t.Errorf("sent again: %v", err)
	}
	if done, err := d.Committed(t.Context(), lost); !done || err != nil {
		t.Errorf("Committed: %v %v", done, err)
	}
	d.gate = before // the answer of a change of the gate was lost
	if err := d.Commit(t.Context(), insert(m, 2)); err != nil {
		t.Errorf("with a gate that is behind: %v", err)
	}
}

// TestManyOpenAtOnce: processes that start at the same moment make one schema and one owner.
func TestManyOpenAtOnce(t *testing.T) {
	t.Parallel()
	first := newHub(t, "lease=500ms")
	var g errgroup.Group
	owners := make(chan *db, 6)
	for n := range cap(owners) {
		d := first
		if n > 0 {
			d = beside(t, first)
		}
		g.Go(func() error {
			_, _, err := d.Open(t.Context())
			if err == nil {
				owners <- d
			} else if errors.Is(err, store.ErrLocked) {
				err = nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil || len(owners) != 1 {
		t.Errorf("%d owners, %v", len(owners), err)
	}
}

// TestServerRestart: a commit after a crash of the server needs no second try by its caller.
func TestServerRestart(t *testing.T) {
	t.Parallel()
	s := pgtest.New(t)
	d := again(t, s.URL()+"&pool_max_conns=2")
	m := opened(t, d)
	for n := range int64(3) {
		if err := d.Commit(t.Context(), insert(m, 2*n)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Stop(), s.Start()); err != nil {
			t.Fatal(err)
		}
		if err := d.Commit(t.Context(), insert(m, 2*n+1)); err != nil {
			t.Errorf("after restart %d: %v", n, err)
		}
		if _, err := d.ByKey(t.Context(), m.Key+2*n); err != nil {
			t.Error(err)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(t.Context(), insert(m, 99)); !errors.Is(err, api.ErrUnavailable) || errors.Is(err, store.ErrStaleEpoch) {
		t.Errorf("without a server: %v", err)
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://h/d?schema=A", "postgres://h/d?schema=pg_x", "postgres://h/d?lease=1ms", "postgres://h/d?lease=x", "postgres://h:x/d"} {
		if _, err := NewPostgresOptionsFromURL(url); !errors.Is(err, api.ErrInvalidInput) {
			t.Errorf("%s: %v", url, err)
		}
	}
	o := NewPostgresOptions("h", 5432, "d'b", `u\`, "pass word'")
	if c := o.PgOptions.ConnConfig; o.err != nil || c.Database != "d'b" || c.User != `u\` || c.Password != "pass word'" || c.Host != "h" {
		t.Errorf("%v %+v", o.err, c)
	}
	if name := fmt.Sprint(NewPostgresBackend(o, nil)); strings.Contains(name, "pass") || name != "postgres::h:5432/d'b/perdure" {
		t.Errorf("name %q", name)
	}
	nobody := NewPostgresBackend(NewPostgresOptions("127.0.0.1", 1, "d", "u", "p"), nil)
	if err := nobody.CreateTaskHub(t.Context()); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
	s := pgtest.Shared(t)
	none := NewPostgresBackend(NewPostgresOptions("127.0.0.1", uint16(s.Port), "nodb", "postgres", ""), nil)
	if err := none.CreateTaskHub(t.Context()); !errors.Is(err, api.ErrUnavailable) || !strings.Contains(err.Error(), "create the database") {
		t.Errorf("no database: %v", err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	d := newHub(t)
	opened(t, d)
	if _, err := d.pool.Exec(t.Context(), `INSERT INTO `+d.opts.Schema+`.goose_db_version (version_id, is_applied) VALUES (99, true)`); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Open(t.Context()); !errors.Is(err, store.ErrSchemaTooNew) || !strings.Contains(err.Error(), "99") {
		t.Errorf("a newer schema: %v", err)
	}
}

func TestDestroyKeepsForeignTables(t *testing.T) {
	t.Parallel()
	d := newHub(t)
	opened(t, d)
	s := d.opts.Schema
	if _, err := d.pool.Exec(t.Context(), `CREATE TABLE `+s+`.theirs (n integer)`); err != nil {
		t.Fatal(err)
	}
	if err := d.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := opened(t, d)
	if m.Epoch != 1 {
		t.Errorf("epoch %d after Destroy", m.Epoch)
	}
	if _, err := d.pool.Exec(t.Context(), `INSERT INTO `+s+`.theirs VALUES (1)`); err != nil {
		t.Error(err)
	}
}
