package durabletaskgo

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

func TestParseTime(t *testing.T) {
	t.Parallel()
	want := time.Date(2023, 3, 30, 17, 4, 5, 120000000, time.UTC)
	for _, s := range []string{
		"2023-03-30 17:04:05.12 +0000 UTC", "2023-03-30 19:04:05.12+02:00", "2023-03-30 19:04:05.12+02", "2023-03-30 17:04:05.12", "2023-03-30T17:04:05.12Z",
	} {
		if got, err := parseTime(s); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if got, err := parseTime(""); err != nil || !got.IsZero() {
		t.Errorf("no time: %v, %v", got, err)
	}
	if _, err := parseTime("yesterday"); err == nil {
		t.Error("yesterday is a time")
	}
}

func TestMendTraceContexts(t *testing.T) {
	t.Parallel()
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	const parent = "00-" + trace + "-" + span + "-01"
	for _, tt := range []struct{ trace, span, want string }{
		{trace, span, parent}, {parent, "", parent}, {"nonsense", span, ""}, {"", "", ""},
	} {
		e := &protos.HistoryEvent{EventType: &protos.HistoryEvent_TaskScheduled{TaskScheduled: &protos.TaskScheduledEvent{
			Name: "a", ParentTraceContext: &protos.TraceContext{TraceParent: tt.trace, SpanID: tt.span},
		}}}
		mend(e.ProtoReflect())
		if got := e.GetTaskScheduled(); got.GetParentTraceContext().GetTraceParent() != tt.want || (got.ParentTraceContext != nil) != (tt.want != "") {
			t.Errorf("%v: %v", tt, got)
		}
	}
}

func TestSentEventsAreRaised(t *testing.T) {
	t.Parallel()
	got := raised(&protos.HistoryEvent{EventId: 3, EventType: &protos.HistoryEvent_EventSent{
		EventSent: &protos.EventSentEvent{InstanceId: "i", Name: "go", Input: wrapperspb.String("1")},
	}})
	want := &protos.HistoryEvent{EventId: -1, EventType: &protos.HistoryEvent_EventRaised{
		EventRaised: &protos.EventRaisedEvent{Name: "go", Input: wrapperspb.String("1")},
	}}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Error(d)
	}
}
