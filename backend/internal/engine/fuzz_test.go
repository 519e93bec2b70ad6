package engine

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/internal/store"
)

// FuzzHistoryRow decodes any bytes as a history record. What can be decoded is
// encoded to the same events again, also by hand, and anything else is store.ErrCorrupt.
func FuzzHistoryRow(f *testing.F) {
	at := timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
	row, err := encodeEvents([]*backend.HistoryEvent{
		{EventId: -1, Timestamp: at, EventType: &protos.HistoryEvent_OrchestratorStarted{OrchestratorStarted: &protos.OrchestratorStartedEvent{}}},
		{Timestamp: at, EventType: &protos.HistoryEvent_TaskScheduled{TaskScheduled: &protos.TaskScheduledEvent{
			Name: "a", Version: wrapperspb.String("1"), Input: wrapperspb.String(`"é"`)}}},
		{EventId: 1, Timestamp: at, EventType: &protos.HistoryEvent_TimerCreated{TimerCreated: &protos.TimerCreatedEvent{FireAt: at}}},
		{EventId: -1, EventType: &protos.HistoryEvent_TaskFailed{TaskFailed: &protos.TaskFailedEvent{
			TaskScheduledId: 7, FailureDetails: &protos.TaskFailureDetails{ErrorType: "T"}}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(row)
	f.Add(row[:len(row)-1])
	f.Add([]byte{0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		events, err := decodeEvents(data)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatalf("not ErrCorrupt: %v", err)
			}
			return
		}
		again, err := encodeEvents(events)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		back, err := decodeEvents(again)
		if err != nil || len(back) != len(events) {
			t.Fatalf("%d events became %d: %v", len(events), len(back), err)
		}
		for n := range events {
			known(events[n].ProtoReflect()) // no field is unknown in what we write
			known(back[n].ProtoReflect())
			if !proto.Equal(events[n], back[n]) {
				t.Fatalf("event %d was\n%v\nand is\n%v", n, events[n], back[n])
			}
		}
	})
}

// known drops the fields that this version does not know.
func known(m protoreflect.Message) {
	m.SetUnknown(nil)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { known(v.Message()); return true })
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				known(v.List().Get(i).Message())
			}
		default:
			known(v.Message())
		}
		return true
	})
}

// FuzzToken resumes lists from any token: it is a token or refused.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "1z", "0", "-1", "zzzzzzzzzzzzzz", "12:id", ":", "12:", "99999999999999999999:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if at, _, err := parseFinishedToken(token); err == nil && token != "" && at <= 0 {
			t.Fatalf("%q resumes at %d", token, at)
		}
	})
}
