package sdk_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/flock"
)

// required says that a missing toolchain fails the test instead of skipping it.
func required() bool { return os.Getenv("PERDURE_SDK_TESTS") == "require" }

// application is a program that drives one SDK: the toolchain that it needs,
// how its packages are installed, and how it is run.
type application struct {
	name string
	// probes are commands that succeed where the toolchain is there.
	probes [][]string
	// sources are globs in the application's directory; what they hold decides whether an installation is still good.
	sources []string
	// install puts what source needs into cache.
	install func(ctx context.Context, source, cache string) error
	// command is how the application is run, and with which environment.
	command func(source, cache string) (args, env []string)
}

var python = application{
	name:    "python",
	probes:  [][]string{{"python3", "-c", "import ensurepip, venv"}},
	sources: []string{"requirements.txt"},
	install: func(ctx context.Context, source, cache string) error {
		venv := filepath.Join(cache, "venv")
		if err := run(ctx, cache, "python3", "-m", "venv", "--clear", venv); err != nil {
			return err
		}
		return run(ctx, cache, filepath.Join(venv, "bin", "python"), "-m", "pip", "install", "--quiet",
			"--disable-pip-version-check", "--no-deps", "-r", filepath.Join(source, "requirements.txt"))
	},
	command: func(source, cache string) ([]string, []string) {
		return []string{filepath.Join(cache, "venv", "bin", "python"), filepath.Join(source, "app.py")},
			[]string{"PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"}
	},
}

var javascript = application{
	name:    "javascript",
	probes:  [][]string{{"node", "--version"}, {"npm", "--version"}},
	sources: []string{"package*.json"},
	install: func(ctx context.Context, source, cache string) error {
		for _, name := range []string{"package.json", "package-lock.json"} {
			data, err := os.ReadFile(filepath.Join(source, name))
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(cache, name), data, 0o644); err != nil {
				return err
			}
		}
		return run(ctx, cache, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	},
	command: func(source, cache string) ([]string, []string) {
		return []string{"node", filepath.Join(source, "app.js")},
			[]string{"NODE_PATH=" + filepath.Join(cache, "node_modules")}
	},
}

var java = application{
	name:    "java",
	probes:  [][]string{{"javac", "-version"}, {"mvn", "-v"}},
	sources: []string{"pom.xml", "src/*.java"},
	install: func(ctx context.Context, source, cache string) error {
		libraries := filepath.Join(cache, "lib")
		if err := run(ctx, cache, "mvn", "-q", "-B", "-f", filepath.Join(source, "pom.xml"),
			"dependency:copy-dependencies", "-DoutputDirectory="+libraries); err != nil {
			return err
		}
		sources, err := filepath.Glob(filepath.Join(source, "src", "*.java"))
		if err != nil {
			return err
		}
		return run(ctx, cache, append([]string{"javac", "-d", filepath.Join(cache, "classes"),
			"-cp", filepath.Join(libraries, "*")}, sources...)...)
	},
	command: func(_, cache string) ([]string, []string) {
		path := filepath.Join(cache, "classes") + string(filepath.ListSeparator) + filepath.Join(cache, "lib", "*")
		return []string{"java", "-cp", path, "App"}, nil
	},
}

// installed returns how to run an application whose packages are in the user's
// cache, where they are put the first time. Where the toolchain is missing it
// skips the test or, if the SDK tests are required, fails it.
func installed(t *testing.T, a application) (args, env []string) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short leaves out the SDK applications")
	}
	hash := sha256.New()
	for _, probe := range a.probes {
		out, err := exec.CommandContext(t.Context(), probe[0], probe[1:]...).CombinedOutput()
		if err != nil {
			missing := fmt.Sprintf("the toolchain of %s is not here: %s: %v %s", a.name, strings.Join(probe, " "), err, out)
			if required() {
				t.Fatal(missing)
			}
			t.Skip(missing)
		}
		hash.Write(out)
	}
	source, err := filepath.Abs(a.name)
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range a.sources {
		paths, err := filepath.Glob(filepath.Join(source, pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no files %s in %s: %v", pattern, source, err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(hash, "%s %d\n%s", filepath.Base(path), len(data), data)
		}
	}
	user, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache := filepath.Join(user, "perdure", "sdk", fmt.Sprintf("%s-%x", a.name, hash.Sum(nil)[:8]))
	if err := fill(t.Context(), a, source, cache); err != nil {
		t.Fatalf("install what %s needs: %v", a.name, err)
	}
	return a.command(source, cache)
}

// fill installs into cache unless that was done; of several processes one does it.
func fill(ctx context.Context, a application, source, cache string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	lock := flock.New(cache + ".lock")
	if err := lock.Lock(); err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	done := filepath.Join(cache, "installed")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := a.install(ctx, source, cache); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o644)
}

func run(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
