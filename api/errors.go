package api

import (
	"errors"
	"fmt"
)

// Sentinel errors; test for them with [errors.Is]. Those that concern the life of a
// task hub or a work item are in package backend.
var (
	// ErrInstanceNotFound says that no instance has the id.
	ErrInstanceNotFound = errors.New("no such instance exists")
	// ErrNotStarted says that the orchestration has no start event yet.
	ErrNotStarted = errors.New("orchestration has not started")
	// ErrNotCompleted says that the operation needs a completed orchestration.
	ErrNotCompleted = errors.New("orchestration has not yet completed")
	// ErrNoFailures says that the orchestration completed without failure details.
	ErrNoFailures = errors.New("orchestration did not report failure details")
	// ErrDuplicateInstance says that the id is taken and the id reuse policy
	// does not allow to replace its instance. The errors that wrap it also
	// wrap backend.ErrDuplicateEvent.
	ErrDuplicateInstance = errors.New("orchestration instance already exists")
	// ErrInvalidInput says that an argument is refused; the message names the
	// argument, the limit and the value. Nothing was changed.
	ErrInvalidInput = errors.New("invalid input")
	// ErrInvalidInstanceID is an ErrInvalidInput: the id is empty, too long, not
	// valid UTF-8 or has a NUL in it.
	ErrInvalidInstanceID = fmt.Errorf("%w: instance id", ErrInvalidInput)
	// ErrPayloadTooLarge is an ErrInvalidInput: an input, an output, an event's
	// data, a custom status or a result is larger than the backend's limit.
	ErrPayloadTooLarge = fmt.Errorf("%w: payload too large", ErrInvalidInput)
	// ErrNotFailed says that a rewind was asked of an instance that did not fail.
	ErrNotFailed = errors.New("orchestration has not failed")
	// ErrUnsupported says that the backend lacks the optional interface that the call needs.
	ErrUnsupported = errors.New("not supported by this backend")

	// ErrTaskHubLocked says that another process owns the task hub; the message names it.
	ErrTaskHubLocked = errors.New("task hub is in use by another process")
	// ErrSchemaTooNew says that a newer version of this program wrote the database.
	ErrSchemaTooNew = errors.New("database schema is newer than this program")
	// ErrCorrupt says that a stored record, or the database itself, could not be decoded.
	ErrCorrupt = errors.New("stored record is corrupt")
	// ErrUnavailable says that the database cannot be read or written now: it is
	// full, read-only, gone, locked by another program, or it cannot be reached.
	// The call may be tried again once the cause, which the message names, is mended.
	ErrUnavailable = errors.New("the database is not available")
)
