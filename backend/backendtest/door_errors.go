package backendtest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/task"
)

// door lists what is refused where it comes in.
func door() []Test {
	return []Test{
		{"ErrorsOfClients", errorsOfClients},
		{"ErrorsOfTheLifeCycle", errorsOfTheLifeCycle},
		{"InvalidWorkItems", invalidWorkItems},
		{"PayloadLimitAtTheDoor", payloadLimitAtTheDoor},
		{"PayloadLimitInATurn", payloadLimitInATurn},
		{"NotUTF8", notUTF8},
	}
}

func fail(*task.OrchestrationContext) (any, error) { return nil, errors.New("boom") }

// errorsOfClients lists what a client may be told, each by a sentinel that users can import.
func errorsOfClients(t *testing.T, hubs NewHub) {
	h := newHost(t, hubs(t), orchestrators{"wait": waitForever, "fail": fail, "short": func(*task.OrchestrationContext) (any, error) { return 1, nil }}, nil)
	h.begin("wait", api.WithInstanceID("runs"))
	h.begin("short", api.WithInstanceID("over"))
	h.waits("runs")
	h.output("over", "1")
	start := func(opts ...api.NewOrchestrationOptions) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := h.ScheduleNewOrchestration(ctx, "short", opts...)
			return err
		}
	}
	policy := func(s ...protos.OrchestrationStatus) api.NewOrchestrationOptions {
		return api.WithOrchestrationIdReusePolicy(&protos.OrchestrationIdReusePolicy{ReplaceableStatus: s})
	}
	large := strings.Repeat("x", 4<<20+1)
	for name, tt := range map[string]struct {
		call func(context.Context) error
		want []error
		says string
	}{
		"taken id":            {start(api.WithInstanceID("runs")), []error{backend.ErrDuplicateEvent, api.ErrDuplicateInstance}, "runs"},
		"taken id, finished":  {start(api.WithInstanceID("over")), []error{backend.ErrDuplicateEvent, api.ErrDuplicateInstance}, "over"},
		"taken id, by policy": {start(api.WithInstanceID("runs"), policy(api.RUNTIME_STATUS_FAILED)), []error{api.ErrDuplicateInstance}, "RUNNING"},
		"id too long":         {start(api.WithInstanceID(api.InstanceID(strings.Repeat("é", 101)))), []error{api.ErrInvalidInstanceID, api.ErrInvalidInput}, "101 characters, the limit is 100"},
		"id with a NUL":       {start(api.WithInstanceID("a\x00")), []error{api.ErrInvalidInstanceID}, "NUL"},
		"id not UTF-8":        {start(api.WithInstanceID("\xff")), []error{api.ErrInvalidInstanceID}, "UTF-8"},
		"input too large":     {start(api.WithRawInput(large)), []error{api.ErrPayloadTooLarge, api.ErrInvalidInput}, "the limit of a payload is 4194304"},
		"event too large": {func(ctx context.Context) error { return h.RaiseEvent(ctx, "runs", "e", api.WithRawEventData(large)) },
			[]error{api.ErrPayloadTooLarge}, "4194304"},
		"output too large": {func(ctx context.Context) error { return h.Terminate(ctx, "runs", api.WithRawOutput(large)) },
			[]error{api.ErrPayloadTooLarge}, "4194304"},
		"forced output too large": {func(ctx context.Context) error { return h.Client.ForceTerminate(ctx, "runs", api.WithRawOutput(large)) },
			[]error{api.ErrPayloadTooLarge}, "4194304"},
		"fetch":            {func(ctx context.Context) error { _, err := h.FetchOrchestrationMetadata(ctx, "no"); return err }, []error{api.ErrInstanceNotFound}, "no"},
		"wait for a start": {func(ctx context.Context) error { _, err := h.WaitForOrchestrationStart(ctx, "no"); return err }, []error{api.ErrInstanceNotFound}, "no"},
		"wait for an end":  {func(ctx context.Context) error { _, err := h.WaitForOrchestrationCompletion(ctx, "no"); return err }, []error{api.ErrInstanceNotFound}, "no"},
		"raise":            {func(ctx context.Context) error { return h.RaiseEvent(ctx, "no", "e", nil) }, []error{api.ErrInstanceNotFound}, "no"},
		"terminate":        {func(ctx context.Context) error { return h.TerminateOrchestration(ctx, "no", "") }, []error{api.ErrInstanceNotFound}, "no"},
		"force terminate":  {func(ctx context.Context) error { return h.Client.ForceTerminate(ctx, "no") }, []error{api.ErrInstanceNotFound}, "no"},
		"suspend":          {func(ctx context.Context) error { return h.SuspendOrchestration(ctx, "no", "") }, []error{api.ErrInstanceNotFound}, "no"},
		"resume":           {func(ctx context.Context) error { return h.ResumeOrchestration(ctx, "no", "") }, []error{api.ErrInstanceNotFound}, "no"},
		"purge":            {func(ctx context.Context) error { return h.PurgeOrchestrationState(ctx, "no") }, []error{api.ErrInstanceNotFound}, "no"},
		"force purge":      {func(ctx context.Context) error { _, err := h.Client.ForcePurge(ctx, "no"); return err }, []error{api.ErrInstanceNotFound}, "no"},
		"history":          {func(ctx context.Context) error { return h.Client.History(ctx, "no", nil) }, []error{api.ErrInstanceNotFound}, "no"},
		"rewind":           {func(ctx context.Context) error { return h.Client.Rewind(ctx, "no", "") }, []error{api.ErrInstanceNotFound}, "no"},
		"restart":          {func(ctx context.Context) error { _, err := h.Restart(ctx, "no", false); return err }, []error{api.ErrInstanceNotFound}, "no"},
		"purge of one that runs": {func(ctx context.Context) error { return h.PurgeOrchestrationState(ctx, "runs") },
			[]error{api.ErrNotCompleted}, "RUNNING"},
		"recursive purge of one that runs": {func(ctx context.Context) error { _, err := h.Client.Purge(ctx, "runs"); return err },
			[]error{api.ErrNotCompleted}, "RUNNING"},
		"restart of one that runs": {func(ctx context.Context) error { _, err := h.Restart(ctx, "runs", false); return err },
			[]error{api.ErrNotCompleted}, "RUNNING"},
		"rewind of one that did not fail": {func(ctx context.Context) error { return h.Client.Rewind(ctx, "over", "") },
			[]error{api.ErrNotFailed}, "COMPLETED"},
		"token": {func(ctx context.Context) error {
			_, err := h.Client.Query(ctx, api.InstanceQuery{Token: "!"})
			return err
		},
			[]error{api.ErrInvalidInput}, `"!"`},
		"page size": {func(ctx context.Context) error {
			_, err := h.Client.Query(ctx, api.InstanceQuery{PageSize: -1})
			return err
		},
			[]error{api.ErrInvalidInput}, "-1"},
		"no worker's item": {func(ctx context.Context) error { _, err := h.be.GetActivityWorkItem(ctx); return err },
			[]error{backend.ErrNoWorkItems}, ""},
		"a lost lock": {func(ctx context.Context) error {
			return h.be.CompleteActivityWorkItem(ctx, &backend.ActivityWorkItem{InstanceID: "runs", SequenceNumber: 12345})
		}, []error{backend.ErrWorkItemLockLost}, "runs"},
		"a lost turn": {func(ctx context.Context) error {
			return h.be.CompleteOrchestrationWorkItem(ctx, &backend.OrchestrationWorkItem{InstanceID: "runs", LockedBy: "me"})
		}, []error{backend.ErrWorkItemLockLost}, "runs"},
	} {
		err := tt.call(t.Context())
		if errors.Is(err, api.ErrUnsupported) {
			continue
		}
		for _, want := range tt.want {
			if !errors.Is(err, want) {
				t.Errorf("%s: %.200v, want %v", name, err, want)
			}
		}
		if err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %.200q does not say %q", name, err, tt.says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.WaitForOrchestrationCompletion(ctx, "runs"); err != context.Canceled { //nolint:errorlint // the contract: ctx.Err() itself
		t.Errorf("wait with an ended context: %v", err)
	}
	if m := h.fetch("runs"); m.RuntimeStatus != api.RUNTIME_STATUS_RUNNING {
		t.Errorf("the calls that were refused changed something: %v", m.RuntimeStatus)
	}
}

