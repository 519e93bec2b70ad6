// Command sidecar serves a task hub of durabletask-go, as its own sidecar does, with a choice
// of how many items it hands out at a time: the other server of bench -server durabletask-go. It
// is a module of its own, so that nobody who uses Perdure depends on what it is compared with.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"

	"github.com/microsoft/durabletask-go/backend"
	"github.com/microsoft/durabletask-go/backend/sqlite"
	"google.golang.org/grpc"
)

// quiet leaves out what it says of each item.
type quiet struct{ backend.Logger }

func (quiet) Debug(...any)          {}
func (quiet) Debugf(string, ...any) {}
func (quiet) Info(...any)           {}
func (quiet) Infof(string, ...any)  {}

func main() {
	addr := flag.String("grpc", "127.0.0.1:4001", "address to listen at")
	db := flag.String("db", "", "SQLite file, or a DSN that begins with file:")
	parallel := flag.Int("parallel", 256, "turns and activities that are handed out at a time, each")
	flag.Parse()
	if err := serve(*addr, *db, int32(*parallel)); err != nil {
		fmt.Fprintln(os.Stderr, "sidecar:", err)
		os.Exit(1)
	}
}

func serve(addr, db string, parallel int32) error {
	log := quiet{backend.DefaultLogger()}
	be := sqlite.NewSqliteBackend(sqlite.NewSqliteOptions(db), log)
	executor, register := backend.NewGrpcExecutor(be, log)
	server := grpc.NewServer()
	register(server)
	worker := backend.NewTaskHubWorker(be,
		backend.NewOrchestrationWorker(be, executor, log, backend.WithMaxParallelism(parallel)),
		backend.NewActivityTaskWorker(be, executor, log, backend.WithMaxParallelism(parallel)), log)
	if err := worker.Start(context.Background()); err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return server.Serve(l)
}
