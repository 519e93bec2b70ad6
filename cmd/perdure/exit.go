package main

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

// Exit codes; docs/cli.md lists them. A second signal, to a server that is stopping, ends it at once.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitRefused     = 4
	exitUnreachable = 5
	exitTimeout     = 6
	exitUnlucky     = 7
	exitInterrupted = 130
)

// An unconfirmedError says that nothing was changed, because --yes is missing.
var errUnconfirmed = errors.New("nothing was changed; add --yes to do it")

// unluckyError says that the instance that was waited for did not complete well.
type unluckyError struct{ error }

func exitCode(err error) int {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var usage usageError
	var unreachable unreachableError
	var unlucky unluckyError
	switch {
	case errors.As(err, &usage), is(api.ErrInvalidInput):
		return exitUsage
	case errors.As(err, &unlucky):
		return exitUnlucky
	case errors.As(err, &unreachable), status.Code(err) == codes.Unavailable:
		return exitUnreachable
	case is(api.ErrInstanceNotFound, backend.ErrTaskHubNotFound):
		return exitNotFound
	case is(api.ErrNotCompleted, api.ErrNotFailed, api.ErrDuplicateInstance, backend.ErrDuplicateEvent, errUnconfirmed):
		return exitRefused
	case status.Code(err) == codes.Unauthenticated, status.Code(err) == codes.PermissionDenied:
		return exitRefused
	case is(context.DeadlineExceeded):
		return exitTimeout
	case is(context.Canceled):
		return exitInterrupted
	}
	return exitFailed
}
