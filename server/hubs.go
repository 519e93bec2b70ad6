package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/dashboard"
)

// hubKey is the metadata by which SDKs name the task hub that they mean. Where
// it is not sent, or is "default", they mean the default hub.
const (
	hubKey     = "taskhub"
	defaultHub = "default"
)

// Hubs opens the task hubs beside the default one.
type Hubs interface {
	// List names the hubs that are there.
	List(context.Context) ([]string, error)
	// Open returns the backend of a hub, which need not be there yet. The name
	// has up to 50 lower-case letters, digits, hyphens and underscores.
	Open(name string) (backend.Backend, error)
}

// hub is a task hub with its workers.
type hub struct {
	name     string
	be       backend.Backend
	worker   backend.TaskHubWorker
	executor backend.Executor
	services map[string]any // by the name of the gRPC service
	web      http.Handler   // the dashboard
	// webReader is the dashboard of those who may change nothing.
	webReader http.Handler

	opened chan struct{} // closed once it is open, or err says why it is not
	err    error
}

// RegisterService keeps a service for the router instead of serving it.
func (h *hub) RegisterService(desc *grpc.ServiceDesc, impl any) { h.services[desc.ServiceName] = impl }

// hubs are the hubs of a server. A hub is opened when a client first names it.
type hubs struct {
	opts  Options
	stats *metrics

	mu     sync.Mutex
	byName map[string]*hub
	closed bool
}

// newHubs returns the hubs with the default one, which is not open.
func newHubs(opts Options, be backend.Backend) (*hubs, *metrics) {
	h := &hubs{opts: opts, byName: map[string]*hub{}}
	h.stats = newMetrics(h)
	h.byName[defaultHub] = h.assemble(defaultHub, be)
	return h, h.stats
}

func (s *hubs) assemble(name string, be backend.Backend) *hub {
	h := &hub{name: name, be: be, services: map[string]any{}, opened: make(chan struct{})}
	log := s.opts.Log
	meter := s.stats.of(name)
	if m, ok := be.(backend.Metered); ok {
		m.SetMeter(meter)
	}
	options := []backend.NewTaskWorkerOptions{backend.WithMaxParallelism(maxOpenItems), backend.WithMeter(meter), backend.WithTracerProvider(s.opts.Tracer)}
	h.executor = backend.RegisterGrpcExecutor(h, be, log,
		backend.WithMaxWorkItemSize(s.opts.MaxWorkItem), backend.WithWorkItemLeases(0, s.opts.ActivityTimeout))
	h.worker = backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, h.executor, log, options...),
		backend.NewActivityTaskWorker(be, h.executor, log, options...), log)
	workers := h.executor.(backend.WorkerReporter) //nolint:forcetypeassert // the executor of RegisterGrpcExecutor is one
	pages := dashboard.Options{
		Prefix: "/hubs/" + name, Hub: name, Log: log, Workers: workers.Workers,
		Explain: func(ctx context.Context, id api.InstanceID) (*api.Verdict, error) {
			return backend.Explain(ctx, be, workers, id)
		},
	}
	h.web = dashboard.New(backend.NewClient(be), pages)
	pages.ReadOnly = true
	h.webReader = dashboard.New(backend.NewClient(be), pages)
	return h
}

// start opens the default hub, and those that are there already: their timers do not wait for a client.
func (s *hubs) start(ctx context.Context) error {
	s.mu.Lock()
	h := s.byName[defaultHub]
	s.mu.Unlock()
	h.err = h.worker.Start(ctx)
	close(h.opened)
	if h.err != nil {
		return fmt.Errorf("start: %w", h.err)
	}
	if s.opts.Hubs == nil {
		return nil
	}
	names, err := s.opts.Hubs.List(ctx)
	if err != nil {
		return fmt.Errorf("list task hubs: %w", err)
	}
	for _, name := range names {
		if !s.serves(name) {
			s.opts.Log.Warnf("task hub %q is there, and not among those that are to be served", name)
			continue
		}
		if _, err := s.get(ctx, name); err != nil {
			return fmt.Errorf("start task hub %q: %w", name, err)
		}
	}
	return nil
}

var hubName = regexp.MustCompile(`^[a-z0-9_-]{1,50}$`)

// of returns the hub that a request is for. The errors are statuses.
func (s *hubs) of(ctx context.Context) (*hub, error) {
	name := ""
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		name = strings.ToLower(strings.Join(md.Get(hubKey), ","))
	}
	if name == "" {
		name = defaultHub
	}
	return s.get(ctx, name)
}

