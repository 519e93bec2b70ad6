package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/perdure/perdure/backend"
)

// Options are the settings of a Server; the zero value has the defaults.
type Options struct {
	// GRPC and HTTP are the addresses to listen at
	// (default 127.0.0.1:4001 and 127.0.0.1:4002); port 0 takes a free one.
	GRPC, HTTP string
	// Drain is how long a stopping server lets workers finish what they have (default 10 s).
	Drain time.Duration
	// MaxMessage is the largest message that is accepted, in bytes (default 64 MiB).
	MaxMessage int
	// OnReady is called once the server takes work.
	OnReady func()
	// Log takes what the server has to say (default slog's default logger).
	Log backend.Logger

	// A peer that is silently gone is found after the sum of these.
	keepaliveTime, keepaliveTimeout time.Duration
}

// maxOpenItems bounds how many turns and how many activities wait for a remote worker at a time.
const maxOpenItems = 1 << 16

func (o Options) withDefaults() Options {
	o.GRPC = cmp.Or(o.GRPC, "127.0.0.1:4001")
	o.HTTP = cmp.Or(o.HTTP, "127.0.0.1:4002")
	o.Drain = cmp.Or(o.Drain, 10*time.Second)
	o.MaxMessage = cmp.Or(o.MaxMessage, 64<<20)
	o.keepaliveTime = cmp.Or(o.keepaliveTime, 20*time.Second)
	o.keepaliveTimeout = cmp.Or(o.keepaliveTimeout, 10*time.Second)
	if o.Log == nil {
		o.Log = backend.DefaultLogger()
	}
	return o
}

// Server serves one backend.
type Server struct {
	opts  Options
	be    backend.Backend
	ready atomic.Bool

	grpcAddr, httpAddr net.Listener
}

// New returns a server of the backend, listening at its addresses. Run serves
// what comes, and closes the addresses.
func New(ctx context.Context, be backend.Backend, opts Options) (*Server, error) {
	s := &Server{opts: opts.withDefaults(), be: be}
	var lc net.ListenConfig
	var err error
	if s.grpcAddr, err = lc.Listen(ctx, "tcp", s.opts.GRPC); err != nil {
		return nil, fmt.Errorf("listen for gRPC: %w", err)
	}
	if s.httpAddr, err = lc.Listen(ctx, "tcp", s.opts.HTTP); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for HTTP: %w", err), s.grpcAddr.Close())
	}
	return s, nil
}

// GRPCAddr is the address at which the server listens for gRPC.
func (s *Server) GRPCAddr() string { return s.grpcAddr.Addr().String() }

// HTTPAddr is the address at which the server listens for HTTP.
func (s *Server) HTTPAddr() string { return s.httpAddr.Addr().String() }

// Run serves until ctx ends, then stops gracefully, within a little more than
// Options.Drain. The error says what could not be started, or what ended the
// server though ctx had not ended, or what was left unfinished.
func (s *Server) Run(ctx context.Context) error {
	rpc := grpc.NewServer(
		grpc.MaxRecvMsgSize(s.opts.MaxMessage), grpc.MaxSendMsgSize(s.opts.MaxMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: s.opts.keepaliveTime, Timeout: s.opts.keepaliveTimeout}),
		// Peers may ask as often as they like: SDKs, and the proxies before them, differ.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	executor := backend.NewGrpcExecutor(rpc, s.be, s.opts.Log)
	worker := backend.NewTaskHubWorker(s.be,
		backend.NewOrchestrationWorker(s.be, executor, s.opts.Log, backend.WithMaxParallelism(maxOpenItems)),
		backend.NewActivityTaskWorker(s.be, executor, s.opts.Log, backend.WithMaxParallelism(maxOpenItems)), s.opts.Log)
	if err := worker.Start(ctx); err != nil {
		return errors.Join(fmt.Errorf("start: %w", err), s.grpcAddr.Close(), s.httpAddr.Close())
	}
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}

	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return rpc.Serve(s.grpcAddr) })
	g.Go(func() error {
		if err := web.Serve(s.httpAddr); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-running.Done()
		return s.stop(context.WithoutCancel(ctx), rpc, web, worker, executor)
	})
	s.ready.Store(true)
	if s.opts.OnReady != nil {
		s.opts.OnReady()
	}
	return g.Wait()
}

func (s *Server) stop(
	ctx context.Context, rpc *grpc.Server, web *http.Server, worker backend.TaskHubWorker, executor backend.Executor,
) error {
	s.ready.Store(false)
	s.opts.Log.Infof("stopping; work in progress has %v to finish", s.opts.Drain)
	if d, ok := executor.(backend.Drainer); ok {
		d.Drain()
	}
	drain, cancel := context.WithTimeout(ctx, s.opts.Drain)
	defer cancel()
	err := worker.Shutdown(drain)
	// What is still open now waits for something that this process will not see.
	closed, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	graceful := make(chan struct{})
	go func() {
		rpc.GracefulStop()
		close(graceful)
	}()
	select {
	case <-graceful:
	case <-closed.Done():
		rpc.Stop()
		<-graceful
	}
	if e := web.Shutdown(closed); e != nil {
		err = errors.Join(err, web.Close())
	}
	return err
}
