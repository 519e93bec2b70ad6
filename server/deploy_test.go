package server

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/api/protos"
)

var (
	metricName = regexp.MustCompile(`\b(?:perdure|grpc_server|process|go)_[a-z0-9_]+`)
	selector   = regexp.MustCompile(`((?:perdure|grpc_server|process|go)_[a-z0-9_]+)\{([^}]*)\}`)
	labelName  = regexp.MustCompile(`(\w+)\s*(?:=|!=|=~|!~)\s*"`)
)

// TestDeployFilesNameRealMetrics: a renamed metric must not leave an alert that never fires.
func TestDeployFilesNameRealMetrics(t *testing.T) {
	b := start(t, "", Options{})
	w := fullWorker()
	w.scripts["flow"] = steps(`1`, call("a"), sleep(time.Millisecond))
	b.work(t, w, nil)
	b.startAs(t, "flow", "i")
	b.finish(t, "i")
	text := b.metrics(t)
	told := map[string]map[string]bool{} // labels by name
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, "{")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if !strings.Contains(line, "{") {
			name, _, _ = strings.Cut(line, " ")
		}
		if told[name] == nil {
			told[name] = map[string]bool{}
		}
		for _, l := range labelName.FindAllStringSubmatch(rest, -1) {
			told[name][l[1]] = true
		}
	}
	seen := map[string]bool{}
	for _, path := range []string{"grafana/perdure.json", "prometheus/perdure.rules.yml"} {
		data, err := os.ReadFile(filepath.Join("..", "deploy", path))
		if err != nil {
			t.Fatal(err)
		}
		file := string(data)
		if strings.HasSuffix(path, ".json") {
			var d any
			if err := json.Unmarshal(data, &d); err != nil {
				t.Fatal(err)
			}
			file = strings.ReplaceAll(file, `\"`, `"`)
		}
		for _, name := range metricName.FindAllString(file, -1) {
			if seen[name] = true; told[name] == nil {
				t.Errorf("%s: there is no metric %s", path, name)
			}
		}
		for _, s := range selector.FindAllStringSubmatch(file, -1) {
			for _, l := range labelName.FindAllStringSubmatch(s[2], -1) {
				if !told[s[1]][l[1]] {
					t.Errorf("%s: %s has no label %s", path, s[1], l[1])
				}
			}
		}
	}
	if len(seen) < 15 {
		t.Errorf("the files name %v only", slices.Sorted(maps.Keys(seen)))
	}
}

func TestBacklog(t *testing.T) {
	b := start(t, "", Options{})
	var got struct {
		Value int
		Kinds map[string]struct{ Queued, Running int }
	}
	look := func(query string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+b.HTTPAddr()+"/hubs/default/backlog.json"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		got.Kinds = nil
		if r.StatusCode == http.StatusOK {
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
		}
		return r.StatusCode
	}
	if code := look(""); code != http.StatusOK || got.Value != 0 || len(got.Kinds) != 3 {
		t.Errorf("%d, %+v", code, got)
	}
	for _, id := range []string{"a", "b"} {
		if _, err := b.client.StartInstance(t.Context(), &protos.CreateInstanceRequest{Name: "o", InstanceId: id}); err != nil {
			t.Fatal(err)
		}
	}
	if code := look("?kind=orchestration"); code != http.StatusOK || got.Value != 2 {
		t.Errorf("%d, %+v", code, got)
	}
	if look("?kind=activity"); got.Value != 0 {
		t.Errorf("%+v", got)
	}
	if code := look("?kind=odd"); code != http.StatusBadRequest {
		t.Errorf("an unknown kind: %d", code)
	}
	if code := b.http(t, "/hubs/nobody/backlog.json"); code != http.StatusNotFound {
		t.Errorf("an unknown hub: %d", code)
	}
}
