package server

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/client"
	"github.com/perdure/perdure/task"
)

var soakTime = flag.Duration("soak", 0, "how long TestSoak runs at half load; 0 leaves it out")

// sample is what must not grow while a server works.
type sample struct {
	goroutines, fds int
	heap            uint64
}

func take(t *testing.T) sample {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return sample{runtime.NumGoroutine(), len(fds), m.HeapAlloc}
}

// TestSoak runs server, workers and clients at half of what they can do together,
// with workers that come and go and waits that are given up. Goroutines, heap and
// file descriptors stay as they are.
//
//	go test ./server -run '^TestSoak$' -soak 30m -timeout 40m -v
func TestSoak(t *testing.T) {
	if *soakTime == 0 {
		t.Skip("-soak says how long")
	}
	b := start(t, t.TempDir()+"/hub.db", Options{})
	r := task.NewTaskRegistry()
	for name, o := range map[string]task.Orchestrator{
		"work": func(ctx *task.OrchestrationContext) (any, error) {
			for range 3 {
				if err := ctx.CallActivity("step").Await(nil); err != nil {
					return nil, err
				}
			}
			if err := ctx.CreateTimer(50 * time.Millisecond).Await(nil); err != nil {
				return nil, err
			}
			return nil, ctx.WaitForSingleEvent("go", -1).Await(nil)
		},
	} {
		if err := r.AddOrchestratorN(name, o); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.AddActivityN("step", func(task.ActivityContext) (any, error) { return "done", nil }); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var workers, clients sync.WaitGroup
	listen := func(ctx context.Context) {
		conn := b.dial(t)
		defer conn.Close()
		if err := client.NewTaskHubGrpcClient(conn, silent).RunWorkItemListener(ctx, r); err != nil {
			t.Error(err)
		}
	}
	workers.Go(func() { listen(ctx) })
	workers.Go(func() { // comes and goes
		for ctx.Err() == nil {
			brief, cancel := context.WithTimeout(ctx, 5*time.Second)
			listen(brief)
			cancel()
		}
	})
	c := client.NewClient(b.dial(t), silent)
	var done atomic.Int64
	one := func(id api.InstanceID) error {
		if _, err := c.ScheduleNewOrchestration(ctx, "work", api.WithInstanceID(id)); err != nil {
			return err
		}
		brief, cancel := context.WithTimeout(ctx, time.Millisecond)
		_, _ = c.WaitForOrchestrationCompletion(brief, id) // given up
		cancel()
		if err := c.RaiseEvent(ctx, id, "go", nil); err != nil {
			return err
		}
		if _, err := c.WaitForOrchestrationCompletion(ctx, id); err != nil {
			return err
		}
		done.Add(1)
		return nil
	}
	var pace atomic.Int64 // nanoseconds between two starts of one client; 0 for none
	const starters = 16
	for n := range starters {
		clients.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				began := time.Now()
				if err := one(api.InstanceID(fmt.Sprintf("%d-%d", n, i))); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				if rest := time.Duration(pace.Load()) - time.Since(began); rest > 0 {
					select {
					case <-time.After(rest):
					case <-ctx.Done():
					}
				}
			}
		})
	}
	const full = 10 * time.Second
	<-time.After(full)
	rate := float64(done.Load()) / full.Seconds()
	pace.Store(int64(2 * starters * float64(time.Second) / rate))
	t.Logf("full load: %.0f orchestrations/s", rate)

	var samples []sample
	tick := time.NewTicker(max(*soakTime/60, 2*time.Second))
	defer tick.Stop()
	for end := time.Now().Add(*soakTime); time.Now().Before(end); {
		<-tick.C
		samples = append(samples, take(t))
	}
	stop()
	clients.Wait()
	workers.Wait()
	if h, ok := b.hubs.byName[defaultHub].be.(backend.HealthReporter); !ok || h.Health() != nil {
		t.Errorf("health: %v", h.Health())
	}
	third := len(samples) / 3
	middle := func(s []sample, of func(sample) int) int {
		var values []int
		for _, v := range s {
			values = append(values, of(v))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	for _, what := range []struct {
		name  string
		slack int
		of    func(sample) int
	}{
		{"goroutines", 50, func(s sample) int { return s.goroutines }},
		{"file descriptors", 10, func(s sample) int { return s.fds }},
		{"heap in KiB", 8 << 10, func(s sample) int { return int(s.heap >> 10) }},
	} {
		first, last := middle(samples[:third], what.of), middle(samples[len(samples)-third:], what.of)
		t.Logf("%s: %d in the first third, %d in the last", what.name, first, last)
		if last > first+first/10+what.slack {
			t.Errorf("%s grew from %d to %d", what.name, first, last)
		}
	}
	t.Logf("%d orchestrations", done.Load())
}
