package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

// InstanceID names an orchestration instance, unique in its task hub and
// compared byte for byte.
type InstanceID string

// EmptyInstanceID is the id of no instance.
var EmptyInstanceID = InstanceID("")

// OrchestrationStatus is the state an instance is in.
type OrchestrationStatus = protos.OrchestrationStatus

// The statuses of an instance.
const (
	RUNTIME_STATUS_RUNNING          = protos.OrchestrationStatus_ORCHESTRATION_STATUS_RUNNING
	RUNTIME_STATUS_COMPLETED        = protos.OrchestrationStatus_ORCHESTRATION_STATUS_COMPLETED
	RUNTIME_STATUS_CONTINUED_AS_NEW = protos.OrchestrationStatus_ORCHESTRATION_STATUS_CONTINUED_AS_NEW
	RUNTIME_STATUS_FAILED           = protos.OrchestrationStatus_ORCHESTRATION_STATUS_FAILED
	RUNTIME_STATUS_CANCELED         = protos.OrchestrationStatus_ORCHESTRATION_STATUS_CANCELED
	RUNTIME_STATUS_TERMINATED       = protos.OrchestrationStatus_ORCHESTRATION_STATUS_TERMINATED
	RUNTIME_STATUS_PENDING          = protos.OrchestrationStatus_ORCHESTRATION_STATUS_PENDING
	RUNTIME_STATUS_SUSPENDED        = protos.OrchestrationStatus_ORCHESTRATION_STATUS_SUSPENDED
)

// OrchestrationMetadata is what a client sees of one instance. Absent payloads are "".
type OrchestrationMetadata struct {
	InstanceID             InstanceID
	Name                   string
	RuntimeStatus          protos.OrchestrationStatus
	CreatedAt              time.Time
	LastUpdatedAt          time.Time
	SerializedInput        string
	SerializedOutput       string
	SerializedCustomStatus string
	FailureDetails         *protos.TaskFailureDetails

	Version          string
	ExecutionID      string
	ParentInstanceID InstanceID
	Tags             map[string]string
	CompletedAt      time.Time // zero until it completed
	ScheduledStartAt time.Time // zero where none was asked for
	// Stalled says why the instance was set aside; it is "" for all others.
	Stalled string
}

// NewOrchestrationMetadata makes a value of its arguments.
func NewOrchestrationMetadata(
	iid InstanceID, name string, status protos.OrchestrationStatus, createdAt, lastUpdatedAt time.Time,
	serializedInput, serializedOutput, serializedCustomStatus string, failureDetails *protos.TaskFailureDetails,
) *OrchestrationMetadata {
	return &OrchestrationMetadata{
		InstanceID: iid, Name: name, RuntimeStatus: status, CreatedAt: createdAt, LastUpdatedAt: lastUpdatedAt,
		SerializedInput: serializedInput, SerializedOutput: serializedOutput,
		SerializedCustomStatus: serializedCustomStatus, FailureDetails: failureDetails,
	}
}

// IsTerminal reports whether an instance with this status is over for good.
func IsTerminal(s protos.OrchestrationStatus) bool {
	switch s {
	case RUNTIME_STATUS_COMPLETED, RUNTIME_STATUS_FAILED, RUNTIME_STATUS_TERMINATED, RUNTIME_STATUS_CANCELED:
		return true
	}
	return false
}

// IsComplete reports whether the instance is over: completed, failed, terminated or canceled.
func (m *OrchestrationMetadata) IsComplete() bool { return IsTerminal(m.RuntimeStatus) }

// IsRunning is the negation of IsComplete: a pending or suspended instance counts as running.
func (m *OrchestrationMetadata) IsRunning() bool { return !m.IsComplete() }

const statusPrefix = "ORCHESTRATION_STATUS_"

// StatusName is the name of a status without its prefix, such as "RUNNING".
func StatusName(s protos.OrchestrationStatus) string {
	return strings.TrimPrefix(s.String(), statusPrefix)
}

