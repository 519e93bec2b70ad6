package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/perdure/perdure/backend/backendtest"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/backend/internal/storetest"
)

// BenchmarkCommit commits new instances with one history row each.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 64} {
		for _, relaxed := range []bool{false, true} {
			b.Run(fmt.Sprintf("rows=%d/relaxed=%v", n, relaxed), func(b *testing.B) {
				s := newStore(filepath.Join(b.TempDir(), "hub.db"), relaxed)
				_, m, err := s.Open(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				key, input, events := int64(0), `{"order":1}`, make([]byte, 300)
				b.ReportAllocs()
				for b.Loop() {
					batch := &store.Batch{Epoch: m.Epoch}
					for range n {
						key++
						r := row(key)
						r.Input = &input
						batch.Insert = append(batch.Insert, r)
						batch.History = append(batch.History, store.HistoryRow{LSN: key, Key: key, At: key, Events: events})
					}
					if err := s.Commit(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkBackend measures the whole backend on a file.
func BenchmarkBackend(b *testing.B) {
	backendtest.RunBenchmarks(b, func(tb testing.TB) backendtest.Hub {
		tb.Helper()
		path := filepath.Join(tb.TempDir(), "hub.db")
		return storetest.Hub(func() store.Store { return newStore(path, false) })
	})
}
