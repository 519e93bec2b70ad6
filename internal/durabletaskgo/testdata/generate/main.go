// Command generate makes the databases of durabletask-go that the tests of the
// import read:
//
//	go run . hub.db
//	go run . postgres://user:password@host:port/database
//
// Each instance is left in another of the states that a stopped process leaves behind.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/microsoft/durabletask-go/api"
	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/backend/postgres"
	"github.com/microsoft/durabletask-go/backend/sqlite"
	"github.com/microsoft/durabletask-go/task"
)

func main() {
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func open(target string, log backend.Logger) (backend.Backend, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme == "" {
		return sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(target), log), nil
	}
	port, err := strconv.Atoi(u.Port())
	password, _ := u.User.Password()
	return postgres.NewPostgresBackend(postgres.NewPostgresOptions(u.Hostname(), uint16(port), u.Path[1:], u.User.Username(), password), log), err
}

func run(ctx context.Context, target string) error {
	log := backend.DefaultLogger()
	be, err := open(target, log)
	if err != nil {
		return err
	}
	r := task.NewTaskRegistry()
	if err := register(r); err != nil {
		return err
	}
	ex, c := task.NewTaskExecutor(r), backend.NewTaskHubClient(be)
	if err := be.CreateTaskHub(ctx); err != nil {
		return err
	}
	orchestrations, activities := backend.NewOrchestrationWorker(be, ex, log), backend.NewActivityTaskWorker(be, ex, log)

	start := func(name, id string, input any) error {
		opts := []api.NewOrchestrationOptions{api.WithInstanceID(api.InstanceID(id))}
		if input != nil {
			opts = append(opts, api.WithInput(input))
		}
		_, err := c.ScheduleNewOrchestration(ctx, name, opts...)
		return err
	}
	event := func(id, name string, data any) error {
		return c.RaiseEvent(ctx, api.InstanceID(id), name, api.WithEventPayload(data))
	}
	// Runs what is there until nothing is left.
	drain := func(workers ...backend.TaskWorker) error {
		for idle := 0; idle < 3; {
			for _, w := range workers {
				did, err := w.ProcessNext(ctx)
				if err != nil {
					return err
				}
				if did {
					idle = -1
				}
			}
			idle++
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	}
	for _, step := range []func() error{
		func() error {
			return errors.Join(
				start("sequence", "completed", nil), start("bad", "failed", nil), start("retry", "retrying", nil),
				start("event", "terminated", nil))
		},
		func() error { return drain(orchestrations, activities) },
		func() error { return c.TerminateOrchestration(ctx, "terminated", api.WithOutput("enough")) },
		func() error {
			return errors.Join(
				start("sequence", "second-open", nil), start("timer", "timer-later", 10*365*24*3600),
				start("event", "event", nil), start("event", "half-event", nil), start("event", "suspended", nil),
				start("parent", "parent", nil), start("loop", "loop", 1))
		},
		func() error { return drain(orchestrations) },
		func() error { return drain(activities) }, // "first" of second-open has run, its result waits
		func() error { return drain(orchestrations) },
		func() error {
			return errors.Join(
				event("half-event", "Go", "early "), event("loop", "add", 2),
				c.SuspendOrchestration(ctx, "suspended", "for lunch"), start("sequence", "result-waits", nil))
		},
		func() error { return drain(orchestrations) },
		func() error {
			return errors.Join(event("suspended", "go", "while away, "), start("timer", "timer-due", 3))
		},
		func() error { return drain(orchestrations) },
		func() error {
			_, err := activities.ProcessNext(ctx)
			return err
		},
		func() error { // nobody runs from here on
			time.Sleep(time.Second)
			return errors.Join(
				start("sequence", "pending", nil), start("sequence", "first-open", nil),
				event("event", "go", "from the inbox, "), event("nobody", "go", "lost"), event("loop", "add", 3), event("loop", "add", 0))
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return be.Stop(ctx)
}
