package sqlite_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/sqlite"
	"github.com/perdure/perdure/task"
)

var kills = flag.Int("kills", 12, "TestCrash: how often the child process is killed")

const (
	crashDir   = "PERDURE_CRASH_DIR"
	crashRound = "PERDURE_CRASH_ROUND" // "end": start nothing new, finish everything
	listItems  = 5
)

// TestCrash kills a process under load, again and again on one file, and then checks:
//
//  1. a start that was acknowledged is there and completes with the right output;
//  2. an event that was acknowledged is received once, and events in their order;
//  3. an activity whose result was used ran at least once, with one idempotency key.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	for round := range *kills {
		child := startChild(t, dir, fmt.Sprint(round))
		life := time.Duration(20+rand.IntN(250)) * time.Millisecond
		if round%5 == 4 { // long enough to acquit whom the kills have made suspects, before they are convicted
			life += 2 * time.Second
		}
		<-time.After(life)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child ended before it was killed")
		}
	}
	child := startChild(t, dir, "end")
	if err := child.Wait(); err != nil {
		t.Fatalf("the last run: %v", err)
	}
	verify(t, dir)
}

// startChild returns once the child has opened the hub and works.
func startChild(t *testing.T, dir, round string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashRound+"="+round)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the child of round %s did not come up: %v", round, errors.Join(err, cmd.Wait()))
		}
		if strings.TrimSpace(line) == "ready" {
			go func() { _, _ = io.Copy(io.Discard, r) }()
			return cmd
		}
	}
}

func crashRegistry(effect func(task.ActivityContext)) (*task.TaskRegistry, error) {
	r := task.NewTaskRegistry()
	inc := func(c task.ActivityContext) (any, error) {
		var n int
		err := c.GetInput(&n)
		effect(c)
		return n + 1, err
	}
	return r, errors.Join(
		r.AddActivityN("inc", inc),
		r.AddOrchestratorN("chain", func(c *task.OrchestrationContext) (any, error) {
			v := 0
			for range 3 {
				if err := c.CallActivity("inc", task.WithActivityInput(v)).Await(&v); err != nil {
					return nil, err
				}
			}
			return v, nil
		}),
		r.AddOrchestratorN("fan", func(c *task.OrchestrationContext) (any, error) {
			var tasks []task.Task
			for k := range 10 {
				tasks = append(tasks, c.CallActivity("inc", task.WithActivityInput(k)))
			}
			sum := 0
			for _, t := range tasks {
				var v int
				if err := t.Await(&v); err != nil {
					return nil, err
				}
				sum += v
			}
			return sum, nil
		}),
		r.AddOrchestratorN("family", func(c *task.OrchestrationContext) (any, error) {
			if err := c.CreateTimer(30 * time.Millisecond).Await(nil); err != nil {
				return nil, err
			}
			var v int
			err := c.CallSubOrchestrator("chain").Await(&v)
			return v, err
		}),
		r.AddOrchestratorN("list", func(c *task.OrchestrationContext) (any, error) {
			got := []int{}
			if err := c.GetInput(&got); err != nil {
				return nil, err
			}
			var v int
			if err := c.WaitForSingleEvent("item", -1).Await(&v); err != nil {
				return nil, err
			}
			if v < 0 {
				return got, nil
			}
			if err := c.CallActivity("inc", task.WithActivityInput(v)).Await(nil); err != nil {
				return nil, err
			}
			c.ContinueAsNew(append(got, v), task.WithKeepUnprocessedEvents())
			return nil, nil
		}),
	)
}

