package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestConfiguration(t *testing.T) {
	file := filepath.Join(t.TempDir(), "perdure.yaml")
	parse := func(t *testing.T, yaml string, args ...string) (*serveFlags, error) {
		t.Helper()
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		var f serveFlags
		cmd := &cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error { return nil }, SilenceErrors: true, SilenceUsage: true}
		f.add(cmd, "./perdure.db")
		configurable(cmd)
		cmd.SetArgs(args)
		return &f, cmd.Execute()
	}
	t.Setenv("PERDURE_HTTP", "127.0.0.1:2")
	t.Setenv("PERDURE_GRPC", "127.0.0.1:2")
	t.Setenv("PERDURE_CONFIG", file)
	t.Setenv("PERDURE_SERVER", "of the other commands")
	f, err := parse(t, "http: 127.0.0.1:3\ndrain: 7s\nhubs: [a, b]\ninsecure: true\nmax-hubs: 3\n", "--grpc", "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	o := f.opts
	if o.GRPC != "127.0.0.1:1" || o.HTTP != "127.0.0.1:2" || o.Drain != 7*time.Second || !o.Security.Insecure || o.MaxHubs != 3 ||
		!slices.Equal(o.HubNames, []string{"a", "b"}) || f.db != "./perdure.db" {
		t.Errorf("got %+v", f)
	}
	for _, tt := range []struct{ name, yaml, says string }{
		{"unknown", "htpp: x\n", `"htpp"`},
		{"nested", "http:\n  addr: x\n", "http\naddr"},
		{"bad value", "drain: soon\n", "drain"},
		{"no yaml", ":\n:", "config"},
	} {
		if _, err := parse(t, tt.yaml); err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(tt.says, "\n", `\n`)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
	}
}

// TestEachFlagHasAnEnvironmentVariable checks what the help says.
func TestEachFlagHasAnEnvironmentVariable(t *testing.T) {
	newServe().Flags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(f.Usage, envName(f.Name)) {
			t.Errorf("%s: %q does not name %s", f.Name, f.Usage, envName(f.Name))
		}
	})
}
