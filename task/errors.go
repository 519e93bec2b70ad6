package task

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// Sentinel errors of Await; test for them with [errors.Is].
var (
	// ErrTaskBlocked says that the task is not done and that there is nothing
	// to wait with: the context is not run by an executor, or Await was called
	// from a retry handler.
	ErrTaskBlocked = errors.New("the current task is blocked")
	// ErrTaskCanceled says that the wait ended before its event came.
	ErrTaskCanceled = errors.New("the task was canceled")
	// ErrInvalidRetryPolicy says that a retry policy makes no sense. It wraps api.ErrInvalidInput.
	ErrInvalidRetryPolicy = fmt.Errorf("%w: retry policy", api.ErrInvalidInput)
)

// The error types, in failure details, of failures that are no Go error of the user's.
const (
	// ErrorTypeNonDeterminism: the code does not do what its history says it did.
	ErrorTypeNonDeterminism = "NonDeterminism"
	// ErrorTypePanic: an orchestrator panicked.
	ErrorTypePanic = "panic"
	// ErrorTypeGoexit: an orchestrator or activity called runtime.Goexit.
	ErrorTypeGoexit = "runtime.Goexit"
	// ErrorTypeActivityPanic: an activity panicked.
	ErrorTypeActivityPanic = "TaskActivityPanic"
	// ErrorTypeActivityNotRegistered: no activity has the name.
	ErrorTypeActivityNotRegistered = "TaskActivityNotRegistered"
	// ErrorTypeOrchestratorNotRegistered: no orchestrator has the name.
	ErrorTypeOrchestratorNotRegistered = "OrchestratorNotRegistered"
	// ErrorTypeEntityNotRegistered: no entity has the name.
	ErrorTypeEntityNotRegistered = "EntityNotRegistered"
	// ErrorTypeInvalidCall: the arguments of a call are refused; nothing was scheduled.
	ErrorTypeInvalidCall = "InvalidCall"
	// ErrorTypeRetryHandlerPanic: the Handle function of a retry policy panicked.
	ErrorTypeRetryHandlerPanic = "RetryHandlerPanic"
)

// maxCauses bounds a chain of causes, which a broken Unwrap may make endless.
const maxCauses = 64

// TaskFailedError is what Await returns for a failed activity, a failed
// sub-orchestration and a call that was refused. Unwrap gives the cause: a
// [Failure], or the Go error itself where the call was refused.
type TaskFailedError struct {
	Type         string // the Go type of the error, or an ErrorType constant
	Message      string
	StackTrace   string // "" unless the code panicked
	NonRetriable bool
	TaskName     string
	TaskID       int32         // -1 where the call was refused
	Attempt      int           // from 1: which try of the retry policy failed
	Elapsed      time.Duration // from the call to the failure, in orchestration time

	cause error
}

// Error is "task failed with an error: " and the message.
func (e *TaskFailedError) Error() string { return "task failed with an error: " + e.Message }

// Unwrap returns the cause, or nil.
func (e *TaskFailedError) Unwrap() error { return e.cause }

// Failure is one cause of a failed task, as it was recorded in the history.
type Failure struct {
	Type         string
	Message      string
	StackTrace   string
	NonRetriable bool
	Inner        *Failure // its own cause, or nil
}

// Error is the message.
func (f *Failure) Error() string { return f.Message }

// Unwrap returns the cause of the cause, or nil.
func (f *Failure) Unwrap() error {
	if f.Inner == nil {
		return nil
	}
	return f.Inner
}

type nonRetriableError struct{ err error }

func (e *nonRetriableError) Error() string { return e.err.Error() }
func (e *nonRetriableError) Unwrap() error { return e.err }

// NonRetriable marks an error of an activity or orchestrator: no retry policy
// tries again after it. The mark survives wrapping. NonRetriable(nil) is nil.
func NonRetriable(err error) error {
	if err == nil {
		return nil
	}
	return &nonRetriableError{err: err}
}

