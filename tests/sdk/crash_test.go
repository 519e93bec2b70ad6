package sdk_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

const (
	kills  = 3  // how often the server dies
	starts = 60 // how many starts each hub acknowledges
)

// TestServerKilledUnderLoad kills the server while workers of all SDKs work,
// each in a task hub of its own: every instance whose start was acknowledged completes.
func TestServerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	killUnderLoad(t, sqlite)
}

func TestServerKilledUnderLoadOnPostgres(t *testing.T) {
	t.Parallel()
	everywhere(t)
	killUnderLoad(t, postgres)
}

func killUnderLoad(t *testing.T, in store) {
	t.Helper()
	type hub struct {
		application
		chain string // an orchestrator that adds up n numbers by n activities
	}
	hubs := []hub{{python, "long_chain"}, {javascript, "longChain"}, {java, "longChain"}}
	commands := make([]*exec.Cmd, len(hubs))
	for i, h := range hubs {
		args, env := installed(t, h.application)
		commands[i] = exec.Command(args[0], args[1:]...) //nolint:noctx // a cleanup ends it
		commands[i].Env = append(os.Environ(), env...)
	}
	server := serve(t, in)
	conn, err := grpc.NewClient(server.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	client := protos.NewTaskHubSidecarServiceClient(conn)
	var contexts []context.Context
	for i, h := range hubs {
		contexts = append(contexts, metadata.AppendToOutgoingContext(t.Context(), "taskhub", h.name))
		commands[i].Args = append(commands[i].Args, "worker", server.grpc, h.name)
		startWorker(t, commands[i])
	}

	acknowledged := make([][]string, len(hubs))
	each := make(chan struct{}, len(hubs)*starts)
	var load sync.WaitGroup
	for i, h := range hubs {
		load.Go(func() {
			for n := range starts {
				id := fmt.Sprintf("%s-%d", h.name, n)
				if err := startSurely(contexts[i], client, h.chain, id); err != nil {
					t.Errorf("start of %s: %v", id, err)
					return
				}
				acknowledged[i] = append(acknowledged[i], id)
				each <- struct{}{}
			}
		})
	}
	go func() {
		load.Wait()
		close(each)
	}()
	for n := 1; ; n++ {
		if _, more := <-each; !more {
			break
		}
		if n%(cap(each)/(kills+1)) == 0 && n < cap(each) {
			server.kill() // in the middle of starts, turns and activities
			server.start()
		}
	}
	for i := range hubs {
		if len(acknowledged[i]) != starts {
			t.Errorf("%s: %d starts were acknowledged", hubs[i].name, len(acknowledged[i]))
		}
		for _, id := range acknowledged[i] {
			ctx, cancel := context.WithTimeout(contexts[i], 90*time.Second)
			r, err := client.WaitForInstanceCompletion(ctx, &protos.GetInstanceRequest{InstanceId: id, GetInputsAndOutputs: true}, grpc.WaitForReady(true))
			cancel()
			if s := r.GetOrchestrationState(); err != nil || s.GetOutput().GetValue() != "55" {
				t.Fatalf("%s: %v, %v", id, s, err)
			}
		}
	}
}

// startSurely starts an orchestration and tries again while the server is away.
func startSurely(ctx context.Context, client protos.TaskHubSidecarServiceClient, name, id string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		_, err := client.StartInstance(ctx, &protos.CreateInstanceRequest{
			InstanceId: id, Name: name, Input: wrapperspb.String("10"),
		}, grpc.WaitForReady(true))
		switch status.Code(err) {
		case codes.OK, codes.AlreadyExists: // the latter, if only the answer was lost
			return nil
		case codes.Unavailable:
		default:
			return err
		}
	}
}

// startWorker runs an application as a worker until the test ends, and fails the test if it ends earlier.
func startWorker(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	ended := make(chan struct{})
	go func() {
		for lines.Scan() {
		}
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		select {
		case <-ended:
			t.Errorf("%v ended by itself", cmd.Args)
		default:
		}
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%v said at the end:\n%s", cmd.Args, tail(log.Bytes()))
		}
	})
	if lines.Text() != "working" {
		t.Fatalf("the worker says %q: %v", lines.Text(), cmd.Args)
	}
}
