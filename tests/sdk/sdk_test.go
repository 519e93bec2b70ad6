// Package sdk_test runs one application per official Durable Task SDK, each
// with the packages of its registry and as a process, against a `perdure serve` process.
//
// An application prints a line for each scenario: its name, "ok" or "FAILED",
// how long it took, and details. A line that begins with "request" asks for what
// the SDK cannot do, such as to kill the server and start it again; it is answered with "done".
package sdk_test

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is how long an application may take for all of its scenarios.
const patience = 8 * time.Minute

// The scenarios of an application come one after the other, and only then its subtests end.

func TestPython(t *testing.T)     { drive(t, python, sqlite) }     //nolint:tparallel // see above
func TestJavaScript(t *testing.T) { drive(t, javascript, sqlite) } //nolint:tparallel // see above
func TestJava(t *testing.T)       { drive(t, java, sqlite) }       //nolint:tparallel // see above

// On PostgreSQL one SDK shows that the store makes no difference, and all where they are asked for.

func TestJavaScriptOnPostgres(t *testing.T) { drive(t, javascript, postgres) } //nolint:tparallel // see above

func TestPythonOnPostgres(t *testing.T) { //nolint:tparallel // see above
	everywhere(t)
	drive(t, python, postgres)
}

func TestJavaOnPostgres(t *testing.T) { //nolint:tparallel // see above
	everywhere(t)
	drive(t, java, postgres)
}

var allStores = flag.Bool("allstores", false, "run every application on PostgreSQL too")

// everywhere skips the test unless all combinations of SDKs and stores are asked for.
func everywhere(t *testing.T) {
	t.Helper()
	if !*allStores {
		t.Skip("-allstores runs every application on PostgreSQL too")
	}
}

// drive runs an application's scenarios as subtests, and has each that features_test.go names be there.
func drive(t *testing.T, a application, in store) {
	t.Helper()
	t.Parallel()
	args, env := installed(t, a)
	server := serve(t, in)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args = append(args, "scenarios", server.grpc)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = slices.Concat(os.Environ(), env, serveGuarded(t), []string{"SDK_SCRATCH=" + t.TempDir()})
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	requests, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		name, result, _ := strings.Cut(lines.Text(), " ")
		switch {
		case name == "request":
			server.obey(result)
			if _, err := requests.Write([]byte("done\n")); err != nil {
				t.Errorf("answer to a request: %v", err)
			}
		case strings.HasPrefix(result, "ok ") || strings.HasPrefix(result, "FAILED "):
			seen = append(seen, name)
			t.Run(name, func(t *testing.T) {
				if t.Log(result); !strings.HasPrefix(result, "ok ") {
					t.Fail()
				}
			})
		default:
			t.Errorf("the application says %q", lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil && !t.Failed() {
		t.Errorf("every scenario is ok, and the application ends with %v (%v)", err, ctx.Err())
	}
	missing := slices.DeleteFunc(scenariosOf(a.name), func(s string) bool { return slices.Contains(seen, s) })
	if len(missing) > 0 {
		t.Errorf("the application did not run %q", missing)
	}
	for i, name := range seen {
		if !slices.Contains(scenariosOf(a.name), name) || slices.Contains(seen[:i], name) {
			t.Errorf("the scenario %s is not listed as a feature of %s, or ran twice", name, a.name)
		}
	}
	server.note()
	checkDocs(t, a.name, server.called, seen)
	if t.Failed() {
		t.Logf("the application said at the end:\n%s", tail(stderr.Bytes()))
	}
}
