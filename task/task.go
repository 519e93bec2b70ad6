package task

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// Task is something that an orchestrator can wait for.
type Task interface {
	// Await blocks until the task is done and decodes its result into v, a
	// pointer, or nil where the result does not matter. A task without a
	// result leaves v as it is. A task has one result: a second Await returns
	// it again. The error is a [*TaskFailedError] where the task failed, and
	// [ErrTaskCanceled] where a wait timed out.
	Await(v any) error
}

// handle is the Task of one call.
type handle struct {
	ctx    *OrchestrationContext
	what   string
	done   bool
	result *wrapperspb.StringValue
	err    error

	event    *protos.HistoryEvent // the external event that completed it
	received int                  // the event's place in the order of arrival
	deadline time.Time            // of a wait for an event; zero for none
}

func (ctx *OrchestrationContext) newHandle(what string) *handle { return &handle{ctx: ctx, what: what} }

func (h *handle) complete(result *wrapperspb.StringValue) { h.settle(result, nil) }
func (h *handle) fail(err error)                          { h.settle(nil, err) }

func (h *handle) settle(result *wrapperspb.StringValue, err error) {
	if !h.done {
		h.done, h.result, h.err = true, result, err
		h.ctx.settled++
	}
}

// Await implements Task.
func (h *handle) Await(v any) error {
	if err := h.ctx.await(func() bool { return h.done }); err != nil {
		return err
	}
	h.observed()
	if h.err != nil {
		return h.err
	}
	return decode("result of "+h.what, h.result, v)
}

// observed says that user code knows the event: it is not carried over.
func (h *handle) observed() {
	if h.event != nil {
		delete(h.ctx.inbox.given, h)
	}
}

// await processes events until done reports true.
func (ctx *OrchestrationContext) await(done func() bool) error {
	for !done() {
		if ctx.inHandler {
			return ErrTaskBlocked
		}
		if err := ctx.advance(); err != nil {
			return err
		}
	}
	return nil
}

// advance processes events until a task was completed.
func (ctx *OrchestrationContext) advance() error {
	for seen := ctx.settled; seen == ctx.settled; {
		if !ctx.stopping && ctx.step() {
			continue
		}
		if ctx.co == nil || ctx.co.done {
			return ErrTaskBlocked
		}
		ctx.co.yield()
	}
	return nil
}

// WhenAll returns a task that is done when all the given ones are, failed ones
// too. Its Await decodes the results, in the order of the tasks and null where
// there is none, into a pointer to a slice; its error joins those of all failed
// tasks.
func (ctx *OrchestrationContext) WhenAll(tasks ...Task) Task { return &allOf{ctx: ctx, tasks: tasks} }

type allOf struct {
	ctx   *OrchestrationContext
	tasks []Task
	ready int // so many of the first are known to be done
}

func (a *allOf) isDone() bool {
	for ; a.ready < len(a.tasks); a.ready++ {
		if t, ok := a.tasks[a.ready].(awaitable); ok && !t.isDone() {
			return false
		}
	}
	return true
}

// Await implements Task.
func (a *allOf) Await(v any) error {
	if err := a.ctx.await(a.isDone); err != nil {
		return err
	}
	var errs []error
	for i, t := range a.tasks {
		var err error
		if t == nil {
			err = fmt.Errorf("%w: task %d of WhenAll is nil", api.ErrInvalidInput, i)
		} else {
			err = t.Await(nil)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 || v == nil {
		return errors.Join(errs...)
	}
	return decode("results of WhenAll", a.results(), v)
}

func (a *allOf) results() *wrapperspb.StringValue {
	all := make([]string, len(a.tasks))
	for i, t := range a.tasks {
		all[i] = "null"
		switch t := t.(type) {
		case *handle:
			if s := t.result.GetValue(); s != "" {
				all[i] = s
			}
		case *allOf:
			all[i] = t.results().GetValue()
		}
	}
	return wrapperspb.String("[" + strings.Join(all, ",") + "]")
}

// awaitable is a task of this package.
type awaitable interface {
	Task
	isDone() bool
}

func (h *handle) isDone() bool { return h.done }

// WhenAny blocks until one of the tasks is done and returns it: the first in
// the order of history, or of the arguments where several are done already.
// Its Await returns at once. WhenAny returns nil where no task of this package
// was given, and where there is nothing to wait with.
func (ctx *OrchestrationContext) WhenAny(tasks ...Task) Task {
	var own []awaitable
	for _, t := range tasks {
		if a, ok := t.(awaitable); ok {
			own = append(own, a)
		}
	}
	if len(own) == 0 {
		return nil
	}
	var winner Task
	err := ctx.await(func() bool {
		for _, t := range own {
			if t.isDone() {
				winner = t
				return true
			}
		}
		return false
	})
	if err != nil {
		return nil
	}
	if h, ok := winner.(*handle); ok {
		h.observed()
	}
	return winner
}
