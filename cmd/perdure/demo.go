package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

// trip is the input of the sample orchestration.
type trip struct {
	To string `json:"to"`
}

// demo is the sample worker. It talks to the server as any other would.
type demo struct {
	mu  sync.Mutex
	out io.Writer
}

func (d *demo) say(id api.InstanceID, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, "%s  %-14s %s\n", time.Now().Format("15:04:05.000"), id, fmt.Sprintf(format, args...))
}

// plan is the orchestrator: it books two things at the same time, asks a person,
// gives them a moment to think again, and charges.
func plan(ctx *task.OrchestrationContext) (any, error) {
	var t trip
	if err := ctx.GetInput(&t); err != nil {
		return nil, err
	}
	flight := ctx.CallActivity("book", task.WithActivityInput("a flight to "+t.To))
	hotel := ctx.CallActivity("book", task.WithActivityInput("a hotel in "+t.To))
	if err := ctx.WhenAll(flight, hotel).Await(nil); err != nil {
		return nil, err
	}
	ctx.SetCustomStatus("waiting for approval")
	var approved bool
	err := ctx.WaitForSingleEvent("approval", 24*time.Hour).Await(&approved)
	if errors.Is(err, task.ErrTaskCanceled) || err == nil && !approved {
		return "not approved", nil
	}
	if err != nil {
		return nil, err
	}
	ctx.SetCustomStatus("approved")
	if err := ctx.CreateTimer(2 * time.Second).Await(nil); err != nil {
		return nil, err
	}
	var receipt string
	err = ctx.CallActivity("charge", task.WithActivityInput(t.To)).Await(&receipt)
	return receipt, err
}

func (d *demo) registry() (*task.TaskRegistry, error) {
	r := task.NewTaskRegistry()
	activity := func(what string) task.Activity {
		return func(ctx task.ActivityContext) (any, error) {
			var in string
			if err := ctx.GetInput(&in); err != nil {
				return nil, err
			}
			d.say(ctx.InstanceID(), "%s %s", what, in)
			return what + " " + in, nil
		}
	}
	return r, errors.Join(
		r.AddOrchestratorN("plan", plan), r.AddActivityN("book", activity("booked")), r.AddActivityN("charge", activity("charged for")))
}

// startDemo connects the sample worker and starts two trips. What it returns waits for its end, which comes with that of ctx.
func startDemo(ctx context.Context, out io.Writer, addr string, log backend.Logger) (wait func()) {
	d, done := &demo{out: out}, make(chan struct{})
	go func() {
		defer close(done)
		if err := d.run(ctx, addr, log); err != nil && ctx.Err() == nil {
			log.Errorf("the sample worker: %v", err)
		}
	}()
	return func() { <-done }
}

func (d *demo) run(ctx context.Context, addr string, log backend.Logger) (err error) {
	r, err := d.registry()
	if err != nil {
		return err
	}
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cc.Close()) }()
	c := client.NewTaskHubGrpcClient(cc, log)
	worker, stop := context.WithCancel(ctx)
	var listener sync.WaitGroup
	listener.Go(func() {
		if err := c.RunWorkItemListener(worker, r, client.WithRegisteredNamesOnly(), client.WithDrainTimeout(time.Second)); err != nil {
			log.Warnf("the sample worker: %v", err)
		}
	})
	defer listener.Wait()
	defer stop()

	for _, to := range []string{"Lisbon", "Reykjavik"} {
		id := api.InstanceID("trip-" + to)
		if _, err := c.ScheduleNewOrchestration(ctx, "plan", api.WithInstanceID(id), api.WithInput(trip{to})); errors.Is(err, backend.ErrDuplicateEvent) {
			d.say(id, "is there since an earlier run")
			continue
		} else if err != nil {
			return err
		}
		d.say(id, "started")
	}
	if err := c.RaiseEvent(ctx, "trip-Lisbon", "approval", api.WithEventPayload(true)); err != nil {
		return err
	}
	d.say("trip-Lisbon", "approved")
	m, err := c.WaitForOrchestrationCompletion(ctx, "trip-Lisbon", api.WithFetchPayloads(true))
	if err != nil {
		return err
	}
	d.say(m.InstanceID, "%s: %s", api.StatusName(m.RuntimeStatus), m.SerializedOutput)
	if err := d.advise(ctx, c, addr); err != nil {
		return err
	}
	m, err = c.WaitForOrchestrationCompletion(ctx, "trip-Reykjavik", api.WithFetchPayloads(true))
	if err != nil {
		return err
	}
	d.say(m.InstanceID, "%s: %s", api.StatusName(m.RuntimeStatus), m.SerializedOutput)
	<-ctx.Done()
	return nil
}

// advise says what to do next, unless the second trip is over already.
func (d *demo) advise(ctx context.Context, c *client.TaskHubGrpcClient, addr string) error {
	m, err := c.FetchOrchestrationMetadata(ctx, "trip-Reykjavik")
	if err != nil || m.IsComplete() {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.out, `
trip-Reykjavik waits for its approval. Look at it, and approve it, from another terminal:

    perdure explain trip-Reykjavik --server %[1]s
    perdure raise trip-Reykjavik approval true --server %[1]s
    perdure start plan '{"to":"Oslo"}' --server %[1]s

`, addr)
	return nil
}
