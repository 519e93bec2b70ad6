package sdk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/internal/pgtest"
)

// built is the directory of the server, once perdure was called.
var built string

// perdure builds the server once for all tests.
var perdure = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "perdure-sdk")
	if err != nil {
		return "", err
	}
	built = dir
	binary := filepath.Join(dir, "perdure")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "github.com/perdure/perdure/cmd/perdure")...) //nolint:noctx // it outlives the test that comes first
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the server: %w\n%s", err, out)
	}
	return binary, nil
})

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built != "" {
			_ = os.RemoveAll(built)
		}
		os.Exit(code)
	}))
}

// process is a `perdure serve` that a test may kill and start again at the same address.
type process struct {
	t          *testing.T
	db         string // file or URL
	grpc, http string
	scheme     string // of HTTP
	web        *http.Client
	flags      []string // further ones
	cmd        *exec.Cmd
	log        bytes.Buffer
	called     map[string]bool // RPCs that were answered with OK or, where they do not end, begun
}

// store makes the place for an empty task hub, and returns what `--db` says of it.
type store func(*testing.T) string

func sqlite(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "hub.db")
}

// postgres makes a server of its own: some scenarios delete the task hub.
func postgres(t *testing.T) string {
	t.Helper()
	return pgtest.New(t).URL()
}

// serve starts a server with an empty task hub, which is stopped when the test ends.
func serve(t *testing.T, in store) *process {
	t.Helper()
	p := newProcess(t, in)
	p.run()
	return p
}

func newProcess(t *testing.T, in store) *process {
	t.Helper()
	return &process{
		t: t, db: in(t), grpc: freeAddress(t), http: freeAddress(t), scheme: "http", web: http.DefaultClient, called: map[string]bool{},
	}
}

// run starts the server and stops it when the test ends.
func (p *process) run() {
	p.t.Helper()
	p.start()
	p.t.Cleanup(func() {
		p.stop()
		if p.t.Failed() {
			p.t.Logf("the server said at the end:\n%s", tail(p.log.Bytes()))
		}
	})
}

func (p *process) start() {
	p.t.Helper()
	binary, err := perdure()
	if err != nil {
		p.t.Fatal(err)
	}
	args := append([]string{"serve", "--db", p.db, "--grpc", p.grpc, "--http", p.http}, p.flags...)
	p.cmd = exec.Command(binary, args...) //nolint:noctx // a cleanup stops it
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !p.ready(ctx) {
		select {
		case <-ctx.Done():
			p.kill()
			p.t.Fatalf("the server does not become ready:\n%s", tail(p.log.Bytes()))
		case <-tick.C:
		}
	}
}

func (p *process) ready(ctx context.Context) bool {
	_, err := p.get(ctx, "/readyz")
	return err == nil
}

func (p *process) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.scheme+"://"+p.http+path, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true
	resp, err := p.web.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

var counted = regexp.MustCompile(
	`(?m)^grpc_server_(handled_total\{grpc_code="OK",|started_total\{)grpc_method="(\w+)",grpc_service="TaskHubSidecarService",grpc_type="(\w+)"\} [1-9]`)

// note remembers which RPCs this life of the server has seen.
func (p *process) note() {
	p.t.Helper()
	text, err := p.get(context.WithoutCancel(p.t.Context()), "/metrics")
	if err != nil {
		p.t.Errorf("metrics: %v", err)
	}
	for _, m := range counted.FindAllSubmatch(text, -1) {
		if begun, method, kind := m[1][0] == 's', string(m[2]), string(m[3]); !begun || kind != "unary" {
			p.called[method] = true
		}
	}
}

// kill ends the server as a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// obey does what an application asks for.
func (p *process) obey(request string) {
	p.t.Helper()
	what, id, _ := strings.Cut(request, " ")
	if what == "restart-server" {
		p.note()
		p.kill()
		p.start()
		return
	}
	conn, err := grpc.NewClient(p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := protos.NewTaskHubSidecarServiceClient(conn)
	switch what {
	case "rewind":
		_, err = client.RewindInstance(p.t.Context(), &protos.RewindInstanceRequest{InstanceId: id})
	case "terminate-tree":
		_, err = client.TerminateInstance(p.t.Context(), &protos.TerminateRequest{InstanceId: id, Recursive: true})
	default:
		err = errors.New("nobody knows how to do that")
	}
	if err != nil {
		p.t.Errorf("%s: %v", request, err)
	}
}

// stop asks the server to stop, and fails the test if it does not do so in good order.
func (p *process) stop() {
	p.t.Helper()
	if p.cmd.ProcessState != nil {
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("stop the server: %v", err)
	}
	late := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("the server stopped with %v", err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// tail is the end of a log.
func tail(log []byte) []byte {
	const limit = 6000
	return log[max(0, len(log)-limit):]
}
