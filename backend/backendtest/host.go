package backendtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

const patience = 30 * time.Second

// recorder is a logger that keeps what it is given.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (l *recorder) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, s)
}

func (l *recorder) taken() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

func (*recorder) Debug(...any)                {}
func (*recorder) Debugf(string, ...any)       {}
func (*recorder) Info(...any)                 {}
func (*recorder) Infof(string, ...any)        {}
func (l *recorder) Warn(v ...any)             { l.add(fmt.Sprint(v...)) }
func (l *recorder) Warnf(s string, v ...any)  { l.add(fmt.Sprintf(s, v...)) }
func (l *recorder) Error(v ...any)            { l.add(fmt.Sprint(v...)) }
func (l *recorder) Errorf(s string, v ...any) { l.add(fmt.Sprintf(s, v...)) }

type (
	orchestrators = map[string]task.Orchestrator
	activities    = map[string]task.Activity
)

// caseHost is one backend on a hub, with or without workers.
type caseHost struct {
	backend.Client
	t   testing.TB
	hub Hub
	be  backend.Backend
	log *recorder
	w   backend.TaskHubWorker

	entities map[string]task.Entity
}

type hostOption func(*hostOptions)

type hostOptions struct {
	parallel int32
	Settings
}

func parallelism(n int32) hostOption { return func(o *hostOptions) { o.parallel = n } }

func lockTimes(d time.Duration) hostOption { return func(o *hostOptions) { o.LockTimeout = d } }

func newHostOptions(opts []hostOption) hostOptions {
	o := hostOptions{parallel: 16}
	for _, f := range opts {
		f(&o)
	}
	return o
}

// idleHost is open, but has no workers.
func idleHost(t testing.TB, hub Hub, opts ...hostOption) *caseHost {
	t.Helper()
	o := newHostOptions(opts)
	log := hub.log
	if log == nil {
		log = &recorder{}
	}
	o.Logger = log
	be := hub.Open(o.Settings)
	if err := be.CreateTaskHub(t.Context()); err != nil && !errors.Is(err, backend.ErrTaskHubExists) {
		t.Fatal(err)
	}
	h := &caseHost{Client: backend.NewClient(be), t: t, hub: hub, be: be, log: log}
	t.Cleanup(h.stop)
	return h
}

// newHost is a backend that works.
func newHost(t testing.TB, hub Hub, os orchestrators, as activities, opts ...hostOption) *caseHost {
	t.Helper()
	h := idleHost(t, hub, opts...)
	h.work(os, as, opts...)
	return h
}

func (h *caseHost) work(os orchestrators, as activities, opts ...hostOption) {
	h.t.Helper()
	r := task.NewTaskRegistry()
	for name, f := range os {
		must(h.t, r.AddOrchestratorN(name, f))
	}
	for name, f := range as {
		must(h.t, r.AddActivityN(name, f))
	}
	for name, f := range h.entities {
		must(h.t, r.AddEntityN(name, f))
	}
	ex := task.NewTaskExecutor(r)
	if h.hub.Far != nil {
		ex, h.Client = h.hub.Far(h.t, h.be, h.log, r)
	}
	h.workWith(ex, opts...)
}

// workWith starts the workers on an executor.
func (h *caseHost) workWith(ex backend.Executor, opts ...hostOption) {
	h.t.Helper()
	par := backend.WithMaxParallelism(newHostOptions(opts).parallel)
	h.w = backend.NewTaskHubWorker(h.be, backend.NewOrchestrationWorker(h.be, ex, h.log, par),
		backend.NewActivityTaskWorker(h.be, ex, h.log, par), h.log)
	must(h.t, h.w.Start(h.t.Context()))
}

// stop ends the engine; a second call does nothing.
func (h *caseHost) stop() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	switch {
	case h.be == nil:
	case h.w != nil:
		err = h.w.Shutdown(ctx)
	default:
		err = h.be.Stop(ctx)
	}
	h.w, h.be = nil, nil
	if err != nil {
		h.t.Error(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *caseHost) begin(name string, opts ...api.NewOrchestrationOptions) api.InstanceID {
	h.t.Helper()
	id, err := h.ScheduleNewOrchestration(h.t.Context(), name, opts...)
	must(h.t, err)
	return id
}

func (h *caseHost) raise(id api.InstanceID, name string, data any) {
	h.t.Helper()
	must(h.t, h.RaiseEvent(h.t.Context(), id, name, data))
}

// end waits for the instance at most d.
func (h *caseHost) end(id api.InstanceID, d time.Duration) *api.OrchestrationMetadata {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), d)
	defer cancel()
	m, err := h.WaitForOrchestrationCompletion(ctx, id)
	if err != nil {
		h.t.Fatalf("%s is not over after %v: %v", id, d, err)
	}
	return m
}

// output waits for the instance and wants it completed with this output.
func (h *caseHost) output(id api.InstanceID, want string) {
	h.t.Helper()
	if m := h.end(id, patience); m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED || m.SerializedOutput != want {
		h.t.Errorf("%s: %v %s %v, want %s", id, m.RuntimeStatus, m.SerializedOutput, m.FailureDetails, want)
	}
}

func (h *caseHost) status(id api.InstanceID, want api.OrchestrationStatus, d time.Duration) *api.OrchestrationMetadata {
	h.t.Helper()
	m := h.end(id, d)
	if m.RuntimeStatus != want {
		h.t.Errorf("%s: %v %s %v, want %v", id, m.RuntimeStatus, m.SerializedOutput, m.FailureDetails, want)
	}
	return m
}

func (h *caseHost) fetch(id api.InstanceID) *api.OrchestrationMetadata {
	h.t.Helper()
	m, err := h.FetchOrchestrationMetadata(h.t.Context(), id)
	must(h.t, err)
	return m
}

// count is how many events of the stored history f accepts.
func (h *caseHost) count(id api.InstanceID, f func(*protos.HistoryEvent) bool) int {
	h.t.Helper()
	n := 0
	must(h.t, h.History(h.t.Context(), id, func(part []*backend.HistoryEvent) error {
		for _, e := range part {
			if f(e) {
				n++
			}
		}
		return nil
	}))
	return n
}

// noMessages wants that no stored message is left, where the hub can count them.
func (h *caseHost) noMessages(d time.Duration) {
	h.t.Helper()
	if h.hub.Messages != nil {
		eventually(h.t, d, "no message left", func() bool { return h.hub.Messages(h.t) == 0 })
	}
}

// recv waits for a value.
func recv[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s after %v", what, patience)
		panic("unreachable")
	}
}

// eventually asks again and again, at most d.
func eventually(t testing.TB, d time.Duration, what string, f func() bool) {
	t.Helper()
	end := time.After(d)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			t.Errorf("not after %v: %s", d, what)
			return
		}
	}
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return string(b)
}

// gate blocks the first turn of an orchestrator that calls pass, and only that one.
type gate struct {
	first, last   sync.Once
	entered, open chan struct{}
}

func newGate() *gate { return &gate{entered: make(chan struct{}), open: make(chan struct{})} }

func (g *gate) pass() {
	g.first.Do(func() {
		close(g.entered)
		<-g.open
	})
}

func (g *gate) release() { g.last.Do(func() { close(g.open) }) }
