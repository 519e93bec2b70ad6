package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

// verb is something that can be done to one instance or to many.
type verb struct {
	use, short, done string
	long             string
	destructive      bool                      // even a single one wants --yes
	statuses         []api.OrchestrationStatus // of the instances that a bulk run takes; nil for all
	flags            func(*cobra.Command)
	do               func(context.Context, backend.Client, api.InstanceID) (note string, err error)
}

var (
	unfinished = []api.OrchestrationStatus{api.RUNTIME_STATUS_PENDING, api.RUNTIME_STATUS_RUNNING, api.RUNTIME_STATUS_SUSPENDED}
	finished   = []api.OrchestrationStatus{
		api.RUNTIME_STATUS_COMPLETED, api.RUNTIME_STATUS_FAILED, api.RUNTIME_STATUS_TERMINATED, api.RUNTIME_STATUS_CANCELED,
	}
)

// newVerbs returns the commands that change instances that are there.
func newVerbs() []*cobra.Command {
	var all []*cobra.Command
	for _, v := range []verb{suspendVerb(), resumeVerb(), terminateVerb(), rewindVerb(), restartVerb(), purgeVerb()} {
		all = append(all, v.command())
	}
	return all
}

func suspendVerb() verb {
	var reason string
	return verb{
		use: "suspend", short: "Pause instances", done: "suspended", statuses: unfinished[:2], flags: reasonFlag(&reason),
		do: func(ctx context.Context, c backend.Client, id api.InstanceID) (string, error) {
			return "", c.SuspendOrchestration(ctx, id, reason)
		},
	}
}

func resumeVerb() verb {
	var reason string
	return verb{
		use: "resume", short: "End a pause of instances", done: "resumed", statuses: unfinished[2:], flags: reasonFlag(&reason),
		do: func(ctx context.Context, c backend.Client, id api.InstanceID) (string, error) {
			return "", c.ResumeOrchestration(ctx, id, reason)
		},
	}
}

func terminateVerb() verb {
	var reason string
	var force, alone bool
	return verb{
		use: "terminate", short: "End instances and their children", done: "terminated", statuses: unfinished, destructive: true,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&reason, "reason", "", "what becomes their output")
			cmd.Flags().BoolVar(&alone, "no-children", false, "leave their children running")
			cmd.Flags().BoolVar(&force, "force", false, "do not load their history first; it may be damaged or huge")
		},
		do: func(ctx context.Context, c backend.Client, id api.InstanceID) (string, error) {
			opts := []api.TerminateOptions{api.WithRecursiveTerminate(!alone)}
			if reason != "" {
				opts = append(opts, api.WithRawOutput(reason))
			}
			if force {
				return "", c.ForceTerminate(ctx, id, opts...)
			}
			return "", c.Terminate(ctx, id, opts...)
		},
	}
}

func rewindVerb() verb {
	var reason string
	return verb{
		use: "rewind", short: "Let failed instances go on from before their failure", done: "rewound",
		statuses: finished[1:2], flags: reasonFlag(&reason),
		do: func(ctx context.Context, c backend.Client, id api.InstanceID) (string, error) {
			return "", c.Rewind(ctx, id, reason)
		},
	}
}

func restartVerb() verb {
	var newID bool
	return verb{
		use: "restart", short: "Start instances again with the same input", done: "restarted", statuses: finished,
		destructive: true,
		long:        "A finished instance is replaced by its restart: its history is lost. With --new-id it stays.\n",
		flags: func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&newID, "new-id", false, "under a new id, and leave the old one as it is")
		},
		do: func(ctx context.Context, c backend.Client, id api.InstanceID) (string, error) {
			as, err := c.Restart(ctx, id, newID)
			if err == nil && as != id {
				return "as " + string(as), nil
			}
			return "", err
		},
	}
}

func purgeVerb() verb {
	var force, alone bool
	return verb{
		use: "purge", short: "Delete finished instances and their children", done: "purged", statuses: finished, destructive: true,
		flags: func(cmd *cobra.Command) {
			cmd.Flags().BoolVar(&alone, "no-children", false, "leave their children")
			cmd.Flags().BoolVar(&force, "force", false, "delete also what is not finished")
		},
		do: func(ctx context.Context, c backend.Client, id api.InstanceID) (string, error) {
			var n int
			var err error
			if force {
				n, err = c.ForcePurge(ctx, id)
			} else {
				n, err = c.Purge(ctx, id, api.WithRecursivePurge(!alone))
			}
			if n > 1 {
				return fmt.Sprintf("and %d descendants", n-1), err
			}
			return "", err
		},
	}
}

func reasonFlag(reason *string) func(*cobra.Command) {
	return func(cmd *cobra.Command) { cmd.Flags().StringVar(reason, "reason", "", "why, for the history") }
}

// bulk are the flags of a verb's run over many instances.
type bulk struct {
	all, yes bool
	rate     int
	limit    int
}

