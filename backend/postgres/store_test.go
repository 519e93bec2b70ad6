package postgres

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/backend/internal/storetest"
	"github.com/perdure/perdure/internal/pgtest"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

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
	d := newStore(opts, backend.NewLogger(slog.New(slog.DiscardHandler)))
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

// beside returns another closed store on the same hub, as another process would have it.
func beside(tb testing.TB, d *db) *db {
	tb.Helper()
	other := newStore(d.opts, d.log)
	tb.Cleanup(func() {
		if err := other.Close(); err != nil {
			tb.Error(err)
		}
	})
	return other
}
