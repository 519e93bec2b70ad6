package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestExitCodes(t *testing.T) {
	for _, tt := range []struct {
		name, args, says string
		want             int
	}{
		{"help", "--help", "", 0},
		{"version", "--version", "", 0},
		{"unknown command", "nothing", "unknown command", exitUsage},
		{"unknown flag", "serve --nothing", "unknown flag", exitUsage},
		{"argument", "serve here", "unknown command", exitUsage},
		{"no database", "serve --db=", "--db is empty", exitUsage},
		{"postgres url", "serve --db postgres://h/d?lease=never", "lease", exitUsage},
		{"other url", "serve --db mysql://h/d", "mysql", exitUsage},
		{"not loopback", "serve --db x.db --grpc 0.0.0.0:0 --http 127.0.0.1:0", "other machines can reach 0.0.0.0:0", exitFailed},
		{"key alone", "serve --db x.db --tls-key x", "both", exitFailed},
		{"no such file", "serve --db x.db --token-file missing", "missing", exitFailed},
		{"log format", "serve --log-format xml", "xml", exitUsage},
		{"message size", "serve --worker-message 1", "64 KiB", exitUsage},
		{"message unit", "serve --worker-message 1parsec", "worker-message", exitUsage},
		{"no config", "serve --config missing.yaml", "missing.yaml", exitUsage},
		{"address", "serve --db x.db --grpc 256.0.0.1:1", "listen", exitFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			var errs bytes.Buffer
			if code := run(t.Context(), strings.Fields(tt.args), io.Discard, &errs); code != tt.want {
				t.Errorf("exit code %d, want %d", code, tt.want)
			}
			if !strings.Contains(errs.String(), tt.says) {
				t.Errorf("it says %q, want %q", errs.String(), tt.says)
			}
		})
	}
}

// TestServeUntilSignal runs the command in this process and ends it as an operator would.
func TestServeUntilSignal(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	_, stop := serveUntilSignal(t)
	stop()
}
