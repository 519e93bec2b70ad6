package backendtest_test

import (
	"testing"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/backendtest"
)

// bare is a backend without the optional interfaces, as a first version of one by somebody else is.
type bare struct{ backend.Backend }

func TestBareBackend(t *testing.T) {
	backendtest.Run(t, func(testing.TB) backendtest.Hub {
		return backendtest.Hub{Open: backendtest.Volatile(func(s backendtest.Settings) backend.Backend {
			return bare{backendtest.NewModel(s)}
		})}
	})
}
