package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// usageError is a command line that cannot be obeyed.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// newRoot returns the whole command line; each group of commands adds its own in a file of its own.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "perdure",
		Short:         "A durable task engine",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddGroup(&cobra.Group{ID: "hub", Title: "Task hubs:"}, &cobra.Group{ID: "read", Title: "Looking at instances:"},
		&cobra.Group{ID: "manage", Title: "Changing instances:"})
	addTo(root, "hub", newServe(), newDev())
	addTo(root, "read", newReads()...)
	addTo(root, "manage", newStart(), newRaise())
	addTo(root, "manage", newVerbs()...)
	addTo(root, "hub", newExport(), newImport())
	addTo(root, "hub", newStorage()...)
	addTo(root, "hub", newTop(), newDoctor(), newBench(), newToken())
	addTo(root, "manage", newEntity())
	return root
}

func addTo(root *cobra.Command, group string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// noArgs takes no arguments besides flags.
func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

// run executes a command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := interruptible(ctx)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "perdure: %v\n", err)
	if usage := (usageError{}); errors.As(err, &usage) {
		fmt.Fprintf(stderr, "run '%s --help' for usage\n", cmd.CommandPath())
	}
	return exitCode(err)
}

// interruptible ends the context with the first SIGINT or SIGTERM, and the process with the second.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals, done := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer close(done)
		defer cancel()
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		cancel()
		if _, again := <-signals; again {
			os.Exit(exitInterrupted)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel()
		<-done
	}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
