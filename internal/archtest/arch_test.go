// Package archtest holds the rules of the house that the compiler does not check.
package archtest

import (
	"flag"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/perdure/perdure/"

var update = flag.Bool("update", false, "rewrite the golden files")

// forbidden lists who may not import whom, even through others, and why.
var forbidden = []struct{ from, to, why string }{
	{"backend", "backend/internal/engine", "the contract knows no implementation"},
	{"backend", "backend/internal/store", "the contract knows no store"},
	{"backend", "backend/postgres", "the contract knows no store"},
	{"backend", "backend/sqlite", "the contract knows no store"},
	{"backend", "client", "the contract knows no remote client"},
	{"backend", "task", "the contract knows no authoring API"},
	{"backend/backendtest", "backend/postgres", "the suite knows no store of its own"},
	{"backend/backendtest", "backend/sqlite", "the suite knows no store of its own"},
	{"backend/backendtest", "client", "the suite knows no wire"},
	{"backend/internal/engine", "backend/postgres", "the engine knows no SQL"},
	{"backend/internal/engine", "backend/sqlite", "the engine knows no SQL"},
	{"backend/internal/engine", "client", "the engine knows no wire"},
	{"backend/internal/engine", "task", "the engine knows no user code"},
	{"backend/postgres", "backend/sqlite", "each store stands alone"},
	{"backend/postgres", "client", "a store knows no wire"},
	{"backend/postgres", "task", "a store knows no user code"},
	{"backend/sqlite", "backend/postgres", "each store stands alone"},
	{"client", "backend/internal/engine", "a remote client knows the wire only"},
	{"client", "backend/internal/store", "a remote client knows the wire only"},
	{"client", "backend/sqlite", "a remote client knows the wire only"},
	{"backend/sqlite", "client", "a store knows no wire"},
	{"backend/sqlite", "task", "a store knows no user code"},
	{"dashboard", "backend/internal/engine", "it reads through the client"},
	{"dashboard", "backend/postgres", "it reads through the client"},
	{"dashboard", "backend/sqlite", "it reads through the client"},
	{"dashboard", "server", "it can be mounted anywhere"},
	{"server", "backend/internal/engine", "it is given a backend"},
	{"server", "backend/postgres", "only the command knows stores"},
	{"server", "backend/sqlite", "only the command knows stores"},
	{"server", "client", "it serves, it does not call"},
	{"task", "backend/internal/engine", "authors' code runs on any backend"},
	{"task", "backend/internal/store", "authors' code runs on any backend"},
	{"task", "backend/postgres", "authors' code runs on any store"},
	{"task", "backend/sqlite", "authors' code runs on any store"},
}

// planned are packages that a rule names before they are there.
var planned []string

// only lists all that a package may import of ours, even through others, and why no more.
var only = []struct {
	from string
	may  []string
	why  string
}{
	{"api", []string{"api/protos"}, "nouns know no machinery"},
	{"api/protos", nil, "generated code stands alone"},
	{"backend/internal/faultstore", []string{"api", "api/protos", "backend/internal/store"}, "a store knows no rules"},
	{"backend/internal/memstore", []string{"api", "api/protos", "backend/internal/store"}, "a store knows no rules"},
	{"backend/internal/sidecar", []string{"api", "api/protos"}, "the sidecar knows protocol types only"},
	{"backend/internal/store", []string{"api", "api/protos"}, "the seam knows neither side"},
}

// imports lists what a package of ours imports of ours, even through others.
func imports(t *testing.T, from string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", module+from).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", from, err)
	}
	var ours []string
	for _, p := range strings.Fields(string(out)) {
		if name, ok := strings.CutPrefix(p, module); ok && name != from {
			ours = append(ours, name)
		}
	}
	return ours
}

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	deps := map[string][]string{}
	of := func(from string) []string {
		if _, ok := deps[from]; !ok {
			deps[from] = imports(t, from)
		}
		return deps[from]
	}
	for _, f := range forbidden {
		if slices.Contains(of(f.from), f.to) {
			t.Errorf("%s imports %s: %s", f.from, f.to, f.why)
		}
		if _, err := os.Stat(filepath.Join("..", "..", f.to)); err != nil && !slices.Contains(planned, f.to) {
			t.Errorf("the forbidden package %s is not there any more: %v", f.to, err)
		}
	}
	for _, o := range only {
		for _, to := range of(o.from) {
			if !slices.Contains(o.may, to) {
				t.Errorf("%s imports %s and may import %v: %s", o.from, to, o.may, o.why)
			}
		}
	}
}

