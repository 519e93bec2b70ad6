package sdk_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/api/protos"
)

// columns are where the tables of docs/sdks.md speak of an SDK.
var columns = map[string]struct{ feature, rpc int }{"javascript": {2, 1}, "python": {3, 2}, "java": {4, 3}, "dotnet": {-1, 4}}

// table reads the rows of the table under a heading, without its head.
func table(t *testing.T, heading string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "sdks.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n## "+heading+"\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	rows := map[string][]string{}
	head := true
	for line := range strings.SplitSeq(section, "\n") {
		switch cells := strings.Split(strings.Trim(line, "|"), "|"); {
		case !strings.HasPrefix(line, "|"):
		case strings.HasPrefix(line, "| ---"):
			head = false
		case !head:
			for i, c := range cells {
				cells[i] = strings.Trim(c, " `")
			}
			rows[cells[0]] = cells
		}
	}
	if len(rows) == 0 {
		t.Fatalf("docs/sdks.md has no table under %q", heading)
	}
	return rows
}

// checkDocs compares what docs/sdks.md says of an SDK with what its application did.
func checkDocs(t *testing.T, sdk string, called map[string]bool, scenarios []string) {
	t.Helper()
	rows := table(t, "RPCs")
	for method, cells := range rows {
		cell := cells[columns[sdk].rpc]
		switch {
		case called[method] != (cell != "–"):
			t.Errorf("docs/sdks.md says %q of %s by %s; called: %t", cell, method, sdk, called[method])
		case called[method] && !slices.Contains(scenarios, cell):
			t.Errorf("docs/sdks.md says of %s by %s that %q shows it, which is no scenario", method, sdk, cell)
		}
	}
	for method := range called {
		if rows[method] == nil {
			t.Errorf("docs/sdks.md does not know the RPC %s", method)
		}
	}
}

// TestDocs has the tables of docs/sdks.md name every RPC and every feature.
func TestDocs(t *testing.T) {
	t.Parallel()
	rpcs := table(t, "RPCs")
	methods := protos.File_orchestrator_service_proto.Services().ByName("TaskHubSidecarService").Methods()
	for i := range methods.Len() {
		name := string(methods.Get(i).Name())
		if cells := rpcs[name]; cells == nil || !slices.ContainsFunc(cells[1:], func(c string) bool { return c != "–" }) {
			t.Errorf("nothing shows the RPC %s: %q", name, cells)
		}
	}
	if len(rpcs) != methods.Len() {
		t.Errorf("there are %d rows for %d RPCs", len(rpcs), methods.Len())
	}
	shown := table(t, "Features")
	if len(shown) != len(features) {
		t.Errorf("there are %d rows for %d scenarios", len(shown), len(features))
	}
	for _, f := range features {
		for _, a := range []application{javascript, python, java} {
			want := "yes"
			if slices.Contains(f.lacking, a.name) {
				want = "no"
			}
			if cells := shown[f.scenario]; cells == nil || cells[columns[a.name].feature] != want {
				t.Errorf("%s of %s: %q, want %q", f.scenario, a.name, cells, want)
			}
		}
	}
	for _, pin := range []struct{ file, text, version string }{
		{"python/requirements.txt", "durabletask==", "1.12.0"},
		{"javascript/package.json", `"@microsoft/durabletask-js": "`, "0.4.0"},
		{"java/pom.xml", "<artifactId>durabletask-client</artifactId>\n      <version>", "1.5.0"},
	} {
		data, err := os.ReadFile(pin.file)
		if err != nil || !strings.Contains(string(data), pin.text+pin.version) {
			t.Errorf("%s does not pin the version %s that docs/sdks.md names: %v", pin.file, pin.version, err)
		}
		for _, doc := range []string{"sdks.md", "quickstart/README.md"} {
			text, err := os.ReadFile(filepath.Join("..", "..", "docs", doc))
			if err != nil || !strings.Contains(string(text), pin.version) {
				t.Errorf("docs/%s does not name the version %s: %v", doc, pin.version, err)
			}
		}
	}
}
