package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/server"
)

func newDev() *cobra.Command {
	var f serveFlags
	var demo, skip bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Serve task hubs for development: in memory, if you like with a sample worker or without waiting for time",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, store, err := f.prepare(cmd.ErrOrStderr())
			switch s := f.opts.Security; {
			case err != nil:
			case skip && f.db != "":
				err = errors.New("--virtual-time: only without --db, because the next process would begin in the past")
			case demo && (s.CertFile != "" || s.TokenFile != ""):
				err = errors.New("--demo: only without TLS and tokens, which the sample worker does not know")
			}
			if err != nil {
				return usageError{err}
			}
			if skip {
				f.opts.SkipWaits = &backend.VirtualClock{}
				store.clock = f.opts.SkipWaits
			}
			be, hubs := openMemory(store, log)
			if f.db != "" {
				if be, hubs, err = openStore(f.db, store, log); err != nil {
					return err
				}
			}
			return f.run(cmd, be, hubs, func(ctx context.Context, s *server.Server) func() {
				out := cmd.OutOrStdout()
				if f.db == "" {
					fmt.Fprintln(out, "in memory: all is forgotten when this process ends")
				}
				if skip {
					fmt.Fprintln(out, "virtual time: where all wait, the clock jumps to what is due next")
				}
				if !demo {
					return func() {}
				}
				return startDemo(ctx, out, s.GRPCAddr(), log)
			})
		},
	}
	f.add(cmd, "")
	cmd.Flags().BoolVar(&demo, "demo", false, "run a sample worker, and start some of its orchestrations")
	cmd.Flags().BoolVar(&skip, "virtual-time", false, "do not wait for timers: jump to the next one where nothing else is to be done")
	configurable(cmd)
	return cmd
}
