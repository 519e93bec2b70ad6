// Command accounts moves money between accounts, which are entities: each has
// a balance, takes its operations one at a time, and a transfer locks the two that it
// is about. Kill it at any moment and run it again: what was begun is
// finished, and the sum stays what it was.
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
	db := flag.String("db", "accounts.db", "database file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *db)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "accounts:", err)
		os.Exit(1)
	}
}

// Transfer is the input of the orchestrator.
type Transfer struct {
	From, To api.EntityID
	Cents    int
}

// account is the entity: its state is the balance.
func account(ctx *task.EntityContext) (any, error) {
	var balance, cents int
	if err := errors.Join(ctx.GetState(&balance), ctx.GetInput(&cents)); err != nil {
		return nil, err
	}
	switch ctx.Operation {
	case "balance":
		return balance, nil
	case "deposit":
		return balance + cents, ctx.SetState(balance + cents)
	case "withdraw":
		if balance < cents {
			return nil, fmt.Errorf("%s has %d cents, not %d", ctx.ID.Key, balance, cents)
		}
		return balance - cents, ctx.SetState(balance - cents)
	}
	return nil, fmt.Errorf("an account knows no %q", ctx.Operation)
}

// transfer is the orchestrator: nobody sees the money on neither account, or on both.
func transfer(ctx *task.OrchestrationContext) (any, error) {
	var t Transfer
	if err := ctx.GetInput(&t); err != nil {
		return nil, err
	}
	release, err := ctx.LockEntities(t.From, t.To)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := ctx.CallEntity(t.From, "withdraw", task.WithEntityInput(t.Cents)).Await(nil); err != nil {
		return nil, err
	}
	return "done", ctx.CallEntity(t.To, "deposit", task.WithEntityInput(t.Cents)).Await(nil)
}

func run(ctx context.Context, db string) (err error) {
	log := backend.NewLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	registry := task.NewTaskRegistry()
	if err := errors.Join(registry.AddEntityN("account", account), registry.AddOrchestratorN("transfer", transfer)); err != nil {
		return err
	}
	be, executor := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(db), log), task.NewTaskExecutor(registry)
	worker := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, executor, log, backend.WithMaxParallelism(16)),
		backend.NewActivityTaskWorker(be, executor, log), log)
	if err := worker.Start(ctx); err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, worker.Shutdown(stopping))
	}()
	return play(ctx, backend.NewClient(be))
}

var names = []string{"ada", "bob", "eve"}

// play gives each account 100.00, once, moves money about and prints the balances.
func play(ctx context.Context, client backend.Client) error {
	for _, name := range names {
		id := api.NewEntityID("account", name)
		if _, err := client.FetchEntityMetadata(ctx, id, false); errors.Is(err, api.ErrInstanceNotFound) {
			if err := client.SignalEntity(ctx, id, "deposit", api.WithSignalInput(10000)); err != nil {
				return err
			}
		}
	}
	var ids []api.InstanceID
	for n := range 30 {
		id, err := client.ScheduleNewOrchestration(ctx, "transfer", api.WithInput(Transfer{
			From: api.NewEntityID("account", names[n%3]), To: api.NewEntityID("account", names[(n+1+n/3%2)%3]), Cents: 100 * (n + 1),
		}))
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	refused := 0
	for _, id := range ids {
		m, err := client.WaitForOrchestrationCompletion(ctx, id)
		if err != nil {
			return err
		}
		if m.FailureDetails != nil {
			refused++
		}
	}
	sum := 0
	for _, name := range names {
		m, err := client.FetchEntityMetadata(ctx, api.NewEntityID("account", name), true)
		if err != nil {
			return err
		}
		var balance int
		if err := m.ReadState(&balance); err != nil {
			return err
		}
		sum += balance
		fmt.Printf("%-4s %8.2f\n", name, float64(balance)/100)
	}
	fmt.Printf("%d transfers, %d of them refused; together %.2f\n", len(ids), refused, float64(sum)/100)
	return nil
}
