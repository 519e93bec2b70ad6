package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/perdure/perdure/backend/backendtest"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/backend/internal/storetest"
)

// TestBackend runs what every backend must do; the named cases run in package backendtest.
func TestBackend(t *testing.T) {
	t.Run("file", func(t *testing.T) {
		backendtest.RunTests(t, func(tb testing.TB) backendtest.Hub {
			tb.Helper()
			path := filepath.Join(tb.TempDir(), "hub.db")
			return storetest.Hub(func() store.Store { return newStore(path, false) })
		}, backendtest.Contract()...)
	})
	t.Run("memory", func(t *testing.T) {
		backendtest.RunTests(t, func(testing.TB) backendtest.Hub {
			st := newStore("", false)
			return storetest.Hub(func() store.Store { return st })
		}, backendtest.Contract()...)
	})
}
