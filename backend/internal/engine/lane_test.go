package engine

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/memstore"
)

func opened(t *testing.T) *Engine {
	t.Helper()
	e := New(memstore.New(), backend.DefaultLogger(), Options{})
	if err := e.CreateTaskHub(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

func begun(t *testing.T, e *Engine, id string) *instance {
	t.Helper()
	if err := e.CreateOrchestrationInstance(t.Context(), &backend.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.Now(), EventType: &protos.HistoryEvent_ExecutionStarted{
			ExecutionStarted: &protos.ExecutionStartedEvent{
				Name: "o", OrchestrationInstance: &protos.OrchestrationInstance{
					InstanceId: id, ExecutionId: wrapperspb.String(backend.NewExecutionID()),
				},
			},
		},
	}); err != nil {
		t.Fatal(err)
	}
	i, err := e.pin(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.unpin(i) })
	return i
}

// TestAFailedOpLeavesNothing: what an op has put into a batch before it failed
// is not written, and all other ops are.
func TestAFailedOpLeavesNothing(t *testing.T) {
	e := opened(t)
	kept, gone, also := begun(t, e, "kept"), begun(t, e, "gone"), begun(t, e, "also gone")
	errBad := errors.New("bad")
	remove := func(i *instance, err error) *op {
		return &op{build: func(b *builder) error { b.remove(i); return err }}
	}
	bad := remove(kept, errBad)
	good := []*op{remove(gone, nil), remove(also, nil)}
	e.commit([]*op{good[0], bad, good[1]})
	if !errors.Is(bad.err, errBad) || good[0].err != nil || good[1].err != nil {
		t.Errorf("%v, %v, %v", bad.err, good[0].err, good[1].err)
	}
	for id, want := range map[api.InstanceID]error{"kept": nil, "gone": api.ErrInstanceNotFound, "also gone": api.ErrInstanceNotFound} {
		if _, err := e.GetOrchestrationMetadata(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", id, err, want)
		}
	}
}

// TestAMessageGoesWithItsInstance: one that is stored in the batch that deletes
// its instance is not left behind.
func TestAMessageGoesWithItsInstance(t *testing.T) {
	e := opened(t)
	i := begun(t, e, "i")
	e.commit([]*op{
		{build: func(b *builder) error { _, err := b.store(i.key, &backend.HistoryEvent{EventId: -1}); return err }},
		{build: func(b *builder) error { b.remove(i); return nil }},
	})
	if rows, err := e.st.Inbox(t.Context(), i.key); len(rows) > 0 || err != nil {
		t.Errorf("left: %v %v", rows, err)
	}
}
