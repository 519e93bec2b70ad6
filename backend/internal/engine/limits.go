package engine

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend"
)

// maxIDBytes bounds instance ids whatever the options say, those of children too.
const maxIDBytes = 1024

// eventOverhead is what an event may need beside its payload.
const eventOverhead = 16 << 10

// MaxPayload is the limit of one payload in bytes.
func (e *Engine) MaxPayload() int { return e.opts.MaxPayload }

// checkID refuses the id of a new instance.
func (e *Engine) checkID(id string) error {
	if id == "" {
		return fmt.Errorf("%w is empty", api.ErrInvalidInstanceID)
	}
	if err := checkForm(id); err != nil {
		return err
	}
	if api.IsEntityID(api.InstanceID(id)) {
		return fmt.Errorf("%w %.100q begins with @, which is kept for entities", api.ErrInvalidInstanceID, id)
	}
	if n := utf8.RuneCountInString(id); n > e.opts.MaxIDLength {
		return fmt.Errorf("%w has a length of %d characters, the limit is %d: %.40q…",
			api.ErrInvalidInstanceID, n, e.opts.MaxIDLength, id)
	}
	if len(id) > maxIDBytes {
		return fmt.Errorf("%w has a length of %d bytes, the limit is %d: %.40q…", api.ErrInvalidInstanceID, len(id), maxIDBytes, id)
	}
	return nil
}

// checkForm refuses what no store need be able to hold.
func checkForm(id string) error {
	switch {
	case !utf8.ValidString(id):
		return fmt.Errorf("%w %.40q is not valid UTF-8", api.ErrInvalidInstanceID, id)
	case strings.ContainsRune(id, 0):
		return fmt.Errorf("%w %.40q contains a NUL", api.ErrInvalidInstanceID, id)
	}
	return nil
}

// checkEvent refuses an event that a caller gives.
func (e *Engine) checkEvent(ev *backend.HistoryEvent) error {
	if ev == nil || ev.GetEventType() == nil {
		return fmt.Errorf("%w: the event is nil", api.ErrInvalidInput)
	}
	if err := ev.GetTimestamp().CheckValid(); err != nil {
		return fmt.Errorf("%w: event timestamp: %w", api.ErrInvalidInput, err)
	}
	what, payload := payloadOf(ev)
	if n := len(payload.GetValue()); n > e.opts.MaxPayload {
		return fmt.Errorf("%w: %s has %d bytes, the limit of a payload is %d", api.ErrPayloadTooLarge, what, n, e.opts.MaxPayload)
	}
	n, err := sizeOf(ev)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", api.ErrInvalidInput, what, err)
	}
	if n > e.opts.MaxPayload+eventOverhead {
		return fmt.Errorf("%w: the event has %d bytes, the limit of a payload is %d and that of all else %d",
			api.ErrPayloadTooLarge, n, e.opts.MaxPayload, eventOverhead)
	}
	return nil
}

func payloadOf(ev *backend.HistoryEvent) (what string, payload *wrapperspb.StringValue) {
	switch t := ev.GetEventType().(type) {
	case *protos.HistoryEvent_ExecutionStarted:
		return "the input", t.ExecutionStarted.GetInput()
	case *protos.HistoryEvent_EventRaised:
		return "the data of the event", t.EventRaised.GetInput()
	case *protos.HistoryEvent_ExecutionTerminated:
		return "the output", t.ExecutionTerminated.GetInput()
	case *protos.HistoryEvent_TaskCompleted:
		return "the result", t.TaskCompleted.GetResult()
	}
	return "the event", nil
}

// sizeOf is the size of an event, roughly where that is cheaper. It refuses
// one with a text that is not valid UTF-8: it could not be stored, nor could a
// turn that it is part of.
func sizeOf(ev *backend.HistoryEvent) (int, error) {
	switch t := ev.GetEventType().(type) { // what comes often
	case *protos.HistoryEvent_TaskCompleted:
		return sizeOfTexts(t.TaskCompleted.GetResult().GetValue())
	case *protos.HistoryEvent_EventRaised:
		return sizeOfTexts(t.EventRaised.GetName(), t.EventRaised.GetInput().GetValue())
	}
	b, err := proto.Marshal(ev)
	return len(b), err
}

func sizeOfTexts(texts ...string) (n int, err error) {
	for _, s := range texts {
		n += len(s)
		if !utf8.ValidString(s) {
			err = errors.New("a text is not valid UTF-8")
		}
	}
	return n, err
}

// checkOutput refuses the output of a forced terminate.
func (e *Engine) checkOutput(output *string) error {
	if output == nil {
		return nil
	}
	return e.checkEvent(&backend.HistoryEvent{
		Timestamp: timestamppb.New(e.Now()),
		EventType: &protos.HistoryEvent_ExecutionTerminated{ExecutionTerminated: &protos.ExecutionTerminatedEvent{
			Input: wrapperspb.String(*output),
		}},
	})
}

// checkResult replaces the result of an activity that cannot be stored by a failure that says why.
func (e *Engine) checkResult(t *task, result *backend.HistoryEvent) *backend.HistoryEvent {
	_, payload := payloadOf(result)
	size, err := sizeOf(result)
	if err != nil {
		return e.refused(t, "InvalidPayload", fmt.Sprintf("the result cannot be stored: %v", err))
	}
	if n := len(payload.GetValue()); n > e.opts.MaxPayload || size > e.opts.MaxPayload+eventOverhead {
		return e.refused(t, "PayloadTooLarge", fmt.Sprintf("the result has %d bytes, the limit of a payload is %d", max(n, size), e.opts.MaxPayload))
	}
	return result
}

// refused is the failure that an activity ends with when its result cannot be stored.
func (e *Engine) refused(t *task, kind, why string) *backend.HistoryEvent {
	return &backend.HistoryEvent{
		EventId: -1, Timestamp: timestamppb.New(e.Now()),
		EventType: &protos.HistoryEvent_TaskFailed{TaskFailed: &protos.TaskFailedEvent{
			TaskScheduledId: t.event.GetEventId(),
			FailureDetails:  &protos.TaskFailureDetails{ErrorType: kind, ErrorMessage: why, IsNonRetriable: true},
		}},
	}
}