type jsonMetadata struct {
	ID           *string      `json:"id"`
	Name         *string      `json:"name"`
	Status       *string      `json:"status"`
	CreatedAt    *string      `json:"createdAt"`
	UpdatedAt    *string      `json:"lastUpdatedAt"`
	Input        string       `json:"serializedInput,omitempty"`
	Output       string       `json:"serializedOutput,omitempty"`
	CustomStatus string       `json:"serializedCustomStatus,omitempty"`
	Failure      *jsonFailure `json:"failureDetails,omitempty"`

	Version     string            `json:"version,omitempty"`
	ExecutionID string            `json:"executionId,omitempty"`
	ParentID    string            `json:"parentInstanceId,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	CompletedAt time.Time         `json:"completedAt,omitzero"`
	ScheduledAt time.Time         `json:"scheduledStartAt,omitzero"`
	Stalled     string            `json:"stalled,omitempty"`
}

type jsonFailure struct {
	Type         string       `json:"type"`
	Message      string       `json:"message"`
	Stack        string       `json:"stackTrace,omitempty"`
	NonRetriable bool         `json:"nonRetriable,omitempty"`
	Inner        *jsonFailure `json:"innerFailure,omitempty"`
}

// MarshalJSON writes id, name, status, createdAt and lastUpdatedAt always
// (times as RFC 3339 with nanoseconds), everything else where present.
func (m *OrchestrationMetadata) MarshalJSON() ([]byte, error) {
	id, status := string(m.InstanceID), StatusName(m.RuntimeStatus)
	created, updated := m.CreatedAt.Format(time.RFC3339Nano), m.LastUpdatedAt.Format(time.RFC3339Nano)
	return json.Marshal(jsonMetadata{
		ID: &id, Name: &m.Name, Status: &status, CreatedAt: &created, UpdatedAt: &updated,
		Input: m.SerializedInput, Output: m.SerializedOutput, CustomStatus: m.SerializedCustomStatus,
		Failure: failureToJSON(m.FailureDetails),
		Version: m.Version, ExecutionID: m.ExecutionID, ParentID: string(m.ParentInstanceID), Tags: m.Tags,
		CompletedAt: m.CompletedAt, ScheduledAt: m.ScheduledStartAt, Stalled: m.Stalled,
	})
}

// UnmarshalJSON reads what MarshalJSON writes. A missing key, a time that is
// not RFC 3339 and an unknown status are errors that name them.
func (m *OrchestrationMetadata) UnmarshalJSON(data []byte) error {
	var j jsonMetadata
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("orchestration metadata: %w", err)
	}
	for _, f := range []struct {
		key string
		val *string
	}{{"id", j.ID}, {"name", j.Name}, {"status", j.Status}, {"createdAt", j.CreatedAt}, {"lastUpdatedAt", j.UpdatedAt}} {
		if f.val == nil {
			return fmt.Errorf("orchestration metadata: missing '%s'", f.key)
		}
	}
	status, ok := protos.OrchestrationStatus_value[statusPrefix+*j.Status]
	if !ok {
		return fmt.Errorf("orchestration metadata: unknown status %q", *j.Status)
	}
	created, err := time.Parse(time.RFC3339, *j.CreatedAt)
	if err != nil {
		return fmt.Errorf("orchestration metadata: createdAt: %w", err)
	}
	updated, err := time.Parse(time.RFC3339, *j.UpdatedAt)
	if err != nil {
		return fmt.Errorf("orchestration metadata: lastUpdatedAt: %w", err)
	}
	*m = *NewOrchestrationMetadata(InstanceID(*j.ID), *j.Name, protos.OrchestrationStatus(status), created, updated,
		j.Input, j.Output, j.CustomStatus, failureFromJSON(j.Failure))
	m.Version, m.ExecutionID, m.ParentInstanceID, m.Tags = j.Version, j.ExecutionID, InstanceID(j.ParentID), j.Tags
	m.CompletedAt, m.ScheduledStartAt, m.Stalled = j.CompletedAt, j.ScheduledAt, j.Stalled
	return nil
}

func failureToJSON(f *protos.TaskFailureDetails) *jsonFailure {
	if f == nil {
		return nil
	}
	return &jsonFailure{
		Type: f.GetErrorType(), Message: f.GetErrorMessage(), Stack: f.GetStackTrace().GetValue(),
		NonRetriable: f.GetIsNonRetriable(), Inner: failureToJSON(f.GetInnerFailure()),
	}
}

func failureFromJSON(j *jsonFailure) *protos.TaskFailureDetails {
	if j == nil {
		return nil
	}
	f := &protos.TaskFailureDetails{
		ErrorType: j.Type, ErrorMessage: j.Message, IsNonRetriable: j.NonRetriable, InnerFailure: failureFromJSON(j.Inner),
	}
	if j.Stack != "" {
		f.StackTrace = wrapperspb.String(j.Stack)
	}
	return f
}
