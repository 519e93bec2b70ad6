// Command quickstart is a Go worker of a Perdure server that starts one orchestration too.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

func greet(ctx task.ActivityContext) (any, error) {
	var name string
	err := ctx.GetInput(&name)
	return "Hello, " + name, err
}

func hello(ctx *task.OrchestrationContext) (any, error) {
	var text string
	err := ctx.CallActivity("greet", task.WithActivityInput("Ada")).Await(&text)
	return text, err
}

func main() {
	address := "localhost:4001"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	if err := run(context.Background(), address); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, address string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	r := task.NewTaskRegistry()
	if err := r.AddActivityN("greet", greet); err != nil {
		return err
	}
	if err := r.AddOrchestratorN("hello", hello); err != nil {
		return err
	}
	hub := client.NewTaskHubGrpcClient(conn, backend.DefaultLogger())
	if err := hub.StartWorkItemListener(ctx, r); err != nil {
		return err
	}
	id, err := hub.ScheduleNewOrchestration(ctx, "hello")
	if err != nil {
		return err
	}
	m, err := hub.WaitForOrchestrationCompletion(ctx, id)
	if err != nil {
		return err
	}
	var text string
	err = json.Unmarshal([]byte(m.SerializedOutput), &text)
	fmt.Println(text)
	return err
}