// errorsOfTheLifeCycle lists what is said before a task hub is open and after it was closed.
func errorsOfTheLifeCycle(t *testing.T, hubs NewHub) {
	ctx := t.Context()
	hub := hubs(t)
	be := hub.Open(Settings{Logger: &recorder{}})
	closed := func(when string) {
		t.Helper()
		c := backend.NewClient(be)
		for name, err := range map[string]error{
			"start":    func() error { _, err := c.ScheduleNewOrchestration(ctx, "o"); return err }(),
			"fetch":    func() error { _, err := c.FetchOrchestrationMetadata(ctx, "i"); return err }(),
			"wait":     func() error { _, err := c.WaitForOrchestrationCompletion(ctx, "i"); return err }(),
			"raise":    c.RaiseEvent(ctx, "i", "e", nil),
			"end":      c.TerminateOrchestration(ctx, "i", ""),
			"force":    c.ForceTerminate(ctx, "i"),
			"suspend":  c.SuspendOrchestration(ctx, "i", ""),
			"resume":   c.ResumeOrchestration(ctx, "i", ""),
			"purge":    c.PurgeOrchestrationState(ctx, "i"),
			"purges":   func() error { _, err := c.Purge(ctx, "i"); return err }(),
			"query":    func() error { _, err := c.Query(ctx, api.InstanceQuery{}); return err }(),
			"history":  c.History(ctx, "i", nil),
			"rewind":   c.Rewind(ctx, "i", ""),
			"restart":  func() error { _, err := c.Restart(ctx, "i", false); return err }(),
			"turn":     func() error { _, err := be.GetOrchestrationWorkItem(ctx); return err }(),
			"activity": func() error { _, err := be.GetActivityWorkItem(ctx); return err }(),
			"await": func() error {
				if a, ok := be.(backend.WorkItemAwaiter); ok {
					_, err := a.AwaitOrchestrationWorkItem(ctx)
					return err
				}
				return backend.ErrNotInitialized
			}(),
			"await activity": func() error {
				if a, ok := be.(backend.WorkItemAwaiter); ok {
					_, err := a.AwaitActivityWorkItem(ctx)
					return err
				}
				return backend.ErrNotInitialized
			}(),
			"state":             func() error { _, err := be.GetOrchestrationRuntimeState(ctx, nil); return err }(),
			"complete":          be.CompleteOrchestrationWorkItem(ctx, nil),
			"abandon":           be.AbandonOrchestrationWorkItem(ctx, nil),
			"complete activity": be.CompleteActivityWorkItem(ctx, nil),
			"abandon activity":  be.AbandonActivityWorkItem(ctx, nil),
			"create":            be.CreateOrchestrationInstance(ctx, nil),
			"add":               be.AddNewOrchestrationEvent(ctx, "i", nil),
			"health": func() error {
				if r, ok := be.(backend.HealthReporter); ok {
					return r.Health()
				}
				return backend.ErrNotInitialized
			}(),
		} {
			if !errors.Is(err, backend.ErrNotInitialized) && !errors.Is(err, api.ErrUnsupported) {
				t.Errorf("%s, %s: %v", name, when, err)
			}
		}
	}
	closed("never opened")
	if err := be.Stop(ctx); err != nil {
		t.Errorf("stop of what is not open: %v", err)
	}
	if err := be.DeleteTaskHub(ctx); !errors.Is(err, backend.ErrTaskHubNotFound) {
		t.Errorf("delete of nothing: %v", err)
	}
	if err := be.CreateTaskHub(ctx); err != nil {
		t.Errorf("create: %v", err)
	}
	if err := be.CreateTaskHub(ctx); !errors.Is(err, backend.ErrTaskHubExists) {
		t.Errorf("create again: %v", err)
	}
	if err := be.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	closed("stopped")
	if err := be.CreateTaskHub(ctx); !errors.Is(err, backend.ErrTaskHubExists) {
		t.Errorf("create of what is there: %v", err)
	}
	if err := be.DeleteTaskHub(ctx); err != nil {
		t.Errorf("delete: %v", err)
	}
	closed("deleted")
	h := newHost(t, hub, orchestrators{"other": other}, nil)
	if err := h.w.Start(ctx); !errors.Is(err, backend.ErrBackendAlreadyStarted) {
		t.Errorf("second start: %v", err)
	}
}

