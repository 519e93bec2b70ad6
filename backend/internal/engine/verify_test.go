package engine_test

import (
	"context"
	"strings"
	"testing"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend/internal/engine"
	"github.com/perdure/perdure/backend/internal/memstore"
	"github.com/perdure/perdure/backend/internal/store"
)

// readable is a store in memory that can be opened to read.
type readable struct{ *memstore.Store }

func (readable) OpenRead(context.Context) error { return nil }

func TestVerifyNamesFaults(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	_, m, err := st.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	completed := int32(api.RUNTIME_STATUS_COMPLETED)
	if err := st.Commit(t.Context(), &store.Batch{
		Epoch: m.Epoch,
		Insert: []*store.Instance{
			{Key: 1, ID: "marked", Name: "o", Status: completed, Unfinished: true},
			{Key: 2, ID: "unreadable", Name: "o", Unfinished: true},
			{Key: 3, ID: "empty", Name: "o", Status: int32(api.RUNTIME_STATUS_PENDING), Unfinished: true},
			{Key: 4, ID: "good", Name: "o", Status: completed},
			{Key: 5, ID: "message", Name: "o", Unfinished: true},
		},
		History: []store.HistoryRow{{LSN: 1, Key: 2, Events: []byte{0xff, 0xff}}},
		Inbox:   []store.InboxRow{{Seq: 1, Key: 5, Event: []byte{0xff}}},
	}); err != nil {
		t.Fatal(err)
	}
	r, err := engine.OpenReader(t.Context(), readable{st}, "memory")
	if err != nil {
		t.Fatal(err)
	}
	got := map[api.InstanceID]string{}
	sum, err := r.VerifyHub(t.Context(), func(id api.InstanceID, fault string) error {
		got[id] += fault + "\n"
		return nil
	})
	if err != nil || sum.Instances != 5 || sum.Faults != 4 || sum.Messages != 1 {
		t.Errorf("%+v, %v", sum, err)
	}
	for id, want := range map[api.InstanceID]string{
		"marked": "marked as unfinished: true", "unreadable": "history record 1", "empty": "can never start", "message": "inbox record 1",
	} {
		if !strings.Contains(got[id], want) {
			t.Errorf("%s: %q, want %q", id, got[id], want)
		}
	}
	if got["good"] != "" {
		t.Errorf("good: %q", got["good"])
	}
}
