package backendtest

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/backend/internal/store"
	"github.com/perdure/perdure/task"
)

// FuzzStoredInstance opens a hub with an instance of which anything may be
// stored. It may go on, fail or be set aside; everything else goes on, it can be
// looked at, ended and deleted, and its id can be used again.
func FuzzStoredInstance(f *testing.F) {
	record := func(events ...*backend.HistoryEvent) []byte {
		var data []byte
		for _, e := range events {
			b, err := proto.Marshal(e)
			if err != nil {
				f.Fatal(err)
			}
			data = protowire.AppendBytes(data, b)
		}
		return data
	}
	message := func(e *backend.HistoryEvent) []byte {
		b, err := proto.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	turn := func(events ...*backend.HistoryEvent) []byte {
		begin := event()
		begin.EventType = &protos.HistoryEvent_OrchestratorStarted{OrchestratorStarted: &protos.OrchestratorStartedEvent{}}
		return record(append([]*backend.HistoryEvent{begin}, events...)...)
	}
	start := startEvent("bad", "o")
	scheduled, timer := event(), event()
	scheduled.EventId, timer.EventId = 0, 0
	scheduled.EventType = &protos.HistoryEvent_TaskScheduled{TaskScheduled: &protos.TaskScheduledEvent{Name: "a"}}
	timer.EventType = &protos.HistoryEvent_TimerCreated{TimerCreated: &protos.TimerCreatedEvent{FireAt: timer.GetTimestamp()}}
	status := func(s protos.OrchestrationStatus) byte { return byte(s) }
	f.Add(turn(start, scheduled), message(taskFailed(0, "x")), status(api.RUNTIME_STATUS_RUNNING), int64(0), []byte(`{"k":"v"}`), []byte{})
	f.Add(turn(start, timer), []byte{}, status(api.RUNTIME_STATUS_RUNNING), int64(1), []byte{}, []byte{})
	f.Add(turn(start), message(raised("go", "1")), status(api.RUNTIME_STATUS_SUSPENDED), store.Far, []byte{}, []byte{})
	f.Add([]byte{}, message(start), status(api.RUNTIME_STATUS_PENDING), int64(0), []byte{}, []byte{})
	f.Add([]byte{}, message(scheduled), status(api.RUNTIME_STATUS_COMPLETED), int64(0), []byte{}, message(taskFailed(0, "x")))
	f.Add([]byte{0, 0, 0}, []byte{0xff}, byte(99), int64(-5), []byte("{"), []byte{0xff})
	f.Fuzz(func(t *testing.T, history, inbox []byte, status byte, due int64, tags, failure []byte) {
		if len(history)+len(inbox)+len(tags)+len(failure) > 1<<14 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			st := memstore.New()
			_, m, err := st.Open(t.Context())
			must(t, err)
			row := &store.Instance{
				Key: 1, ID: "bad", Name: "o", ExecutionID: "x", Status: int32(status), CreatedAt: 1, Due: due,
				Unfinished: !api.IsTerminal(protos.OrchestrationStatus(status)), Tags: tags, Failure: failure,
			}
			b := &store.Batch{Epoch: m.Epoch, Insert: []*store.Instance{row}}
			if len(history) > 0 {
				b.History = []store.HistoryRow{{LSN: 1, Key: 1, At: 1, Events: history}}
			}
			if len(inbox) > 0 {
				b.Inbox = []store.InboxRow{{Seq: 1, Key: 1, Event: inbox}}
			}
			must(t, st.Commit(t.Context(), b))
			must(t, st.Close())
			openAny(t, st)
		})
	})
}

func openAny(t *testing.T, st *memstore.Store) {
	t.Helper()
	log := backend.NewLogger(slog.New(slog.DiscardHandler))
	be := modelOn(st, Settings{Logger: log})
	r := task.NewTaskRegistry()
	must(t, errors.Join(
		r.AddOrchestratorN("o", func(c *task.OrchestrationContext) (any, error) {
			if err := c.CallActivity("a").Await(nil); err != nil {
				return nil, err
			}
			return nil, c.WaitForSingleEvent("go", time.Hour).Await(nil)
		}),
		r.AddOrchestratorN("other", other), r.AddActivityN("echo", echo),
		r.AddActivityN("a", func(task.ActivityContext) (any, error) { return 1, nil }),
	))
	ex := task.NewTaskExecutor(r)
	hub := backend.NewTaskHubWorker(be, backend.NewOrchestrationWorker(be, ex, log), backend.NewActivityTaskWorker(be, ex, log), log)
	must(t, hub.Start(t.Context()))
	c := backend.NewClient(be)
	good, err := c.ScheduleNewOrchestration(t.Context(), "other")
	must(t, err)
	// Whatever these answer, they answer.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, _ = c.FetchOrchestrationMetadata(ctx, "bad")
	_, _ = c.Query(ctx, api.InstanceQuery{Payloads: true})
	_ = c.History(ctx, "bad", func([]*backend.HistoryEvent) error { return nil })
	_ = c.RaiseEvent(ctx, "bad", "go", 1)
	_ = c.TerminateOrchestration(ctx, "bad", "enough")
	if x, ok := be.(backend.Explainer); ok {
		_, _ = x.ExplainInstance(ctx, "bad")
	}
	if m, err := c.WaitForOrchestrationCompletion(ctx, good); err != nil || m.SerializedOutput != `"fine"` {
		t.Fatalf("another instance: %v %v", m, err)
	}
	<-time.After(time.Hour) // timers and retries of the bad one
	must(t, c.ForceTerminate(t.Context(), "bad"))
	if n, err := c.ForcePurge(t.Context(), "bad"); n != 1 || err != nil {
		t.Fatalf("purge: %d %v", n, err)
	}
	_, err = c.ScheduleNewOrchestration(t.Context(), "other", api.WithInstanceID("bad"))
	must(t, err)
	if m, err := c.WaitForOrchestrationCompletion(t.Context(), "bad"); err != nil || m.SerializedOutput != `"fine"` {
		t.Fatalf("the id used again: %v %v", m, err)
	}
	must(t, hub.Shutdown(t.Context()))
}
