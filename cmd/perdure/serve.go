package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/server"
)

type serveFlags struct {
	db, grpc, http string
	drain          time.Duration
	verbose        bool
}

func newServe() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a task hub to clients and workers",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return serve(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.db, "db", "./perdure.db", "what holds the task hub: a SQLite file, created where it is not there, or a postgres:// URL")
	flags.StringVar(&f.grpc, "grpc", "127.0.0.1:4001", "address for clients and workers")
	flags.StringVar(&f.http, "http", "127.0.0.1:4002", "address for health checks")
	flags.DurationVar(&f.drain, "drain", 10*time.Second, "how long a stopping server lets workers finish what they have")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log what happens to single work items")
	return cmd
}

func serve(cmd *cobra.Command, f serveFlags) error {
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	log := backend.NewLogger(slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level})))
	be, err := openBackend(f.db, log)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	var s *server.Server
	s, err = server.New(cmd.Context(), be, server.Options{
		GRPC: f.grpc, HTTP: f.http, Drain: f.drain, Log: log,
		OnReady: func() {
			fmt.Fprintf(out, "perdure %s, task hub in %s\n", version(), be) // its name has no password
			fmt.Fprintf(out, "gRPC for clients and workers  %s\n", s.GRPCAddr())
			fmt.Fprintf(out, "HTTP for health checks        http://%s/readyz\n", s.HTTPAddr())
		},
	})
	if err != nil {
		return err
	}
	if err := s.Run(cmd.Context()); err != nil {
		return err
	}
	fmt.Fprintln(out, "stopped")
	return nil
}
