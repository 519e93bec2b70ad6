package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/internal/pgtest"
	"github.com/perdure/perdure/server"
)

// createHubs makes hubs and checks that List finds them and nothing else.
func createHubs(t *testing.T, h server.Hubs, names ...string) {
	t.Helper()
	if got, err := h.List(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("before: %v, %v", got, err)
	}
	for _, name := range names {
		be, err := h.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := be.CreateTaskHub(t.Context()); err != nil && !errors.Is(err, backend.ErrTaskHubExists) {
			t.Fatal(err)
		}
		if err := be.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := h.List(t.Context())
	slices.Sort(got)
	slices.Sort(names)
	if err != nil || !slices.Equal(got, names) {
		t.Errorf("got %v, %v, want %v", got, err, names)
	}
}

var silent = backend.NewLogger(slog.New(slog.DiscardHandler))

func TestHubsInFiles(t *testing.T) {
	for _, name := range []string{"orders.db", "plain", "odd[1].sqlite"} {
		path := filepath.Join(t.TempDir(), name)
		be, hubs, err := openStore(path, storeOptions{}, silent)
		if err != nil {
			t.Fatal(err)
		}
		if err := be.CreateTaskHub(t.Context()); err != nil {
			t.Fatal(err)
		}
		createHubs(t, hubs, "blue", "a_b-c", "lock")
		if err := be.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHubsInSchemas(t *testing.T) {
	_, hubs, err := openStore(pgtest.New(t).URL(), storeOptions{}, silent)
	if err != nil {
		t.Fatal(err)
	}
	createHubs(t, hubs, "blue", "a_b-c", "a-b_c", "_x", "h")
	if _, err := hubs.Open(strings.Repeat("x", 50)); err == nil || !strings.Contains(err.Error(), "48") {
		t.Errorf("a name that makes too long a schema: %v", err)
	}
}
