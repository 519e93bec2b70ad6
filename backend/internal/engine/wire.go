package engine

import (
	"encoding/binary"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// encodeEvents is the form of a history row: each event behind its length. The
// events that every turn has are encoded by hand, which costs a tenth; a test
// compares each of them with the generated code.
func encodeEvents(events []*backend.HistoryEvent) ([]byte, error) {
	b := make([]byte, 0, 96*len(events))
	for _, ev := range events {
		var err error
		if b, err = appendEvent(b, ev); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendEvent(b []byte, ev *backend.HistoryEvent) ([]byte, error) {
	if h, ok := hotEvent(ev); ok {
		return h.append(b), nil
	}
	opts := proto.MarshalOptions{UseCachedSize: true}
	b = binary.AppendUvarint(b, uint64(proto.Size(ev)))
	return opts.MarshalAppend(b, ev)
}

// hot is an event of a kind that is encoded by hand: one field of HistoryEvent
// that holds a message of a number, texts and a time, in the order of their fields.
type hot struct {
	ev    *backend.HistoryEvent
	field protowire.Number // of the message in HistoryEvent

	id    int32 // of a task or timer
	idAt  protowire.Number
	enum  int32
	name  string
	texts [2]*wrapperspb.StringValue
	at    [2]protowire.Number // of texts
	time  *timestamppb.Timestamp
}

// hotEvent reports whether the event can be encoded by hand; one with anything
// rare about it cannot, nor can one that the generated code refuses.
func hotEvent(ev *backend.HistoryEvent) (h hot, ok bool) {
	h.ev = ev
	var m proto.Message
	switch t := ev.GetEventType().(type) {
	case *protos.HistoryEvent_OrchestratorStarted:
		h.field, m = 14, t.OrchestratorStarted
		ok = t.OrchestratorStarted.GetOrchestrationTraceContext() == nil
	case *protos.HistoryEvent_TaskScheduled:
		s := t.TaskScheduled
		h.field, m, h.name = 6, s, s.GetName()
		h.texts, h.at = [2]*wrapperspb.StringValue{s.GetVersion(), s.GetInput()}, [2]protowire.Number{2, 3}
		ok = s.GetParentTraceContext() == nil && len(s.GetTags()) == 0
	case *protos.HistoryEvent_TaskCompleted:
		h.field, m, h.id, h.idAt = 7, t.TaskCompleted, t.TaskCompleted.GetTaskScheduledId(), 1
		h.texts[0], h.at[0], ok = t.TaskCompleted.GetResult(), 2, true
	case *protos.HistoryEvent_TimerCreated:
		h.field, m, h.time, ok = 12, t.TimerCreated, t.TimerCreated.GetFireAt(), true
	case *protos.HistoryEvent_TimerFired:
		h.field, m, h.time, h.id, h.idAt, ok = 13, t.TimerFired, t.TimerFired.GetFireAt(), t.TimerFired.GetTimerId(), 2, true
	case *protos.HistoryEvent_EventRaised:
		h.field, m, h.name = 17, t.EventRaised, t.EventRaised.GetName()
		h.texts[0], h.at[0], ok = t.EventRaised.GetInput(), 2, true
	case *protos.HistoryEvent_ExecutionCompleted:
		c := t.ExecutionCompleted
		h.field, m, h.enum = 4, c, int32(c.GetOrchestrationStatus())
		h.texts[0], h.at[0], ok = c.GetResult(), 2, c.GetFailureDetails() == nil
	}
	ok = ok && m.ProtoReflect().IsValid() && utf8.ValidString(h.name) && len(ev.ProtoReflect().GetUnknown())+len(m.ProtoReflect().GetUnknown()) == 0
	for _, s := range h.texts {
		ok = ok && utf8.ValidString(s.GetValue())
	}
	return h, ok
}

func (h *hot) append(b []byte) []byte {
	body := sizeInt(h.id) + sizeInt(h.enum) + sizeString(h.name) + sizeTime(h.time)
	for _, s := range h.texts {
		if s != nil {
			body += 1 + protowire.SizeBytes(sizeString(s.GetValue()))
		}
	}
	whole := sizeInt(h.ev.GetEventId()) + sizeTime(h.ev.GetTimestamp()) + protowire.SizeTag(h.field) + protowire.SizeBytes(body)
	b = binary.AppendUvarint(b, uint64(whole))
	b = appendInt(b, 1, h.ev.GetEventId())
	b = appendTime(b, 2, h.ev.GetTimestamp())
	b = protowire.AppendTag(b, h.field, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(body))
	if h.idAt == 1 {
		b = appendInt(b, 1, h.id)
	}
	b = appendInt(b, 1, h.enum)
	b = appendString(b, 1, h.name)
	b = appendTime(b, 1, h.time)
	for n, s := range h.texts {
		if s != nil {
			b = protowire.AppendTag(b, h.at[n], protowire.BytesType)
			b = protowire.AppendVarint(b, uint64(sizeString(s.GetValue())))
			b = appendString(b, 1, s.GetValue())
		}
	}
	if h.idAt == 2 {
		b = appendInt(b, 2, h.id)
	}
	return b
}

// The sizes are those of a field with a number below 16; a zero value is left out.

func sizeInt(v int32) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(uint64(v))
}

func appendInt(b []byte, num protowire.Number, v int32) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(v))
}

func sizeString(s string) int {
	if s == "" {
		return 0
	}
	return 1 + protowire.SizeBytes(len(s))
}

func appendString(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), s)
}

func sizeTime(t *timestamppb.Timestamp) int {
	if t == nil {
		return 0
	}
	return 1 + protowire.SizeBytes(timeBody(t))
}

func timeBody(t *timestamppb.Timestamp) int {
	n := sizeInt(t.GetNanos())
	if s := t.GetSeconds(); s != 0 {
		n += 1 + protowire.SizeVarint(uint64(s))
	}
	return n
}

func appendTime(b []byte, num protowire.Number, t *timestamppb.Timestamp) []byte {
	if t == nil {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(timeBody(t)))
	if s := t.GetSeconds(); s != 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, 1, protowire.VarintType), uint64(s))
	}
	return appendInt(b, 2, t.GetNanos())
}
