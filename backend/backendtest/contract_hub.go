package backendtest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

func hubLifecycle(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	d := &desk{t: t, hub: hub, be: hub.Open(Settings{Logger: hub.log}), turns: map[api.InstanceID]*backend.OrchestrationWorkItem{}}
	t.Cleanup(d.close)
	d.wantErr("delete where there is none", d.be.DeleteTaskHub(d.ctx()), backend.ErrTaskHubNotFound)
	for round := range 3 {
		must(t, d.be.CreateTaskHub(d.ctx()))
		d.wantErr("create again", d.be.CreateTaskHub(d.ctx()), backend.ErrTaskHubExists)
		must(t, d.be.Start(d.ctx()))
		id := api.InstanceID(fmt.Sprint("of round ", round))
		d.start(id)
		d.wantStatus(id, api.RUNTIME_STATUS_PENDING)
		if round > 0 {
			_, err := d.be.GetOrchestrationMetadata(d.ctx(), api.InstanceID(fmt.Sprint("of round ", round-1)))
			d.wantErr("what was there before the delete", err, api.ErrInstanceNotFound)
		}
		must(t, d.be.DeleteTaskHub(d.ctx()))
		d.wantErr("delete again", d.be.DeleteTaskHub(d.ctx()), backend.ErrTaskHubNotFound)
	}
}

func hubNotInitialized(t *testing.T, hubs NewHub) {
	hub := hubs(t)
	be, ctx := hub.Open(Settings{Logger: hub.log}), t.Context()
	first := func(_ any, err error) error { return err }
	for name, err := range map[string]error{
		"CreateOrchestrationInstance":   be.CreateOrchestrationInstance(ctx, nil),
		"AddNewOrchestrationEvent":      be.AddNewOrchestrationEvent(ctx, "", nil),
		"GetOrchestrationWorkItem":      first(be.GetOrchestrationWorkItem(ctx)),
		"GetOrchestrationRuntimeState":  first(be.GetOrchestrationRuntimeState(ctx, nil)),
		"GetOrchestrationMetadata":      first(be.GetOrchestrationMetadata(ctx, "")),
		"CompleteOrchestrationWorkItem": be.CompleteOrchestrationWorkItem(ctx, nil),
		"AbandonOrchestrationWorkItem":  be.AbandonOrchestrationWorkItem(ctx, nil),
		"GetActivityWorkItem":           first(be.GetActivityWorkItem(ctx)),
		"CompleteActivityWorkItem":      be.CompleteActivityWorkItem(ctx, nil),
		"AbandonActivityWorkItem":       be.AbandonActivityWorkItem(ctx, nil),
		"PurgeOrchestrationState":       be.PurgeOrchestrationState(ctx, ""),
	} {
		(&desk{t: t}).wantErr(name, err, backend.ErrNotInitialized)
	}
}

func hubStopsTwice(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	must(t, d.be.Start(d.ctx()))
	d.start("a")
	must(t, d.be.Stop(d.ctx()))
	must(t, d.be.Stop(d.ctx()))
	d.reopen()
	d.wantStatus("a", api.RUNTIME_STATUS_PENDING)
}

// hubKeepsEverything looks at a hub before and after another process opened it.
func hubKeepsEverything(t *testing.T, hubs NewHub) {
	d := newDesk(t, hubs)
	d.start("pending")
	d.start("waiting")
	d.complete(d.turn("waiting"), setTimer(0, time.Now().Add(time.Hour)))
	d.start("running")
	d.complete(d.turn("running"), callTask(0, "a"), callTask(1, "b"))
	d.start("ready")
	d.complete(d.turn("ready"))
	d.raise("ready", "first", "1")
	d.raise("ready", "second", "2")
	d.start("out") // a turn that nobody ends
	d.turn("out")
	d.start("completed")
	d.complete(d.turn("completed"), end(0, api.RUNTIME_STATUS_COMPLETED, "42"))
	d.start("failed")
	d.complete(d.turn("failed"), end(0, api.RUNTIME_STATUS_FAILED, "why"))
	ids := []api.InstanceID{"pending", "waiting", "running", "ready", "out", "completed", "failed"}
	before := map[api.InstanceID]string{}
	for _, id := range ids {
		before[id] = summary(d.metadata(id))
	}
	d.reopen()
	for _, id := range ids {
		if diff := cmp.Diff(before[id], summary(d.metadata(id))); diff != "" {
			t.Errorf("%s changed (-before +after):\n%s", id, diff)
		}
	}
	for id, want := range map[api.InstanceID][]string{
		"pending": {"ExecutionStartedEvent"}, "out": {"ExecutionStartedEvent"},
		"ready": {"EventRaisedEvent", "EventRaisedEvent"},
	} {
		wi := d.turn(id)
		if got := kinds(wi.NewEvents); !slices.Equal(got, want) {
			t.Errorf("%s has the messages %v, want %v", id, got, want)
		}
		if id == "ready" {
			if got := kinds(wi.State.OldEvents()); !slices.Contains(got, "ExecutionStartedEvent") {
				t.Errorf("%s has the history %v", id, got)
			}
			if wi.NewEvents[0].GetEventRaised().GetName() != "first" {
				t.Errorf("the events of %s come as %v", id, wi.NewEvents)
			}
		}
	}
	a, b := d.task(), d.task()
	for n, wi := range []*backend.ActivityWorkItem{a, b} {
		if wi.InstanceID != "running" || wi.NewEvent.GetEventId() != int32(n) {
			t.Errorf("activity %d is %s", n, wi.Description())
		}
	}
	d.noTask()
	d.noTurn()
}

// summary is all that metadata says, but for the time of the last update.
func summary(m *api.OrchestrationMetadata) string {
	return fmt.Sprintf("id=%s name=%s version=%s exec=%s status=%s created=%v in=%s out=%s custom=%s failure=%v/%v parent=%s tags=%v start=%v end=%v",
		m.InstanceID, m.Name, m.Version, m.ExecutionID, api.StatusName(m.RuntimeStatus), m.CreatedAt, m.SerializedInput,
		m.SerializedOutput, m.SerializedCustomStatus, m.FailureDetails.GetErrorType(), m.FailureDetails.GetErrorMessage(),
		m.ParentInstanceID, m.Tags, m.ScheduledStartAt, m.CompletedAt)
}
