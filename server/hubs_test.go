package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
)

// folder keeps each hub in a file of its own.
type folder struct {
	dir    string
	broken error
}

func (f *folder) List(context.Context) ([]string, error) {
	files, err := filepath.Glob(f.dir + "/hub-*.db")
	for i, p := range files {
		files[i] = strings.TrimSuffix(strings.TrimPrefix(p, f.dir+"/hub-"), ".db")
	}
	return files, err
}

func (f *folder) Open(name string) (backend.Backend, error) {
	if f.broken != nil {
		return nil, f.broken
	}
	return sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(f.dir+"/hub-"+name+".db"), silent), nil
}

// in is a context of a client that names a task hub.
func in(ctx context.Context, hub string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, hubKey, hub)
}

func TestHubsAreIsolated(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	dir := t.TempDir()
	b := start(t, dir+"/default.db", Options{Hubs: &folder{dir: dir}})
	begin := func(hub, id string) {
		t.Helper()
		if _, err := b.client.StartInstance(in(t.Context(), hub), &protos.CreateInstanceRequest{Name: "o", InstanceId: id}); err != nil {
			t.Fatal(err)
		}
	}
	exists := func(hub, id string) bool {
		t.Helper()
		r, err := b.client.GetInstance(in(t.Context(), hub), &protos.GetInstanceRequest{InstanceId: id})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetExists()
	}
	b.startAs(t, "o", "i")
	begin("blue", "i")
	begin("blue", "only-blue")
	begin("Green", "i")
	if !exists("default", "i") || !exists("green", "i") || exists("green", "only-blue") || exists("default", "only-blue") {
		t.Error("the hubs are not those that were named")
	}
	stream, err := b.client.GetWorkItems(in(t.Context(), "green"), &protos.GetWorkItemsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	w := receive(t, stream)
	if _, err := b.client.CompleteOrchestratorTask(in(t.Context(), "green"), &protos.OrchestratorResponse{
		InstanceId: "i", CompletionToken: w.GetCompletionToken(), Actions: []*protos.OrchestratorAction{complete(`1`)},
	}); err != nil {
		t.Fatal(err)
	}
	r, err := b.client.WaitForInstanceCompletion(in(t.Context(), "green"), &protos.GetInstanceRequest{InstanceId: "i"})
	if err != nil || r.GetOrchestrationState().GetOrchestrationStatus() != api.RUNTIME_STATUS_COMPLETED {
		t.Errorf("in its hub: %v, %v", r, err)
	}
	if s := b.state(t, "i"); s.GetOrchestrationStatus() != api.RUNTIME_STATUS_PENDING {
		t.Errorf("in the default hub: %v", s)
	}
	if _, err := b.client.DeleteTaskHub(in(t.Context(), "blue"), &protos.DeleteTaskHubRequest{}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir + "/hub-blue.db"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after it was deleted: %v", err)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}

	// What is there goes on without a client that names it.
	b = start(t, dir+"/default.db", Options{Hubs: &folder{dir: dir}})
	if all := b.hubs.all(); len(all) != 2 || all[1].name != "green" {
		t.Errorf("open after the restart: %v", all)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
}

func TestHubRefusals(t *testing.T) {
	dir := t.TempDir()
	hello := func(b *bench, hub string) error {
		_, err := b.client.Hello(in(t.Context(), hub), nil)
		return err
	}
	f := &folder{dir: dir}
	b := start(t, "", Options{Hubs: f, MaxHubs: 2})
	for _, name := range []string{"../x", "a b", "", strings.Repeat("x", 51)} {
		if name != "" {
			wantCode(t, name, hello(b, name), codes.InvalidArgument)
		}
	}
	f.broken = errors.New("no such place")
	wantCode(t, "a store that cannot be opened", hello(b, "one"), codes.Unavailable)
	f.broken = nil
	for n, want := range []codes.Code{codes.OK, codes.OK, codes.ResourceExhausted} {
		wantCode(t, fmt.Sprint("hub ", n), hello(b, fmt.Sprint("hub", n)), want)
	}
	b = start(t, "", Options{Hubs: f, HubNames: []string{"listed"}})
	wantCode(t, "a listed hub", hello(b, "listed"), codes.OK)
	wantCode(t, "another one", hello(b, "other"), codes.NotFound)
	wantCode(t, "the default one", hello(b, "default"), codes.OK)
	b = start(t, "", Options{})
	wantCode(t, "a hub of a server with one", hello(b, "other"), codes.NotFound)
}

// TestHubThatFailsToStart is tried again by the next who names it.
func TestHubThatFailsToStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/hub-x.db", []byte("no database at all, but longer than a header of one would be, and so on and so on and on and on"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := start(t, "", Options{Hubs: &elsewhere{folder{dir: dir}}})
	_, err := b.client.Hello(in(t.Context(), "x"), nil)
	wantCode(t, "a broken file", err, codes.Unavailable)
	if err := os.Remove(dir + "/hub-x.db"); err != nil {
		t.Fatal(err)
	}
	_, err = b.client.Hello(in(t.Context(), "x"), nil)
	wantCode(t, "once it is mended", err, codes.OK)
}

// elsewhere lists no hubs.
type elsewhere struct{ folder }

func (*elsewhere) List(context.Context) ([]string, error) { return nil, nil }
