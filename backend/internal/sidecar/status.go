package sidecar

import (
	"context"
	"errors"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

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
	{api.ErrInvalidInstanceID, codes.InvalidArgument, "INVALID_INSTANCE_ID"},
	{api.ErrPayloadTooLarge, codes.InvalidArgument, "PAYLOAD_TOO_LARGE"},
	{api.ErrInvalidInput, codes.InvalidArgument, "INVALID_INPUT"},
	{api.ErrDuplicateInstance, codes.AlreadyExists, "DUPLICATE_INSTANCE"},
	{api.ErrInstanceNotFound, codes.NotFound, "INSTANCE_NOT_FOUND"},
	{api.ErrNotStarted, codes.FailedPrecondition, "NOT_STARTED"},
	{api.ErrNotCompleted, codes.FailedPrecondition, "NOT_COMPLETED"},
	{api.ErrNotFailed, codes.FailedPrecondition, "NOT_FAILED"},
	{api.ErrNoFailures, codes.FailedPrecondition, "NO_FAILURES"},
	{api.ErrUnsupported, codes.Unimplemented, "UNSUPPORTED"},
	{api.ErrTaskHubLocked, codes.FailedPrecondition, "TASK_HUB_LOCKED"},
	{api.ErrSchemaTooNew, codes.FailedPrecondition, "SCHEMA_TOO_NEW"},
	{api.ErrCorrupt, codes.DataLoss, "CORRUPT"},
	{api.ErrUnavailable, codes.Unavailable, "UNAVAILABLE"},
}

// remoteError is a status that stands for sentinels of this process.
type remoteError struct {
	message string
	wraps   []error
}

func (e *remoteError) Error() string   { return e.message }
func (e *remoteError) Unwrap() []error { return e.wraps }

// FromStatus is the inverse of Status: an error with the message of the status
// that wraps the sentinels which the reason in its details stands for. An
// error that is no such status is returned as it is.
func FromStatus(err error, more ...Mapping) error {
	s, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	e := &remoteError{message: s.Message()}
	for _, d := range s.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != ErrorDomain {
			continue
		}
		for _, m := range slices.Concat(apiErrors, more) {
			if m.Reason == info.GetReason() {
				e.wraps = append(e.wraps, m.Err)
			}
		}
	}
	if len(e.wraps) == 0 && s.Code() == codes.Unimplemented {
		e.wraps = append(e.wraps, api.ErrUnsupported) // an older server
	}
	if len(e.wraps) == 0 {
		return err
	}
	e.wraps = append(e.wraps, err)
	return e
}

// maxMessage is the size in bytes of a status's message. It travels in headers,
// twice and escaped, of which some clients take 8 KiB and lose the status of more.
const maxMessage = 1000

// shorten cuts the middle out of a long message: it begins with what was
// tried and ends with why that failed.
func shorten(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	const half = maxMessage/2 - 3
	return strings.ToValidUTF8(message[:half], "") + " ... " + strings.ToValidUTF8(message[len(message)-half:], "")
}

// Status is the error as a gRPC status: that of the first sentinel that it
// wraps, of the package api or of more, with an ErrorInfo for each; of a
// context's end; its own, where it wraps a status; else Internal.
func Status(err error, more ...Mapping) error {
	if err == nil {
		return nil
	}
	message := shorten(err.Error())
	code, infos := codes.OK, []protoadapt.MessageV1(nil)
	for _, m := range slices.Concat(apiErrors, more) {
		if !errors.Is(err, m.Err) {
			continue
		}
		if code == codes.OK {
			code = m.Code
		}
		infos = append(infos, &errdetails.ErrorInfo{Reason: m.Reason, Domain: ErrorDomain})
	}
	if code != codes.OK {
		s := status.New(code, message)
		if d, detailErr := s.WithDetails(infos...); detailErr == nil {
			s = d
		}
		return s.Err()
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	switch {
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, message)
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, message)
	}
	return status.Error(codes.Internal, message)
}
