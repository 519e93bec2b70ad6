package backend

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// plainFake is a Backend without optional interfaces, as far as clients use one.
type plainFake struct {
	Backend
	mu        sync.Mutex
	instances map[api.InstanceID]*api.OrchestrationMetadata
	starts    []*HistoryEvent
	events    []*HistoryEvent
	err       error // of every call
}

func newPlainFake(of ...*api.OrchestrationMetadata) *plainFake {
	f := &plainFake{instances: map[api.InstanceID]*api.OrchestrationMetadata{}}
	for _, m := range of {
		f.instances[m.InstanceID] = m
	}
	return f
}

func instance(id api.InstanceID, status protos.OrchestrationStatus) *api.OrchestrationMetadata {
	m := api.NewOrchestrationMetadata(id, "orch", status, time.Unix(1, 0), time.Unix(2, 0), `"in"`, `"out"`, `"custom"`, nil)
	m.Version, m.Tags, m.ExecutionID = "v1", map[string]string{"k": "v"}, NewExecutionID()
	return m
}

func (f *plainFake) set(id api.InstanceID, status protos.OrchestrationStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instances[id] = instance(id, status)
}

func (f *plainFake) GetOrchestrationMetadata(_ context.Context, id api.InstanceID) (*api.OrchestrationMetadata, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.instances[id]
	if f.err != nil || !ok {
		return nil, errors.Join(f.err, api.ErrInstanceNotFound)
	}
	return m, nil
}

func (f *plainFake) CreateOrchestrationInstance(_ context.Context, e *HistoryEvent) error {
	return f.create(e, func(protos.OrchestrationStatus) bool { return false })
}

func (f *plainFake) create(e *HistoryEvent, replace func(protos.OrchestrationStatus) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := api.InstanceID(e.GetExecutionStarted().GetOrchestrationInstance().GetInstanceId())
	if m, ok := f.instances[id]; ok && !replace(m.RuntimeStatus) {
		return errors.Join(ErrDuplicateEvent, f.err)
	}
	f.starts = append(f.starts, e)
	f.instances[id] = instance(id, api.RUNTIME_STATUS_PENDING)
	return f.err
}

func (f *plainFake) AddNewOrchestrationEvent(_ context.Context, id api.InstanceID, e *HistoryEvent) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.instances[id]; !ok {
		return api.ErrInstanceNotFound
	}
	f.events = append(f.events, e)
	return f.err
}

func (f *plainFake) lastEvent() *HistoryEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.events[len(f.events)-1]
}

func (f *plainFake) lastStart() *protos.ExecutionStartedEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.starts[len(f.starts)-1].GetExecutionStarted()
}

func (f *plainFake) PurgeOrchestrationState(_ context.Context, id api.InstanceID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.instances[id]
	switch {
	case !ok:
		return api.ErrInstanceNotFound
	case !m.IsComplete():
		return api.ErrNotCompleted
	}
	delete(f.instances, id)
	return nil
}

// fullFake has the optional interfaces too.
type fullFake struct {
	*plainFake
	history []*HistoryEvent
	queries []api.InstanceQuery
	pages   func(api.InstanceQuery) *api.InstancePage
}

func (f *fullFake) CreateOrReplaceInstance(_ context.Context, e *HistoryEvent, p *protos.OrchestrationIdReusePolicy) error {
	return f.create(e, func(s protos.OrchestrationStatus) bool { return slices.Contains(p.GetReplaceableStatus(), s) })
}

