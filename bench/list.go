package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/perdure/perdure/api"
	"github.com/perdure/perdure/backend"
)

// looks are what an operator asks of a hub with many instances, most of which are over.
var looks = []struct {
	name  string
	query api.InstanceQuery
}{
	{"newest", api.InstanceQuery{NewestFirst: true}},
	{"failed", api.InstanceQuery{NewestFirst: true, Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_FAILED}}},
	{"suspended, none", api.InstanceQuery{NewestFirst: true, Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_SUSPENDED}}},
	{"name", api.InstanceQuery{NewestFirst: true, Name: "listed-3"}},
	{"name, none", api.InstanceQuery{NewestFirst: true, Name: "nobody"}},
	{"failed, by name", api.InstanceQuery{NewestFirst: true, Name: "listed-3", Statuses: []api.OrchestrationStatus{api.RUNTIME_STATUS_FAILED}}},
	{"id prefix", api.InstanceQuery{NewestFirst: true, IDPrefix: "order-0012"}},
	{"search by tag", api.InstanceQuery{NewestFirst: true, Search: "tag.team:team7 status:failed"}},
}

// lists fills the hub with n finished instances and asks each of the looks 50
// times, for a page of 50; P50 and P99 are over all of them, and each is told apart on standard error.
func (e *bed) lists(ctx context.Context, l *line, n int) error {
	im, ok := e.be.(backend.InstanceImporter)
	if !ok {
		return api.ErrUnsupported
	}
	began := time.Now()
	var next atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for range 256 { // so that many share a commit
		g.Go(func() error {
			for i := next.Add(1) - 1; int(i) < n; i = next.Add(1) - 1 {
				if err := im.ImportInstance(gctx, listed(int(i))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	l.Seconds = time.Since(began).Seconds()
	var all []time.Duration
	for _, look := range looks {
		look.query.PageSize = 50
		var times []time.Duration
		rows := 0
		for range 50 {
			began := time.Now()
			page, err := e.client.Query(ctx, look.query)
			if err != nil {
				return fmt.Errorf("%s: %w", look.name, err)
			}
			times, rows = append(times, time.Since(began)), len(page.Instances)
		}
		fmt.Fprintf(os.Stderr, "%-18s %3d rows  p50 %7.2f ms  p95 %7.2f ms\n", look.name, rows, quantile(times, 0.5), quantile(times, 0.95))
		all = append(all, times...)
	}
	var counting []time.Duration
	for range 5 {
		began := time.Now()
		counts, err := e.client.CountInstances(ctx, api.InstanceQuery{})
		if err != nil {
			return err
		}
		if counts[api.RUNTIME_STATUS_COMPLETED] == 0 {
			return errors.New("nothing is counted")
		}
		counting = append(counting, time.Since(began))
	}
	fmt.Fprintf(os.Stderr, "%-18s %3d rows  p50 %7.2f ms\n", "count by status", n, quantile(counting, 0.5))
	l.P50, l.P99 = quantile(all, 0.5), quantile(all, 0.99)
	l.Note = fmt.Sprintf("p95 %.2f ms over %d kinds of lists; seconds are those of filling", quantile(all, 0.95), len(looks))
	return nil
}

// listed is an instance as an order system would have them: 1 in 100 failed.
func listed(i int) *api.InstanceBundle {
	r := rand.New(rand.NewPCG(uint64(i), 1)) //nolint:gosec // it is to be the same each time
	at := time.Now().Add(-time.Duration(i) * time.Second)
	m := &api.OrchestrationMetadata{
		InstanceID: api.InstanceID(fmt.Sprintf("order-%08d", i)), Name: fmt.Sprintf("listed-%d", r.IntN(20)),
		RuntimeStatus: api.RUNTIME_STATUS_COMPLETED, ExecutionID: "e", CreatedAt: at, LastUpdatedAt: at, CompletedAt: at,
		SerializedInput: fmt.Sprintf(`{"customer":{"id":%d},"items":["tea","milk"],"note":"%060d"}`, r.IntN(1e6), i), SerializedOutput: `"ok"`,
		Tags: map[string]string{"team": fmt.Sprintf("team%d", r.IntN(50))},
	}
	if r.IntN(100) == 0 {
		m.RuntimeStatus, m.SerializedOutput = api.RUNTIME_STATUS_FAILED, ""
	}
	return &api.InstanceBundle{Metadata: m}
}