// files calls f for each hand-written Go file.
func files(t *testing.T, f func(path string, data []byte)) {
	t.Helper()
	root := filepath.Join("..", "..")
	if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "testdata" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".pb.go") {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil {
			f(path, data)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestFilesStaySmall(t *testing.T) {
	t.Parallel()
	const limit = 500
	files(t, func(path string, data []byte) {
		if n := strings.Count(string(data), "\n"); n > limit && !strings.HasSuffix(path, "_test.go") {
			t.Errorf("%s has %d lines, the limit is %d", path, n, limit)
		}
	})
}

// TestNothingSleeps: what waits for a length of time waits too long or not long
// enough. Tests wait for what they want to see, in virtual time where they can.
func TestNothingSleeps(t *testing.T) {
	t.Parallel()
	files(t, func(path string, data []byte) {
		inspect(t, path, data, func(n ast.Node) {
			if c, ok := n.(*ast.SelectorExpr); ok && c.Sel.Name == "Sleep" {
				if x, ok := c.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s calls time.Sleep", path)
				}
			}
		})
	})
}

// TestLeaksAreLookedFor: the tests of each package that starts goroutines end
// with a look at those that are left.
func TestLeaksAreLookedFor(t *testing.T) {
	t.Parallel()
	starts, tested, checked := map[string]bool{}, map[string]bool{}, map[string]bool{}
	files(t, func(path string, data []byte) {
		dir := filepath.Dir(path)
		tested[dir] = tested[dir] || strings.HasSuffix(path, "_test.go")
		inspect(t, path, data, func(n ast.Node) {
			switch n := n.(type) {
			case *ast.GoStmt:
				starts[dir] = true
			case *ast.SelectorExpr:
				starts[dir] = starts[dir] || n.Sel.Name == "Go"
			case *ast.FuncDecl:
				checked[dir] = checked[dir] || n.Name.Name == "TestMain" && strings.Contains(string(data), "goleak.")
			}
		})
	})
	for dir, does := range starts {
		if does && tested[dir] && !checked[dir] {
			t.Errorf("%s starts goroutines and has no TestMain that looks for leaks", dir)
		}
	}
}

func inspect(t *testing.T, path string, data []byte, f func(ast.Node)) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), path, data, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return
	}
	ast.Inspect(parsed, func(n ast.Node) bool { f(n); return true })
}

func TestOnePackageComment(t *testing.T) {
	t.Parallel()
	comments, packages := map[string]int{}, map[string]bool{}
	files(t, func(path string, data []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, data, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Error(err)
			return
		}
		packages[filepath.Dir(path)] = true
		if f.Doc != nil {
			comments[filepath.Dir(path)]++
		}
	})
	for p := range packages {
		if n := comments[p]; n != 1 {
			t.Errorf("%s has %d package comments, want 1", p, n)
		}
	}
}

// TestFrozenAPI compares the exported names of package backend with a golden
// file: what stands there may get company, and never changes.
func TestFrozenAPI(t *testing.T) {
	t.Parallel()
	fset := token.NewFileSet()
	var parsed []*ast.File
	files(t, func(path string, data []byte) {
		if filepath.Dir(path) != filepath.Join("..", "..", "backend") || strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(fset, path, data, 0)
		if err != nil {
			t.Error(err)
			return
		}
		parsed = append(parsed, f)
	})
	pkg, err := doc.NewFromFiles(fset, parsed, module+"backend")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	add := func(n ast.Node) {
		var b strings.Builder
		if err := printer.Fprint(&b, fset, n); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, b.String())
	}
	funcs, values := pkg.Funcs, append(pkg.Vars, pkg.Consts...)
	for _, typ := range pkg.Types {
		add(typ.Decl)
		funcs = append(append(funcs, typ.Funcs...), typ.Methods...)
		values = append(append(values, typ.Vars...), typ.Consts...)
	}
	for _, f := range funcs {
		f.Decl.Body = nil
		add(f.Decl)
	}
	for _, v := range values {
		add(v.Decl)
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	golden := filepath.Join("testdata", "backend_api.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the exported API of package backend changed; if only names were added, run this test with -update\n%s", got)
	}
}
