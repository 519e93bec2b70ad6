package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/task"
)

// Order is the input of ProcessOrder.
type Order struct {
	Item         string
	Cents        int
	Approve      bool // whether the example's person approves it
	LostParcel   bool // whether shipping fails
	ApprovalWait time.Duration
}

// ProcessOrder is the orchestrator. It reads like an ordinary function; each
// Await is a point where it may rest for months or be killed.
func ProcessOrder(ctx *task.OrchestrationContext) (any, error) {
	var order Order
	if err := ctx.GetInput(&order); err != nil {
		return nil, err
	}
	if err := ctx.CallActivity("ReserveStock", task.WithActivityInput(order)).Await(nil); err != nil {
		return nil, err
	}
	var approved bool
	err := ctx.WaitForSingleEvent("Approval", order.ApprovalWait).Await(&approved)
	if errors.Is(err, task.ErrTaskCanceled) || (err == nil && !approved) {
		return "not approved in time", ctx.CallActivity("ReleaseStock", task.WithActivityInput(order)).Await(nil)
	}
	if err != nil {
		return nil, err
	}
	retry := task.WithActivityRetryPolicy(&task.RetryPolicy{
		MaxAttempts: 3, InitialRetryInterval: 300 * time.Millisecond, BackoffCoefficient: 2,
	})
	if err := ctx.CallActivity("Charge", task.WithActivityInput(order), retry).Await(nil); err != nil {
		return nil, errors.Join(err, ctx.CallActivity("ReleaseStock", task.WithActivityInput(order)).Await(nil))
	}
	if err := ctx.CallActivity("Ship", task.WithActivityInput(order), retry).Await(nil); err != nil {
		// Compensate: what was done is undone, in reverse.
		if err := ctx.CallActivity("Refund", task.WithActivityInput(order)).Await(nil); err != nil {
			return nil, err
		}
		if err := ctx.CallActivity("ReleaseStock", task.WithActivityInput(order)).Await(nil); err != nil {
			return nil, err
		}
		return fmt.Sprintf("paid back, because %v", err), nil
	}
	return "delivered", nil
}

// step is an activity of the example: it takes a moment, as a call to another
// system would, and stops when it is no longer wanted.
func step(say func(api.InstanceID, string), what string, fails func(Order) error) task.Activity {
	return func(ctx task.ActivityContext) (any, error) {
		var order Order
		if err := ctx.GetInput(&order); err != nil {
			return nil, err
		}
		moment := time.NewTimer(500 * time.Millisecond)
		defer moment.Stop()
		select {
		case <-moment.C:
		case <-ctx.Context().Done():
			return nil, ctx.Context().Err()
		}
		if fails != nil {
			if err := fails(order); err != nil {
				say(ctx.InstanceID(), "failed: "+err.Error())
				return nil, err
			}
		}
		// A real system would be given ctx.IdempotencyKey(), so that a step that
		// runs again after a crash is done once.
		say(ctx.InstanceID(), what+": "+order.Item)
		return nil, nil
	}
}

func newRegistry(say func(api.InstanceID, string)) (*task.TaskRegistry, error) {
	r := task.NewTaskRegistry()
	lost := func(o Order) error {
		if o.LostParcel {
			return errors.New("shipping: the parcel melted")
		}
		return nil
	}
	return r, errors.Join(
		r.AddOrchestratorN("ProcessOrder", ProcessOrder),
		r.AddActivityN("ReserveStock", step(say, "stock reserved", nil)),
		r.AddActivityN("ReleaseStock", step(say, "stock released", nil)),
		r.AddActivityN("Charge", step(say, "card charged", nil)),
		r.AddActivityN("Refund", step(say, "card refunded", nil)),
		r.AddActivityN("Ship", step(say, "shipped", lost)),
	)
}
