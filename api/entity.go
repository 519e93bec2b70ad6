package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api/protos"
)

// EntityID names an entity. Names are compared without regard to case, keys byte for byte.
type EntityID struct {
	Name string
	Key  string
}

// NewEntityID makes an id; the name becomes lower case.
func NewEntityID(name, key string) EntityID {
	return EntityID{Name: strings.ToLower(name), Key: key}
}

// EntityIDFromString parses "@<name>@<key>"; anything else is an error that wraps [ErrInvalidInput].
func EntityIDFromString(s string) (EntityID, error) {
	rest, ok := strings.CutPrefix(s, "@")
	name, key, two := strings.Cut(rest, "@")
	id := NewEntityID(name, key)
	if !ok || !two {
		return id, fmt.Errorf("%w: entity id %q has not the form @name@key", ErrInvalidInput, s)
	}
	return id, id.Check()
}

// MaxEntityID is the limit of an entity's instance id in bytes.
const MaxEntityID = 1024

// Check refuses an id that no entity can have; the error wraps [ErrInvalidInput].
func (id EntityID) Check() error {
	switch {
	case id.Name == "" || strings.Contains(id.Name, "@"):
		return fmt.Errorf("%w: entity name %q is empty or contains an @", ErrInvalidInput, id.Name)
	case !utf8.ValidString(id.Name+id.Key) || strings.ContainsRune(id.Name+id.Key, 0):
		return fmt.Errorf("%w: entity id %q is not valid UTF-8 or contains a NUL", ErrInvalidInput, id)
	case len(id.String()) > MaxEntityID:
		return fmt.Errorf("%w: entity id has a length of %d bytes, the limit is %d: %.40q…",
			ErrInvalidInput, len(id.String()), MaxEntityID, id)
	}
	return nil
}

// String is the id of the entity's instance: "@<name>@<key>".
func (id EntityID) String() string { return "@" + strings.ToLower(id.Name) + "@" + id.Key }

// IsEntityID reports whether an instance id is one that only entities may have:
// it begins with "@". It may be ill-formed all the same.
func IsEntityID(id InstanceID) bool { return strings.HasPrefix(string(id), "@") }

// EntityMetadata is what a client sees of one entity.
type EntityMetadata struct {
	InstanceID       EntityID
	LastModifiedTime time.Time
	BacklogQueueSize int32  // messages that wait, scheduled ones included
	LockedBy         string // the instance id of the orchestration that holds the lock; "" for none
	HasState         bool   // an entity without one is transient: it was deleted, or never had a state
	SerializedState  string // where it was asked for
}

// ReadState decodes the state into v, a pointer; without a state it leaves v as it is.
func (m *EntityMetadata) ReadState(v any) error {
	if m.SerializedState == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(m.SerializedState), v); err != nil {
		return fmt.Errorf("state of entity %s: %w", m.InstanceID, err)
	}
	return nil
}

// EntityQuery selects entities; zero fields select all. Times are inclusive.
type EntityQuery struct {
	InstanceIDStartsWith string // such as "@counter@"; a missing first @ is added, the name's case is ignored
	LastModifiedFrom     time.Time
	LastModifiedTo       time.Time
	IncludeState         bool
	IncludeTransient     bool  // entities without a state too
	PageSize             int32 // 0: 100; at most 1,000
	// ContinuationToken resumes after the page that returned it; "" starts.
	ContinuationToken string
}

// EntityQueryResults is one page of a query, in the order in which the entities came to be.
type EntityQueryResults struct {
	Entities          []*EntityMetadata
	ContinuationToken string // "" on the last page
}

// CleanEntityStorageRequest says what is to be cleaned.
type CleanEntityStorageRequest struct {
	// ContinuationToken resumes where the call that returned it stopped; "" starts.
	ContinuationToken string
	// RemoveEmptyEntities deletes entities that have no state, no lock and no messages.
	RemoveEmptyEntities bool
	// ReleaseOrphanedLocks releases the locks, and takes back the lock requests, of
	// orchestrations that are over or do not exist.
	ReleaseOrphanedLocks bool
}

// CleanEntityStorageResult is what one call has done.
type CleanEntityStorageResult struct {
	EmptyEntitiesRemoved  int32
	OrphanedLocksReleased int32
	ContinuationToken     string // "" when everything was looked at
}

// SignalEntityOptions sets one thing of a signal.
type SignalEntityOptions func(*protos.SignalEntityRequest) error

// WithSignalInput gives the operation an input, as JSON.
func WithSignalInput(input any) SignalEntityOptions {
	return func(r *protos.SignalEntityRequest) (err error) {
		r.Input, err = toJSON("signal input", input)
		return err
	}
}

// WithRawSignalInput gives the operation an input as it is.
func WithRawSignalInput(input string) SignalEntityOptions {
	return func(r *protos.SignalEntityRequest) error { r.Input = wrapperspb.String(input); return nil }
}

// WithSignalScheduledTime delivers the signal at t, or at once where t is past.
func WithSignalScheduledTime(t time.Time) SignalEntityOptions {
	return func(r *protos.SignalEntityRequest) error {
		ts := timestamppb.New(t)
		if err := ts.CheckValid(); err != nil {
			return fmt.Errorf("%w: scheduled time: %w", ErrInvalidInput, err)
		}
		r.ScheduledTime = ts
		return nil
	}
}
