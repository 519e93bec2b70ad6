package postgres

import (
	"flag"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"testing"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/backendtest"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/backend/internal/storetest"
	"github.com/perdure/perdure/internal/pgtest"
)

var kills = flag.Int("kills", 10, "TestCrash: how often the child process is killed")

// TestBackend runs the suite that every backend must pass.
func TestBackend(t *testing.T) {
	backendtest.Run(t, func(tb testing.TB) backendtest.Hub {
		tb.Helper()
		opts := newHub(tb).opts
		return storetest.Hub(func() store.Store { return newStore(opts, backend.NewLogger(slog.New(slog.DiscardHandler))) })
	})
}

// crashURL is how a child process of TestCrash finds the server of its parent.
const crashURL = "PERDURE_TEST_CRASH_URL"

func TestCrash(t *testing.T) {
	if os.Getenv(crashURL) == "" {
		t.Setenv(crashURL, pgtest.Shared(t).URL())
	}
	backendtest.RunCrash(t, *kills, func(dir string, s backendtest.Settings) backend.Backend {
		h := fnv.New64()
		_, _ = h.Write([]byte(dir))
		opts, err := NewPostgresOptionsFromURL(fmt.Sprintf("%s&lease=500ms&schema=crash_%x", os.Getenv(crashURL), h.Sum64()))
		if err != nil {
			t.Fatal(err)
		}
		opts.MaxResident = s.MaxResident
		return NewPostgresBackend(opts, s.Logger)
	})
}

func BenchmarkBackend(b *testing.B) {
	backendtest.RunBenchmarks(b, func(tb testing.TB) backendtest.Hub {
		tb.Helper()
		opts := newHub(tb).opts
		return storetest.Hub(func() store.Store { return newStore(opts, backend.NewLogger(slog.New(slog.DiscardHandler))) })
	})
}
