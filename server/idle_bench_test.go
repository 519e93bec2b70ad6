package server

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/perdure/perdure/api/protos"
	"github.com/perdure/perdure/backend/sqlite"
)

// BenchmarkIdleWorkers says what a server costs to which 1,000 workers are
// connected, each over a connection of its own, that have nothing to do: memory and
// goroutines of both ends together, as they share this process, and CPU.
//
//	go test ./server -run '^$' -bench IdleWorkers -benchtime 1x
func BenchmarkIdleWorkers(b *testing.B) {
	const workers, watch = 1000, 40 * time.Second
	for b.Loop() {
		s, err := New(b.Context(), sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(filepath.Join(b.TempDir(), "hub.db")), silent),
			Options{GRPC: "127.0.0.1:0", HTTP: "127.0.0.1:0", Log: silent})
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		memory, goroutines := resident(b), runtime.NumGoroutine()
		var conns []*grpc.ClientConn
		for range workers {
			conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			conns = append(conns, conn)
			stream, err := protos.NewTaskHubSidecarServiceClient(conn).GetWorkItems(ctx, &protos.GetWorkItemsRequest{
				MaxConcurrentOrchestrationWorkItems: 100, MaxConcurrentActivityWorkItems: 100,
			})
			if err != nil {
				b.Fatal(err)
			}
			go func() { // as a worker waits for work
				for {
					if _, err := stream.Recv(); err != nil {
						return
					}
				}
			}()
		}
		for s.hubs.glance().workers < workers {
			<-time.After(10 * time.Millisecond)
		}
		cpu := cpuTime(b)
		<-time.After(watch)
		b.ReportMetric(float64(cpuTime(b)-cpu)/float64(watch)*100, "%CPU")
		b.ReportMetric(float64(resident(b)-memory)/workers, "KiB/worker")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/workers, "goroutines/worker")
		for _, c := range conns {
			c.Close()
		}
		stop()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
	}
}

// resident is the memory of this process in KiB.
func resident(b *testing.B) int {
	b.Helper()
	runtime.GC()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