func (v verb) command() *cobra.Command {
	var t target
	var o output
	var f filter
	var b bulk
	cmd := &cobra.Command{
		Use: v.use + " [ID...]", Short: v.short,
		Long: v.short + ": those whose ids are given, or all that the filter flags select.\n" + v.long + `What is selected by flags is shown and counted first, and done only with --yes. A run
that was interrupted is continued by the same command: it selects what is left.`,
		Example: fmt.Sprintf("  perdure %s order-17\n  perdure %[1]s --name order --created-after 24h --yes", v.use),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.open(cmd); err != nil {
				return err
			}
			if (len(args) > 0) == (f.set() || b.all) {
				return usageError{errors.New("want the ids of instances, or flags that select them, or --all")}
			}
			return t.manage(cmd.Context(), func(c backend.Client) error {
				if len(args) > 0 {
					return v.some(cmd, o, c, args, b)
				}
				q, err := f.query()
				if err != nil {
					return err
				}
				return v.selected(cmd, o, c, q, b)
			})
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	f.flags(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&b.all, "all", false, "select every instance that the verb applies to")
	fl.BoolVarP(&b.yes, "yes", "y", false, "do it; without it only show what would be done")
	fl.IntVar(&b.rate, "rate", 200, "this many a second at most; 0 for no limit")
	fl.IntVar(&b.limit, "limit", 0, "this many at most; 0 for all")
	if v.flags != nil {
		v.flags(cmd)
	}
	return cmd
}

// outcome is what became of one instance.
type outcome struct {
	ID    string `json:"id"`
	Done  string `json:"done,omitempty"`
	Note  string `json:"note,omitempty"`
	Error string `json:"error,omitempty"`
}

var outcomeColumns = []column[outcome]{
	{"ID", func(o outcome) string { return o.ID }},
	{"RESULT", func(o outcome) string {
		if o.Error != "" {
			return "error"
		}
		return o.Done
	}},
	{"NOTE", func(o outcome) string { return o.Note + o.Error }},
}

// some does it to the named instances. The first error decides the exit code, and the rest is still done.
func (v verb) some(cmd *cobra.Command, o output, c backend.Client, ids []string, b bulk) error {
	if v.destructive && !b.yes {
		for _, id := range ids {
			m, err := c.FetchOrchestrationMetadata(cmd.Context(), api.InstanceID(id))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s would be %s: %s, %s, created %s\n", plain(id), v.done, plain(m.Name),
				api.StatusName(m.RuntimeStatus), stamp(m.CreatedAt))
		}
		return errUnconfirmed
	}
	return v.run(cmd.Context(), o, c, b, false, func(f func(api.InstanceID) error) error {
		for _, id := range ids {
			if err := f(api.InstanceID(id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// previewed is how many instances a preview lists.
const previewed = 20

func (v verb) selected(cmd *cobra.Command, o output, c backend.Client, q api.InstanceQuery, b bulk) error {
	if q.Statuses == nil && !isForced(cmd) {
		q.Statuses = v.statuses
	}
	if b.yes {
		return v.run(cmd.Context(), o, c, b, true, func(f func(api.InstanceID) error) error {
			return each(cmd.Context(), c, q, b.limit, func(m *api.OrchestrationMetadata) error { return f(m.InstanceID) })
		})
	}
	return v.preview(cmd.Context(), cmd.ErrOrStderr(), c, q, b)
}

func isForced(cmd *cobra.Command) bool {
	f := cmd.Flags().Lookup("force")
	return f != nil && f.Value.String() == "true"
}

func (v verb) preview(ctx context.Context, w io.Writer, c backend.Client, q api.InstanceQuery, b bulk) error {
	n := 0
	if err := table(output{w: w}, instanceColumns, func(f func(*api.OrchestrationMetadata) error) error {
		return each(ctx, c, q, b.limit, func(m *api.OrchestrationMetadata) error {
			if n++; n > previewed {
				return nil
			}
			return f(m)
		})
	}); err != nil {
		return err
	}
	if n > previewed {
		fmt.Fprintf(w, "… and %d more\n", n-previewed)
	}
	fmt.Fprintf(w, "%d instances would be %s\n", n, v.done)
	if n == 0 {
		return nil
	}
	return errUnconfirmed
}

// moot reports whether an instance that was selected has changed meanwhile,
// such as a child that went with its parent.
func moot(err error) bool {
	return errors.Is(err, api.ErrInstanceNotFound) || errors.Is(err, api.ErrNotCompleted) || errors.Is(err, api.ErrNotFailed)
}

// run reports on each instance as it is done.
func (v verb) run(
	ctx context.Context, o output, c backend.Client, b bulk, selected bool, all func(func(api.InstanceID) error) error,
) error {
	var pace <-chan time.Time
	if b.rate > 0 {
		tick := time.NewTicker(time.Second / time.Duration(b.rate))
		defer tick.Stop()
		pace = tick.C
	}
	var first error
	bad, n := 0, 0
	err := rows(o, outcomeColumns, func(f func(outcome) error) error {
		return all(func(id api.InstanceID) error {
			if n++; pace != nil && n > 1 {
				select {
				case <-pace:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			note, err := v.do(ctx, c, id)
			if exitCode(err) == exitUnreachable || ctx.Err() != nil {
				return errors.Join(err, ctx.Err()) // the rest would fail the same way
			}
			if selected && moot(err) {
				return f(outcome{ID: string(id), Done: "skipped", Note: err.Error()})
			}
			if err != nil {
				bad++
				if first == nil {
					first = err
				}
				return f(outcome{ID: string(id), Error: err.Error()})
			}
			return f(outcome{ID: string(id), Done: v.done, Note: note})
		})
	})
	if err != nil {
		return err
	}
	if bad > 1 || bad == 1 && n > 1 {
		return fmt.Errorf("%d of %d instances were not %s; the first: %w", bad, n, v.done, first)
	}
	return first
}
