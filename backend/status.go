package backend

import (
	"google.golang.org/grpc/codes"

	"github.com/perdure/perdure/backend/internal/sidecar"
)

// wireErrors are the sentinels of this package as they go over the wire; those of package api come first.
var wireErrors = []sidecar.Mapping{
	{Err: ErrDuplicateEvent, Code: codes.AlreadyExists, Reason: "DUPLICATE_EVENT"},
	{Err: ErrTaskHubNotFound, Code: codes.NotFound, Reason: "TASK_HUB_NOT_FOUND"},
	{Err: ErrTaskHubExists, Code: codes.AlreadyExists, Reason: "TASK_HUB_EXISTS"},
	{Err: ErrNotInitialized, Code: codes.Unavailable, Reason: "NOT_INITIALIZED"},
	{Err: ErrBackendAlreadyStarted, Code: codes.FailedPrecondition, Reason: "ALREADY_STARTED"},
	{Err: ErrWorkItemLockLost, Code: codes.Aborted, Reason: "LOCK_LOST"},
	{Err: ErrNoWorkItems, Code: codes.NotFound, Reason: "NO_WORK_ITEMS"},
}

// statusError is err as the status that goes over the wire.
func statusError(err error) error { return sidecar.Status(err, wireErrors...) }

// ErrorFromStatus is the inverse of what the service of NewGrpcExecutor does
// with its errors: where err is the status of one of the sentinels of this
// package or of package api, the result has its message and wraps that
// sentinel and err. Any other err is returned as it is.
func ErrorFromStatus(err error) error { return sidecar.FromStatus(err, wireErrors...) }
