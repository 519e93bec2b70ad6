// Command orders processes three orders as durable orchestrations: stock is
// reserved, a person approves or does not in time, the card is charged, the
// parcel is shipped; whatever was done is undone when a later step fails.
//
// Kill it at any moment, with Ctrl-C or kill -9, and run it again: it goes on
// where it was.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/task"
)

func main() {
	db := flag.String("db", "orders.db", "database file")
	wait := flag.Duration("approval", 4*time.Second, "how long an order waits for its approval")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *db, *wait)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, db string, wait time.Duration) (err error) {
	log := backend.NewLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	registry, err := newRegistry(say[api.InstanceID])
	if err != nil {
		return err
	}
	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(db), log)
	executor := task.NewTaskExecutor(registry)
	worker := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, executor, log, backend.WithMaxParallelism(16)),
		backend.NewActivityTaskWorker(be, executor, log, backend.WithMaxParallelism(16)), log)
	if err := worker.Start(ctx); err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, worker.Shutdown(stopping))
	}()
	client := backend.NewClient(be)
	ids, err := unfinished(ctx, client)
	if err != nil {
		return err
	}
	if len(ids) > 0 {
		say("shop", fmt.Sprintf("%d unfinished order(s) found in %s: going on where they were", len(ids), db))
	} else if ids, err = place(ctx, client, wait); err != nil {
		return err
	}
	return follow(ctx, client, ids)
}

// place starts three new orders and approves those that a person would.
func place(ctx context.Context, client backend.Client, wait time.Duration) ([]api.InstanceID, error) {
	run := time.Now().Format("150405")
	var ids []api.InstanceID
	for _, o := range []Order{
		{Item: "bicycle", Cents: 49900, Approve: true},
		{Item: "grand piano", Cents: 1999900},                            // nobody approves it: it is cancelled in time
		{Item: "ice cream", Cents: 350, Approve: true, LostParcel: true}, // shipping fails: it is paid back
	} {
		o.ApprovalWait = wait
		id, err := client.ScheduleNewOrchestration(ctx, "ProcessOrder", api.WithInput(o),
			api.WithInstanceID(api.InstanceID(fmt.Sprintf("order-%s-%d", run, len(ids)+1))))
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
		say(id, fmt.Sprintf("placed: %s for %d.%02d", o.Item, o.Cents/100, o.Cents%100))
		if o.Approve { // an event may be raised before the order waits for it
			if err := client.RaiseEvent(ctx, id, "Approval", true); err != nil {
				return nil, err
			}
		}
	}
	say("shop", "kill me at any time and run me again")
	return ids, nil
}

func unfinished(ctx context.Context, client backend.Client) ([]api.InstanceID, error) {
	page, err := client.Query(ctx, api.InstanceQuery{
		IDPrefix: "order-", Name: "ProcessOrder",
		Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_PENDING, api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_SUSPENDED},
	})
	if err != nil {
		return nil, err
	}
	var ids []api.InstanceID
	for _, m := range page.Instances {
		ids = append(ids, m.InstanceID)
	}
	return ids, nil
}

// follow waits for the orders and prints how each of them ended.
func follow(ctx context.Context, client backend.Client, ids []api.InstanceID) error {
	for _, id := range ids {
		m, err := client.WaitForOrchestrationCompletion(ctx, id)
		if errors.Is(err, context.Canceled) {
			say("shop", "stopped; run me again to go on")
			return nil
		}
		if err != nil {
			return err
		}
		say(id, fmt.Sprintf("%s: %s", api.StatusName(m.RuntimeStatus), m.SerializedOutput))
	}
	return nil
}

func say[T ~string](who T, what string) {
	fmt.Printf("%s  %-16s %s\n", time.Now().Format("15:04:05.000"), who, what)
}
