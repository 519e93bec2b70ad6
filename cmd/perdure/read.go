package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
	"github.com/perdure/perdure/internal/timeline"
)

// newReads returns the commands that change nothing.
func newReads() []*cobra.Command {
	return []*cobra.Command{
		newGet(), newList(), newCount(), newWait(), newHistory("history", false), newHistory("tail", true),
		newExplain(), newWorkers(), newQuery(),
	}
}

// args takes n arguments at least, or exactly n where more is not set.
func args(n int, more bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		check := cobra.ExactArgs(n)
		if more {
			check = cobra.MinimumNArgs(n)
		}
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

func newGet() *cobra.Command {
	var t target
	var o output
	cmd := &cobra.Command{
		Use: "get ID", Short: "Show one instance", Args: args(1, false),
		Example: "  perdure get order-17 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.open(cmd); err != nil {
				return err
			}
			return t.read(cmd.Context(), func(r reader) error {
				m, err := r.FetchOrchestrationMetadata(cmd.Context(), api.InstanceID(args[0]))
				if err != nil {
					return err
				}
				return record(o, m, instanceFields(m))
			})
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	return cmd
}

func newList() *cobra.Command {
	var t target
	var o output
	var f filter
	var limit int
	var payloads, newest bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List instances, oldest first unless told otherwise", Args: noArgs,
		Example: "  perdure list --status failed --created-after 24h\n  perdure list --name order --limit 0 -o jsonl --payloads",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query()
			if err := errors.Join(err, o.open(cmd)); err != nil {
				return err
			}
			q.Payloads, q.NewestFirst = payloads, newest
			return t.read(cmd.Context(), func(r reader) error {
				return rows(o, instanceColumns, func(f func(*api.OrchestrationMetadata) error) error {
					return each(cmd.Context(), r, q, limit, f)
				})
			})
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	f.flags(cmd)
	cmd.Flags().BoolVar(&newest, "newest", false, "newest first")
	cmd.Flags().IntVar(&limit, "limit", 100, "show this many at most; 0 for all")
	cmd.Flags().BoolVar(&payloads, "payloads", false, "with input, output and custom status, in JSON")
	return cmd
}

func newCount() *cobra.Command {
	var t target
	var o output
	var f filter
	cmd := &cobra.Command{
		Use: "count", Short: "Count instances by status", Args: noArgs,
		Example: "  perdure count --name order",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query()
			if err := errors.Join(err, o.open(cmd)); err != nil {
				return err
			}
			return t.read(cmd.Context(), func(r reader) error {
				byStatus, err := r.CountInstances(cmd.Context(), q)
				if err != nil {
					return err
				}
				counts := map[string]int64{"total": 0}
				for s, n := range byStatus {
					counts[api.StatusName(s)] = n
					counts["total"] += n
				}
				var fields [][2]string
				for _, s := range slices.Sorted(maps.Keys(counts)) {
					fields = append(fields, [2]string{s, strconv.FormatInt(counts[s], 10)})
				}
				return record(o, counts, fields)
			})
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	f.flags(cmd)
	return cmd
}

func newWait() *cobra.Command {
	var t target
	var o output
	var timeout time.Duration
	var started bool
	cmd := &cobra.Command{
		Use: "wait ID", Short: "Wait until an instance is over, and show it", Args: args(1, false),
		Long: "Wait until an instance is over, and show it. The exit code is 0 where it completed,\n" +
			"7 where it failed or was terminated, and 6 where the time was up.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.open(cmd); err != nil {
				return err
			}
			return t.read(cmd.Context(), func(r reader) error {
				return waitFor(cmd.Context(), r, o, api.InstanceID(args[0]), started, timeout)
			})
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after this time; 0 for never")
	cmd.Flags().BoolVar(&started, "started", false, "wait for its start only")
	return cmd
}

func waitFor(ctx context.Context, r reader, o output, id api.InstanceID, started bool, timeout time.Duration) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	wait := r.WaitForOrchestrationCompletion
	if started {
		wait = r.WaitForOrchestrationStart
	}
	m, err := wait(ctx, id)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("instance %q did not get there within %v: %w", id, timeout, err)
	}
	if err != nil {
		return err
	}
	if err := record(o, m, instanceFields(m)); err != nil {
		return err
	}
	if m.IsComplete() && m.RuntimeStatus != api.RUNTIME_STATUS_COMPLETED {
		return unluckyError{fmt.Errorf("instance %q is %s", id, api.StatusName(m.RuntimeStatus))}
	}
	return nil
}

