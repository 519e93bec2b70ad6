package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// Options are the settings of a Server; the zero value has the defaults.
type Options struct {
	// GRPC and HTTP are the addresses to listen at
	// (default 127.0.0.1:4001 and 127.0.0.1:4002); port 0 takes a free one.
	GRPC, HTTP string
	// Security says who may connect.
	Security Security
	// Drain is how long a stopping server lets workers finish what they have (default 10 s).
	Drain time.Duration
	// MaxMessage is the largest message that is accepted, in bytes (default 64 MiB).
	MaxMessage int
	// MaxWorkItem is the largest message, in bytes, that all workers accept (default
	// 4 MiB, that of gRPC). Longer histories are for workers that accept more or stream them.
	MaxWorkItem int
	// ActivityTimeout is after how long an activity without an answer is given
	// to a worker again, though the one that has it is connected (default: never).
	ActivityTimeout time.Duration
	// Hubs opens the task hubs that clients name; nil leaves the default one only.
	// HubNames, where there are any, lists the names that may be opened, and
	// MaxHubs is how many may be open at a time (default 100).
	Hubs     Hubs
	HubNames []string
	MaxHubs  int
	// SkipWaits is the clock of the task hubs, to be set ahead to what is due
	// next whenever there is nothing else to do; nil leaves time to itself.
	SkipWaits *backend.VirtualClock
	// Tracer is where spans go; nil for nowhere.
	Tracer trace.TracerProvider
	// Retention says how long finished instances are kept, in all hubs (default: for
	// ever). Of several rules that match an instance, the first counts.
	Retention []backend.RetentionRule
	// OnReady is called once the server takes work.
	OnReady func()
	// Log takes what the server has to say (default slog's default logger).
	Log backend.Logger

	// A peer that is silently gone is found after the sum of these.
	keepaliveTime, keepaliveTimeout time.Duration
	retentionEvery                  time.Duration
}

// largestWorkItem is what workers are sent that accept any size.
const largestWorkItem = 64 << 20

// maxOpenItems bounds how many turns and how many activities wait for a remote worker at a time.
const maxOpenItems = 1 << 16

func (o Options) withDefaults() Options {
	o.GRPC = cmp.Or(o.GRPC, "127.0.0.1:4001")
	o.HTTP = cmp.Or(o.HTTP, "127.0.0.1:4002")
	o.Drain = cmp.Or(o.Drain, 10*time.Second)
	o.MaxMessage = cmp.Or(o.MaxMessage, 64<<20)
	o.retentionEvery = cmp.Or(o.retentionEvery, time.Minute)
	o.keepaliveTime = cmp.Or(o.keepaliveTime, 20*time.Second)
	o.keepaliveTimeout = cmp.Or(o.keepaliveTimeout, 10*time.Second)
	o.MaxWorkItem = cmp.Or(o.MaxWorkItem, 4<<20)
	o.MaxHubs = cmp.Or(o.MaxHubs, 100)
	if o.Tracer == nil {
		o.Tracer = noop.NewTracerProvider()
	}
	if o.Log == nil {
		o.Log = backend.DefaultLogger()
	}
	return o
}

// Server serves task hubs.
type Server struct {
	opts  Options
	hubs  *hubs
	guard *guard
	audit *audit
	stats *metrics
	ready atomic.Bool

	stopping chan struct{} // closed when it begins to stop

	grpcAddr, httpAddr net.Listener
}

