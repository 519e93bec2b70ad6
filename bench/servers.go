package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/server"
)

// ending is what is to be stopped at the end, the last one first.
type ending struct{ steps []func(context.Context) error }

func (n *ending) add(f func(context.Context) error) { n.steps = append(n.steps, f) }

func (n *ending) stop(ctx context.Context) (err error) {
	for _, f := range slices.Backward(n.steps) {
		err = errors.Join(err, f(ctx))
	}
	n.steps = nil
	return err
}

// servers are the programs that can serve, by name: the folder of the module, the package in
// it, and the arguments.
var servers = map[string]func(c config, addr string) (module, pkg string, args []string){
	"perdure": func(c config, addr string) (string, string, []string) {
		args := []string{"serve", "--grpc", addr, "--http", "127.0.0.1:0", "--db", c.store()}
		if c.relaxed {
			args = append(args, "--relaxed-durability")
		}
		return ".", "./cmd/perdure", args
	},
	"durabletask-go": func(c config, addr string) (string, string, []string) {
		db := c.store()
		if c.relaxed {
			db = "file:" + db + "?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"
		}
		return "bench/sidecar", ".", []string{"-grpc", addr, "-db", db}
	},
}

// store is the database in the words of a server program.
func (c config) store() string {
	if c.db != "" {
		return c.db
	}
	return filepath.Join(c.dir, "bench.db")
}

// serve starts the server, and returns its address.
func (c config) serve(ctx context.Context, be backend.Backend, end *ending) (addr string, err error) {
	if c.server != "" {
		return c.serveApart(ctx, end)
	}
	ready := make(chan struct{})
	s, err := server.New(ctx, be, server.Options{
		GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", Log: quiet, OnReady: func() { close(ready) },
	})
	if err != nil {
		return "", err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	end.add(func(context.Context) error {
		stop()
		return <-ended
	})
	select {
	case <-ready:
		return s.GRPCAddr(), nil
	case err := <-ended:
		ended <- err
		return "", err
	}
}

// serveApart builds a server program and starts it as a process.
func (c config) serveApart(ctx context.Context, end *ending) (addr string, err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr = l.Addr().String()
	if err := l.Close(); err != nil {
		return "", err
	}
	module, pkg, args := servers[c.server](c, addr)
	program := filepath.Join(c.dir, "server")
	if err := command(ctx, module, "go", "build", "-o", program, pkg); err != nil {
		return "", err
	}
	log, err := os.Create(filepath.Join(c.dir, "server.log"))
	if err != nil {
		return "", err
	}
	cmd := exec.Command(program, args...) //nolint:noctx // end stops it
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("server: %w", err)
	}
	end.add(func(context.Context) error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(grace, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait() // the one of durabletask-go knows no other end
		return log.Close()
	})
	return addr, nil
}
