package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

// Options of the client calls. An option that returns an error makes its call
// fail with it, wrapping [ErrInvalidInput], and nothing is changed.
type (
	// NewOrchestrationOptions sets one thing of a start.
	NewOrchestrationOptions func(*protos.CreateInstanceRequest) error
	// FetchOrchestrationMetadataOptions sets one thing of a read over gRPC.
	FetchOrchestrationMetadataOptions func(*protos.GetInstanceRequest)
	// RaiseEventOptions sets one thing of a raised event.
	RaiseEventOptions func(*protos.RaiseEventRequest) error
	// TerminateOptions sets one thing of a terminate.
	TerminateOptions func(*protos.TerminateRequest) error
	// PurgeOptions sets one thing of a purge.
	PurgeOptions func(*protos.PurgeInstancesRequest) error
)

// WithInstanceID gives the new instance an explicit id; without it the id is a random UUID.
func WithInstanceID(id InstanceID) NewOrchestrationOptions {
	return func(r *protos.CreateInstanceRequest) error { r.InstanceId = string(id); return nil }
}

// WithInput gives the new instance an input, as JSON; nil becomes null.
func WithInput(input any) NewOrchestrationOptions {
	return func(r *protos.CreateInstanceRequest) (err error) { r.Input, err = toJSON("input", input); return err }
}

// WithRawInput gives the new instance an input as it is.
func WithRawInput(rawInput string) NewOrchestrationOptions {
	return func(r *protos.CreateInstanceRequest) error { r.Input = wrapperspb.String(rawInput); return nil }
}

// WithStartTime delays the start until the time; until then the status is PENDING.
func WithStartTime(startTime time.Time) NewOrchestrationOptions {
	return func(r *protos.CreateInstanceRequest) error {
		ts := timestamppb.New(startTime)
		if err := ts.CheckValid(); err != nil {
			return fmt.Errorf("%w: start time: %w", ErrInvalidInput, err)
		}
		r.ScheduledStartTimestamp = ts
		return nil
	}
}

// WithVersion gives the new instance a version.
func WithVersion(version string) NewOrchestrationOptions {
	return func(r *protos.CreateInstanceRequest) error { r.Version = wrapperspb.String(version); return nil }
}

// WithTags gives the new instance tags.
func WithTags(tags map[string]string) NewOrchestrationOptions {
	return func(r *protos.CreateInstanceRequest) error { r.Tags = maps.Clone(tags); return nil }
}

// WithOrchestrationIdReusePolicy says what happens when the id is taken: an
// instance whose status the policy lists is replaced (and terminated first
// where it still runs), any other makes the start fail with [ErrDuplicateInstance].
func WithOrchestrationIdReusePolicy(policy *protos.OrchestrationIdReusePolicy) NewOrchestrationOptions {
	return func(r *protos.CreateInstanceRequest) error { r.OrchestrationIdReusePolicy = policy; return nil }
}

// WithFetchPayloads says whether input, output and custom status are read too.
func WithFetchPayloads(fetchPayloads bool) FetchOrchestrationMetadataOptions {
	return func(r *protos.GetInstanceRequest) { r.GetInputsAndOutputs = fetchPayloads }
}

// WithEventPayload gives the event a payload, as JSON.
func WithEventPayload(data any) RaiseEventOptions {
	return func(r *protos.RaiseEventRequest) (err error) {
		r.Input, err = toJSON("event payload", data)
		return err
	}
}

// WithEventData gives the event what RaiseEvent takes as data: nothing for nil,
// what an option says, any other value as its JSON payload.
func WithEventData(data any) RaiseEventOptions {
	return func(r *protos.RaiseEventRequest) error {
		switch d := data.(type) {
		case nil:
			return nil
		case RaiseEventOptions:
			if d != nil {
				return d(r)
			}
			return nil
		case func(*protos.RaiseEventRequest) error:
			if d != nil {
				return d(r)
			}
			return nil
		}
		return WithEventPayload(data)(r)
	}
}

// WithJsonSerializableEventData is the older name of [WithEventPayload].
func WithJsonSerializableEventData(data any) RaiseEventOptions { return WithEventPayload(data) }

// WithRawEventData gives the event a payload as it is.
func WithRawEventData(data string) RaiseEventOptions {
	return func(r *protos.RaiseEventRequest) error { r.Input = wrapperspb.String(data); return nil }
}

// WithOutput gives the terminated instance an output, as JSON.
func WithOutput(data any) TerminateOptions {
	return func(r *protos.TerminateRequest) (err error) { r.Output, err = toJSON("output", data); return err }
}

// WithRawOutput gives the terminated instance an output as it is.
func WithRawOutput(data string) TerminateOptions {
	return func(r *protos.TerminateRequest) error { r.Output = wrapperspb.String(data); return nil }
}

// WithRecursiveTerminate says whether sub-orchestrations are terminated too (default true).
func WithRecursiveTerminate(recursive bool) TerminateOptions {
	return func(r *protos.TerminateRequest) error { r.Recursive = recursive; return nil }
}

// WithRecursivePurge says whether sub-orchestrations are purged too (default true).
func WithRecursivePurge(recursive bool) PurgeOptions {
	return func(r *protos.PurgeInstancesRequest) error { r.Recursive = recursive; return nil }
}

func toJSON(what string, v any) (s *wrapperspb.StringValue, err error) {
	defer func() { // a MarshalJSON of the caller's
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("%w: %s of type %T: panic: %v", ErrInvalidInput, what, v, r)
		}
	}()
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %s of type %T: %w", ErrInvalidInput, what, v, err)
	}
	if !utf8.Valid(b) { // a json.RawMessage or a MarshalJSON may be
		return nil, fmt.Errorf("%w: %s of type %T is not valid UTF-8", ErrInvalidInput, what, v)
	}
	return wrapperspb.String(string(b)), nil
}
