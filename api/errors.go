package api

import "errors"

// Sentinel errors; test for them with [errors.Is].
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
	// ErrNotFailed says that a rewind was asked of an instance that did not fail.
	ErrNotFailed = errors.New("orchestration has not failed")
	// ErrUnsupported says that the backend lacks the optional interface that the call needs.
	ErrUnsupported = errors.New("not supported by this backend")
)
