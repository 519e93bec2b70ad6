package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

func TestMain(m *testing.M) { testscript.Main(leakChecked{m}, map[string]func(){"perdure": main}) }

// leakChecked looks for goroutines that are left after the tests.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// TestScripts runs the command as a process, against a server that is a process too.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			grpcAddr, err := freeAddr()
			if err != nil {
				return err
			}
			httpAddr, err := freeAddr()
			e.Vars = append(e.Vars, "PERDURE_SERVER="+grpcAddr, "GRPC="+grpcAddr, "HTTP="+httpAddr, "HOME="+e.WorkDir)
			if err != nil {
				return err
			}
			old, err := filepath.Abs("../../internal/durabletaskgo/testdata")
			e.Vars = append(e.Vars, "TESTDATA="+old)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready":  func(ts *testscript.TestScript, _ bool, _ []string) { ready(ts) },
			"worker": func(ts *testscript.TestScript, _ bool, _ []string) { worker(ts) },
		},
	})
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// ready waits for the server of the script.
func ready(ts *testscript.TestScript) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ts.Getenv("HTTP")+"/readyz", nil)
		ts.Check(err)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("the server is not ready: %v", err)
		}
	}
}

// worker runs the code that the scripts use, until the end of the script.
func worker(ts *testscript.TestScript) {
	r := task.NewTaskRegistry()
	failing := true
	for name, o := range map[string]task.Orchestrator{
		"hello": func(ctx *task.OrchestrationContext) (any, error) {
			var in, out string
			if err := ctx.GetInput(&in); err != nil {
				return nil, err
			}
			err := ctx.CallActivity("greet", task.WithActivityInput(in)).Await(&out)
			return out, err
		},
		"wait": func(ctx *task.OrchestrationContext) (any, error) {
			ctx.SetCustomStatus("waiting")
			var data any
			err := ctx.WaitForSingleEvent("go", -1).Await(&data)
			return data, err
		},
		"parent": func(ctx *task.OrchestrationContext) (any, error) {
			return nil, ctx.CallSubOrchestrator("wait", task.WithSubOrchestrationInstanceID(string(ctx.ID)+"-child")).Await(nil)
		},
		"touch": func(ctx *task.OrchestrationContext) (any, error) { // behind the signals that came before
			return nil, ctx.CallEntity(api.NewEntityID("counter", "clicks"), "add", task.WithEntityInput(0)).Await(nil)
		},
		"flaky": func(ctx *task.OrchestrationContext) (any, error) {
			return "ok", ctx.CallActivity("flaky").Await(nil)
		},
	} {
		ts.Check(r.AddOrchestratorN(name, o))
	}
	for name, a := range map[string]task.Activity{
		"greet": func(ctx task.ActivityContext) (any, error) {
			var in string
			err := ctx.GetInput(&in)
			return "Hello, " + in, err
		},
		"flaky": func(task.ActivityContext) (any, error) {
			if failing {
				failing = false
				return nil, errors.New("no luck")
			}
			return nil, nil
		},
	} {
		ts.Check(r.AddActivityN(name, a))
	}
	ts.Check(r.AddEntityN("counter", func(ctx *task.EntityContext) (any, error) {
		var n, by int
		if err := errors.Join(ctx.GetState(&n), ctx.GetInput(&by)); err != nil {
			return nil, err
		}
		return n + by, ctx.SetState(n + by)
	}))
	cc, err := grpc.NewClient(ts.Getenv("GRPC"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log := backend.NewLogger(slog.New(slog.DiscardHandler))
	go func() {
		done <- client.NewTaskHubGrpcClient(cc, log).RunWorkItemListener(ctx, r, client.WithDrainTimeout(time.Second))
	}()
	ts.Defer(func() {
		cancel()
		if err := errors.Join(<-done, cc.Close()); err != nil {
			ts.Logf("worker: %v", err)
		}
	})
}

func TestArgumentFromFileAndStdin(t *testing.T) {
	name := t.TempDir() + "/x.json"
	if err := os.WriteFile(name, []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := argument(nil, "@"+name); err != nil || got != "{}" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := argument(nil, "@"+name+"x"); exitCode(err) != exitUsage {
		t.Errorf("a file that is not there: %v", err)
	}
}
