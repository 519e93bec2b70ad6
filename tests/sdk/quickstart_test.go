package sdk_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestQuickstart runs the programs of docs/quickstart as they stand there.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	dir, err := filepath.Abs(filepath.Join("..", "..", "docs", "quickstart"))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		hello(t, exec.CommandContext(t.Context(), "go", "run", dir, serve(t, sqlite).grpc))
	})
	for _, q := range []struct {
		application
		file string
	}{{python, "hello.py"}, {javascript, "hello.js"}, {java, "Hello.java"}} {
		t.Run(q.name, func(t *testing.T) {
			t.Parallel()
			args, env := installed(t, q.application)
			server := serve(t, sqlite) // one each: the programs have workflows of the same names
			address := server.grpc
			if q.name == "java" {
				_, address, _ = net.SplitHostPort(address)
			}
			args = append(args[:len(args)-1], filepath.Join(dir, q.file), address)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, args[0], args[1:]...)
			cmd.Env = append(os.Environ(), env...)
			hello(t, cmd)
		})
	}
}

// hello runs the program, which greets.
func hello(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || strings.TrimSpace(string(out)) != "Hello, Ada" {
		t.Errorf("%v: %q\n%s", err, out, stderr.String())
	}
}
