package engine

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// hotKinds are the kinds that must be encoded by hand while nothing rare is about them.
var hotKinds = []protowire.Number{4, 6, 7, 12, 13, 14, 17}

// randomEvent is an event of the kind with each of its fields set or left, by chance.
func randomEvent(r *rand.Rand, field protowire.Number) *backend.HistoryEvent {
	ev := &backend.HistoryEvent{EventId: int32(r.IntN(5) - 1), Timestamp: randomTime(r)}
	m := ev.ProtoReflect()
	fd := m.Descriptor().Fields().ByNumber(field)
	fill(r, m.Mutable(fd).Message(), 3)
	return ev
}

func randomTime(r *rand.Rand) *timestamppb.Timestamp {
	if r.IntN(4) == 0 {
		return nil
	}
	return &timestamppb.Timestamp{Seconds: int64(r.IntN(3)-1) * r.Int64N(1<<34), Nanos: int32(r.IntN(2)) * r.Int32N(1e9)}
}

func fill(r *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for n := range fields.Len() {
		fd := fields.Get(n)
		if r.IntN(3) == 0 || depth == 0 {
			continue
		}
		switch {
		case fd.IsMap():
			if fd.MapValue().Kind() != protoreflect.StringKind {
				continue
			}
			m.Mutable(fd).Map().Set(protoreflect.ValueOfString("k").MapKey(), protoreflect.ValueOfString("v"))
		case fd.IsList():
		case fd.Kind() == protoreflect.MessageKind:
			fill(r, m.Mutable(fd).Message(), depth-1)
		case fd.Kind() == protoreflect.StringKind:
			m.Set(fd, protoreflect.ValueOfString(strings.Repeat("é", r.IntN(3)*r.IntN(100))))
		case fd.Kind() == protoreflect.Int32Kind:
			m.Set(fd, protoreflect.ValueOfInt32(r.Int32()-r.Int32()))
		case fd.Kind() == protoreflect.Int64Kind:
			m.Set(fd, protoreflect.ValueOfInt64(r.Int64N(1<<33)))
		case fd.Kind() == protoreflect.EnumKind:
			m.Set(fd, protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(6))))
		case fd.Kind() == protoreflect.BoolKind:
			m.Set(fd, protoreflect.ValueOfBool(true))
		}
	}
}

func TestEncodedByHandAsByGeneratedCode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	byHand := map[protowire.Number]int{}
	for range 20000 {
		field := hotKinds[r.IntN(len(hotKinds))]
		if r.IntN(4) == 0 {
			field = protowire.Number(3 + r.IntN(28))
		}
		ev := randomEvent(r, field)
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		want := append(binary.AppendUvarint([]byte("before"), uint64(len(data))), data...)
		if h, ok := hotEvent(ev); ok {
			byHand[field]++
			if got := h.append([]byte("before")); !bytes.Equal(got, want) {
				t.Fatalf("%v\n got %x\nwant %x", ev, got, want)
			}
		}
		got, err := appendEvent([]byte("before"), ev)
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeEvents(got[len("before"):])
		if err != nil || len(back) != 1 || !proto.Equal(back[0], ev) {
			t.Fatalf("%v was read back as %v, %v", ev, back, err)
		}
	}
	for _, k := range hotKinds {
		if byHand[k] < 100 {
			t.Errorf("only %d events of kind %d were encoded by hand", byHand[k], k)
		}
	}
}

func TestEncodeRefusesInvalidText(t *testing.T) {
	_, err := encodeEvents([]*backend.HistoryEvent{{EventType: &protos.HistoryEvent_TaskScheduled{
		TaskScheduled: &protos.TaskScheduledEvent{Name: "\xff"},
	}}})
	if err == nil {
		t.Error("a name that is not valid UTF-8 was encoded")
	}
}

func TestEncodeKeepsUnknownFields(t *testing.T) {
	ev := &backend.HistoryEvent{EventType: &protos.HistoryEvent_OrchestratorStarted{OrchestratorStarted: &protos.OrchestratorStartedEvent{}}}
	ev.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 5000, protowire.VarintType), 7))
	b, err := encodeEvents([]*backend.HistoryEvent{ev})
	if err != nil {
		t.Fatal(err)
	}
	back, err := decodeEvents(b)
	if err != nil || !proto.Equal(back[0], ev) {
		t.Errorf("%v, %v", back, err)
	}
}

func BenchmarkEncodeTurn(b *testing.B) {
	now := timestamppb.Now()
	events := []*backend.HistoryEvent{
		{EventId: -1, Timestamp: now, EventType: &protos.HistoryEvent_OrchestratorStarted{OrchestratorStarted: &protos.OrchestratorStartedEvent{}}},
		backend.NewTimerFired(&backend.HistoryEvent{EventId: 3}, now.AsTime()),
		{EventId: 4, Timestamp: now, EventType: &protos.HistoryEvent_TaskScheduled{TaskScheduled: &protos.TaskScheduledEvent{Name: "step"}}},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := encodeEvents(events); err != nil {
			b.Fatal(err)
		}
	}
}