// New returns a server whose default task hub is the backend, listening at its addresses. Run serves
// what comes, and closes the addresses.
func New(ctx context.Context, be backend.Backend, opts Options) (*Server, error) {
	s := &Server{opts: opts.withDefaults(), stopping: make(chan struct{})}
	s.hubs, s.stats = newHubs(s.opts, be)
	var err error
	if s.guard, err = newGuard(s.opts.Security, s.opts.GRPC, s.opts.HTTP); err != nil {
		return nil, err
	}
	if s.audit, err = openAudit(s.opts.Security.AuditFile, s.opts.Log); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	if s.grpcAddr, err = lc.Listen(ctx, "tcp", s.opts.GRPC); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for gRPC: %w", err), s.audit.close())
	}
	if s.httpAddr, err = lc.Listen(ctx, "tcp", s.opts.HTTP); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for HTTP: %w", err), s.grpcAddr.Close(), s.audit.close())
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
	rpc := s.newGRPC()
	if err := s.hubs.start(ctx); err != nil {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Drain)
		defer cancel()
		return errors.Join(err, s.hubs.stop(stopping), s.grpcAddr.Close(), s.httpAddr.Close(), s.audit.close())
	}
	web := &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, TLSConfig: s.guard.tls(tls.VerifyClientCertIfGiven),
	}
	serveHTTP := web.Serve
	if web.TLSConfig != nil {
		serveHTTP = func(l net.Listener) error { return web.ServeTLS(l, "", "") }
	}

	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return rpc.Serve(s.grpcAddr) })
	g.Go(func() error {
		s.hubs.retain(running)
		return nil
	})
	g.Go(func() error {
		if err := serveHTTP(s.httpAddr); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-running.Done()
		return s.stop(context.WithoutCancel(ctx), rpc, web)
	})
	if s.opts.SkipWaits != nil {
		g.Go(func() error {
			s.hubs.skipWaits(running, s.opts.SkipWaits)
			return nil
		})
	}
	s.ready.Store(true)
	if s.opts.OnReady != nil {
		s.opts.OnReady()
	}
	return errors.Join(g.Wait(), s.audit.close())
}

func (s *Server) newGRPC() *grpc.Server {
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(s.opts.MaxMessage), grpc.MaxSendMsgSize(max(s.opts.MaxMessage, largestWorkItem)),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: s.opts.keepaliveTime, Timeout: s.opts.keepaliveTimeout}),
		// Peers may ask as often as they like: SDKs, and the proxies before them, differ.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 100 * time.Millisecond, PermitWithoutStream: true}),
		// Calls run on goroutines whose stacks have grown already; those beyond so many get one of their own.
		grpc.NumStreamWorkers(64),
		grpc.InTapHandle(s.guard.admit),
		grpc.ChainUnaryInterceptor(s.stats.calls.UnaryServerInterceptor(), s.audit.unary),
		grpc.ChainStreamInterceptor(s.stats.calls.StreamServerInterceptor()),
	}
	// Where nobody takes spans a call costs nothing for them; what its caller says of its trace is read all the same.
	if _, nobody := s.opts.Tracer.(noop.TracerProvider); !nobody {
		opts = append(opts, grpc.StatsHandler(otelgrpc.NewServerHandler(
			otelgrpc.WithTracerProvider(s.opts.Tracer), otelgrpc.WithPropagators(propagation.TraceContext{}), otelgrpc.WithFilter(isTraced),
		)))
	}
	if c := s.guard.tls(tls.RequireAndVerifyClientCert); c != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(c)))
	}
	rpc := grpc.NewServer(opts...)
	s.hubs.route(rpc)
	healthpb.RegisterHealthServer(rpc, &health{server: s})
	reflection.Register(rpc)
	s.stats.calls.InitializeMetrics(rpc)
	return rpc
}

// isTraced leaves out what is asked all the time, and what has spans of its own: the work.
func isTraced(call *stats.RPCTagInfo) bool {
	service, method, _ := strings.Cut(strings.TrimPrefix(call.FullMethodName, "/"), "/")
	switch {
	case !strings.HasPrefix(call.FullMethodName, "/TaskHubSidecarService/") && service != protos.Operations_ServiceDesc.ServiceName:
		return false
	case method == "Hello", method == "GetWorkItems", strings.HasPrefix(method, "Complete"), strings.HasPrefix(method, "WaitFor"):
		return false
	}
	return true
}

func (s *Server) stop(ctx context.Context, rpc *grpc.Server, web *http.Server) error {
	s.ready.Store(false)
	close(s.stopping)
	s.opts.Log.Infof("stopping; work in progress has %v to finish", s.opts.Drain)
	drain, cancel := context.WithTimeout(ctx, s.opts.Drain)
	defer cancel()
	err := s.hubs.stop(drain)
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
