package durabletaskgo

import (
	"encoding/hex"
	"fmt"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api/protos"
)

// timeLayouts are how the drivers that durabletask-go used wrote a time.
var timeLayouts = []string{
	"2006-01-02 15:04:05.999999999 -0700 MST",
	"2006-01-02 15:04:05.999999999-07:00",
	"2006-01-02 15:04:05.999999999-07",
	"2006-01-02 15:04:05.999999999",
	time.RFC3339Nano,
}

// parseTime reads what stands in a column; "" is no time. Without a zone it is UTC.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time that durabletask-go wrote", s)
}

func asTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// mend repairs the trace contexts of versions before 0.4, which were two fields.
func mend(m protoreflect.Message) {
	var broken []protoreflect.FieldDescriptor
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() == nil || f.IsList() || f.IsMap() {
			return true
		}
		t, ok := v.Message().Interface().(*protos.TraceContext)
		if !ok {
			mend(v.Message())
		} else if t.TraceParent = traceParent(t.GetTraceParent(), t.GetSpanID()); t.GetTraceParent() == "" {
			broken = append(broken, f)
		}
		return true
	})
	for _, f := range broken {
		m.Clear(f)
	}
}

// raised is an event of an inbox: durabletask-go delivered what one instance
// sends to another as sent, which its own SDK could not read.
func raised(e *protos.HistoryEvent) *protos.HistoryEvent {
	if s := e.GetEventSent(); s != nil {
		return &protos.HistoryEvent{EventId: -1, Timestamp: e.GetTimestamp(), EventType: &protos.HistoryEvent_EventRaised{
			EventRaised: &protos.EventRaisedEvent{Name: s.GetName(), Input: s.GetInput()},
		}}
	}
	return e
}

// traceParent is the header of W3C for what was stored: the header itself, or
// the ids of a trace and a span; "" where it is neither.
func traceParent(trace, span string) string {
	isHex := func(s string, n int) bool {
		_, err := hex.DecodeString(s)
		return err == nil && len(s) == n
	}
	switch {
	case len(trace) == 55 && isHex(trace[3:35], 32) && isHex(trace[36:52], 16):
		return trace
	case isHex(trace, 32) && isHex(span, 16):
		return "00-" + trace + "-" + span + "-01"
	}
	return ""
}
