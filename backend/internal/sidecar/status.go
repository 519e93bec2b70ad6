package sidecar

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perdure/perdure/api"
)

// ErrorDomain is the domain of the ErrorInfo detail that goes with an error.
const ErrorDomain = "perdure"

// Mapping says how a sentinel error goes over the wire.
type Mapping struct {
	Err    error
	Code   codes.Code
	Reason string // of the ErrorInfo detail, by which a Go client finds the sentinel again
}

// apiErrors come in the order in which they are looked for: an error may wrap more than one.
var apiErrors = []Mapping{
	{api.ErrInvalidInput, codes.InvalidArgument, "INVALID_INPUT"},
	{api.ErrDuplicateInstance, codes.AlreadyExists, "DUPLICATE_INSTANCE"},
	{api.ErrInstanceNotFound, codes.NotFound, "INSTANCE_NOT_FOUND"},
	{api.ErrNotStarted, codes.FailedPrecondition, "NOT_STARTED"},
	{api.ErrNotCompleted, codes.FailedPrecondition, "NOT_COMPLETED"},
	{api.ErrNotFailed, codes.FailedPrecondition, "NOT_FAILED"},
	{api.ErrNoFailures, codes.FailedPrecondition, "NO_FAILURES"},
	{api.ErrUnsupported, codes.Unimplemented, "UNSUPPORTED"},
}

// Status is the error as a gRPC status: that of the first sentinel that it
// wraps, of the package api or of more; of a context's end; its own, where it
// wraps a status; else Internal.
func Status(err error, more ...Mapping) error {
	if err == nil {
		return nil
	}
	for _, list := range [][]Mapping{apiErrors, more} {
		for _, m := range list {
			if !errors.Is(err, m.Err) {
				continue
			}
			s := status.New(m.Code, err.Error())
			info := &errdetails.ErrorInfo{Reason: m.Reason, Domain: ErrorDomain}
			if d, detailErr := s.WithDetails(info); detailErr == nil {
				s = d
			}
			return s.Err()
		}
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}
