package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

var quiet = backend.NewLogger(slog.New(slog.DiscardHandler))

// distance is how the workloads go over gRPC: who serves, and who works.
type distance struct {
	server string // "" for a server in this process, else a program: perdure, durabletask-go
	worker string // go: in this process; js: a process with the JavaScript SDK
}

func (d distance) check() error {
	if d.server != "" && servers[d.server] == nil {
		return fmt.Errorf("-server %s: want perdure or durabletask-go", d.server)
	}
	if !slices.Contains([]string{"go", "js"}, d.worker) {
		return fmt.Errorf("-worker %s: want go or js", d.worker)
	}
	return nil
}

// far has the workloads go over gRPC: client and worker have a connection each.
func (e *bed) far(ctx context.Context, c config, be backend.Backend, r *task.TaskRegistry) error {
	var end ending
	defer func() {
		if e.stop == nil {
			_ = end.stop(ctx)
		}
	}()
	addr, err := c.serve(ctx, be, &end)
	if err != nil {
		return err
	}
	calls, err := dial(addr)
	if err != nil {
		return err
	}
	end.add(func(context.Context) error { return calls.Close() })
	e.client = client.NewClient(calls, quiet)
	if err := answers(ctx, client.NewTaskHubGrpcClient(calls, quiet)); err != nil {
		return err
	}
	if err := e.work(ctx, c, addr, r, &end); err != nil {
		return err
	}
	e.stop = end.stop
	return nil
}

// answers waits until the server does.
func answers(ctx context.Context, c *client.TaskHubGrpcClient) error {
	for {
		if err := c.Hello(ctx); err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func dial(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
}

// work begins with a worker, in this process or another.
func (e *bed) work(ctx context.Context, c config, addr string, r *task.TaskRegistry, end *ending) error {
	if c.worker == "js" {
		return e.workInJavaScript(ctx, addr, end)
	}
	conn, err := dial(addr)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		ended <- client.NewTaskHubGrpcClient(conn, quiet).RunWorkItemListener(running, r,
			client.WithMaxConcurrentOrchestrations(parallelism), client.WithMaxConcurrentActivities(parallelism))
	}()
	end.add(func(context.Context) error {
		stop()
		return errors.Join(<-ended, conn.Close())
	})
	return nil
}

// The application of the JavaScript SDK, from the root of the checkout.
const javascript = "tests/sdk/javascript"

// workInJavaScript starts the worker's process, which prints the ids of the instances that reach their end.
func (e *bed) workInJavaScript(ctx context.Context, addr string, end *ending) error {
	modules, err := installed(ctx)
	if err != nil {
		return err
	}
	cmd := exec.Command("node", filepath.Join(javascript, "bench.js"), addr) //nolint:noctx // end stops it
	cmd.Env, cmd.Stderr = append(os.Environ(), "NODE_PATH="+modules), os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	lines := bufio.NewScanner(out)
	working := lines.Scan() && lines.Text() == "working"
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines.Scan() {
			e.finished(api.InstanceID(lines.Text()))
		}
	}()
	end.add(func(context.Context) error {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
		return nil
	})
	if !working {
		return errors.New("worker: it says that it does not work")
	}
	return nil
}

// installed are the packages that the worker needs, put into the user's cache the first time.
func installed(ctx context.Context) (modules string, err error) {
	lock, err := os.ReadFile(filepath.Join(javascript, "package-lock.json"))
	if err != nil {
		return "", fmt.Errorf("run it in the root of the checkout: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "perdure", "bench-javascript")
	modules = filepath.Join(dir, "node_modules")
	if have, err := os.ReadFile(filepath.Join(dir, "installed")); err == nil && string(have) == string(lock) {
		return modules, nil
	}
	manifest, err := os.ReadFile(filepath.Join(javascript, "package.json"))
	if err := cmp.Or(err, os.MkdirAll(dir, 0o755)); err != nil {
		return "", err
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "package.json"), manifest, 0o644),
		os.WriteFile(filepath.Join(dir, "package-lock.json"), lock, 0o644)); err != nil {
		return "", err
	}
	if err := command(ctx, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"); err != nil {
		return "", err
	}
	return modules, os.WriteFile(filepath.Join(dir, "installed"), lock, 0o644)
}

func command(ctx context.Context, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return nil
}
