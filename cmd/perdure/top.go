package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/client"
)

func newTop() *cobra.Command {
	var t target
	var interval time.Duration
	var times int
	cmd := &cobra.Command{
		Use: "top", Short: "Show what a server does, again and again", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval <= 0 {
				return usageError{fmt.Errorf("--interval %v: want more than 0s", interval)}
			}
			return t.remote(cmd.Context(), func(c *client.TaskHubGrpcClient) error {
				return top(cmd.Context(), cmd.OutOrStdout(), c, interval, times)
			})
		},
	}
	t.serverFlag(cmd)
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "how often")
	cmd.Flags().IntVar(&times, "times", 0, "end after so many; 0 for never")
	return cmd
}

// top prints a screen a time; a terminal is cleared between them.
func top(ctx context.Context, w io.Writer, c *client.TaskHubGrpcClient, interval time.Duration, times int) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	wipe := ""
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			wipe = "\x1b[H\x1b[2J"
		}
	}
	var before map[api.OrchestrationStatus]int64
	last := time.Time{}
	for n := 1; ; n++ {
		counts, err := c.CountInstances(ctx, api.InstanceQuery{})
		if err != nil {
			return err
		}
		now := time.Now()
		workers, err := c.Workers(ctx)
		if err != nil {
			return err
		}
		rate := ""
		if before != nil {
			rate = fmt.Sprintf("%.1f finished a second", float64(over(counts)-over(before))/now.Sub(last).Seconds())
		}
		if _, err := io.WriteString(w, wipe+screen(counts, rate, workers, now)); err != nil {
			return err
		}
		if n == times {
			return nil
		}
		before, last = counts, now
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil // it is how one leaves it
		}
	}
}

func over(counts map[api.OrchestrationStatus]int64) (n int64) {
	for _, s := range finished {
		n += counts[s]
	}
	return n
}

// listed is how many workers and items a screen has.
const listed = 15

func screen(counts map[api.OrchestrationStatus]int64, rate string, workers []api.Worker, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s\n", stamp(now), rate)
	for _, s := range append(unfinished[:len(unfinished):len(unfinished)], finished...) {
		fmt.Fprintf(&b, "%s %s  ", strings.ToLower(api.StatusName(s)), humanize.Comma(counts[s]))
	}
	fmt.Fprintf(&b, "\n\n%d workers\n", len(workers))
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tADDRESS\tORCHESTRATIONS\tACTIVITIES\tENTITIES\tLATE")
	var items []api.WorkerItem
	for n, w := range workers {
		items = append(items, w.Items...)
		if n < listed {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\n", plain(w.ID), plain(w.Address), slots(w.Orchestrations), slots(w.Activities), slots(w.Entities), w.Late)
		}
	}
	_ = t.Flush() // into memory
	if len(items) > 0 {
		fmt.Fprintf(&b, "\n%d items at work, the oldest of each worker\n", len(items))
		t = tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "FOR\tKIND\tNAME\tINSTANCE\tWORKER")
		for n, w := range workers {
			if n < listed && len(w.Items) > 0 {
				i := w.Items[0]
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", now.Sub(i.Since).Round(100*time.Millisecond), i.Kind, plain(i.Name), plain(string(i.InstanceID)), plain(w.ID))
			}
		}
		_ = t.Flush()
	}
	return b.String()
}