// newTaskFailed makes the error of a failed task of its recorded details.
func newTaskFailed(d *protos.TaskFailureDetails) *TaskFailedError {
	e := &TaskFailedError{
		Type: d.GetErrorType(), Message: d.GetErrorMessage(), StackTrace: d.GetStackTrace().GetValue(),
		NonRetriable: d.GetIsNonRetriable(),
	}
	if d == nil {
		e.Message = "the task failed without failure details"
	}
	if inner := failureOf(d.GetInnerFailure(), maxCauses); inner != nil {
		e.cause = inner
	}
	return e
}

func failureOf(d *protos.TaskFailureDetails, depth int) *Failure {
	if d == nil || depth == 0 {
		return nil
	}
	return &Failure{
		Type: d.GetErrorType(), Message: d.GetErrorMessage(), StackTrace: d.GetStackTrace().GetValue(),
		NonRetriable: d.GetIsNonRetriable(), Inner: failureOf(d.GetInnerFailure(), depth-1),
	}
}

// refused is the error of a call that was not made.
func refused(name string, err error) *TaskFailedError {
	return &TaskFailedError{
		Type: ErrorTypeInvalidCall, Message: err.Error(), NonRetriable: true,
		TaskName: name, TaskID: -1, cause: err,
	}
}

// failureDetails records a Go error with its causes. A mark of NonRetriable
// anywhere among the causes marks the failure.
func failureDetails(err error) *protos.TaskFailureDetails {
	d, marked := detailsOf(err, maxCauses)
	d.IsNonRetriable = d.GetIsNonRetriable() || marked
	return d
}

func detailsOf(err error, depth int) (d *protos.TaskFailureDetails, marked bool) {
	for {
		m, ok := err.(*nonRetriableError) //nolint:errorlint // each link of the chain is looked at in turn
		if !ok {
			break
		}
		marked, err = true, m.err
	}
	d = &protos.TaskFailureDetails{ErrorType: fmt.Sprintf("%T", err), ErrorMessage: readable(fmt.Sprint(err))}
	next, within := causeOf(err), d
	switch f := err.(type) { //nolint:errorlint // as above
	case *TaskFailedError:
		if f == nil {
			return d, marked
		}
		within = &protos.TaskFailureDetails{ErrorType: readable(f.Type), ErrorMessage: readable(f.Message), IsNonRetriable: f.NonRetriable}
		setStack(within, f.StackTrace)
		d.InnerFailure = within
		marked = marked || f.NonRetriable
	case *Failure:
		if f == nil {
			return d, marked
		}
		d.ErrorType, d.IsNonRetriable = readable(f.Type), f.NonRetriable
		setStack(d, f.StackTrace)
		marked = marked || f.NonRetriable
	}
	if next != nil && depth > 0 {
		inner, innerMarked := detailsOf(next, depth-1)
		inner.IsNonRetriable = inner.GetIsNonRetriable() || innerMarked
		within.InnerFailure = inner
		marked = marked || innerMarked
	}
	return d, marked
}

func setStack(d *protos.TaskFailureDetails, stack string) {
	if stack != "" {
		d.StackTrace = wrapperspb.String(readable(stack))
	}
}

// causeOf unwraps an error once, into its first cause where it has several.
// An Unwrap that panics has none.
func causeOf(err error) (cause error) {
	defer func() {
		if recover() != nil {
			cause = nil
		}
	}()
	switch u := err.(type) { //nolint:errorlint // each link of the chain is looked at in turn
	case interface{ Unwrap() error }:
		return u.Unwrap()
	case interface{ Unwrap() []error }:
		for _, e := range u.Unwrap() {
			if e != nil {
				return e
			}
		}
	}
	return nil
}

// details records how user code crashed.
func (c crash) details(panicType string) *protos.TaskFailureDetails {
	d := &protos.TaskFailureDetails{ErrorType: ErrorTypeGoexit, ErrorMessage: "runtime.Goexit was called"}
	if !c.goexit {
		d.ErrorType, d.ErrorMessage = panicType, "panic: "+readable(fmt.Sprint(c.value))
		if err, ok := c.value.(error); ok {
			d.InnerFailure = failureDetails(err)
			d.IsNonRetriable = d.GetInnerFailure().GetIsNonRetriable()
		}
	}
	setStack(d, c.stack)
	return d
}
