// Package timeline turns history events into what people read: a line for each
// event. It knows the wire types only.
package timeline

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// Line is one event as people read it.
type Line struct {
	At      time.Time
	Type    string // such as "TaskScheduled"
	ID      int32  // of the action that it confirms, else -1
	Task    int32  // of the action whose outcome it is, else -1
	Name    string // of the activity, child, event or orchestrator
	Payload string // as it is stored
	Detail  string // what else there is to say
	Failed  bool
}

// Of returns the line of an event.
func Of(e *protos.HistoryEvent) Line {
	l := Line{At: e.GetTimestamp().AsTime(), Type: "Unknown", ID: e.GetEventId(), Task: -1}
	m := e.ProtoReflect()
	f := m.WhichOneof(m.Descriptor().Oneofs().ByName("eventType"))
	if f == nil {
		return l
	}
	l.Type = strings.ToUpper(string(f.Name()[:1])) + string(f.Name()[1:])
	v := m.Get(f).Message().Interface()
	if n, ok := v.(interface{ GetName() string }); ok {
		l.Name = n.GetName()
	}
	if t, ok := v.(interface{ GetTaskScheduledId() int32 }); ok {
		l.Task = t.GetTaskScheduledId()
	}
	if t, ok := v.(interface{ GetTimerId() int32 }); ok {
		l.Task = t.GetTimerId()
	}
	if p, ok := v.(interface {
		GetInput() *wrapperspb.StringValue
	}); ok {
		l.Payload = p.GetInput().GetValue()
	}
	if p, ok := v.(interface {
		GetResult() *wrapperspb.StringValue
	}); ok {
		l.Payload = p.GetResult().GetValue()
	}
	l.Detail, l.Failed = detail(v)
	return l
}

func detail(v any) (text string, failed bool) {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if i, ok := v.(interface{ GetInstanceId() string }); ok && i.GetInstanceId() != "" {
		add("instance %s", i.GetInstanceId())
	}
	if at, ok := v.(interface{ GetFireAt() *timestamppb.Timestamp }); ok && at.GetFireAt() != nil {
		add("due %s", at.GetFireAt().AsTime().Format(time.RFC3339Nano))
	}
	switch e := v.(type) {
	case *protos.ExecutionStartedEvent:
		if p := e.GetParentInstance(); p != nil {
			add("child of %s", p.GetOrchestrationInstance().GetInstanceId())
		}
		if e.GetVersion() != nil {
			add("version %s", e.GetVersion().GetValue())
		}
	case *protos.ExecutionCompletedEvent:
		add("%s", api.StatusName(e.GetOrchestrationStatus()))
	}
	if f, ok := v.(interface {
		GetFailureDetails() *protos.TaskFailureDetails
	}); ok && f.GetFailureDetails() != nil {
		failed = true
		add("%s: %s", f.GetFailureDetails().GetErrorType(), f.GetFailureDetails().GetErrorMessage())
	}
	return strings.Join(parts, ", "), failed
}