// TestCrashChild is the process that TestCrash kills.
func TestCrashChild(t *testing.T) {
	dir, round := os.Getenv(crashDir), os.Getenv(crashRound)
	if dir == "" {
		t.Skip("runs as a child of TestCrash")
	}
	acks, err := os.OpenFile(filepath.Join(dir, "acks"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	effects, err := os.OpenFile(filepath.Join(dir, "effects"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r, err := crashRegistry(func(c task.ActivityContext) {
		fmt.Fprintf(effects, "%s %d %s\n", c.InstanceID(), c.GetTaskID(), c.IdempotencyKey())
	})
	if err != nil {
		t.Fatal(err)
	}
	c, w, err := crashHub(t.Context(), dir, r)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	if round == "end" {
		err = finish(t.Context(), dir, c)
		if err = errors.Join(err, w.Shutdown(context.Background())); err != nil {
			t.Fatal(err)
		}
		return
	}
	var g errgroup.Group
	for starter := range 6 {
		g.Go(func() error { return load(t.Context(), c, acks, fmt.Sprintf("%s-%d", round, starter)) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func crashHub(ctx context.Context, dir string, r *task.TaskRegistry) (backend.Client, backend.TaskHubWorker, error) {
	log := backend.NewLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	opts := sqlite.NewSqliteOptions(filepath.Join(dir, "hub.db"))
	opts.MaxResident = 100 << 10 // some are evicted and replayed
	be := sqlite.NewSqliteBackend(opts, log)
	ex := task.NewTaskExecutor(r)
	w := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, ex, log, backend.WithMaxParallelism(16)),
		backend.NewActivityTaskWorker(be, ex, log, backend.WithMaxParallelism(16)), log)
	return backend.NewClient(be), w, w.Start(ctx)
}

// load starts instances and raises events, and writes down what was acknowledged.
func load(ctx context.Context, c backend.Client, acks io.Writer, name string) error {
	for n := 0; ; n++ {
		kind := []string{"chain", "fan", "family", "list"}[n%4]
		id := api.InstanceID(fmt.Sprintf("%s-%s-%d", kind, name, n))
		var input any
		if kind == "list" {
			input = []int{}
		}
		if _, err := c.ScheduleNewOrchestration(ctx, kind, api.WithInstanceID(id), api.WithInput(input)); err != nil {
			return err
		}
		fmt.Fprintf(acks, "start %s\n", id)
		for k := 0; kind == "list" && k < listItems; k++ {
			if err := c.RaiseEvent(ctx, id, "item", k); err != nil {
				return err
			}
			fmt.Fprintf(acks, "event %s %d\n", id, k)
		}
	}
}

type acked struct {
	starts []api.InstanceID
	events map[api.InstanceID][]int
}

func readAcks(dir string) (acked, error) {
	a := acked{events: map[api.InstanceID][]int{}}
	data, err := os.ReadFile(filepath.Join(dir, "acks"))
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "start":
			a.starts = append(a.starts, api.InstanceID(f[1]))
		case len(f) == 3 && f[0] == "event":
			var k int
			_, _ = fmt.Sscan(f[2], &k)
			a.events[api.InstanceID(f[1])] = append(a.events[api.InstanceID(f[1])], k)
		}
	}
	return a, err
}

// finish ends the lists and waits until every acknowledged instance is over.
func finish(ctx context.Context, dir string, c backend.Client) error {
	a, err := readAcks(dir)
	if err != nil {
		return err
	}
	for _, id := range a.starts {
		if strings.HasPrefix(string(id), "list") {
			if err := c.RaiseEvent(ctx, id, "item", -1); err != nil {
				return fmt.Errorf("end %s: %w", id, err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for _, id := range a.starts {
		if _, err := c.WaitForOrchestrationCompletion(ctx, id); err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return nil
}

func verify(t *testing.T, dir string) {
	t.Helper()
	a, err := readAcks(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := crashRegistry(func(task.ActivityContext) {})
	if err != nil {
		t.Fatal(err)
	}
	c, w, err := crashHub(t.Context(), dir, r)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"chain": "3", "fan": "55", "family": "3"}
	events := 0
	for _, id := range a.starts {
		m, err := c.FetchOrchestrationMetadata(t.Context(), id)
		if err != nil {
			t.Errorf("lost: %s: %v", id, err)
			continue
		}
		kind, _, _ := strings.Cut(string(id), "-")
		if m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED || (kind != "list" && m.SerializedOutput != want[kind]) {
			t.Errorf("%s: %v %s %v", id, m.RuntimeStatus, m.SerializedOutput, m.FailureDetails)
		}
		if kind == "list" {
			var got []int
			if err := json.Unmarshal([]byte(m.SerializedOutput), &got); err != nil {
				t.Errorf("%s: %v", id, err)
			}
			// One more than was acknowledged may be there: the last answer may have been lost.
			n := len(a.events[id])
			events += n
			if len(got) < n || len(got) > n+1 {
				t.Errorf("%s: received %v, acknowledged %v", id, got, a.events[id])
			}
			for k, v := range got {
				if v != k {
					t.Errorf("%s: received %v", id, got)
					break
				}
			}
		}
	}
	t.Logf("%d kills, %d acknowledged starts, %d acknowledged events, %s", *kills, len(a.starts), events, countEffects(t, dir))
	if err := w.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func countEffects(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "effects"))
	if err != nil {
		t.Fatal(err)
	}
	runs, keys := 0, map[string]bool{}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 3 {
			runs++
			keys[f[2]] = true
		}
	}
	return fmt.Sprintf("%d activity runs of %d activities", runs, len(keys))
}
