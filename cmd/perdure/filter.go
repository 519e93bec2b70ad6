package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/api/protos"
)

// filter are the flags that select instances.
type filter struct {
	statuses                   []string
	name, prefix, parent       string
	search                     string
	createdAfter, createdUntil string
}

func (f *filter) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringSliceVar(&f.statuses, "status", nil, "with one of these statuses, such as running,failed")
	fl.StringVar(&f.name, "name", "", "of this orchestrator")
	fl.StringVar(&f.prefix, "prefix", "", "whose id begins with this")
	fl.StringVar(&f.parent, "parent", "", "that are children of this instance")
	fl.StringVar(&f.search, "search", "", "that this search finds, such as 'error:*timeout* input.customer.id:42'; see docs/search.md")
	fl.StringVar(&f.createdAfter, "created-after", "", "created at or after this time: RFC 3339, or how long ago, such as 2h")
	fl.StringVar(&f.createdUntil, "created-until", "", "created at or before this time")
	_ = cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions(statusNames(), cobra.ShellCompDirectiveNoFileComp))
}

func statusNames() []cobra.Completion {
	var names []cobra.Completion
	for _, n := range slices.Sorted(maps.Keys(protos.OrchestrationStatus_name)) {
		names = append(names, strings.ToLower(api.StatusName(protos.OrchestrationStatus(n))))
	}
	return names
}

// set reports whether the filter selects anything less than all.
func (f *filter) set() bool {
	return len(f.statuses) > 0 || f.name+f.prefix+f.parent+f.search+f.createdAfter+f.createdUntil != ""
}

func (f *filter) query() (q api.InstanceQuery, err error) {
	q.Name, q.IDPrefix, q.ParentID, q.Search = f.name, f.prefix, api.InstanceID(f.parent), f.search
	for _, s := range f.statuses {
		n, ok := protos.OrchestrationStatus_value["ORCHESTRATION_STATUS_"+strings.ToUpper(strings.TrimSpace(s))]
		if !ok {
			return q, usageError{fmt.Errorf("--status %q: want some of %s", s, strings.Join(statusNames(), ", "))}
		}
		q.Statuses = append(q.Statuses, api.OrchestrationStatus(n))
	}
	if q.CreatedFrom, err = when("created-after", f.createdAfter, ago); err != nil {
		return q, err
	}
	q.CreatedTo, err = when("created-until", f.createdUntil, ago)
	return q, err
}

func ago(d time.Duration) time.Time { return time.Now().Add(-d) }

// when reads a time, or a duration that from turns into one.
func when(flag, s string, from func(time.Duration) time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return from(d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usageError{fmt.Errorf("--%s %q: want a time such as 2026-01-31T12:00:00Z or a duration such as 2h", flag, s)}
	}
	return t, nil
}

// each calls f for all instances of the query, up to limit (0 for no limit).
func each(ctx context.Context, r reader, q api.InstanceQuery, limit int, f func(*api.OrchestrationMetadata) error) error {
	for n := 0; ; {
		q.PageSize = 1000
		if limit > 0 {
			q.PageSize = min(q.PageSize, limit-n)
		}
		page, err := r.Query(ctx, q)
		if err != nil {
			return err
		}
		for _, m := range page.Instances {
			if err := f(m); err != nil {
				return err
			}
			if n++; n == limit {
				return nil
			}
		}
		if q.Token = page.Token; q.Token == "" {
			return nil
		}
	}
}

func tags(t map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(t)) {
		parts = append(parts, k+"="+t[k])
	}
	return strings.Join(parts, " ")
}