func (f *fullFake) QueryInstances(_ context.Context, q api.InstanceQuery) (*api.InstancePage, error) {
	f.queries = append(f.queries, q)
	if f.pages != nil {
		return f.pages(q), nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	page := &api.InstancePage{}
	for _, id := range slices.Sorted(maps.Keys(f.instances)) {
		m := f.instances[id]
		if len(q.Statuses) == 0 || slices.Contains(q.Statuses, m.RuntimeStatus) {
			page.Instances = append(page.Instances, m)
		}
	}
	return page, nil
}

func (f *fullFake) ReadHistory(_ context.Context, id api.InstanceID, g func([]*HistoryEvent) error) error {
	if _, ok := f.instances[id]; !ok {
		return api.ErrInstanceNotFound
	}
	return g(f.history)
}

func (f *fullFake) PurgeInstance(ctx context.Context, id api.InstanceID, recursive, force bool) (int, error) {
	if force {
		return 3, nil
	}
	if err := f.PurgeOrchestrationState(ctx, id); err != nil {
		return 0, err
	}
	if recursive {
		return 2, nil
	}
	return 1, nil
}

func (f *fullFake) ForceTerminate(_ context.Context, id api.InstanceID, output *string) error {
	m := instance(id, api.RUNTIME_STATUS_TERMINATED)
	if output != nil {
		m.SerializedOutput = *output
	}
	f.instances[id] = m
	return nil
}

func (f *fullFake) RewindInstance(_ context.Context, id api.InstanceID, _ string) error {
	m, ok := f.instances[id]
	switch {
	case !ok:
		return api.ErrInstanceNotFound
	case m.RuntimeStatus != api.RUNTIME_STATUS_FAILED:
		return api.ErrNotFailed
	}
	return nil
}

func namedOrchestrator(int) {}

type host struct{}

func (host) Method() {}

func generic[T any](T) {}

func TestScheduleNewOrchestrationNames(t *testing.T) {
	var none func()
	tests := []struct {
		name         string
		orchestrator any
		want         string // "" for an error
	}{
		{"string", "Hello", "Hello"},
		{"function", namedOrchestrator, "namedOrchestrator"},
		{"method value", host{}.Method, "Method"},
		{"generic", generic[int], "generic"},
		{"empty", "", ""},
		{"nil", nil, ""},
		{"nil function", none, ""},
		{"number", 7, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newPlainFake()
			id, err := NewTaskHubClient(f).ScheduleNewOrchestration(t.Context(), tt.orchestrator)
			if tt.want == "" {
				if !errors.Is(err, api.ErrInvalidInput) || id != "" || len(f.starts) != 0 {
					t.Errorf("got %q, %v", id, err)
				}
				return
			}
			if err != nil || f.lastStart().GetName() != tt.want {
				t.Errorf("got %q, %v", f.lastStart().GetName(), err)
			}
		})
	}
}

func TestScheduleNewOrchestrationStartEvent(t *testing.T) {
	f := &fullFake{plainFake: newPlainFake()}
	c := NewClient(f)
	at := time.Now().Add(time.Hour)
	id, err := c.ScheduleNewOrchestration(t.Context(), "o", api.WithInput([]int{1}), api.WithVersion("2"),
		api.WithTags(map[string]string{"a": "b"}), api.WithStartTime(at))
	if err != nil || len(id) != 36 {
		t.Fatalf("id %q, %v", id, err)
	}
	e := f.starts[0]
	s := e.GetExecutionStarted()
	if e.GetEventId() != -1 || e.GetTimestamp() == nil || s.GetInput().GetValue() != "[1]" || s.GetVersion().GetValue() != "2" ||
		s.GetTags()["a"] != "b" || !s.GetScheduledStartTimestamp().AsTime().Equal(at) ||
		s.GetOrchestrationInstance().GetInstanceId() != string(id) ||
		len(s.GetOrchestrationInstance().GetExecutionId().GetValue()) != 32 {
		t.Errorf("start event: %v", e)
	}
	if _, err := c.ScheduleNewOrchestration(t.Context(), "o", api.WithInput(make(chan int))); !errors.Is(err, api.ErrInvalidInput) {
		t.Errorf("an input that is no JSON: %v", err)
	}
	f.set(id, api.RUNTIME_STATUS_COMPLETED)
	if id2, err := c.ScheduleNewOrchestration(t.Context(), "o", api.WithInstanceID(id)); !errors.Is(err, ErrDuplicateEvent) || id2 != "" {
		t.Errorf("taken id: %q, %v", id2, err)
	}
	policy := api.WithOrchestrationIdReusePolicy(terminalPolicy())
	if _, err := c.ScheduleNewOrchestration(t.Context(), "o", api.WithInstanceID(id), policy); err != nil {
		t.Errorf("replace: %v", err)
	}
	if _, err := NewClient(f.plainFake).ScheduleNewOrchestration(t.Context(), "o", policy); !errors.Is(err, api.ErrUnsupported) {
		t.Errorf("policy on a plain backend: %v", err)
	}
}

