package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

// served is a server in a process of its own, which can be killed.
type served struct {
	db, grpc, http string
	cmd            *exec.Cmd
}

func (s *served) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.CommandContext(t.Context(), "perdure", "serve", "--db", s.db, "--grpc", s.grpc, "--http", s.http)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (s *served) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait() // it was killed
}

// TestServerKilledUnderLoad kills the server again and again while clients start
// orchestrations and raise events, with workers connected all the time. Whatever
// was acknowledged comes to its end, once.
func TestServerKilledUnderLoad(t *testing.T) {
	const kills, perKill, starters = 6, 40, 4
	grpcAddr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	httpAddr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	s := &served{db: t.TempDir() + "/hub.db", grpc: grpcAddr, http: httpAddr}
	s.start(t)
	defer func() { s.kill(t) }()
	cc, err := grpc.NewClient(grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	c := client.NewTaskHubGrpcClient(cc, silent)

	r := task.NewTaskRegistry()
	err = errors.Join(
		r.AddActivityN("inc", func(ctx task.ActivityContext) (any, error) {
			var n int
			err := ctx.GetInput(&n)
			return n + 1, err
		}),
		r.AddOrchestratorN("sum", func(ctx *task.OrchestrationContext) (any, error) {
			var n, more int
			if err := ctx.WaitForSingleEvent("more", -1).Await(&more); err != nil {
				return nil, err
			}
			for range 3 {
				if err := ctx.CallActivity("inc", task.WithActivityInput(n)).Await(&n); err != nil {
					return nil, err
				}
			}
			return n + more, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var workers, clients sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			if err := c.RunWorkItemListener(ctx, r, client.WithDrainTimeout(time.Second)); err != nil {
				t.Error(err)
			}
		})
	}
	acknowledged := make(chan string, 10000)
	starting, enough := context.WithCancel(ctx)
	for n := range starters {
		clients.Go(func() {
			for i := 0; starting.Err() == nil; i++ {
				id := fmt.Sprintf("%d-%d", n, i)
				if err := insist(ctx, func(ctx context.Context) error {
					_, err := c.ScheduleNewOrchestration(ctx, "sum", api.WithInstanceID(api.InstanceID(id)))
					if errors.Is(err, backend.ErrDuplicateEvent) {
						return nil // an earlier attempt, whose answer was lost
					}
					return err
				}); err != nil {
					t.Error(err)
					return
				}
				if err := insist(ctx, func(ctx context.Context) error {
					return c.RaiseEvent(ctx, api.InstanceID(id), "more", api.WithEventPayload(100))
				}); err != nil {
					t.Error(err)
					return
				}
				acknowledged <- id
			}
		})
	}
	var ids []string
	collect := func(n int) {
		t.Helper()
		limit := time.After(time.Minute)
		for len(ids) < n {
			select {
			case id := <-acknowledged:
				ids = append(ids, id)
			case <-limit:
				t.Fatalf("only %d of %d were acknowledged", len(ids), n)
			}
		}
	}
	for k := range kills {
		collect((k + 1) * perKill)
		s.kill(t)
		s.start(t)
	}
	collect((kills + 1) * perKill)
	enough()
	clients.Wait()
	collect(len(ids) + len(acknowledged))
	for _, id := range ids {
		limit, cancel := context.WithTimeout(ctx, time.Minute)
		m, err := c.WaitForOrchestrationCompletion(limit, api.InstanceID(id), api.WithFetchPayloads(true))
		cancel()
		if err != nil || m.SerializedOutput != strconv.Itoa(103) {
			t.Errorf("%s: %v, %v", id, m, err)
		}
	}
	t.Logf("%d acknowledged over %d kills", len(ids), kills)
	health, err := grpc_health_v1.NewHealthClient(cc).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil || health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
	stop()
	workers.Wait()
}

// insist calls f until the server answers, whatever happens to it meanwhile.
func insist(ctx context.Context, f func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := f(try)
		cancel()
		if err == nil || ctx.Err() != nil || errors.Is(err, api.ErrInvalidInput) || errors.Is(err, api.ErrInstanceNotFound) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
