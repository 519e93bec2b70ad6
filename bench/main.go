// Command bench runs one workload on an engine of its own and prints one line of JSON.
//
//	W1  n orchestrations of k activities one after another, from several starters
//	W2  one orchestration of n activities in parallel
//	W3  one orchestration of n activities one after another
//	W4  n orchestrations of one activity, one at a time on an idle engine: latency
//	W5  one orchestration that receives n events one after another: round trip
//	W6  n orchestrations of one timer of a second
//	S1  n orchestrations that sleep for a year: reopening, memory, and W1 beside them
//	L1  lists and searches over n finished instances: latency
//	E1  one orchestration that calls an entity n times, one after another
//	E2  n signals to k entities, from several starters
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"syscall"
	"time"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/backend/postgres"
	"github.com/perdure/perdure/backend/sqlite"
)

// line is what a run prints. The names are those of the comparison drivers.
type line struct {
	Peer     string  `json:"peer"`
	Version  string  `json:"version"`
	Store    string  `json:"store"`
	Workload string  `json:"workload"`
	N        int     `json:"n"`
	Acts     int     `json:"activities"`
	Seconds  float64 `json:"seconds"`
	OrchPS   float64 `json:"orch_per_s,omitempty"`
	ActPS    float64 `json:"act_per_s,omitempty"`
	P50      float64 `json:"p50_ms,omitempty"`
	P99      float64 `json:"p99_ms,omitempty"`
	EngP50   float64 `json:"engine_p50_ms,omitempty"`
	EngP99   float64 `json:"engine_p99_ms,omitempty"`
	StartS   float64 `json:"start_calls_s,omitempty"`
	Execs    int64   `json:"activity_execs,omitempty"`
	RSSMB    float64 `json:"peak_rss_mb"`
	CPUS     float64 `json:"cpu_s"`
	Note     string  `json:"note,omitempty"`
	Err      string  `json:"error,omitempty"`
	At       string  `json:"at"`
	Load1    float64 `json:"load1_before"`
	Settings string  `json:"settings"`
}

type config struct {
	workload string
	n, k     int
	starters int
	relaxed  bool
	grpc     bool
	distance
	profile string
	dir     string // of the SQLite file
	db      string // connection string, for PostgreSQL
}

func main() {
	var c config
	flag.StringVar(&c.workload, "w", "W1", "workload, W1 to W6, S1, L1, E1, E2")
	flag.IntVar(&c.n, "n", 0, "size; 0 for the workload's default")
	flag.IntVar(&c.k, "k", 5, "W1: activities of each orchestration; E2: entities")
	flag.IntVar(&c.starters, "starters", 8, "W1, W6, E2: concurrent calls")
	flag.BoolVar(&c.relaxed, "relaxed", false, "leave out the sync at each commit")
	flag.StringVar(&c.profile, "cpuprofile", "", "write a CPU profile of the workload to this file")
	flag.StringVar(&c.dir, "dir", "", "folder for the database file (default: a temporary one)")
	flag.StringVar(&c.db, "postgres", "", "connection string of a PostgreSQL database to use instead of a file; its task hub must be new")
	flag.BoolVar(&c.grpc, "grpc", false, "with a server and a worker that are connected by gRPC")
	flag.StringVar(&c.server, "server", "", "with -grpc: the server is a process, of perdure or of durabletask-go's sidecar (default: in this one)")
	flag.StringVar(&c.worker, "worker", "go", "with -grpc: the worker is Go in this process, or js: a process with the JavaScript SDK (W1 to W4)")
	timeout := flag.Duration("timeout", 90*time.Second, "limit of the run")
	flag.Parse()
	if err := c.check(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if c.n == 0 {
		c.n = map[string]int{"W1": 2000, "W2": 1000, "W3": 1000, "W4": 100, "W5": 100, "W6": 2000, "S1": 1_000_000, "L1": 1_000_000, "E1": 1000, "E2": 5000}[c.workload]
	}
	if err := run(c, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(c config, timeout time.Duration) (err error) {
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "perdure-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(c.dir)) }()
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	l := line{
		Peer: "perdure", Version: version(), Store: "sqlite", Workload: c.workload, N: c.n,
		At: time.Now().UTC().Format(time.RFC3339), Settings: "MaxParallelism 256/256; synced at each commit",
	}
	if c.relaxed {
		l.Settings = "MaxParallelism 256/256; not synced at each commit"
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(b), &l.Load1)
	}
	if c.db != "" {
		l.Store = "postgres"
	}
	if c.grpc {
		l.Settings += "; over gRPC, " + c.worker + " worker"
		if c.server != "" {
			l.Peer, l.Settings = c.server, l.Settings+"; the server is a process"
		}
	}
	be, err := c.backend()
	if err != nil {
		return err
	}
	e, err := open(ctx, c, be)
	if err != nil {
		l.Err = "open: " + err.Error()
		return errors.Join(err, l.print(0))
	}
	stopProfile, err := profile(c.profile)
	if err != nil {
		return err
	}
	hung := l // an engine that hangs still yields its line
	watchdog := time.AfterFunc(timeout+grace, func() {
		hung.Err = fmt.Sprintf("hung: %d done", e.reached())
		_ = hung.print(e.acts.Load())
		os.Exit(1)
	})
	werr := e.measure(ctx, c, &l)
	watchdog.Stop()
	stopProfile()
	if werr != nil {
		l.Err = werr.Error()
	}
	stopping, stop := context.WithTimeout(context.Background(), grace)
	defer stop()
	err = e.stop(stopping)
	return errors.Join(werr, err, l.print(e.acts.Load()))
}

func (c config) backend() (backend.Backend, error) {
	if c.server != "" { // it has the store
		return nil, nil
	}
	if c.db != "" {
		opts, err := postgres.NewPostgresOptionsFromURL(c.db)
		if err != nil {
			return nil, err
		}
		opts.RelaxedDurability = c.relaxed
		return postgres.NewPostgresBackend(opts, nil), nil
	}
	opts := sqlite.NewSqliteOptions(filepath.Join(c.dir, "bench.db"))
	opts.RelaxedDurability = c.relaxed
	return sqlite.NewSqliteBackend(opts, nil), nil
}

// grace is how long an engine may take to stop, or to notice that its time is over.
const grace = 5 * time.Second

// print completes the line with what the process used and writes it.
func (l *line) print(execs int64) error {
	l.Execs = execs
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) == nil {
		l.RSSMB = float64(ru.Maxrss) / 1024
		l.CPUS = float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e9
	}
	out, err := json.Marshal(l)
	if err != nil {
		return err
	}
	_, err = fmt.Println(string(out))
	return err
}

func profile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return pprof.StopCPUProfile, pprof.StartCPUProfile(f)
}

func version() string {
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "(devel)"
}

// quantile is in milliseconds.
func quantile(d []time.Duration, q float64) float64 {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return float64(s[int(q*float64(len(s)-1))].Microseconds()) / 1000
}