func TestRaiseEventPayloads(t *testing.T) {
	tests := []struct {
		name string
		data any
		want string
		none bool
	}{
		{"nil", nil, "", true},
		{"json", map[string]int{"a": 1}, `{"a":1}`, false},
		{"null pointer", (*int)(nil), "null", false},
		{"option", api.WithRawEventData("raw"), "raw", false},
		{"function", (func(*protos.RaiseEventRequest) error)(api.WithEventPayload(1)), "1", false},
	}
	f := newPlainFake(instance("i", api.RUNTIME_STATUS_RUNNING))
	c := NewTaskHubClient(f)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := c.RaiseEvent(t.Context(), "i", "Name", tt.data); err != nil {
				t.Fatal(err)
			}
			e := f.lastEvent().GetEventRaised()
			if e.GetName() != "Name" || (e.GetInput() == nil) != tt.none || e.GetInput().GetValue() != tt.want {
				t.Errorf("event: %v", e)
			}
		})
	}
	for _, err := range []error{
		c.RaiseEvent(t.Context(), "i", "", nil),
		c.RaiseEvent(t.Context(), "i", "n", func() {}),
		c.RaiseEvent(t.Context(), "i", "n", api.RaiseEventOptions(func(*protos.RaiseEventRequest) error { return errors.New("x") })),
	} {
		if !errors.Is(err, api.ErrInvalidInput) {
			t.Errorf("got %v", err)
		}
	}
	if err := c.RaiseEvent(t.Context(), "nobody", "n", nil); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("unknown: %v", err)
	}
}

func TestClientSendsEvents(t *testing.T) {
	f := newPlainFake(instance("i", api.RUNTIME_STATUS_RUNNING))
	c := NewClient(f)
	tests := []struct {
		name string
		call func() error
		want proto.Message
	}{
		{"terminate", func() error { return c.TerminateOrchestration(t.Context(), "i", "why") },
			&protos.ExecutionTerminatedEvent{Input: optionalText("why"), Recurse: true}},
		{"terminate without reason", func() error { return c.TerminateOrchestration(t.Context(), "i", "") },
			&protos.ExecutionTerminatedEvent{Recurse: true}},
		{"terminate alone", func() error {
			return c.Terminate(t.Context(), "i", api.WithOutput("o"), api.WithRecursiveTerminate(false))
		}, &protos.ExecutionTerminatedEvent{Input: optionalText(`"o"`)}},
		{"suspend", func() error { return c.SuspendOrchestration(t.Context(), "i", "why") },
			&protos.ExecutionSuspendedEvent{Input: optionalText("why")}},
		{"resume", func() error { return c.ResumeOrchestration(t.Context(), "i", "") }, &protos.ExecutionResumedEvent{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.call(); err != nil {
				t.Fatal(err)
			}
			e := f.lastEvent()
			var got proto.Message
			switch x := e.GetEventType().(type) {
			case *protos.HistoryEvent_ExecutionTerminated:
				got = x.ExecutionTerminated
			case *protos.HistoryEvent_ExecutionSuspended:
				got = x.ExecutionSuspended
			case *protos.HistoryEvent_ExecutionResumed:
				got = x.ExecutionResumed
			}
			if !proto.Equal(got, tt.want) || e.GetEventId() != -1 || !e.GetTimestamp().IsValid() {
				t.Errorf("got %v, want %v", e, tt.want)
			}
		})
	}
}

func TestWaitPollsAPlainBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPlainFake(instance("i", api.RUNTIME_STATUS_PENDING), instance("over", api.RUNTIME_STATUS_FAILED))
		c := NewTaskHubClient(f)
		began := time.Now()
		if _, err := c.WaitForOrchestrationCompletion(t.Context(), "over"); err != nil || time.Since(began) != 0 {
			t.Errorf("a finished instance took %v, %v", time.Since(began), err)
		}
		if _, err := c.WaitForOrchestrationStart(t.Context(), "nobody"); !errors.Is(err, api.ErrInstanceNotFound) {
			t.Errorf("unknown: %v", err)
		}
		time.AfterFunc(5*time.Second, func() { f.set("i", api.RUNTIME_STATUS_RUNNING) })
		if _, err := c.WaitForOrchestrationStart(t.Context(), "i"); err != nil || time.Since(began) > 6*time.Second {
			t.Errorf("start after %v, %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.WaitForOrchestrationCompletion(ctx, "i"); err != context.DeadlineExceeded { //nolint:errorlint // itself
			t.Errorf("got %v, want the context's error itself", err)
		}
	})
}

