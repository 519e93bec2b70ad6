package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

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
		{"virtual time of a file", "dev --virtual-time --db x.db", "virtual-time", exitUsage},
		{"demo with tokens", "dev --demo --token-file x", "demo", exitUsage},
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
	_, stop := untilSignal(t, "open to", "serve", "--db", t.TempDir()+"/hub.db")
	stop()
}

// TestDev runs the sample worker. In virtual time its trip that nobody approves is over at once.
func TestDev(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
	_, stop := untilSignal(t, `COMPLETED: "charged for Lisbon"`, "dev", "--demo")
	stop()
	began := time.Now()
	_, stop = untilSignal(t, `COMPLETED: "not approved"`, "dev", "--demo", "--virtual-time")
	stop()
	if d := time.Since(began); d > time.Minute {
		t.Errorf("a day took %v", d)
	}
	file := t.TempDir() + "/hub.db"
	for range 2 { // its own trips are there when it begins again
		_, stop = untilSignal(t, "COMPLETED", "dev", "--demo", "--db", file)
		stop()
	}
}

// untilSignal runs a command of a server in this process, on free ports, until it
// says something; stop ends it as an operator would.
func untilSignal(t *testing.T, says string, args ...string) (addr string, stop func()) {
	t.Helper()
	r, w := io.Pipe()
	code := make(chan int, 1)
	go func() {
		defer w.Close()
		code <- run(context.Background(), append(args, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"), w, io.Discard)
	}()
	var out strings.Builder
	buf := make([]byte, 1024)
	for !strings.Contains(out.String(), says) {
		n, err := r.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			t.Fatalf("it ended after %q with %d", out.String(), <-code)
		}
	}
	for line := range strings.Lines(out.String()) {
		if rest, ok := strings.CutPrefix(line, "gRPC for clients and workers"); ok {
			addr = strings.TrimSpace(rest)
		}
	}
	return addr, func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(r)
		if got := <-code; got != 0 || err != nil || !strings.HasSuffix(out.String()+string(rest), "stopped\n") {
			t.Errorf("exit code %d after %q, %v", got, rest, err)
		}
	}
}