// historyLine is an event with the place it has in the history.
type historyLine struct {
	n     int
	event *backend.HistoryEvent
	timeline.Line
}

// MarshalJSON writes the whole event.
func (l historyLine) MarshalJSON() ([]byte, error) {
	raw, err := protojson.Marshal(l.event)
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	all["sequence"] = json.RawMessage(strconv.Itoa(l.n))
	all["type"] = json.RawMessage(strconv.Quote(l.Type))
	return json.Marshal(all)
}

var historyColumns = []column[historyLine]{
	{"#", func(l historyLine) string { return strconv.Itoa(l.n) }},
	{"TIME", func(l historyLine) string { return stamp(l.At) }},
	{"EVENT", func(l historyLine) string { return l.Type }},
	{"TASK", func(l historyLine) string {
		if n := max(l.ID, l.Task); n >= 0 {
			return strconv.Itoa(int(n))
		}
		return ""
	}},
	{"NAME", func(l historyLine) string { return l.Name }},
	{"DETAIL", func(l historyLine) string { return l.Detail }},
	{"PAYLOAD", func(l historyLine) string { return short(l.Payload, 60) }},
}

func newHistory(name string, follow bool) *cobra.Command {
	var t target
	var o output
	cmd := &cobra.Command{
		Use: name + " ID", Short: "Show the events of an instance, oldest first", Args: args(1, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.open(cmd); err != nil {
				return err
			}
			id := api.InstanceID(args[0])
			return t.read(cmd.Context(), func(r reader) error {
				if follow {
					return tail(cmd.Context(), r, o, id)
				}
				return rows(o, historyColumns, func(f func(historyLine) error) error {
					return lines(cmd.Context(), r, id, f)
				})
			})
		},
	}
	t.flags(cmd)
	o.flags(cmd)
	if follow {
		cmd.Short = "Show the events of an instance and then those to come, until it is over"
	}
	return cmd
}

func lines(ctx context.Context, r reader, id api.InstanceID, f func(historyLine) error) error {
	n := 0
	return r.History(ctx, id, func(events []*backend.HistoryEvent) error {
		for _, e := range events {
			if err := f(historyLine{n, e, timeline.Of(e)}); err != nil {
				return err
			}
			n++
		}
		return nil
	})
}

// tail reads the history again as often as the instance has changed. A
// history that became shorter is that of a new execution.
func tail(ctx context.Context, r reader, o output, id api.InstanceID) error {
	if o.format == "json" {
		o.format = "jsonl"
	}
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	shown, execution, seen := 0, "", time.Time{}
	for {
		m, err := r.FetchOrchestrationMetadata(ctx, id)
		if err != nil {
			return err
		}
		if m.ExecutionID != execution {
			shown, execution = 0, m.ExecutionID
		}
		if !m.LastUpdatedAt.Equal(seen) || m.IsComplete() {
			seen = m.LastUpdatedAt
			n := 0
			if err := rows(o, historyColumns, func(f func(historyLine) error) error {
				return lines(ctx, r, id, func(l historyLine) error {
					if n++; n <= shown {
						return nil
					}
					return f(l)
				})
			}); err != nil {
				return err
			}
			shown = max(shown, n)
			o.bare = true
		}
		if m.IsComplete() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