func TestClientOperations(t *testing.T) {
	f := &fullFake{plainFake: newPlainFake(instance("run", api.RUNTIME_STATUS_RUNNING),
		instance("done", api.RUNTIME_STATUS_COMPLETED), instance("failed", api.RUNTIME_STATUS_FAILED))}
	f.history = []*HistoryEvent{{EventId: 5, Timestamp: timestamppb.Now()}}
	c, ctx := NewTaskHubClient(f).(Client), t.Context()

	if _, err := c.Restart(ctx, "run", false); !errors.Is(err, api.ErrNotCompleted) || !strings.Contains(err.Error(), `restart "run"`) {
		t.Errorf("restart of a running instance: %v", err)
	}
	for id, same := range map[api.InstanceID]bool{"run": false, "failed": true} {
		got, err := c.Restart(ctx, id, !same)
		s := f.lastStart()
		if err != nil || (got == id) != same || s.GetName() != "orch" || s.GetInput().GetValue() != `"in"` ||
			s.GetVersion().GetValue() != "v1" || s.GetTags()["k"] != "v" {
			t.Errorf("restart of %q: %q, %v, %v", id, got, err, s)
		}
	}
	if _, err := c.Restart(ctx, "nobody", true); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("restart: %v", err)
	}
	if err := c.Rewind(ctx, "done", ""); !errors.Is(err, api.ErrNotFailed) {
		t.Errorf("rewind: %v", err)
	}
	if p, err := c.Query(ctx, api.InstanceQuery{Statuses: []protos.OrchestrationStatus{api.RUNTIME_STATUS_COMPLETED}}); err != nil ||
		len(p.Instances) != 1 {
		t.Errorf("query: %v, %v", p, err)
	}
	stop := errors.New("stop")
	if err := c.History(ctx, "run", func(e []*HistoryEvent) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("history: %v", err)
	}
	if _, err := c.Purge(ctx, "run"); !errors.Is(err, api.ErrNotCompleted) {
		t.Errorf("purge: %v", err)
	}
	if n, err := c.Purge(ctx, "done"); n != 2 || err != nil {
		t.Errorf("purge: %d, %v", n, err)
	}
	if n, err := c.ForcePurge(ctx, "run"); n != 3 || err != nil {
		t.Errorf("force purge: %d, %v", n, err)
	}
	if err := c.ForceTerminate(ctx, "run", api.WithRawOutput("x")); err != nil || f.instances["run"].SerializedOutput != "x" {
		t.Errorf("force terminate: %v", err)
	}
	if err := c.PurgeOrchestrationState(ctx, "nobody"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("purge: %v", err)
	}
	if _, err := c.FetchOrchestrationMetadata(ctx, "nobody"); !errors.Is(err, api.ErrInstanceNotFound) {
		t.Errorf("fetch: %v", err)
	}
}

func TestClientOnAPlainBackend(t *testing.T) {
	c, ctx := NewClient(newPlainFake(instance("done", api.RUNTIME_STATUS_COMPLETED))), t.Context()
	_, purge := c.Purge(ctx, "done")
	_, forcePurge := c.ForcePurge(ctx, "done")
	_, query := c.Query(ctx, api.InstanceQuery{})
	_, restart := c.Restart(ctx, "done", false)
	for what, err := range map[string]error{
		"purge": purge, "force purge": forcePurge, "query": query, "restart": restart,
		"force terminate": c.ForceTerminate(ctx, "done"),
		"history":         c.History(ctx, "done", nil),
		"rewind":          c.Rewind(ctx, "done", ""),
	} {
		if !errors.Is(err, api.ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n, err := c.Purge(ctx, "done", api.WithRecursivePurge(false)); n != 1 || err != nil {
		t.Errorf("purge alone: %d, %v", n, err)
	}
}
