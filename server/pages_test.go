package server

import (
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestDashboardAsksForAToken: a browser, which can send no bearer token, asks its user for one.
func TestDashboardAsksForAToken(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	file := t.TempDir() + "/tokens"
	if err := os.WriteFile(file, []byte("a-token-of-some-length\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := start(t, t.TempDir()+"/hub.db", Options{Security: Security{TokenFile: file}})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for password, want := range map[string]int{"": 401, "wrong": 401, "a-token-of-some-length": 200} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.HTTPAddr()+"/hubs/default/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth("ada", password)
		}
		r, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if asked := len(r.Header.Values("WWW-Authenticate")) == 2; r.StatusCode != want || asked != (want == 401) {
			t.Errorf("password %q: %d, want %d; asked %v", password, r.StatusCode, want, asked)
		}
	}
}
