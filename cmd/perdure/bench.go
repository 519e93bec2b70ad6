package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

// benchName is the orchestrator, and the beginning of the ids, of a bench.
const benchName = "perdure-bench"

type benchFlags struct {
	instances, activities, starters int
	keep                            bool
}

// benchResult is what a bench measured.
type benchResult struct {
	Instances  int           `json:"instances"`
	Activities int           `json:"activities"`
	Took       time.Duration `json:"tookNs"`
	Rate       float64       `json:"orchestrationsPerSecond"`
	P50        time.Duration `json:"p50Ns"`
	P95        time.Duration `json:"p95Ns"`
	P99        time.Duration `json:"p99Ns"`
}

func newBench() *cobra.Command {
	var t target
	var o output
	var f benchFlags
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure a server with instances and a worker of its own", Args: noArgs,
		Long: `Start instances of an orchestrator that this command hosts itself, wait for each, and
delete them. The server does the work beside what it has to do: mind where you run it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.instances < 1 || f.starters < 1 || f.activities < 0 {
				return usageError{errors.New("--instances and --starters: want at least 1")}
			}
			if err := o.open(cmd); err != nil {
				return err
			}
			return t.remote(cmd.Context(), func(c *client.TaskHubGrpcClient) error {
				r, err := f.run(cmd.Context(), c)
				if err != nil {
					return err
				}
				ms := func(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
				return record(o, r, [][2]string{
					{"instances", fmt.Sprint(r.Instances)}, {"activities each", fmt.Sprint(r.Activities)}, {"took", ms(r.Took)},
					{"rate", fmt.Sprintf("%.0f orchestrations a second", r.Rate)}, {"p50", ms(r.P50)}, {"p95", ms(r.P95)}, {"p99", ms(r.P99)},
				})
			})
		},
	}
	t.serverFlag(cmd)
	o.flags(cmd)
	cmd.Flags().IntVar(&f.instances, "instances", 1000, "how many")
	cmd.Flags().IntVar(&f.activities, "activities", 5, "activities of each, one after the other")
	cmd.Flags().IntVar(&f.starters, "starters", 8, "how many are started and waited for at a time")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "do not delete them afterwards")
	return cmd
}

func (f *benchFlags) run(ctx context.Context, c *client.TaskHubGrpcClient) (r benchResult, err error) {
	reg := task.NewTaskRegistry()
	if err := errors.Join(
		reg.AddOrchestratorN(benchName, func(ctx *task.OrchestrationContext) (any, error) {
			for range f.activities {
				if err := ctx.CallActivity(benchName).Await(nil); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}),
		reg.AddActivityN(benchName, func(task.ActivityContext) (any, error) { return nil, nil }),
	); err != nil {
		return r, err
	}
	workers, err := c.Workers(ctx)
	if err != nil {
		return r, err
	}
	for _, w := range workers {
		if w.Orchestrations.Takes(benchName, "") || w.Activities.Takes(benchName, "") {
			return r, fmt.Errorf("worker %s at %s takes work of every name, and would fail that of the bench: give it a filter, or name another task hub with --hub", w.ID, w.Address)
		}
	}
	working, stop := context.WithCancel(ctx)
	worked := make(chan error, 1)
	go func() {
		worked <- c.RunWorkItemListener(working, reg, client.WithRegisteredNamesOnly(), client.WithDrainTimeout(time.Second))
	}()
	defer func() {
		stop()
		err = errors.Join(err, <-worked)
	}()
	run := benchName + "-" + uuid.NewString()[:8]
	took := make([]time.Duration, f.instances)
	began := time.Now()
	if err := f.each(ctx, func(n int) error {
		began := time.Now()
		id, err := c.ScheduleNewOrchestration(ctx, benchName, api.WithInstanceID(api.InstanceID(fmt.Sprintf("%s-%d", run, n))))
		if err != nil {
			return err
		}
		m, err := c.WaitForOrchestrationCompletion(ctx, id, api.WithFetchPayloads(false))
		if err == nil && m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
			err = fmt.Errorf("instance %s is %s", id, api.StatusName(m.RuntimeStatus))
		}
		took[n] = time.Since(began)
		return err
	}); err != nil {
		return r, err
	}
	r = benchResult{Instances: f.instances, Activities: f.activities, Took: time.Since(began)}
	r.Rate = float64(f.instances) / r.Took.Seconds()
	slices.Sort(took)
	at := func(p float64) time.Duration { return took[int(p*float64(len(took)-1))] }
	r.P50, r.P95, r.P99 = at(0.5), at(0.95), at(0.99)
	if f.keep {
		return r, nil
	}
	return r, f.each(ctx, func(n int) error {
		_, err := c.Purge(ctx, api.InstanceID(fmt.Sprintf("%s-%d", run, n)))
		if errors.Is(err, api.ErrInstanceNotFound) {
			return nil
		}
		return err
	})
}

// each calls do for all instances, with as many at a time as there are starters, until one fails.
func (f *benchFlags) each(ctx context.Context, do func(n int) error) error {
	var next atomic.Int64
	errs := make([]error, f.starters)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for s := range f.starters {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < f.instances && ctx.Err() == nil; n = int(next.Add(1)) - 1 {
				if errs[s] = do(n); errs[s] != nil {
					cancel()
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