// invalidWorkItems: what a wrong worker may hand in is refused and changes nothing.
func invalidWorkItems(t *testing.T, hubs NewHub) {
	h := idleHost(t, hubs(t))
	h.begin("o", api.WithInstanceID("i"))
	wi, err := h.be.GetOrchestrationWorkItem(t.Context())
	must(t, err)
	wrong := &backend.HistoryEvent{EventId: -1, Timestamp: timestamppb.Now(), EventType: &protos.HistoryEvent_GenericEvent{GenericEvent: &protos.GenericEvent{}}}
	for name, err := range map[string]error{
		"nil turn":        h.be.CompleteOrchestrationWorkItem(t.Context(), nil),
		"abandon of nil":  h.be.AbandonOrchestrationWorkItem(t.Context(), nil),
		"nil activity":    h.be.CompleteActivityWorkItem(t.Context(), nil),
		"abandon no task": h.be.AbandonActivityWorkItem(t.Context(), nil),
		"no state": h.be.CompleteOrchestrationWorkItem(t.Context(), &backend.OrchestrationWorkItem{
			InstanceID: wi.InstanceID, LockedBy: wi.LockedBy,
		}),
		"nil start":        h.be.CreateOrchestrationInstance(t.Context(), nil),
		"empty start":      h.be.CreateOrchestrationInstance(t.Context(), &backend.HistoryEvent{}),
		"start of no kind": h.be.CreateOrchestrationInstance(t.Context(), wrong),
		"nil event":        h.be.AddNewOrchestrationEvent(t.Context(), "i", nil),
		"empty event":      h.be.AddNewOrchestrationEvent(t.Context(), "i", &backend.HistoryEvent{Timestamp: timestamppb.Now()}),
		"event without a time": h.be.AddNewOrchestrationEvent(t.Context(), "i", &backend.HistoryEvent{
			EventType: &protos.HistoryEvent_EventRaised{EventRaised: &protos.EventRaisedEvent{Name: "e"}},
		}),
		"event after the year 9999": h.be.AddNewOrchestrationEvent(t.Context(), "i", &backend.HistoryEvent{
			Timestamp: &timestamppb.Timestamp{Seconds: 1 << 50},
			EventType: &protos.HistoryEvent_EventRaised{EventRaised: &protos.EventRaisedEvent{Name: "e"}},
		}),
	} {
		if !errors.Is(err, api.ErrInvalidInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := h.be.AbandonOrchestrationWorkItem(t.Context(), wi); err != nil {
		t.Errorf("the item is not held any more: %v", err)
	}
}
