package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/task"
)

// legacyWorker runs one orchestration that talks to entities by events with
// JSON: each answer that comes makes it send the next thing.
type legacyWorker struct {
	entities backend.EntityExecutor
	steps    []string // "target|name|JSON", several to a line
}

func (w *legacyWorker) ExecuteEntity(ctx context.Context, r *protos.EntityRequest) (*protos.EntityBatchResult, error) {
	return w.entities.ExecuteEntity(ctx, r)
}

func (w *legacyWorker) ExecuteActivity(context.Context, api.InstanceID, *protos.HistoryEvent) (*protos.HistoryEvent, error) {
	return nil, fmt.Errorf("there are no activities")
}

func (w *legacyWorker) ExecuteOrchestrator(
	_ context.Context, iid api.InstanceID, past, added []*protos.HistoryEvent,
) (*backend.ExecutionResults, error) {
	var answers []string
	sent := int32(0)
	for _, e := range append(append([]*protos.HistoryEvent{}, past...), added...) {
		if r := e.GetEventRaised(); r != nil {
			answers = append(answers, r.GetName()+" "+r.GetInput().GetValue())
		}
		if e.GetEventSent() != nil {
			sent++
		}
	}
	r := &protos.OrchestratorResponse{InstanceId: string(iid)}
	if len(answers) == len(w.steps) {
		r.Actions = append(r.Actions, &protos.OrchestratorAction{Id: sent, OrchestratorActionType: &protos.OrchestratorAction_CompleteOrchestration{
			CompleteOrchestration: &protos.CompleteOrchestrationAction{
				OrchestrationStatus: api.RUNTIME_STATUS_COMPLETED, Result: wrapperspb.String(strings.Join(answers, "\n")),
			},
		}})
		return &backend.ExecutionResults{Response: r}, nil
	}
	done := 0
	for _, step := range w.steps[:len(answers)+1] {
		for line := range strings.SplitSeq(step, "\n") {
			if done++; int32(done) <= sent {
				continue
			}
			f := strings.SplitN(line, "|", 3)
			r.Actions = append(r.Actions, &protos.OrchestratorAction{Id: int32(done - 1), OrchestratorActionType: &protos.OrchestratorAction_SendEvent{
				SendEvent: &protos.SendEventAction{
					Instance: &protos.OrchestrationInstance{InstanceId: f[0]}, Name: f[1], Data: wrapperspb.String(f[2]),
				},
			}})
		}
	}
	return &backend.ExecutionResults{Response: r}, nil
}

func TestLegacyEntityMessages(t *testing.T) {
	x := &legacyWorker{entities: task.NewTaskExecutor(entityRegistry(t)).(backend.EntityExecutor), steps: []string{
		`@Account@a|op|{"op":"add","signal":true,"input":"5","id":"s1"}
@account@a|op|{"op":"add","input":"10","id":"c1","parent":"forged"}`,
		`@account@a|op|{"op":null,"id":"l1","lockset":[{"name":"account","key":"b"},"@Account@a"],"pos":0}`,
		`@account@a|op|{"op":"fail","id":"c2"}`,
		`@account@b|op|{"op":"get","id":"c3"}`,
		`@account@a|release|{"parent":"p","id":"l1"}
@account@b|release|{"parent":"p","id":"l1"}
@account@a|nonsense|{}
@account@a|op@2000-01-01T00:00:00Z|{"op":"add","signal":true,"input":"1","id":"s2","due":"2000-01-01T00:00:00"}
@account@a|op|{"op":"get","id":"c4"}`,
	}}
	st := memstore.New()
	log := quiet{backend.DefaultLogger()}
	be := engine.New(st, log, engine.Options{})
	w := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, x, log), backend.NewActivityTaskWorker(be, x, log), log)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	c := backend.NewClient(be)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	id, err := c.ScheduleNewOrchestration(ctx, "legacy")
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.WaitForOrchestrationCompletion(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`c1 {"result":"15"}`,
		`l1 {"result":"Lock Acquisition Completed"}`,
		`c2 {"result":"\"no luck\"","exceptionType":"no luck","failureDetails":{"ErrorType":"*errors.errorString","ErrorMessage":"no luck","IsNonRetriable":false}}`,
		`c3 {"result":"0"}`,
		`c4 {"result":"16"}`,
	}
	if got := m.SerializedOutput; got != strings.Join(want, "\n") {
		t.Errorf("answers:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
	raise := func(name, data string) error {
		return be.AddNewOrchestrationEvent(ctx, "@account@a", &backend.HistoryEvent{
			EventId: -1, Timestamp: timestamppb.Now(),
			EventType: &protos.HistoryEvent_EventRaised{EventRaised: &protos.EventRaisedEvent{Name: name, Input: wrapperspb.String(data)}},
		})
	}
	if err := raise("op", `{"op":"add","signal":true,"input":"4","id":"s3"}`); err != nil {
		t.Error(err)
	}
	for name, data := range map[string]string{
		"op": `{"op":"add","input":"4","id":"s4"}`, "release": `{"parent":"x","id":"l"}`, "go": `1`, "op@": `{`,
	} {
		if err := raise(name, data); !strings.Contains(fmt.Sprint(err), api.ErrInvalidInput.Error()) {
			t.Errorf("event %s %s: %v", name, data, err)
		}
	}
	eventually(t, func() bool {
		m, err := c.FetchEntityMetadata(ctx, api.NewEntityID("account", "a"), true)
		return err == nil && m.SerializedState == "20" && m.LockedBy == ""
	})
}

// TestLegacyLockIsReleasedWithItsOwner ends the owner between its lock request and its release.
func TestLegacyLockIsReleasedWithItsOwner(t *testing.T) {
	x := &legacyWorker{entities: task.NewTaskExecutor(entityRegistry(t)).(backend.EntityExecutor), steps: []string{
		`@account@a|op|{"op":null,"id":"l1","lockset":["@account@a","@account@b"]}`, "@ghost|op|{}",
	}}
	log := quiet{backend.DefaultLogger()}
	be := engine.New(memstore.New(), log, engine.Options{})
	w := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, x, log), backend.NewActivityTaskWorker(be, x, log), log)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	c, ctx := backend.NewClient(be), t.Context()
	locked := func(n int) func() bool {
		return func() bool {
			page, err := c.QueryEntities(ctx, api.EntityQuery{IncludeTransient: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page.Entities {
				if m.LockedBy != "" {
					n--
				}
			}
			return len(page.Entities) == 2 && n == 0
		}
	}
	for _, end := range []func(api.InstanceID) error{
		func(id api.InstanceID) error { return c.TerminateOrchestration(ctx, id, "") },
		func(id api.InstanceID) error { return c.ForceTerminate(ctx, id) },
		func(id api.InstanceID) error { _, err := c.ForcePurge(ctx, id); return err },
	} {
		id, err := c.ScheduleNewOrchestration(ctx, "legacy")
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return locked(2)() })
		if err := end(id); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return locked(0)() })
	}
}
