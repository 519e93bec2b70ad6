package server

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perdure/perdure/api/protos"
)

func TestDashboardOfHubs(t *testing.T) {
	b := start(t, "", Options{})
	if _, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{Name: "nobody hosts it", InstanceId: "lonely"}); err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		t.Helper()
		res, err := http.Get("http://" + b.HTTPAddr() + path) //nolint:noctx // as short as a test can be
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close() //nolint:errcheck // it was read to its end
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		http.DefaultClient.CloseIdleConnections()
		return res.StatusCode, string(body)
	}
	for path, want := range map[string]string{
		"/":                                "lonely",
		"/hubs/default/":                   "/hubs/default/instance?id=lonely",
		"/hubs/default/instance?id=lonely": "waits for a worker",
		"/hubs/default/workers":            "No worker is connected",
		"/hubs/default/assets/style.css":   "color-scheme",
	} {
		if code, body := get(path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, want %q in\n%s", path, code, want, body)
		}
	}
	b.worker(t)
	eventually(t, "the worker is listed", func() bool {
		_, body := get("/hubs/default/workers")
		return strings.Contains(body, "any name")
	})
	if code, _ := get("/hubs/other/"); code != http.StatusNotFound {
		t.Errorf("a hub that is not there: %d", code)
	}
}

func TestTokenAsPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := newGuard(Security{TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{"0123456789abcdef": true, "0123456789abcdeF": false, "": false} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("anybody", password)
		if got := g.visitor(r) != nil; got != want {
			t.Errorf("password %q: %v", password, got)
		}
	}
}
