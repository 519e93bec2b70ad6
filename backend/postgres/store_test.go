package postgres

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/backend/internal/storetest"
	"github.com/perdure/perdure/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// newHub returns a closed store on a schema of its own.
func newHub(tb testing.TB, settings ...string) *db {
	tb.Helper()
	s := pgtest.Shared(tb)
	url := s.URL() + "&pool_max_conns=3&schema=" + s.Schema()
	for _, more := range settings {
		url += "&" + more
	}
	return again(tb, url)
}

func again(tb testing.TB, url string) *db {
	tb.Helper()
	opts, err := NewPostgresOptionsFromURL(url)
	if err != nil {
		tb.Fatal(err)
	}
	d := newStore(opts, backend.DefaultLogger())
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error(err)
		}
	})
	return d
}

func TestConformance(t *testing.T) {
	for _, mode := range []string{"cache_statement", "cache_describe", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			storetest.Run(t, func(tb testing.TB) store.Store { return newHub(tb, "default_query_exec_mode="+mode) })
		})
	}
}

func TestOneOwnerAtATime(t *testing.T) {
	t.Parallel()
	a := newHub(t, "lease=500ms")
	b := newStore(a.opts, a.log)
	if _, _, err := a.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _, err := b.Open(t.Context())
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), "process") {
		t.Errorf("the second owner: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, m, err := b.Open(t.Context()); err != nil || m.Epoch != 2 {
		t.Errorf("after the first owner: epoch %d, %v", m.Epoch, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}
