package storetest

import (
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/backendtest"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/backend/internal/faultstore"
	"github.com/perdure/perdure/backend/internal/store"
)

// Hub binds a store, under the engine and with faults between the two, to the
// suite of package backendtest. open returns a closed store on the hub: a new
// one for each process, except where the hub lives in it.
func Hub(open func() store.Store) backendtest.Hub {
	return backendtest.Hub{
		Open: func(s backendtest.Settings) backend.Backend {
			st := open()
			if s.Faults != nil {
				st = faultstore.New(st, s.Faults)
			}
			return engine.New(st, s.Logger, engine.Options{Name: "a store under test", MaxResident: s.MaxResident, MaxPayload: s.MaxPayload, MaxIDLength: s.MaxIDLength})
		},
		Damage: func(tb testing.TB, id api.InstanceID, how backendtest.Damage) {
			tb.Helper()
			if err := faultstore.Damage(tb.Context(), open(), string(id), faultstore.Harm(how)); err != nil {
				tb.Fatal(err)
			}
		},
	}
}
