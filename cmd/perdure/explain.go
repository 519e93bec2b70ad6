package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/client"
)

func newExplain() *cobra.Command {
	var t target
	var o output
	cmd := &cobra.Command{
		Use: "explain ID", Short: "Say why an instance does not move", Args: args(1, false),
		Long: `Say why an instance does not move: what it waits for, since when and until when, and
which worker has to do with it. From a database (--db) it knows what is stored only.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.open(cmd); err != nil {
				return err
			}
			return t.explain(cmd.Context(), api.InstanceID(args[0]), func(v *api.Verdict) error {
				if o.format != "table" {
					return record(o, v, nil)
				}
				if _, err := fmt.Fprintf(o.w, "%s is %s: %s\n", plain(string(v.InstanceID)), v.Status, plain(v.Summary)); err != nil {
					return err
				}
				for _, w := range v.Waits {
					if _, err := fmt.Fprintf(o.w, "  %-16s  %s\n", w.Reason, plain(w.Summary)); err != nil {
						return err
					}
				}
				if v.More > 0 {
					_, err := fmt.Fprintf(o.w, "  … and %d more\n", v.More)
					return err
				}
				return nil
			})
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	return cmd
}

func (t *target) explain(ctx context.Context, id api.InstanceID, f func(*api.Verdict) error) error {
	if t.db == "" {
		return t.remote(ctx, func(c *client.TaskHubGrpcClient) error {
			v, err := c.Explain(ctx, id)
			if err != nil {
				return err
			}
			return f(v)
		})
	}
	return t.read(ctx, func(r reader) error {
		v, err := r.(dbReader).ExplainInstance(ctx, id)
		if err != nil {
			return err
		}
		return f(v)
	})
}

var workerColumns = []column[api.Worker]{
	{"ID", func(w api.Worker) string { return w.ID }},
	{"NAME", func(w api.Worker) string { return w.Name }},
	{"ADDRESS", func(w api.Worker) string { return w.Address }},
	{"CONNECTED", func(w api.Worker) string { return stamp(w.ConnectedAt) }},
	{"ORCHESTRATIONS", func(w api.Worker) string { return slots(w.Orchestrations) }},
	{"ACTIVITIES", func(w api.Worker) string { return slots(w.Activities) }},
	{"OLDEST ITEM", func(w api.Worker) string {
		if len(w.Items) == 0 {
			return ""
		}
		return fmt.Sprintf("%s of %s, %s", w.Items[0].Name, w.Items[0].InstanceID, time.Since(w.Items[0].Since).Round(time.Second))
	}},
	{"HOSTS", func(w api.Worker) string { return hosts(w) }},
	{"AGENT", func(w api.Worker) string { return w.Agent }},
}

func slots(s api.WorkerSlots) string {
	if s.Limit == 0 {
		return strconv.Itoa(s.Running)
	}
	return fmt.Sprintf("%d of %d", s.Running, s.Limit)
}

func hosts(w api.Worker) string {
	names := map[string]bool{}
	for _, s := range []api.WorkerSlots{w.Orchestrations, w.Activities, w.Entities} {
		if s.All {
			names["(all)"] = true
		}
		for n := range s.Hosts {
			names[n] = true
		}
	}
	return short(strings.Join(slices.Sorted(maps.Keys(names)), ","), 60)
}

func newWorkers() *cobra.Command {
	var t target
	var o output
	cmd := &cobra.Command{
		Use: "workers", Short: "List the connected workers, what they host and what they run", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.open(cmd); err != nil {
				return err
			}
			return t.remote(cmd.Context(), func(c *client.TaskHubGrpcClient) error {
				all, err := c.Workers(cmd.Context())
				if err != nil {
					return err
				}
				return rows(o, workerColumns, func(f func(api.Worker) error) error {
					for _, w := range all {
						if err := f(w); err != nil {
							return err
						}
					}
					return nil
				})
			})
		},
	}
	t.serverFlag(cmd)
	o.flags(cmd)
	return cmd
}