func (s *hubs) get(ctx context.Context, name string) (*hub, error) {
	s.mu.Lock()
	h := s.byName[name]
	if h == nil {
		var err error
		if h, err = s.add(name); err != nil {
			s.mu.Unlock()
			return nil, err
		}
		go s.open(h)
	}
	s.mu.Unlock()
	select {
	case <-h.opened:
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if h.err != nil {
		return nil, status.Errorf(codes.Unavailable, "task hub %q: %v", name, h.err)
	}
	return h, nil
}

func (s *hubs) serves(name string) bool {
	return s.opts.Hubs != nil && (len(s.opts.HubNames) == 0 || slices.Contains(s.opts.HubNames, name))
}

// add makes a hub that is not open. The mutex is held.
func (s *hubs) add(name string) (*hub, error) {
	switch {
	case s.closed:
		return nil, status.Error(codes.Unavailable, "shutting down")
	case !hubName.MatchString(name):
		return nil, status.Errorf(codes.InvalidArgument,
			"task hub %q: want up to 50 letters, digits, hyphens and underscores", name)
	case !s.serves(name):
		return nil, status.Errorf(codes.NotFound, "task hub %q is not served here", name)
	case len(s.byName) > s.opts.MaxHubs:
		return nil, status.Errorf(codes.ResourceExhausted, "task hub %q: this server has %d already, its limit", name, s.opts.MaxHubs)
	}
	be, err := s.opts.Hubs.Open(name)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "task hub %q: %v", name, err)
	}
	h := s.assemble(name, be)
	s.byName[name] = h
	return h, nil
}

// open starts a hub; where that fails, the next who names it tries again.
func (s *hubs) open(h *hub) {
	if h.err = h.worker.Start(context.Background()); h.err != nil {
		s.opts.Log.Errorf("task hub %q: %v", h.name, h.err)
		s.mu.Lock()
		delete(s.byName, h.name)
		s.mu.Unlock()
	}
	close(h.opened)
}

// opened returns a hub that is open, nil where there is none of the name.
func (s *hubs) opened(name string) *hub {
	s.mu.Lock()
	h := s.byName[name]
	s.mu.Unlock()
	if h == nil {
		return nil
	}
	select {
	case <-h.opened:
		return h
	default:
		return nil
	}
}

// all are the hubs that are open or about to be.
func (s *hubs) all() []*hub {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.byName), func(a, b *hub) int { return strings.Compare(a.name, b.name) })
}

// health says what is wrong with a hub; nil while nothing is.
func (s *hubs) health() error {
	for _, h := range s.all() {
		if r, ok := h.be.(backend.HealthReporter); ok {
			if err := r.Health(); err != nil {
				return fmt.Errorf("task hub %q: %w", h.name, err)
			}
		}
	}
	return nil
}

// stop lets the workers of all hubs finish what they have until ctx ends, and closes the hubs.
func (s *hubs) stop(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	all := s.all()
	var wg sync.WaitGroup
	errs := make([]error, len(all))
	for i, h := range all {
		if d, ok := h.executor.(backend.Drainer); ok {
			d.Drain()
		}
		wg.Go(func() {
			<-h.opened
			errs[i] = h.worker.Shutdown(ctx)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// route registers the services of the hubs at rpc: each call goes to those of the hub that it names.
func (s *hubs) route(rpc *grpc.Server) {
	for _, desc := range []grpc.ServiceDesc{protos.TaskHubSidecarService_ServiceDesc, protos.Operations_ServiceDesc} {
		desc.HandlerType = nil
		desc.Methods = slices.Clone(desc.Methods)
		for i, m := range desc.Methods {
			call := m.Handler
			desc.Methods[i].Handler = func(
				_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor,
			) (any, error) {
				h, err := s.of(ctx)
				if err != nil {
					return nil, err
				}
				return call(h.services[desc.ServiceName], ctx, decode, interceptor)
			}
		}
		desc.Streams = slices.Clone(desc.Streams)
		for i, st := range desc.Streams {
			call := st.Handler
			desc.Streams[i].Handler = func(_ any, stream grpc.ServerStream) error {
				h, err := s.of(stream.Context())
				if err != nil {
					return err
				}
				return call(h.services[desc.ServiceName], stream)
			}
		}
		rpc.RegisterService(&desc, nil)
	}
}
