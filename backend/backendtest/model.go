package backendtest

import (
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/backend/internal/faultstore"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/backend/internal/store"
)

// NewModel returns a backend in memory, to compare with and to test programs
// on: it holds every rule, and is slow where there are many instances. What it
// stores survives Stop until DeleteTaskHub, and nothing survives the value.
func NewModel(s Settings) backend.Backend { return modelOn(memstore.New(), s) }

// ModelHub is a NewHub of models.
func ModelHub(tb testing.TB) Hub {
	tb.Helper()
	st := memstore.New()
	return Hub{
		Open: func(s Settings) backend.Backend { return modelOn(st, s) },
		Messages: func(tb testing.TB) int {
			tb.Helper()
			n, err := faultstore.Messages(tb.Context(), st)
			if err != nil {
				tb.Fatal(err)
			}
			return n
		},
		Damage: func(tb testing.TB, id api.InstanceID, how Damage) {
			tb.Helper()
			if err := faultstore.Damage(tb.Context(), st, string(id), faultstore.Harm(how)); err != nil {
				tb.Fatal(err)
			}
		},
	}
}

func modelOn(st store.Store, s Settings) backend.Backend {
	if s.Faults != nil {
		st = faultstore.New(st, s.Faults)
	}
	log := s.Logger
	if log == nil {
		log = backend.DefaultLogger()
	}
	return engine.New(st, log, engine.Options{
		Name: "model", MaxResident: s.MaxResident, MaxPayload: s.MaxPayload, MaxIDLength: s.MaxIDLength,
	})
}
